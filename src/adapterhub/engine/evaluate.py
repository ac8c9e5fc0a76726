"""Composition, evaluated once for all places: a tree of nodes over states.

``activate`` prunes the composition tree per slot to the adapters that have a module there; the result
is a small immutable tree of the classes below. Who prepares the input of an adapter follows one
rule: *the block that holds it* (``Family.enter``), once, for its first child (:class:`FuseNode`: its
last); a Stack prepares each of its children anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from adapterhub.composition import (
    AdapterCompositionBlock,
    Average,
    BatchSplit,
    Fuse,
    MultiTask,
    Node,
    Parallel,
    Route,
    Split,
    Stack,
    width,
)
from adapterhub.context import local
from adapterhub.errors import CompositionError


class PlanNode:
    """A node of a plan; ``run`` maps a state to a state.

    ``act(h, x)``, set on the root of a slot's plan by :func:`finish`, is what the hook calls: a host's
    output *h* and its input or residual *x* give the new output.
    """

    __slots__ = ("act", "family", "modules")
    act: Callable[[Any, Any], Any]

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = tuple(modules)  # leaves' modules in reading order
        self.family = self.modules[0].family

    def run(self, state: Any, slot: Any) -> Any:
        raise NotImplementedError

    def evaluate(self, slot: Any, h: torch.Tensor, x: Any) -> torch.Tensor:
        """Evaluate the whole plan for a host's output *h*; *x* is its input or residual."""
        family = self.family
        return family.end(self.run(family.begin(h, x), slot), slot)


class Leaf(PlanNode):
    """One adapter whose input its block has prepared."""

    __slots__ = ("module",)

    def __init__(self, module: Any) -> None:
        super().__init__([module])
        self.module = module

    def run(self, state: Any, slot: Any) -> Any:
        return self.family.apply(state, self.module, slot)


class Block(PlanNode):
    """A node with children; ``None`` stands for a child without a module here."""

    __slots__ = ("children",)

    def __init__(self, children: Sequence[PlanNode | None]) -> None:
        super().__init__([m for child in children if child is not None for m in child.modules])
        self.children = tuple(children)

    def child(self, index: int, entered: Any, slot: Any) -> Any:
        """Run one child on the prepared state; a missing one leaves its part as the model made it."""
        node = self.children[index]
        return self.family.skip(entered, slot) if node is None else node.run(entered, slot)


class StackNode(Block):
    __slots__ = ()

    def run(self, state: Any, slot: Any) -> Any:
        for node in self.children:
            if isinstance(node, Leaf):
                state = self.family.enter(state, node.module, slot)
            if node is not None:
                state = node.run(state, slot)
        return state


class AverageNode(Block):
    __slots__ = ("weights",)

    def __init__(self, children: Sequence[PlanNode | None], weights: Sequence[float]) -> None:
        # The mean is over the children that have a module here; together they weigh as much as all.
        pairs = [(c, w) for c, w in zip(children, weights, strict=True) if c is not None]
        super().__init__([child for child, _ in pairs])
        present = sum(weight for _, weight in pairs)
        share = sum(weights) / present if present else 1.0
        self.weights = tuple(weight * share for _, weight in pairs)

    def run(self, state: Any, slot: Any) -> Any:
        entered = self.family.enter(state, self.modules[0], slot)
        states = [node.run(entered, slot) for node in self.children if node is not None]
        return self.family.average(states, self.weights, slot)


class FuseNode(Block):
    __slots__ = ("fusion",)

    def __init__(self, children: Sequence[PlanNode | None], fusion: Any) -> None:
        super().__init__([child for child in children if child is not None])
        self.fusion = fusion

    def run(self, state: Any, slot: Any) -> Any:
        entered = self.family.enter(state, self.modules[-1], slot)
        states = [node.run(entered, slot) for node in self.children if node is not None]
        return self.family.fuse(entered, states, self.fusion, slot)


