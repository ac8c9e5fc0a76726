"""A model with prediction heads: keeping, choosing, saving and running them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import ModelOutput

from adapterhub.context import current, using
from adapterhub.errors import ConfigError
from adapterhub.heads.adding import AddsHeads
from adapterhub.heads.base import PredictionHead, head_class, head_types, register_head
from adapterhub.heads.dividing import rows_by_name
from adapterhub.heads.pooling import POOLER_BY_DEFAULT, pooling_rule, token_scale
from adapterhub.heads.running import (
    ROUTING,
    Call,
    describe,
    route_choices,
    run,
    seen_by_heads,
    with_signature,
)
from adapterhub.heads.setup import HeadSetup, explicit, implied, names_of, require
from adapterhub.heads.tying import TiedHeads, tie
from adapterhub.heads.weights import HeadWeights

if TYPE_CHECKING:
    _Host = PreTrainedModel
else:
    _Host = object


F = TypeVar("F", bound=Callable[..., Any])


class ModelWithHeads(AddsHeads, HeadWeights, TiedHeads, _Host):
    """Mixin for a ``PreTrainedModel`` whose base model is the attribute ``base_model_prefix``.

    The subclass sets ``base_model_class``; its ``__init__`` makes the base model and then calls
    :meth:`_init_heads`. Heads live in ``self.heads``, a ``ModuleDict``.
    """

    #: The class of the base model; gives :meth:`forward` its signature.
    base_model_class: ClassVar[type[PreTrainedModel]]
    #: The loss is a mean over the batch it gets, so the Trainer divides by its accumulation steps.
    accepts_loss_kwargs = False

    heads: nn.ModuleDict
    _active_head: HeadSetup

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "base_model_class" in cls.__dict__:
            cls._base_arguments = describe(cls.base_model_class)
            cls.forward = with_signature(ModelWithHeads.forward, cls.base_model_class)

    def _init_heads(self) -> None:
        """Make the heads that ``config.prediction_heads`` lists; the last one becomes active."""
        self.heads = nn.ModuleDict()
        self._active_head = None
        self._pooling_rule = pooling_rule(self.config)
        self._token_scale = token_scale(self.config)
        for name, config in (getattr(self.config, "prediction_heads", None) or {}).items():
            self.add_prediction_head_from_config(name, config)

    # -- keeping -----------------------------------------------------------------------------------

    def add_prediction_head(
        self, head: PredictionHead, overwrite_ok: bool = False, set_active: bool = True
    ) -> None:
        """Add a head that was made already; it gets the model's device and dtype.

        Args:
            head: the head; its name is ``head.name``.
            overwrite_ok: replace a head of that name.
            set_active: make it the active head. Default True.

        Raises:
            ConfigError: no head, or a bad or taken name.
        """
        if not isinstance(head, PredictionHead):
            raise ConfigError(f"Not a prediction head: {head!r}")
        self.check_head_name(head.name, overwrite_ok)
        self._put_head(head, set_active, tied=True)

    def _put_head(self, head: PredictionHead, set_active: bool, tied: bool) -> None:
        hollow = any(parameter.is_meta for parameter in head.parameters())
        # (While from_pretrained builds a model without memory, parts of it may be real already.)
        head.to(device=None if hollow else self.device, dtype=self.dtype).train(self.training)
        if tied:
            tie(self, head)
        self.heads[head.name] = head
        if "all_tied_weights_keys" in self.__dict__:  # (made at the end of the model's __init__)
            self._note_tied_weights()
        if set_active:
            self._active_head = head.name

    def add_prediction_head_from_config(
        self,
        head_name: str,
        config: Mapping[str, Any],
        overwrite_ok: bool = False,
        set_active: bool = True,
    ) -> None:
        """Add a head with fresh weights from its configuration, as in ``head_config.json``.

        Raises:
            ConfigError: bad name or configuration. UnknownAdapterError: unknown ``head_type``.
        """
        self.check_head_name(head_name, overwrite_ok)
        self.add_prediction_head(self._make_head(head_name, config), overwrite_ok, set_active)

    def add_custom_head(
        self,
        head_type: str,
        head_name: str,
        overwrite_ok: bool = False,
        set_active: bool = True,
        **options: Any,
    ) -> None:
        """Add a head of a registered type; *options* go to its constructor."""
        self.add_prediction_head_from_config(
            head_name, {"head_type": head_type, **options}, overwrite_ok, set_active
        )

    @staticmethod
    def register_custom_head(identifier: str, head: type[PredictionHead]) -> None:
        """Same as :func:`adapterhub.heads.register_head`."""
        register_head(identifier, head)

    @staticmethod
    def head_type(head_type_str: str) -> Callable[[F], F]:
        """Mark a method that adds heads of a type; it raises UnknownAdapterError where there is none."""

        def mark(method: F) -> F:
            @wraps(method)
            def call(*args: Any, **kwargs: Any) -> Any:
                head_class(head_type_str)
                return method(*args, **kwargs)

            return call  # type: ignore[return-value]

        return mark

    def delete_head(self, head_name: str) -> None:
        """Remove a head; no head is active afterwards if it was among the active ones.

        Raises:
            UnknownAdapterError: no such head.
        """
        require(head_name, self.heads)
        del self.heads[head_name]
        self._note_tied_weights()
        if head_name in names_of(self._active_head):
            self._active_head = None

    def check_head_name(self, head_name: Any, overwrite_ok: bool = False) -> None:
        """Raise ConfigError if *head_name* cannot be part of parameter names, or is taken."""
        bad = not isinstance(head_name, str) or not head_name or "." in head_name
        if bad or hasattr(nn.ModuleDict, head_name) or any(ord(c) < 32 for c in head_name):
            raise ConfigError(
                f"Not a head name: {head_name!r}; a name is non-empty text without '.' and control "
                "characters, and not a method of ModuleDict such as 'keys'."
            )
        if head_name in self.heads and not overwrite_ok:
            raise ConfigError(
                f"There is a prediction head '{head_name}' already; overwrite_ok=True replaces it."
            )

    def _make_head(self, head_name: str, config: Mapping[str, Any]) -> PredictionHead:
        head = head_class(config.get("head_type")).from_config(self, head_name, config)
        head.config.setdefault("head_type", config["head_type"])
        return head

    # -- looking -----------------------------------------------------------------------------------

    @property
    def head_types(self) -> list[str]:
        """Types of heads that can be added; each fits every model."""
        return list(head_types())

    @property
    def use_pooler(self) -> bool:
        """Whether classification heads read the model's pooled output unless told otherwise."""
        return self.config.model_type in POOLER_BY_DEFAULT

    def get_prediction_heads_config(self) -> dict[str, dict[str, Any]]:
        """Return ``{name: configuration}`` of all heads."""
        return {name: self._head(name).stored_config() for name in self.heads}

    def get_labels_dict(self, head_name: str | None = None) -> dict[int, str]:
        """Return ``{id: label}`` of a head, by ascending id.

        Args:
            head_name: default: the active head.

        Raises:
            ConfigError: no name, and not exactly one head is active. UnknownAdapterError: no such
        head.
        """
        if head_name is None:
            names = names_of(self._active_head)
            if len(names) != 1:
                raise ConfigError(
                    f"Say which head's labels are wanted; active are: {names or 'none'}."
                )
            head_name = names[0]
        return self._head(head_name).labels()

    def get_labels(self, head_name: str | None = None) -> list[str]:
        """Return the labels of a head in the order of their ids; see :meth:`get_labels_dict`."""
        return list(self.get_labels_dict(head_name).values())

    def _head(self, name: str) -> PredictionHead:
        require(name, self.heads)
        head = self.heads[name]
        assert isinstance(head, PredictionHead)
        return head

    # -- choosing ----------------------------------------------------------------------------------

    @property
    def active_head(self) -> HeadSetup:
        """The head or heads that run: a name, a list, a ``BatchSplit`` or a ``Route`` of names, or
        ``None``.

        Several heads in a list work on one Parallel channel each, or, where there are no channels,
        all on the whole output. Assigning checks the names: CompositionError, UnknownAdapterError.
        """
        return self._active_head

    @active_head.setter
    def active_head(self, setup: Any) -> None:
        self._active_head = explicit(setup, self.heads)

    def _activate_heads_for(self, setup: Any) -> None:
        """Activate the heads that an adapter setup implies if the model has all; else keep."""
        found = implied(setup)
        if found is not None and all(name in self.heads for name in names_of(found)):
            self._active_head = found

    def _heads_in_force(self, head: Any) -> HeadSetup:
        """Return this call's heads: the argument, the running AdapterSetup's, or the active."""
        if head is not None:
            return explicit(head, self.heads)
        setup = current().heads
        if isinstance(setup, (str, list, tuple)):
            return explicit(setup, self.heads)
        found = implied(setup)
        if found is not None and all(name in self.heads for name in names_of(found)):
            return found
        return self._active_head

    # -- what adapters mean to heads ---------------------------------------------------------------

    def parallel_channels(self) -> int:
        """Return how many copies of the batch the base model's output holds; 1 without adapters."""
        return 1

    def input_inverse(self, index: Any, total: int) -> Any:
        """Return what undoes the active invertible adapters on some rows; ``None``: there are none.

        Args:
            index: the rows of the base model's output, of *total*, that it will be used on.
        """
        return None

    # -- running -----------------------------------------------------------------------------------

    def forward(self, *args: Any, head: Any = None, **kwargs: Any) -> Any:
        """Run the base model, then the heads.

        Args:
            args, kwargs: those of the base model, and the heads' labels: ``labels``;
                ``start_positions`` and ``end_positions``; ``labels_arcs``, ``labels_rels`` and
                ``word_starts``. With several heads each of these is one tensor for all of them, a
                list (one a head) or a dict by head name; any of them may be ``None``.
            logits_to_keep: for how many positions at the end language-model heads compute logits;
                default 0: for all.
            head: the heads to run; default: those of the running ``AdapterSetup``, else
                ``active_head``.
            adapter_rows, task_ids: where heads go by rows (``Route``, ``MultiTask``), each row's, as for
                the adapters: an index or a name.
            return_dict: default: ``config.return_dict``.

        Returns:
            The head's output; a :class:`~adapterhub.heads.MultiHeadOutput` for several heads; the
            base model's output if there is no head, hidden states as heads would see them (T5 with
            tied embeddings scales them). A tuple for ``return_dict=False``.

        Raises:
            UnknownAdapterError: no such head. CompositionError: the number of heads is not that of
                channels, or the batch sizes do not add up. ConfigError: labels but no head.
        """
        given = [
            kwargs.pop(name, None) for name in ROUTING
        ]  # (if no adapter's hook has taken them)
        rows = next((value for value in given if value is not None), None)
        setup = self._heads_in_force(head)
        heads = [self._head(name) for name in names_of(setup)]
        if rows is not None:
            routed = current().derive(rows=rows_by_name(setup, rows, self.device))
            with using(routed):
                return self._run_heads(setup, heads, args, kwargs)
        return self._run_heads(setup, heads, args, kwargs)

    def _run_heads(
        self,
        setup: HeadSetup,
        heads: list[PredictionHead],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        call = Call.split(self._base_arguments, args, kwargs, heads, self)
        route_choices(call)
        outputs = self.base_model(**call.inputs, return_dict=True)
        result = run(self, setup, heads, outputs, call) if heads else seen_by_heads(self, outputs)
        wanted = self.config.return_dict if call.return_dict is None else call.return_dict
        return result.to_tuple() if not wanted and hasattr(result, "to_tuple") else result

    def forward_head(
        self,
        all_outputs: Any,
        head_name: Any = None,
        cls_output: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = False,
        context: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run heads on what the base model returned.

        Args:
            all_outputs: the base model's output, a ``ModelOutput`` or a tuple that begins with the last
                hidden states (batch, length, hidden).
            head_name: the head or heads; default: as for :meth:`forward`.
            cls_output: (batch, hidden) for heads that read one vector a row; default: found as usual.
            attention_mask: (batch, length).
            return_dict: return a ``ModelOutput`` rather than a tuple. Default False.
            context: of no effect.
            kwargs: the heads' labels, and inputs of the base model (``input_ids``).

        Raises:
            UnknownAdapterError: no such head. ConfigError: no head is active.
        """
        setup = self._heads_in_force(head_name)
        heads = [self._head(name) for name in names_of(setup)]
        if not heads:
            raise ConfigError("forward_head needs a head: name one, or set active_head.")
        outputs = all_outputs
        if not isinstance(outputs, ModelOutput):
            outputs = BaseModelOutput(last_hidden_state=all_outputs[0])
        targets = {name for head in heads for name in head.targets}
        inputs = {name: value for name, value in kwargs.items() if name not in targets}
        call = Call(
            {**inputs, "attention_mask": attention_mask},
            {name: value for name, value in kwargs.items() if name in targets},
            return_dict,
            vector=cls_output,
        )
        result = run(self, setup, heads, outputs, call)
        return result if return_dict else result.to_tuple()

    # -- saving ------------------------------------------------------------------------------------

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; ``config.json`` also lists the heads, as ``prediction_heads``."""
        # The configuration may be shared with other models, so the list is only in it while saving.
        entries = self.config.__dict__
        before = entries.pop("prediction_heads", None)
        if self.heads:
            entries["prediction_heads"] = self.get_prediction_heads_config()
        try:
            return super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            entries.pop("prediction_heads", None)
            if before is not None:
                entries["prediction_heads"] = before
