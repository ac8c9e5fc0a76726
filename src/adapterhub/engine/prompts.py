"""Prompts before the input: longer embeddings, and masks, positions and labels to go with them.

Where the model adds positions and norms inside one embeddings module, prompts are inserted behind it (they
get none of that, as in the ``adapters`` library); elsewhere they join the token embeddings, and the model is
called with ``inputs_embeds``. A decoding step with a cache inserts nothing: the prompt is in the cache,
and only the mask is widened for it.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from adapterhub.context import Context
from adapterhub.errors import CompositionError


class Prompted:
    """What was inserted into the input of one stack.

    Attributes:
        prompt: (batch, p, width).
        valid: (batch, p) bool or ``None`` (all).
        at: position they were inserted at, 0 or 1.
        mask, longer: the attention mask before and after.
    """

    __slots__ = ("at", "longer", "mask", "prompt", "valid")

    def __init__(self, prompt: torch.Tensor, valid: torch.Tensor | None, at: int) -> None:
        self.prompt, self.valid, self.at = prompt, valid, at
        self.mask: Any = None
        self.longer: Any = None

    def insert(self, h: torch.Tensor) -> torch.Tensor:
        """Return *h* (batch, n, width) with the prompts in it."""
        return torch.cat([h[:, : self.at], self.prompt.to(h.dtype), h[:, self.at :]], 1)

    def widen(self, mask: torch.Tensor) -> torch.Tensor:
        """Return a mask (batch, n) with ones, or what is valid, at the prompts."""
        rows, length = self.prompt.shape[:2]
        seen = mask.new_ones(rows, length) if self.valid is None else self.valid.to(mask.dtype)
        return torch.cat([mask[:, : self.at], seen, mask[:, self.at :]], 1)


def prompted(node: Any, slot: Any, batch: int) -> Prompted:
    """Evaluate the plan of a prompt slot for *batch* rows."""
    weight = next(m for m in node.modules).embedding
    empty = weight.new_empty(batch, 0, weight.shape[1])
    state = node.run(node.family.begin(empty, None), slot)
    after = {module.after_first for module in node.modules}
    if len(after) > 1:
        raise CompositionError(
            "Prompts with combine='prefix' and 'prefix_after_bos' cannot share a batch; use one of them."
        )
    return Prompted(state.prompt, state.valid, int(after.pop()))


def _length(node: Any) -> int:
    """Return how many positions the prompts of a plan node take."""
    if hasattr(node, "module"):
        return node.module.length
    lengths = [_length(child) for child in node.children if child is not None]
    return sum(lengths) if type(node).__name__ == "StackNode" else max(lengths)


def prepare(
    slot: Any, node: Any, ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Change the inputs of a stack's owner for the prompts of *node*; note them for the embeddings' hook.

    Raises:
        CompositionError: a mask that cannot be widened.
    """
    owner = slot.host
    given = dict(zip(_names(type(owner)), args, strict=False))
    kwargs = {**given, **kwargs}
    length = _length(node)
    ids, embeds = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
    first = ids if ids is not None else embeds
    if first is None:
        first = next((v for v in kwargs.values() if isinstance(v, torch.Tensor)), None)
    if first is None:
        return (), kwargs
    cache = kwargs.get("past_key_values")
    past = 0 if cache is None else cache.get_seq_length()
    if not isinstance(past, int):
        past = int(past)
    if past:
        return (), _continue(kwargs, first.shape[1], past, length)
    made = prompted(node, slot, first.shape[0])
    mask = kwargs.get("attention_mask")
    if mask is not None and slot.site.insert_before is not None:
        raise CompositionError(
            f"Prompt tuning before the first block of {type(owner).__name__} cannot widen its "
            "attention_mask, which is not over positions; pass rows of equal length without a mask."
        )
    maskless = ids is None and embeds is None
    known = made.valid is not None and not torch.compiler.is_compiling()
    if maskless and known and bool(made.valid.all()):  # type: ignore[union-attr]
        made.valid = None  # a Route that gives every row a prompt
    if maskless and made.valid is not None:
        raise CompositionError(
            f"Prompts of different length in one batch need an attention mask, and {type(owner).__name__} "
            "takes none for its input; use prompts of one length, without rows that have none."
        )
    if mask is None and made.valid is not None:
        mask = first.new_ones(first.shape[:2], dtype=torch.long)
    if mask is not None:
        if not isinstance(mask, torch.Tensor) or mask.dim() != 2:
            raise CompositionError(
                f"Prompt tuning cannot widen the attention mask given to {type(owner).__name__}; pass a "
                "two-dimensional one, (batch, sequence)."
            )
        made.mask, made.longer = mask, made.widen(mask)
        kwargs["attention_mask"] = made.longer
    site = slot.site
    if site.insert_after is not None or site.insert_before is not None:
        ctx.prompts[slot.index] = made
        return (), kwargs
    if embeds is None:
        embeds = owner.get_input_embeddings()(ids)
    kwargs["inputs_embeds"] = made.insert(embeds)
    kwargs.pop("input_ids", None)
    where = kwargs.get("position_ids")
    if isinstance(where, torch.Tensor):
        start = torch.arange(length, device=where.device, dtype=where.dtype)
        kwargs["position_ids"] = torch.cat(
            [
                where[..., : made.at],
                start.expand(*where.shape[:-1], -1) + made.at,
                where[..., made.at :] + length,
            ],
            -1,
        )
    kwargs.pop("cache_position", None)
    types = kwargs.get("token_type_ids")
    if isinstance(types, torch.Tensor):
        kwargs["token_type_ids"] = torch.cat(
            [types[:, : made.at], types.new_zeros(types.shape[0], length), types[:, made.at :]], 1
        )
    return (), kwargs