class PartsNode(Block):
    """Children on parts of the batch (axis 0) or of the sequence (axis 1)."""

    __slots__ = ("axis", "sizes")

    def __init__(
        self, children: Sequence[PlanNode | None], sizes: Sequence[int], axis: int
    ) -> None:
        super().__init__(children)
        self.sizes = tuple(sizes)
        self.axis = axis

    def run(self, state: Any, slot: Any) -> Any:
        sizes = self.parts(self.family.size(state, self.axis), slot)
        entered = self.family.enter(state, self.modules[0], slot)
        states, start, ctx = [], 0, local.ctx
        rows = ctx.rows
        for index, size in enumerate(sizes):
            if rows is not None and self.axis == 0:  # a Route inside sees the routing of its rows
                ctx.rows = rows_of_part(rows, start, size, sum(sizes))
            part = self.family.part(entered, start, start + size, self.axis)
            states.append(self.child(index, part, slot))
            start += size
        ctx.rows = rows
        return self.family.join(states, self.axis, slot)

    def parts(self, total: int, slot: Any) -> Sequence[int]:
        """Return the sizes for *total* rows or positions."""
        wanted = sum(self.sizes)
        if wanted == total:
            return self.sizes
        ctx = local.ctx
        if (
            self.axis == 0
            and total % wanted == 0
            and (ctx.expandable or total == wanted * ctx.finer)
        ):
            return [size * (total // wanted) for size in self.sizes]
        what, where = ("BatchSplit", "rows") if self.axis == 0 else ("Split", "positions")
        _expect_rows(what, self.axis, total, slot)
        raise CompositionError(
            f"{what} over {list(self.sizes)} = {wanted} {where} met an input of {total} {where} at "
            f"{slot.site.key}; activate a {what} whose sizes add up to {total}."
        )


def rows_of_part(rows: torch.Tensor, start: int, size: int, total: int) -> torch.Tensor:
    """Return the routing of *size* rows from *start* on, of *total* rows in all.

    The routing is of the whole batch, of one channel of Parallel, or of the batch before beams.
    """
    if rows.shape[0] == total:
        return rows[start : start + size]
    if rows.shape[0] == size or total % rows.shape[0]:
        return rows
    return rows.repeat_interleave(total // rows.shape[0])[start : start + size]


def _expect_rows(what: str, axis: int, total: int, slot: Any) -> None:
    """Refuse a single row where the sizes or the routing say that there are several."""
    if axis == 0 and total == 1:
        raise CompositionError(
            f"{what} met one row at {slot.site.key}. Either the batch has one row, or the model runs "
            f"{type(slot.host).__name__} there once for all rows (DeBERTa does, for relative positions), "
            "so that rows cannot have adapters of their own; leave these layers out, or use Stack or Average."
        )


class ParallelNode(PartsNode):
    """Children on the copies of the batch."""

    __slots__ = ()

    def __init__(self, children: Sequence[PlanNode | None], widths: Sequence[int]) -> None:
        super().__init__(children, widths, 0)

    def parts(self, total: int, slot: Any) -> Sequence[int]:
        channels = sum(self.sizes)
        if total % channels:
            _expect_rows("Parallel", 0, total, slot)
            raise CompositionError(
                f"Parallel with {channels} channels met {total} rows at {slot.site.key}, which do not "
                "divide; pass the whole batch to the model itself, so that it is replicated there."
            )
        return [size * (total // channels) for size in self.sizes]


class RouteNode(Block):
    """Each row's child is data: ``context.rows``."""

    __slots__ = ("flat",)

    def __init__(self, children: Sequence[PlanNode | None]) -> None:
        super().__init__(children)
        self.flat = all(node is None or isinstance(node, Leaf) for node in children)

    def run(self, state: Any, slot: Any) -> Any:
        batch = state[0].shape[0]
        if batch == 1 and local.ctx.rows is not None and local.ctx.rows.shape[0] > 1:
            _expect_rows(type(self).__name__.removesuffix("Node"), 0, batch, slot)
        rows = routed_rows(batch, len(self.children), state[0].device)
        if self.flat:
            modules = [None if node is None else node.module for node in self.children]  # type: ignore[attr-defined]
            done = self.family.route(state, modules, rows, slot)
            if done is not None:
                return done
        result = state
        for index, node in enumerate(self.children):
            if node is not None:
                entered = (
                    self.family.enter(state, node.modules[0], slot)
                    if isinstance(node, Leaf)
                    else state
                )
                result = self.family.select(result, node.run(entered, slot), rows == index, slot)
        return result


class MultiTaskNode(RouteNode):
    """Routing by ``task_ids``, whose children see an input prepared twice.

    The block prepares it for all rows and each task's part prepares it again; adapters that were trained
    in a MultiTask setup have learnt on that.
    """

    __slots__ = ()

    def run(self, state: Any, slot: Any) -> Any:
        entered = self.family.enter(state, self.modules[0], slot)
        done = super().run(entered, slot)
        absent = [index for index, node in enumerate(self.children) if node is None]
        if not absent:
            return done
        rows = routed_rows(state[0].shape[0], len(self.children), state[0].device)
        has = torch.ones_like(rows, dtype=torch.bool)
        for index in absent:
            has = has & (rows != index)
        return self.family.select(state, done, has, slot)


def routed_rows(batch: int, children: int, device: torch.device) -> torch.Tensor:
    """Return the (batch,) routing of this forward pass, repeated for beams where that is allowed."""
    ctx = local.ctx
    rows = ctx.rows
    if rows is None:
        raise CompositionError(
            f"The active setup routes rows to {children} adapters, but this call says not which: pass "
            "adapter_rows=[...] (one index or name a row) or use `with model.adapter_routing(rows):`."
        )
    if rows.shape[0] != batch:
        finer = batch == rows.shape[0] * ctx.finer
        if not (ctx.expandable or finer) or batch % rows.shape[0]:
            raise CompositionError(
                f"adapter_rows has {rows.shape[0]} entries for a batch of {batch} rows; pass one a row."
            )
        rows = rows.repeat_interleave(batch // rows.shape[0])
    return rows if rows.device == device else rows.to(device)


def compile_node(
    tree: Node, slot: Any, fusion_of: Callable[[Any, Fuse], Any], *, in_stack: bool = False
) -> PlanNode | None:
    """Prune *tree* to what is present at *slot*; ``None`` if nothing is.

    Args:
        fusion_of: returns the fusion layer of a Fuse block at this slot, or raises.
    """
    if tree is None:
        return None
    if isinstance(tree, str):
        module = slot.adapter(tree)
        return None if module is None else Leaf(module)
    if isinstance(tree, Stack):
        return _compile_stack(tree, slot, fusion_of)
    children = [compile_node(child, slot, fusion_of) for child in tree.children]
    if all(child is None for child in children):
        return None
    return _compile_block(tree, children, slot, fusion_of)


def _compile_stack(
    tree: Stack, slot: Any, fusion_of: Callable[[Any, Fuse], Any]
) -> PlanNode | None:
    pruned = [compile_node(child, slot, fusion_of) for child in tree.children]
    present = [child for child in pruned if child is not None]
    if not present:
        return None
    family = _one_family(present, slot)
    if family.stack_first_only:
        return None if pruned[0] is None else StackNode([pruned[0]])
    why = family.refuse_stack([module for child in present[1:] for module in child.modules], slot)
    if why:
        raise CompositionError(f"{tree!r}: {why}.")
    return StackNode(present)


def _compile_block(
    tree: AdapterCompositionBlock,
    children: list[PlanNode | None],
    slot: Any,
    fusion_of: Callable[[Any, Fuse], Any],
) -> PlanNode | None:
    _one_family([child for child in children if child is not None], slot)
    if isinstance(tree, Fuse):
        return _compile_fusion(tree, children, slot, fusion_of)
    if isinstance(tree, Average):
        return AverageNode(children, tree.weights)
    if isinstance(tree, BatchSplit):
        return PartsNode(children, tree.batch_sizes, 0)
    if isinstance(tree, Split):
        return PartsNode(children, tree.splits, 1)
    if isinstance(tree, Parallel):
        return ParallelNode(children, [width(child) for child in tree.children])
    if isinstance(tree, MultiTask):
        return MultiTaskNode(children)
    if isinstance(tree, Route):
        return RouteNode(children)
    raise CompositionError(f"No meaning for {type(tree).__name__} in the engine.")


def _compile_fusion(
    tree: Fuse,
    children: list[PlanNode | None],
    slot: Any,
    fusion_of: Callable[[Any, Fuse], Any],
) -> PlanNode | None:
    family = next(child for child in children if child is not None).family
    if family.stack_first_only:  # the input is not mixed: the first adapter's acts, as in a Stack
        return children[0]
    if not family.fusable:
        family.fuse(None, [], None, slot)  # raises, in the family's own words
    return FuseNode(children, fusion_of(slot, tree))


def _one_family(nodes: Sequence[PlanNode], slot: Any) -> Any:
    families = {node.family for node in nodes}
    if len(families) > 1:
        names = sorted(family.name for family in families)
        raise CompositionError(
            f"{slot.site.key}: {' and '.join(names)} adapters cannot act together there."
        )
    return nodes[0].family


def finish(node: PlanNode, slot: Any) -> PlanNode:
    """Give the root of a slot's plan its ``act``; one adapter alone acts without building a state."""
    inner = _without_stacks(node)
    own = getattr(inner.module, "alone", None) if isinstance(inner, Leaf) else None
    alone = getattr(node.family, "alone", None)
    if isinstance(inner, Leaf) and own is not None:
        act = partial(own, slot)
    elif isinstance(inner, Leaf) and alone is not None:
        act = partial(alone, inner.module, slot)
    else:
        act = partial(node.evaluate, slot)
    node.act = partial(_by_rows, act) if tells_rows_apart(node) else act
    return node


def tells_rows_apart(node: PlanNode) -> bool:
    """Whether a plan has to know which rows of the batch a host's output is about.

    A block does, and an adapter whose gate is a mean over its row.
    """
    inner = _without_stacks(node)
    return not isinstance(inner, Leaf) or bool(getattr(inner.module, "gated", False))


def _without_stacks(node: PlanNode) -> PlanNode:
    while isinstance(node, StackNode) and len(node.children) == 1:
        node = node.children[0]  # type: ignore[assignment]
    return node


def run_on_keys(node: PlanNode, slot: Any, key: torch.Tensor, state: Any) -> Any:
    """Run a plan on keys and values, whose rows may be windows of those of the batch."""
    ctx = local.ctx
    if ctx.batch is None or key.shape[0] % ctx.batch:
        return node.run(state, slot)
    ctx.finer = key.shape[0] // ctx.batch
    try:
        return node.run(state, slot)
    finally:
        ctx.finer = 1


def _by_rows(
    act: Callable[[Any, Any], torch.Tensor], h: torch.Tensor, x: torch.Tensor | None
) -> torch.Tensor:
    """Evaluate a plan by *act* on a host's output whose first axis may be finer than the batch.

    Models put the tokens of all rows into one axis (OPT, mixtures of experts), or cut each row into
    windows (Swin). Either way those of one row lie together, so the rows can be put together again.
    """
    batch = local.ctx.batch
    if batch is None or (h.shape[0] == batch and h.dim() > 2) or h.shape[0] % batch:
        return act(h, x)
    rows = h.reshape(batch, -1, h.shape[-1])
    given = None if x is None else x.reshape(batch, -1, x.shape[-1])
    return act(rows, given).reshape(h.shape)
