"""Which position of which sequence a hidden state belongs to: :func:`positions`.

The engine notes at the boundary of each sub-model what tells it (a :class:`Sequence`); rows may be padded
on either side, a cache may hold earlier positions, and inside ``generate`` the prompt is known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from adapterhub.context import local


class SequenceFacts(NamedTuple):
    """What a forward pass says about its sequence.

    Attributes:
        mask: (batch, keys), 1 at real tokens, over cached and new positions; ``None``: no padding known.
        past: how many positions the cache holds, a number or a tensor of one.
        continued: whether there may be cached positions (a cache was given and it is not empty).
        prompt: length of the prompt inside ``generate``, padding included; ``None`` elsewhere.
        tokens: how many token positions the sub-model was given, ``None`` if it was given none.
        grids: (images, axes) sizes of images that are packed into one row; ``None``: nothing is packed.
    """

    mask: torch.Tensor | None = None
    past: Any = 0
    continued: bool = False
    prompt: int | None = None
    tokens: int | None = None
    grids: torch.Tensor | None = None


def positions(h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the position number of each entry of *h* (batch, length, ...) and the length of its row.

    Numbers count from the first real token of the row, so left padding has negative ones. Both results
    are (batch, length) int64.
    """
    facts = local.ctx.sequence or SequenceFacts()
    batch, length = h.shape[:2]
    key = ("positions", id(facts), batch, length)
    kept = local.ctx.cache.get(key)
    if kept is not None:
        return kept[1]
    if facts.grids is not None and batch == 1 and (packed := _packed(facts.grids, length)):
        local.ctx.cache[key] = (facts, packed)
        return packed
    keys = torch.arange(length, device=h.device) + facts.past
    total = length + facts.past if facts.prompt is None else facts.prompt
    mask = facts.mask
    if (
        mask is not None
        and facts.prompt is None
        and not facts.continued
        and mask.shape[1] != length
    ):
        mask = None  # of another stack
    if mask is None:
        where = keys.expand(batch, -1)
        size = torch.zeros_like(where) + total
    else:
        real = mask.to(device=h.device).ne(0)
        if real.shape[0] != batch:  # beams, or channels of Parallel
            real = real.repeat_interleave(batch // real.shape[0], 0)
        first = real.int().argmax(1, keepdim=True)
        where = keys - first
        within = real if facts.prompt is None else real[:, : facts.prompt]
        size = within.sum(1, keepdim=True).expand(-1, length)
    result = (where, size)
    if not torch.compiler.is_compiling():
        local.ctx.cache[key] = (facts, result)
    return result


def _packed(grids: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return positions within each image of a packed row; ``None`` if the sizes are not those of the row."""
    sizes = grids.prod(-1)
    sizes = sizes // max(
        int(sizes.sum()) // length, 1
    )  # several patches may have become one position
    if int(sizes.sum()) != length:
        return None
    start = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    where = torch.arange(length, device=sizes.device) - start
    return where.unsqueeze(0), sizes.repeat_interleave(sizes).unsqueeze(0)
