"""Heads that score the vocabulary at every position: masked, causal and sequence-to-sequence.

The stack differs from that of other heads: ``[linear, activation, layer norm] * (layers - 1) +
[linear]`` without dropout, the last linear layer (the *decoder*) mapping to the vocabulary. Where the
model ties its word embeddings (``config.tie_word_embeddings``), the decoder's weight *is* the input
embedding; see :mod:`~adapterhub.heads.tying`. An invertible adapter (MAD-X) that is active on the
model's input is undone before the decoder.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from transformers.modeling_outputs import (
    CausalLMOutputWithCrossAttentions,
    MaskedLMOutput,
    Seq2SeqLMOutput,
)
from transformers.utils.generic import ModelOutput

from adapterhub.errors import ConfigError
from adapterhub.heads.base import (
    Activation,
    Labels,
    PredictionHead,
    hidden_size,
    norm_epsilon,
    register_head,
)
from adapterhub.heads.losses import vocabulary_loss
from adapterhub.heads.outputs import fill


class LanguageModelingHead(PredictionHead):
    """The common part of the three heads; its subclasses document their arguments.

    Two more rare options (see :class:`PredictionHead`): ``scale`` (a factor on the logits, as in Cohere
    and Granite) and ``softcap`` (logits become ``softcap * tanh(logits / softcap)``, as in Gemma 2).
    """

    extras = ("invert", "logits_to_keep")
    output_class: ClassVar[type[ModelOutput]]

    def __init__(
        self,
        model: Any,
        head_name: str,
        options: dict[str, Any],
        rare: dict[str, Any],
    ) -> None:
        super().__init__(head_name)
        #: The decoder's weight is to be the model's embeddings; see the module ``tying``.
        self.tied = False
        if options.get("vocab_size") is None:
            options["vocab_size"] = vocabulary_size(model.config)
        if "embedding_size" in options and options["embedding_size"] is None:
            options["embedding_size"] = embedding_size(model.config)
        self.config = {"head_type": self.head_type, **options, "label2id": None}
        self.add_rare(rare)
        self.build(model)

    def build(self, model: Any) -> None:
        """Make the layers that :attr:`config` asks for, initialised by *model*'s own rule.

        Raises:
            ArchitectureError: the model has no single hidden size. ConfigError: bad configuration.
        """
        config = self.config
        layers: Any = config["layers"]
        for label, number in (("layers", layers), ("vocab_size", config["vocab_size"])):
            if not isinstance(number, int) or number < 1:
                raise ConfigError(
                    f"head '{self.name}': {label} must be a positive integer, not {number!r}."
                )
        width = hidden_size(model.config)
        for _ in range(layers - 1):
            size = config.get("embedding_size", width)
            self.append(nn.Linear(width, size, bias=config.get("hidden_bias", True)))
            width = size
            if config["activation_function"]:
                self.append(Activation(config["activation_function"]))
            if config["layer_norm"]:
                epsilon = norm_epsilon(model.config)
                self.append(nn.LayerNorm(width, epsilon, bias=config.get("norm_bias", True)))
        self.append(nn.Linear(width, config["vocab_size"], bias=config["bias"]))
        with torch.no_grad():
            self.apply(model._init_weights)

    @property
    def decoder(self) -> nn.Linear:
        """The last layer, which maps to the vocabulary."""
        last = self[-1]
        assert isinstance(last, nn.Linear)
        return last

    def stored_config(self) -> dict[str, Any]:
        """Return the configuration; a tied decoder may have got another vocabulary meanwhile."""
        return {**self.config, "vocab_size": self.decoder.weight.shape[0]}

    def logits(self, features: torch.Tensor, invert: Any = None, keep: Any = 0) -> torch.Tensor:
        """Return the scores: (batch, length, hidden) -> (batch, length or *keep*, vocabulary).

        Args:
            features: the base model's last hidden state.
            invert: undoes invertible adapters at the input of the decoder, or ``None``.
            keep: how many positions at the end to compute (0: all), or a tensor of positions.
        """
        if not isinstance(keep, int):
            features = features[:, keep]
        elif keep:
            features = features[:, -keep:]
        for layer in list(self)[:-1]:
            features = layer(features)
        if invert is not None:
            features = invert(features)
        scores = self.decoder(features)
        scale, softcap = self.config.get("scale", 1.0), self.config.get("softcap")
        if scale != 1.0:
            scores = scores * scale
        return scores if softcap is None else softcap * torch.tanh(scores / softcap)

    def forward(
        self,
        outputs: Any,
        cls_output: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = True,
        labels: torch.Tensor | None = None,
        invert: Any = None,
        logits_to_keep: Any = 0,
        **kwargs: Any,
    ) -> ModelOutput:
        """Return ``logits`` (batch, length, vocab_size) and, with *labels*, the ``loss``.

        Args:
            labels: (batch, length) token ids; -100 does not count. With ``shift_labels`` the token
                at each position is predicted from those before it.
            invert: as for :meth:`logits`.
            logits_to_keep: as *keep* of :meth:`logits`; only without labels.
        """
        keep = logits_to_keep if labels is None else 0
        logits = self.logits(outputs[0], invert, keep)
        loss = vocabulary_loss(logits, labels, self.config["shift_labels"])
        return fill(self.output_class, outputs, loss=loss, logits=logits)


class BertStyleMaskedLMHead(LanguageModelingHead):
    """Fills in masked tokens.

    Args:
        model: the model it is for.
        head_name: its name.
        vocab_size: default: the model's.
        embedding_size: width of the hidden layers; default: that of the model's embeddings.
        layers: linear layers. Default 2.
        activation_function: between the layers, or ``None``. Default ``"gelu"``.
        layer_norm: normalise after each hidden layer. Default True.
        bias: whether the decoder has one. Default True.
        shift_labels: predict the next token instead. Default False.

    Raises:
        ConfigError, ArchitectureError: see :meth:`LanguageModelingHead.build`.
    """

    head_type = "masked_lm"
    output_class = MaskedLMOutput

    def __init__(
        self,
        model: Any,
        head_name: str,
        vocab_size: int | None = None,
        embedding_size: int | None = None,
        layers: int = 2,
        activation_function: str | None = "gelu",
        layer_norm: bool = True,
        bias: bool = True,
        shift_labels: bool = False,
        id2label: Labels = None,
        **rare: Any,
    ) -> None:
        options = {
            "vocab_size": vocab_size,
            "embedding_size": embedding_size,
            "layers": layers,
            "activation_function": activation_function,
            "layer_norm": layer_norm,
            "bias": bias,
            "shift_labels": shift_labels,
        }
        super().__init__(model, head_name, options, rare)


class CausalLMHead(LanguageModelingHead):
    """Predicts each token from those before it; a model with it can ``generate``.

    Args:
        model: the model it is for.
        head_name: its name.
        vocab_size: default: the model's.
        embedding_size: width of the hidden layers; default: that of the model's embeddings.
        layers: linear layers. Default 1.
        activation_function: between the layers, or ``None`` (default).
        layer_norm: normalise after each hidden layer. Default False.
        bias: whether the decoder has one. Default False.
        shift_labels: labels are the input itself. Default True.
        dropout_prob: kept in the configuration, without effect.

    Raises:
        ConfigError, ArchitectureError: see :meth:`LanguageModelingHead.build`.
    """

    head_type = "causal_lm"
    generates = True
    output_class = CausalLMOutputWithCrossAttentions

    def __init__(
        self,
        model: Any,
        head_name: str,
        vocab_size: int | None = None,
        embedding_size: int | None = None,
        layers: int = 1,
        activation_function: str | None = None,
        layer_norm: bool = False,
        bias: bool = False,
        shift_labels: bool = True,
        id2label: Labels = None,
        dropout_prob: float | None = None,
        **rare: Any,
    ) -> None:
        options = {
            "vocab_size": vocab_size,
            "embedding_size": embedding_size,
            "layers": layers,
            "activation_function": activation_function,
            "layer_norm": layer_norm,
            "bias": bias,
            "shift_labels": shift_labels,
            "dropout_prob": dropout_prob,
        }
        super().__init__(model, head_name, options, rare)


class Seq2SeqLMHead(LanguageModelingHead):
    """Predicts the target's tokens from the decoder's states; a model with it can ``generate``.

    Without ``decoder_input_ids`` the decoder reads the labels, shifted right.

    Args:
        model: the encoder-decoder it is for.
        head_name: its name.
        vocab_size: default: the model's.
        layers: linear layers. Default 1.
        activation_function: between the layers, or ``None`` (default).
        layer_norm: normalise after each hidden layer. Default False.
        bias: whether the decoder has one. Default False.
        shift_labels: labels are the decoder's input itself. Default False.

    Raises:
        ConfigError, ArchitectureError: see :meth:`LanguageModelingHead.build`.
    """

    head_type = "seq2seq_lm"
    generates = True
    output_class = Seq2SeqLMOutput

    def __init__(
        self,
        model: Any,
        head_name: str,
        vocab_size: int | None = None,
        layers: int = 1,
        activation_function: str | None = None,
        layer_norm: bool = False,
        bias: bool = False,
        shift_labels: bool = False,
        id2label: Labels = None,
        **rare: Any,
    ) -> None:
        options = {
            "vocab_size": vocab_size,
            "layers": layers,
            "activation_function": activation_function,
            "layer_norm": layer_norm,
            "bias": bias,
            "shift_labels": shift_labels,
        }
        super().__init__(model, head_name, options, rare)


def vocabulary_size(config: Any) -> int:
    """Return the size of a model's vocabulary.

    Raises:
        ConfigError: its configuration names none.
    """
    for part in (config, config.get_text_config()):
        size = getattr(part, "vocab_size", None)
        if isinstance(size, int):
            return size
    raise ConfigError(
        f"{type(config).__name__} names no vocab_size; pass vocab_size=… to the head."
    )


def embedding_size(config: Any) -> int:
    """Return the width of a model's input embeddings."""
    size = getattr(config.get_text_config(), "embedding_size", None)
    return size if isinstance(size, int) else hidden_size(config)


def logit_options(config: Any) -> dict[str, float]:
    """Return what a model's own language model does to its logits, as options of a head.

    Reads ``final_logit_softcapping`` (Gemma), ``logit_scale`` (Cohere), ``lm_head_multiplier``
    (Falcon-H1) and ``logits_scaling`` (Granite, a divisor).
    """
    text = config.get_text_config()
    options = {}
    softcap = getattr(text, "final_logit_softcapping", None)
    if softcap is not None:
        options["softcap"] = float(softcap)
    named = "logit_scale" if text.model_type.startswith("cohere") else "lm_head_multiplier"
    scale = getattr(text, named, None)
    divisor = getattr(text, "logits_scaling", None)
    if isinstance(scale, (int, float)):
        options["scale"] = float(scale)
    elif isinstance(divisor, (int, float)):
        options["scale"] = 1.0 / divisor
    return options


register_head(BertStyleMaskedLMHead.head_type, BertStyleMaskedLMHead)
register_head(CausalLMHead.head_type, CausalLMHead)
register_head(Seq2SeqLMHead.head_type, Seq2SeqLMHead)
