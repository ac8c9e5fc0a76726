"""What a prompt adapter inserts: :class:`Prompted`, and how what goes with the input is widened for it."""

from __future__ import annotations

from typing import Any

import torch

from adapterhub.errors import CompositionError


class Prompted:
    """What was inserted into the input of one stack.

    Attributes:
        prompt: (batch, p, width).
        valid: (batch, p) bool or ``None`` (all).
        at: position they were inserted at, 0 or 1.
        mask, longer: the attention mask before and after.
        total: length of the input with them.
    """

    __slots__ = ("at", "longer", "mask", "prompt", "total", "valid")

    def __init__(self, prompt: torch.Tensor, valid: torch.Tensor | None, at: int) -> None:
        self.prompt, self.valid, self.at = prompt, valid, at
        self.mask: Any = None
        self.longer: Any = None
        self.total = -1

    def insert(self, h: torch.Tensor) -> torch.Tensor:
        """Return *h* (batch, n, width) with the prompts in it."""
        return torch.cat([h[:, : self.at], self.prompt.to(h.dtype), h[:, self.at :]], 1)

    def widen(self, mask: torch.Tensor) -> torch.Tensor:
        """Return a mask (batch, n) with ones, or what is valid, at the prompts."""
        rows, length = self.prompt.shape[:2]
        seen = mask.new_ones(rows, length) if self.valid is None else self.valid.to(mask.dtype)
        return torch.cat([mask[:, : self.at], seen, mask[:, self.at :]], 1)

    def widen_square(self, mask: Any, h: Any) -> Any:
        """Make room in a mask (batch or 1, heads or 1, queries, keys) for the prompts that *h* has already.

        Prompts are seen by all, and see what the first position sees. Anything else is returned as it is.
        """
        known = isinstance(h, torch.Tensor) and h.dim() == 3
        length = h.shape[1] - self.prompt.shape[1] if known else -1
        if not isinstance(mask, torch.Tensor) or mask.dim() != 4 or mask.shape[-1] != length:
            return mask
        prompts, at = self.prompt.shape[1], self.at
        seen = mask.new_zeros(*mask.shape[:-1], prompts)
        seen = seen.logical_not() if mask.dtype == torch.bool else seen
        mask = torch.cat([mask[..., :at], seen, mask[..., at:]], -1)
        if mask.shape[-2] == length:
            more = mask[..., :1, :].expand(*mask.shape[:-2], prompts, -1)
            mask = torch.cat([mask[..., :at, :], more, mask[..., at:, :]], -2)
        return mask

    def without(self, value: Any) -> Any:
        """Return what the embeddings are given (a mask, ids, …) without places for prompts in it."""
        if value is None or not isinstance(value, torch.Tensor):
            return value
        if value is self.longer:
            return self.mask
        if value.dim() < 2 or value.is_floating_point() or value.shape[1] != self.total:
            return value
        length = self.prompt.shape[1]
        return torch.cat([value[:, : self.at], value[:, self.at + length :]], 1)

    def number(self, where: torch.Tensor) -> torch.Tensor:
        """Return positions (..., batch or 1, n) counted on behind the prompts that a row really has."""
        length = self.prompt.shape[1]
        if self.valid is None:
            start = torch.arange(length, device=where.device).expand(*where.shape[:-1], -1)
            later = where + length
        else:
            start = (self.valid.cumsum(1) - 1).clamp_min(0)
            later = where + self.valid.sum(1, keepdim=True)
            start = start.expand(*later.shape[:-1], -1)
        start = start.to(where.dtype) + self.at
        first = where[..., : self.at].expand(*later.shape[:-1], -1)
        return torch.cat([first, start, later[..., self.at :].to(where.dtype)], -1)


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
