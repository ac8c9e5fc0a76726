"""Exchanging the vocabulary of a running model: embeddings, and everything that has a row for each token.

A model keeps its module objects and parameter names; only the parameters in them are exchanged. Whatever
holds the *same* parameter as the input embeddings (a tied decoder, T5's three embeddings) gets the new
one, so ties need no rules. Other tensors with one entry a token follow: biases of tied decoders, an
output matrix of its own, ``final_logits_bias``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from adapterhub.errors import ArchitectureError

DEFAULT = "default"


class Follower(NamedTuple):
    """A tensor with one entry a token, beside the embeddings: module, attribute, token axis."""

    path: str
    module: nn.Module
    attribute: str
    axis: int

    @property
    def key(self) -> str:
        """Its name in the model."""
        return f"{self.path}.{self.attribute}" if self.path else self.attribute

    def tensor(self) -> torch.Tensor:
        """Return the tensor."""
        holder: Any = self.module
        value = holder._parameters.get(self.attribute)
        return holder._buffers[self.attribute] if value is None else value


class Matrix(nn.Module):
    """One vocabulary: embeddings ``weight`` (tokens, width) and the followers' tensors by name.

    Attributes:
        padding: id of the padding token, or ``None``.
        fresh: ids of tokens that got random rows when the vocabulary was added.
        tokens: trained rows on top of it, see :mod:`adapterhub.engine.tokens`; ``None`` while in use.
    """

    tokens: nn.Module | None

    def __init__(self, weight: nn.Parameter, padding: int | None) -> None:
        super().__init__()
        self.weight = weight
        self.padding = padding
        self.fresh: tuple[int, ...] = ()
        self.tokens = None
        self.names: tuple[str, ...] = ()

    def set_followers(self, tensors: dict[str, torch.Tensor]) -> None:
        """Keep *tensors*; parameters stay parameters."""
        self.names = tuple(tensors)
        for number, value in enumerate(tensors.values()):
            if isinstance(value, nn.Parameter):
                self._parameters[f"follower{number}"] = value
            else:
                self._buffers[f"follower{number}"] = value

    def followers(self) -> dict[str, torch.Tensor]:
        """Return what :meth:`set_followers` was given."""
        return {name: getattr(self, f"follower{n}") for n, name in enumerate(self.names)}


class Vocabularies(nn.Module):
    """The vocabularies of a model that are not in use, and the name of the one that is.

    Hangs in the model, so that it moves, casts, copies and pickles with it; its tensors are not saved with
    the base model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.active = DEFAULT
        #: What the active vocabulary's :class:`Matrix` says beside its tensors.
        self.fresh: tuple[int, ...] = ()
        self.waiting = nn.Module()

    def names(self) -> list[str]:
        """Return all names, the default first."""
        names = {self.active, *self.waiting._modules}
        return [DEFAULT, *sorted(names - {DEFAULT})]


def input_embeddings(model: Any) -> nn.Embedding:
    """Return the module that embeds token ids.

    Raises:
        ArchitectureError: the model has none.
    """
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        found = None
    if not isinstance(found, nn.Embedding):
        raise ArchitectureError(
            f"{type(model).__name__} embeds no token ids (its input is {type(found).__name__}), so it has "
            "no embeddings to exchange."
        )
    return found


def followers(model: Any, own_heads: bool) -> list[Follower]:
    """Return every tensor that has one entry a token and is not the embeddings themselves.

    Args:
        own_heads: the model's decoders are heads of ours; those that are not tied keep their own
            vocabulary.
    """
    weight = input_embeddings(model).weight
    size = weight.shape[0]
    output = None if own_heads else _output_embeddings(model)
    found: dict[int, Follower] = {}
    for path, module in model.named_modules():
        if module is output and module.weight is not weight and module.weight.shape[0] == size:
            found[id(module.weight)] = Follower(path, module, "weight", 0)
        tied = isinstance(module, nn.Linear) and (module.weight is weight or module is output)
        if tied and module.bias is not None and module.bias.shape[0] == size:
            found.setdefault(id(module.bias), Follower(path, module, "bias", 0))
        logits_bias = module._buffers.get("final_logits_bias")
        if logits_bias is not None and logits_bias.shape[-1] == size:
            found[id(logits_bias)] = Follower(path, module, "final_logits_bias", -1)
    return list(found.values())


def _output_embeddings(model: Any) -> Any:
    try:
        found = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(getattr(found, "weight", None), nn.Parameter) else None


def exchange(model: Any, new: Matrix, own_heads: bool) -> Matrix:
    """Put *new* into the model; return what was there, with the same parameter objects."""
    embeddings = input_embeddings(model)
    weight: Any = embeddings.weight
    old = Matrix(weight, embeddings.padding_idx)
    before = followers(model, own_heads)
    old.set_followers({follower.key: follower.tensor() for follower in before})
    after = new.followers()
    swaps: dict[int, Any] = {id(weight): new.weight}
    swaps.update(
        {id(f.tensor()): after[f.key] for f in before if f.key in after}  # by identity: ties hold
    )
    size = new.weight.shape[0]
    for module, tensors, name in _holders(model, swaps):
        tensors[name] = swaps[id(tensors[name])]
        if isinstance(module, nn.Embedding):
            module.num_embeddings, module.padding_idx = size, new.padding
        elif isinstance(module, nn.Linear):
            module.out_features = module.weight.shape[0]
    _set_size(model, old.weight.shape[0], size)
    return old


def _holders(model: Any, swaps: dict[int, Any]) -> Iterator[tuple[nn.Module, dict[str, Any], str]]:
    found = []
    for module in model.modules():
        if isinstance(module, (Matrix, Vocabularies)):
            continue
        for tensors in (module._parameters, module._buffers):
            found += [(module, tensors, name) for name, t in tensors.items() if id(t) in swaps]
    yield from found


def _set_size(model: Any, old: int, new: int) -> None:
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        if getattr(config, "vocab_size", None) == old:
            config.vocab_size = new
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.__dict__.get("vocab_size") == old:
            module.vocab_size = new  # type: ignore[assignment]
