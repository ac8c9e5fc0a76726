"""Decoders of language-model heads that share their weight with the model's input embeddings.

A head that is to be tied carries the mark ``tied``; transformers learns of it through
``_tied_weights_keys`` and ``get_expanded_tied_weights_keys`` and ties it like weights of its own, also
after embeddings were resized or exchanged. Files of a head leave a tied weight out, for the base model
has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel

from adapterhub.heads.language_modeling import LanguageModelingHead

if TYPE_CHECKING:
    _Host = PreTrainedModel
else:
    _Host = object


def embedding_weight(model: Any) -> nn.Parameter | None:
    """Return the model's input embeddings if its configuration ties them, else ``None``."""
    config = model.config
    tie = getattr(config, "tie_word_embeddings", False)
    if not (tie or getattr(config.get_text_config(), "tie_word_embeddings", False)):
        return None
    try:
        weight = model.base_model.get_input_embeddings().weight
    except (AttributeError, NotImplementedError):
        return None  # no words in this model
    return weight if isinstance(weight, nn.Parameter) else None


def language_heads(model: Any) -> Iterator[tuple[str, LanguageModelingHead]]:
    """Yield the language-model heads of a model, with their names."""
    for name, head in model.heads.items():
        if isinstance(head, LanguageModelingHead):
            yield name, head


def can_tie(model: Any, head: Any) -> bool:
    """Whether the head's decoder has the shape of embeddings that the model ties."""
    if not isinstance(head, LanguageModelingHead):
        return False
    weight = embedding_weight(model)
    return weight is not None and weight.shape == head.decoder.weight.shape


def tie(model: Any, head: Any) -> None:
    """Let the head's decoder share its weight with the model's embeddings, if they fit."""
    if can_tie(model, head):
        weight = embedding_weight(model)
        assert weight is not None
        head.decoder.weight = weight
        head.tied = True


def is_embedding(model: Any, tensor: torch.Tensor) -> bool:
    """Whether *tensor* holds the same numbers as the embeddings that the model ties."""
    weight = embedding_weight(model)
    if weight is None or weight.shape != tensor.shape:
        return False
    return torch.equal(tensor.to(device=weight.device, dtype=weight.dtype), weight)


def is_tied(model: Any, head: Any) -> bool:
    """Whether the head's decoder shares its weight with the model's embeddings."""
    return (
        isinstance(head, LanguageModelingHead)
        and head.tied
        and head.decoder.weight is embedding_weight(model)
    )


def settle(model: Any) -> None:
    """Take the mark from heads that a checkpoint gave a decoder of their own."""
    for _, head in language_heads(model):
        head.tied = is_tied(model, head)


def tied_keys(model: Any) -> dict[str, str]:
    """Return ``{decoder weight: embedding weight}`` of all marked heads, by parameter name."""
    weight = embedding_weight(model)
    marked = {
        f"heads.{name}.{len(head) - 1}.weight" for name, head in language_heads(model) if head.tied
    }
    if weight is None or not marked:
        return {}
    source: str = next(name for name, value in model.named_parameters() if value is weight)
    return dict.fromkeys(sorted(marked), source)


def without_tied(model: Any, head: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a head's *state* (names as in the head) without a weight that is the model's own."""
    if not is_tied(model, head):
        return state
    return {key: value for key, value in state.items() if key != f"{len(head) - 1}.weight"}


class TiedHeads(_Host):
    """Mixin of :class:`~adapterhub.heads.model.ModelWithHeads`: what transformers asks a model."""

    heads: nn.ModuleDict
    _active_head: Any

    if not TYPE_CHECKING:

        @property
        def _tied_weights_keys(self) -> dict[str, str]:
            # Read as patterns when a model is saved; names of heads may hold any character.
            return {re.escape(key): source for key, source in tied_keys(self).items()}

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Return ``{tied parameter: its source}``, as transformers wants it."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return tied_keys(self)

    def _note_tied_weights(self) -> None:
        """Bring transformers' list of tied weights, made when the model was, up to date."""
        kept = {k: v for k, v in self.all_tied_weights_keys.items() if not k.startswith("heads.")}
        self.all_tied_weights_keys = {**kept, **tied_keys(self)}

    def get_output_embeddings(self) -> Any:
        """Return the decoder of the active head if that is one language-model head, else ``None``."""
        head = self._active_language_head()
        return None if head is None else head.decoder

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        """Exchange the decoder of the active head; without effect where that is none of ours."""
        head = self._active_language_head()
        if head is not None:
            head[len(head) - 1] = new_embeddings
            head.config["vocab_size"] = new_embeddings.weight.shape[0]

    def _active_language_head(self) -> LanguageModelingHead | None:
        name: Any = self._active_head
        head: Any = self.heads[name] if isinstance(name, str) else None
        return head if isinstance(head, LanguageModelingHead) else None

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the decoders of all language-model heads follow."""
        result = super().resize_token_embeddings(*args, **kwargs)
        embeddings: Any = self.get_input_embeddings()
        size: int = embeddings.weight.shape[0]
        for _, head in language_heads(self):
            if head.decoder.weight.shape[0] != size:
                head[len(head) - 1] = self._get_resized_lm_head(head.decoder, size)
            head.decoder.out_features = head.config["vocab_size"] = size
        return result
