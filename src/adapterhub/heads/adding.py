"""The ``add_*_head`` methods: one a head type."""

from __future__ import annotations

from typing import Any

from adapterhub.errors import ConfigError
from adapterhub.heads.audio import AudioClassificationHead, CTCHead
from adapterhub.heads.base import Labels, PredictionHead
from adapterhub.heads.classification import ClassificationHead, MultiLabelClassificationHead
from adapterhub.heads.dependency_parsing import BiaffineParsingHead
from adapterhub.heads.image import ImageClassificationHead
from adapterhub.heads.language_modeling import (
    BertStyleMaskedLMHead,
    CausalLMHead,
    Seq2SeqLMHead,
    logit_options,
)
from adapterhub.heads.multiple_choice import MultipleChoiceHead
from adapterhub.heads.pooling import POOLER_BY_DEFAULT
from adapterhub.heads.question_answering import QuestionAnsweringHead
from adapterhub.heads.tagging import TaggingHead


class AddsHeads:
    """Mixin of :class:`~adapterhub.heads.model.ModelWithHeads`.

    Arguments that all methods share: ``overwrite_ok`` replaces a head of that name (default False);
    ``set_active`` makes the new head the active one (default True); ``id2label`` is ``{id: label}``
    or a list of labels (default LABEL_0, LABEL_1, …); ``use_pooler`` takes the base model's pooled
    output (default: only for ALBERT and BEiT); ``pooling`` takes ``"cls"``, ``"mean"``, ``"last"`` or
    ``"eos"`` instead of what :mod:`~adapterhub.heads.pooling` chooses for the model; ``dropout_prob``
    goes before each layer (default: the model's). All raise ConfigError for a bad or taken name and a
    bad option, and leave the model as it was then.
    """

    config: Any

    def add_prediction_head(
        self, head: PredictionHead, overwrite_ok: bool = False, set_active: bool = True
    ) -> None:
        """Add a head that was made already; see :class:`~adapterhub.heads.model.ModelWithHeads`."""
        raise NotImplementedError

    def check_head_name(self, head_name: Any, overwrite_ok: bool = False) -> None:
        """Raise ConfigError if the name cannot be a head's."""
        raise NotImplementedError

    def add_classification_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        multilabel: bool = False,
        id2label: Labels = None,
        use_pooler: bool | None = None,
        bias: bool = True,
        dropout_prob: float | None = None,
        set_active: bool = True,
        pooling: str | None = None,
    ) -> None:
        """Add a head that classifies whole inputs.

        Args:
            num_labels: classes; 1: regression. multilabel: labels do not exclude each other.
            layers: linear layers, with ``activation_function`` (or ``None``) in between.
            bias: whether the last layer has one.
        """
        self._add(
            MultiLabelClassificationHead if multilabel else ClassificationHead,
            head_name,
            overwrite_ok,
            set_active,
            num_labels=num_labels,
            layers=layers,
            activation_function=activation_function,
            id2label=id2label,
            use_pooler=self._use_pooler(use_pooler),
            bias=bias,
            dropout_prob=dropout_prob,
            pooling=pooling,
        )

    def add_image_classification_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        multilabel: bool = False,
        id2label: Labels = None,
        use_pooler: bool | None = None,
        bias: bool = True,
        dropout_prob: float | None = None,
        set_active: bool = True,
        pooling: str | None = None,
    ) -> None:
        """Add a head that classifies images; arguments as in :meth:`add_classification_head`."""
        self._add(
            ImageClassificationHead,
            head_name,
            overwrite_ok,
            set_active,
            num_labels=num_labels,
            layers=layers,
            activation_function=activation_function,
            multilabel=multilabel,
            id2label=id2label,
            use_pooler=self._use_pooler(use_pooler),
            bias=bias,
            dropout_prob=dropout_prob,
            pooling=pooling,
        )

    def add_multiple_choice_head(
        self,
        head_name: str,
        num_choices: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Labels = None,
        use_pooler: bool | None = None,
        dropout_prob: float | None = None,
        set_active: bool = True,
        pooling: str | None = None,
    ) -> None:
        """Add a head that picks a candidate; inputs are (batch, num_choices, length)."""
        self._add(
            MultipleChoiceHead,
            head_name,
            overwrite_ok,
            set_active,
            num_choices=num_choices,
            layers=layers,
            activation_function=activation_function,
            id2label=id2label,
            use_pooler=self._use_pooler(use_pooler),
            dropout_prob=dropout_prob,
            pooling=pooling,
        )

    def add_tagging_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Labels = None,
        dropout_prob: float | None = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that labels every token with one of ``num_labels`` classes."""
        self._add(
            TaggingHead,
            head_name,
            overwrite_ok,
            set_active,
            num_labels=num_labels,
            layers=layers,
            activation_function=activation_function,
            id2label=id2label,
            dropout_prob=dropout_prob,
        )

    def add_qa_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Labels = None,
        dropout_prob: float | None = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that finds answers as spans (``start_positions``, ``end_positions``)."""
        self._add(
            QuestionAnsweringHead,
            head_name,
            overwrite_ok,
            set_active,
            num_labels=num_labels,
            layers=layers,
            activation_function=activation_function,
            id2label=id2label,
            dropout_prob=dropout_prob,
        )

    def add_dependency_parsing_head(
        self,
        head_name: str,
        num_labels: int = 2,
        overwrite_ok: bool = False,
        id2label: Labels = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that finds each word's syntactic head and one of ``num_labels`` relations.

        The model's forward then takes ``word_starts``, ``labels_arcs`` and ``labels_rels``, see
        :class:`~adapterhub.heads.BiaffineParsingHead`.
        """
        self._add(
            BiaffineParsingHead,
            head_name,
            overwrite_ok,
            set_active,
            num_labels=num_labels,
            id2label=id2label,
        )

    def add_masked_lm_head(
        self,
        head_name: str,
        activation_function: str | None = "gelu",
        layers: int = 2,
        overwrite_ok: bool = False,
        layer_norm: bool = True,
        bias: bool = True,
        vocab_size: int | None = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that fills in masked tokens.

        Args:
            layers: linear layers, with ``activation_function`` (or ``None``) and, for
                ``layer_norm``, a norm after each but the last.
            bias: whether the last layer has one.
            vocab_size: default: the model's.
        """
        self._add(
            BertStyleMaskedLMHead,
            head_name,
            overwrite_ok,
            set_active,
            vocab_size=vocab_size,
            layers=layers,
            activation_function=activation_function,
            layer_norm=layer_norm,
            bias=bias,
        )

    def add_causal_lm_head(
        self,
        head_name: str,
        activation_function: str | None = "gelu",
        layers: int = 2,
        overwrite_ok: bool = False,
        layer_norm: bool = True,
        bias: bool = True,
        vocab_size: int | None = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that predicts the next token; arguments as in :meth:`add_masked_lm_head`.

        ``layers=1, bias=False`` gives the plain head of most decoders. Scales and caps that the
        model's own language model puts on its logits apply here too.
        """
        self._add(
            CausalLMHead,
            head_name,
            overwrite_ok,
            set_active,
            vocab_size=vocab_size,
            layers=layers,
            activation_function=activation_function,
            layer_norm=layer_norm,
            bias=bias,
            **logit_options(self.config),
        )

    def add_seq2seq_lm_head(
        self,
        head_name: str,
        layers: int = 1,
        overwrite_ok: bool = False,
        activation_function: str | None = None,
        layer_norm: bool = False,
        bias: bool = False,
        vocab_size: int | None = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that writes the target; arguments as in :meth:`add_masked_lm_head`."""
        self._add(
            Seq2SeqLMHead,
            head_name,
            overwrite_ok,
            set_active,
            vocab_size=vocab_size,
            layers=layers,
            activation_function=activation_function,
            layer_norm=layer_norm,
            bias=bias,
        )

    def add_audio_classification_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 2,
        activation_function: str | None = None,
        overwrite_ok: bool = False,
        id2label: Labels = None,
        projection_size: int | None = None,
        dropout_prob: float | None = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that classifies sound by the mean of its frames.

        Args:
            projection_size: width of the hidden layers; default: ``classifier_proj_size`` of the
                model, else its hidden size.
        """
        self._add(
            AudioClassificationHead,
            head_name,
            overwrite_ok,
            set_active,
            num_labels=num_labels,
            layers=layers,
            activation_function=activation_function,
            id2label=id2label,
            projection_size=projection_size,
            dropout_prob=dropout_prob,
        )

    def add_ctc_head(
        self,
        head_name: str,
        vocab_size: int | None = None,
        blank_token_id: int | None = None,
        overwrite_ok: bool = False,
        dropout_prob: float | None = None,
        set_active: bool = True,
    ) -> None:
        """Add a head that transcribes speech frame by frame (CTC).

        Args:
            vocab_size: default: the model's. blank_token_id: default: the model's padding token.
        """
        self._add(
            CTCHead,
            head_name,
            overwrite_ok,
            set_active,
            vocab_size=vocab_size,
            blank_token_id=blank_token_id,
            dropout_prob=dropout_prob,
        )

    def _use_pooler(self, wanted: bool | None) -> bool:
        return self.config.model_type in POOLER_BY_DEFAULT if wanted is None else wanted

    def _add(
        self,
        kind: type[PredictionHead],
        head_name: str,
        overwrite_ok: bool,
        set_active: bool,
        **options: Any,
    ) -> None:
        self.check_head_name(head_name, overwrite_ok)
        names, count = (
            options.get("id2label"),
            options.get("num_labels", options.get("num_choices")),
        )
        if names is not None and len(names) != count:
            raise ConfigError(
                f"head '{head_name}': id2label names {len(names)} labels, but there are {count}."
            )
        make: Any = kind
        self.add_prediction_head(make(self, head_name, **options), overwrite_ok, set_active)
