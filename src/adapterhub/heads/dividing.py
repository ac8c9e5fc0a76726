"""Which rows each head of a setup works on: :func:`divide`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapterhub.composition import AdapterCompositionBlock, BatchSplit, Route
from adapterhub.context import current
from adapterhub.errors import CompositionError, UnknownAdapterError, did_you_mean
from adapterhub.heads.setup import HeadSetup

#: Rows of a batch: from, to; or their numbers, (n,) int64.
Rows = slice | torch.Tensor


@dataclass(frozen=True)
class Part:
    """The work of one head.

    Attributes:
        name: the head.
        output: its rows of what the base model returned.
        input: the rows of the call's batch that they are. (Parallel channels run on copies.)
    """

    name: str
    output: Rows
    input: Rows

    def __len__(self) -> int:
        if isinstance(self.output, slice):
            return self.output.stop - self.output.start
        return self.output.shape[0]


def divide(setup: HeadSetup, total: int, channels: int, device: torch.device) -> list[Part]:
    """Return one part for each head of *setup*, in order; a head without rows has an empty one.

    Args:
        total: rows of the base model's output.
        channels: copies of the batch in it.
        device: of the output.

    Raises:
        CompositionError: heads and channels or batch sizes do not go together; a Route without rows.
    """
    count = len(setup) if isinstance(setup, list) else 1
    if channels > 1 and count != channels:
        raise CompositionError(
            f"The output has {channels} parallel channels, but the heads are {setup!r}: set "
            f"active_head to a list of {channels} names, one a channel (a name may be repeated)."
        )
    items: Sequence[Any] = setup if isinstance(setup, list) else [setup]
    batch = total // channels
    return [
        part
        for number, item in enumerate(items)
        for part in _parts(item, slice(0, batch), batch, batch * number * (channels > 1), device)
    ]


def _parts(node: Any, rows: Rows, batch: int, offset: int, device: torch.device) -> Iterator[Part]:
    """Yield the parts of *node* for *rows* of the batch, which begins at *offset* of the output."""
    if node is None:
        return
    if isinstance(node, str):
        yield Part(node, _shifted(rows, offset), rows)
    elif isinstance(node, BatchSplit):
        count = rows.stop - rows.start if isinstance(rows, slice) else rows.shape[0]
        for child, (start, stop) in zip(node.children, _bounds(node, count), strict=True):
            own = (
                slice(rows.start + start, rows.start + stop)
                if isinstance(rows, slice)
                else rows[start:stop]
            )
            yield from _parts(child, own, batch, offset, device)
    elif isinstance(node, Route):
        routed, inside = _routing(node, batch, device), _numbers(rows, device)
        for index, child in enumerate(node.children):
            yield from _parts(child, inside[routed[inside] == index], batch, offset, device)
    else:
        raise CompositionError(f"{node!r} cannot stand in a setup of heads.")


def _shifted(rows: Rows, offset: int) -> Rows:
    if isinstance(rows, slice):
        return slice(rows.start + offset, rows.stop + offset)
    return rows + offset if offset else rows


def _numbers(rows: Rows, device: torch.device) -> torch.Tensor:
    if isinstance(rows, slice):
        return torch.arange(rows.start, rows.stop, device=device)
    return rows


def _routing(node: Route, batch: int, device: torch.device) -> torch.Tensor:
    """Return (batch,) which child of *node* each row belongs to."""
    ctx = current()
    if ctx.rows is None:
        raise CompositionError(
            f"The heads {node!r} go by rows, but this call says not which: pass adapter_rows=[...] "
            "(or task_ids), one index or name a row."
        )
    rows = ctx.rows
    if rows.shape[0] != batch:
        if not ctx.expandable or batch % rows.shape[0]:
            raise CompositionError(
                f"adapter_rows has {rows.shape[0]} entries for a batch of {batch} rows; pass one a row."
            )
        rows = rows.repeat_interleave(batch // rows.shape[0])  # (beams)
    return rows.to(device)


def _bounds(setup: BatchSplit, total: int) -> list[tuple[int, int]]:
    sizes = list(setup.batch_sizes)
    wanted = sum(sizes)
    if wanted != total:
        if not current().expandable or not wanted or total % wanted:
            raise CompositionError(f"{setup!r} is for {wanted} rows, but the batch has {total}.")
        sizes = [size * (total // wanted) for size in sizes]  # (beams)
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def numbers(parts: Sequence[Part], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return the numbers of each part's rows in the batch."""
    return tuple(_numbers(part.input, device) for part in parts)


def rows_by_name(setup: HeadSetup, rows: Any, device: torch.device) -> torch.Tensor:
    """Return (batch,) int64 for *rows*, indices of a Route's children or their names.

    Raises:
        CompositionError: *setup* has no Route. UnknownAdapterError: a name that it has not.
    """
    if isinstance(rows, torch.Tensor):
        return rows.to(device)
    route = _first_route(setup)
    names = [c.last() if isinstance(c, AdapterCompositionBlock) else c for c in route.children]
    for row in rows:
        if isinstance(row, str) and row not in names:
            raise UnknownAdapterError(
                f"adapter_rows names '{row}', which is no child of {route!r}."
                f"{did_you_mean(row, [name for name in names if name])}"
            )
    indices = [
        -1 if row is None else names.index(row) if isinstance(row, str) else int(row)
        for row in rows
    ]
    return torch.tensor(indices, dtype=torch.int64, device=device)


def _first_route(setup: Any) -> Route:
    todo = list(setup) if isinstance(setup, list) else [setup]
    while todo:
        node = todo.pop(0)
        if isinstance(node, Route):
            return node
        todo += list(node) if isinstance(node, AdapterCompositionBlock) else []
    raise CompositionError(
        f"adapter_rows was given, but neither adapters nor {setup!r} go by rows."
    )