def _continue(kwargs: dict[str, Any], new: int, past: int, length: int) -> dict[str, Any]:
    """A step whose cache holds the prompt: the mask and the positions may not know of it yet."""
    mask = kwargs.get("attention_mask")
    short = (
        isinstance(mask, torch.Tensor) and mask.dim() == 2 and mask.shape[1] == past + new - length
    )
    if short:
        kwargs["attention_mask"] = torch.cat([mask.new_ones(mask.shape[0], length), mask], 1)  # type: ignore[union-attr]
        where = kwargs.get("position_ids")
        if isinstance(where, torch.Tensor):
            kwargs["position_ids"] = where + length
    return kwargs


def widen_outer(
    nodes: list[tuple[Any, Any]], module: nn.Module, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Fit what a model around a prompted stack is given: labels per position, an encoder's mask."""
    kwargs = dict(kwargs)
    hidden = kwargs.get("encoder_hidden_states")
    if hidden is None and kwargs.get("encoder_outputs") is not None:
        hidden = kwargs["encoder_outputs"][0]
        key = "attention_mask"
    else:
        key = "encoder_attention_mask"
    _, node = nodes[0]
    length, at = _length(node), int(node.modules[0].after_first)
    mask = kwargs.get(key)
    if (
        isinstance(hidden, torch.Tensor)
        and isinstance(mask, torch.Tensor)
        and mask.dim() == 2
        and hidden.shape[1] == mask.shape[1] + length
    ):
        kwargs[key] = torch.cat(
            [mask[:, :at], mask.new_ones(mask.shape[0], length), mask[:, at:]], 1
        )
    if getattr(getattr(module, "config", None), "is_encoder_decoder", False):
        return kwargs
    first = kwargs.get("input_ids")
    first = first if first is not None else kwargs.get("inputs_embeds")
    labels = kwargs.get("labels")
    if (
        isinstance(first, torch.Tensor)
        and isinstance(labels, torch.Tensor)
        and not labels.is_floating_point()
        and labels.shape == first.shape[:2]
    ):
        ignored = labels.new_full((labels.shape[0], length), -100)
        kwargs["labels"] = torch.cat([labels[:, :at], ignored, labels[:, at:]], 1)
    for name in ("start_positions", "end_positions"):
        where = kwargs.get(name)
        if isinstance(where, torch.Tensor):
            kwargs[name] = torch.where(where >= at, where + length, where)
    return kwargs


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(cls: type) -> tuple[str, ...]:
    """Return the names of the positional arguments of a model class's forward."""
    found = _NAMES.get(cls)
    if found is None:
        found = _NAMES[cls] = tuple(inspect.signature(cls.forward).parameters)[1:]  # type: ignore[attr-defined]
    return found
