"""Many adapters of one shape as one tensor, so that a batch can mix them row by row.

``gather`` picks for every row its adapter's weights out of a stack (n + 1, ...), whose last entry is
zero for rows that go without an adapter; the caller multiplies with ``torch.bmm``. The cost is that of one
adapter, whatever their number (the S-LoRA idea, Sheng et al. 2023, in plain batched matmuls).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def versions(tensors: Sequence[torch.Tensor]) -> tuple[int, ...] | None:
    """Return a key that changes whenever one of the tensors is replaced or written to.

    ``None`` where that cannot be told (inference tensors) or must not be asked (while compiling).
    """
    if torch.compiler.is_compiling() or any(t.is_inference() for t in tensors):
        return None
    return tuple(part for t in tensors for part in (t.data_ptr(), t._version))


def stacked(slot: Any, modules: Sequence[nn.Module | None], name: str) -> torch.Tensor:
    """Return the parameter *name* of all modules, stacked (n + 1, ...), last entry zero.

    Without gradients the stack is kept at the slot until a parameter changes.
    """
    tensors = [getattr(module, name) for module in modules if module is not None]
    key = None
    if not torch.is_grad_enabled() and (seen := versions(tensors)) is not None:
        key = (name, tuple(id(module) for module in modules))
        kept = slot.stacks.get(key)
        if kept is not None and kept[0] == seen:
            return kept[1]
    else:
        seen = None
    zero = torch.zeros_like(tensors[0])
    stack = torch.stack([zero if m is None else getattr(m, name) for m in modules] + [zero])
    if key is not None:
        slot.stacks[key] = (seen, stack)
    return stack


def gather(
    slot: Any, modules: Sequence[nn.Module | None], rows: torch.Tensor, names: Sequence[str]
) -> tuple[Any, ...]:
    """Return each row's parameters, (batch, ...) for every name, and the mask of rows with an adapter.

    Args:
        modules: one entry a child; ``None`` for a child without a module here.
        rows: (batch,) int64 child index; -1 for none.
    """
    absent = [i for i, module in enumerate(modules) if module is None]
    has = rows >= 0
    for index in absent:
        has = has & (rows != index)
    index = torch.where(has, rows, len(modules))
    return (*(stacked(slot, modules, name)[index] for name in names), has)
