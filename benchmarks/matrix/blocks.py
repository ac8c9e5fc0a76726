"""Each block and three nested trees: the outputs are those of the parts, and training reaches all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from adapterhub import Average, BatchSplit, Fuse, MultiTask, Parallel, Route, Split, Stack
from adapterhub.composition import names_in
from benchmarks.matrix.rules import acts, expect_gradients
from benchmarks.matrix.subject import (
    ROWS,
    Failed,
    NotApplicable,
    Subject,
    adapted,
    close,
    differs,
    forward,
    loss,
    rows,
)

NAMES = ("a", "b", "c")
Outputs = list[torch.Tensor]


def setup_of(block: str, length: int = 0) -> tuple[Any, dict[str, Any]]:
    """Return the setup of a block or tree, and what a call needs besides."""
    routed = {"adapter_rows": torch.tensor([1, 0])}
    setups: dict[str, tuple[Any, dict[str, Any]]] = {
        "Stack": (Stack("a", "b"), {}),
        "Fuse": (Fuse("a", "b"), {}),
        "BatchSplit": (BatchSplit("b", "a", batch_sizes=1), {}),
        "Parallel": (Parallel("a", "b"), {}),
        "Average": (Average("a", "b"), {}),
        "MultiTask": (MultiTask("a", "b"), {"task_ids": torch.tensor([1, 0])}),
        "Route": (Route("a", "b"), routed),
        "Stack(Parallel(Fuse))": (Stack("c", Parallel("a", "b", Fuse("a", "b"))), {}),
        "Parallel(Average,BatchSplit)": (
            Parallel(Average("a", "b"), BatchSplit("b", Average("a", "c"), batch_sizes=1), "c"),
            {},
        ),
        "BatchSplit(Stack,Route)": (
            BatchSplit(Stack("a", "b"), Route("c", "b"), batch_sizes=1),
            {"adapter_rows": torch.tensor([1, 1])},
        ),
    }
    if block == "Split":
        return Split("b", "a", splits=[2, length - 2]), {}
    return setups[block]


BLOCKS = ("Stack", "Fuse", "Split", "BatchSplit", "Parallel", "Average", "MultiTask", "Route")
TREES = (
    "Stack(Parallel(Fuse))",
    "Parallel(Average,BatchSplit)",
    "BatchSplit(Stack,Route)",
)


def composed(subject: Subject, method: str, block: str) -> str:
    """Compare the outputs with those of the parts; train through the block."""
    if not subject.rowwise:
        raise NotApplicable("bare model: no output whose rows are computed apart")
    model = three(subject.bare(), method, block)
    length = sequence_length(subject) if block == "Split" else 0
    note = _WAYS.get(block, _tree)(subject, model, block, length)
    _trains(subject, model, block, length)
    return note or ""


def three(model: Any, method: str, block: str) -> Any:
    """Give *model* three adapters of one method, and a fusion layer if the block has one."""
    model = adapted(model, method, method, method, names=NAMES)
    if "Fuse" in block:
        model.add_adapter_fusion(["a", "b"])
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".fusions." in name and parameter.dim() > 1:
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(noise * 0.02)  # more would leave softmax without a gradient
    return model


def sequence_length(subject: Subject) -> int:
    """Return over how many positions the layers of the model run.

    Raises:
        NotApplicable: the stacks have sequences of different length, so that one Split fits only some.
    """

    def find() -> set[int]:
        from adapterhub.architectures import resolve

        model, lengths = subject.bare(), set()

        def note(module: Any, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            lengths.add(first.shape[1])

        for layer in resolve(model).layers:
            layer.register_forward_hook(note)
        forward(model, subject.inputs)
        return lengths

    lengths = subject.fact("lengths", find)
    if len(lengths) > 1:
        text = " and ".join(map(str, sorted(lengths)))
        raise NotApplicable(
            f"bare model: its stacks have {text} positions, which no one Split fits"
        )
    return next(iter(lengths))


def run(
    subject: Subject, model: Any, setup: Any, index: int | None = None, **extra: Any
) -> Outputs:
    """Return the outputs whose rows are computed apart, for all rows or for row *index*."""
    model.set_active_adapters(setup)
    inputs = subject.inputs if index is None else rows(subject.inputs, index)
    found = forward(model, {**inputs, **extra})
    return [found[number] for number in subject.rowwise]


def expect_parts(
    found: Outputs, parts: list[Outputs], what: str, mask: torch.Tensor | None = None
) -> None:
    """Raise Failed unless *found* are the *parts* below each other.

    Rows with a shorter prompt have nothing at its place, so what all have is compared: the end, without what
    is padding by *mask* (there a model may give a mean over all positions, prompts that are hidden included).
    """
    for number, whole in enumerate(found):
        pieces = [part[number] for part in parts]
        if any(piece.shape[1:] != whole.shape[1:] for piece in pieces):
            length = min(piece.shape[1] for piece in pieces)
            if mask is not None:
                length = min(length, mask.shape[1])
            pieces = [piece[:, -length:] for piece in pieces]
            whole = whole[:, -length:]
            if mask is not None and mask.shape[0] == whole.shape[0]:
                seen = mask[:, -length:].view(*whole.shape[:2], *[1] * (whole.dim() - 2))
                whole, pieces = whole * seen, [torch.cat(pieces) * seen]
        expected = torch.cat(pieces)
        if whole.shape != expected.shape:
            raise Failed(f"{what}: shape {tuple(whole.shape)}, not {tuple(expected.shape)}")
        if not close(whole, expected):
            raise Failed(f"{what}: differs by {float((whole - expected).abs().max()):.1e}")


def _stack(subject: Subject, model: Any, block: str, length: int) -> str:
    alone = {name: run(subject, model, name) for name in ("a", "b")}
    expect_parts(run(subject, model, Stack("a")), [alone["a"]], "Stack of one")
    both = run(subject, model, Stack("a", "b"))
    if not all(torch.isfinite(t).all() for t in both):
        raise Failed("Stack: not finite")
    notes = []
    for name, order, other in (("a", "earlier", "b"), ("b", "later", "a")):
        modules = model.adapter_handle.engine.adapters[name].modules.values()
        if not any(acts(module, order) for module in modules):
            notes.append(f"the {'last' if order == 'earlier' else 'first'} adapter acts")
            expect_parts(both, [alone[other]], "Stack in which one adapter acts")
        elif not differs(both, alone[other]):
            raise Failed(f"Stack: the {'first' if order == 'earlier' else 'last'} does not act")
    return "; ".join(notes)


def _fuse(subject: Subject, model: Any, block: str, length: int) -> str:
    fused = run(subject, model, Fuse("a", "b"))
    if not all(torch.isfinite(t).all() for t in fused):
        raise Failed("Fuse: not finite")
    for name in ("a", "b"):
        if not differs(fused, run(subject, model, name)):
            raise Failed(f"Fuse: as {name} alone")
    one = [run(subject, model, Fuse("a", "b"), index) for index in range(ROWS)]
    expect_parts(fused, [[torch.cat(both) for both in zip(*one, strict=True)]], "Fuse, row by row")
    return ""


def _split(subject: Subject, model: Any, block: str, length: int) -> str:
    alone = run(subject, model, "a")
    same = run(subject, model, Split("a", "a", splits=[2, length - 2]))
    local = not _looks_around(model.adapter_handle.engine)
    if local:
        expect_parts(same, [alone], "Split of twice the same")
    other = run(subject, model, Split("b", "a", splits=[2, length - 2]))
    if not differs(other, alone):
        raise Failed("Split: the first part has no effect")
    return "" if local else "parts count their own positions"


def _looks_around(engine: Any) -> bool:
    """Whether the adapters work on a position as its sequence tells: a gate's mean, ReFT's last positions."""
    return any(
        getattr(module, "gated", False) or module.family.needs_positions
        for module in engine.adapters["a"].modules.values()
    )


def _parallel(subject: Subject, model: Any, block: str, length: int) -> str:
    parts = [run(subject, model, name) for name in ("a", "b")]
    expect_parts(run(subject, model, Parallel("a", "b")), parts, "Parallel")
    return ""


def _batch_split(subject: Subject, model: Any, block: str, length: int) -> str:
    parts = [run(subject, model, name, index) for index, name in enumerate(("b", "a"))]
    found = run(subject, model, BatchSplit("b", "a", batch_sizes=1))
    expect_parts(found, parts, "BatchSplit")
    return ""


def _route(subject: Subject, model: Any, block: str, length: int) -> str:
    parts = [run(subject, model, name, index) for index, name in enumerate(("b", "a"))]
    expect_parts(run(subject, model, Route("a", "b"), adapter_rows=["b", "a"]), parts, "Route")
    chosen = torch.tensor([1, 0])
    expect_parts(run(subject, model, Route("a", "b"), adapter_rows=chosen), parts, "Route")
    return ""


def _multi_task(subject: Subject, model: Any, block: str, length: int) -> str:
    setup = MultiTask("a", "b")
    found = run(subject, model, setup, task_ids=["b", "a"])
    parts = [
        run(subject, model, setup, index, task_ids=torch.tensor([task]))
        for index, task in enumerate((1, 0))
    ]
    expect_parts(found, parts, "MultiTask")
    other = run(subject, model, setup, 0, task_ids=torch.tensor([0]))
    if not differs(other, parts[0]):
        raise Failed("MultiTask: the task makes no difference")
    return ""


def _average(subject: Subject, model: Any, block: str, length: int) -> str:
    alone = run(subject, model, "a")
    found = run(subject, model, Average("a", "b", weights=[1.0, 0.0]))
    expect_parts(found, [alone], "Average with all the weight on one")
    if not differs(run(subject, model, Average("a", "b")), alone):
        raise Failed("Average: only the first adapter acts")
    return ""


def _tree(subject: Subject, model: Any, block: str, length: int) -> str:
    setup, extra = setup_of(block)
    found = run(subject, model, setup, **extra)
    # Every block prepares the input of its children, so the parts are wrapped as deep as in the tree.
    if block == TREES[0]:
        inner = setup.children[1].children
        parts = [run(subject, model, Stack("c", Parallel(child))) for child in inner]
    elif block == TREES[1]:
        first, split, last = setup.children
        middle = [
            run(subject, model, Parallel(BatchSplit(child, batch_sizes=1)), index)
            for index, child in enumerate(split.children)
        ]
        parts = [run(subject, model, Parallel(first)), *middle, run(subject, model, Parallel(last))]
    else:
        stack, route = setup.children
        one = torch.tensor([1])
        parts = [
            run(subject, model, BatchSplit(stack, batch_sizes=1), 0),
            run(subject, model, BatchSplit(route, batch_sizes=1), 1, adapter_rows=one),
        ]
    try:
        expect_parts(found, parts, block, subject.inputs.get("attention_mask"))
    except Failed:
        if len({tensor.shape for part in parts for tensor in part[:1]}) > 1:
            subject.demand_masks()  # shorter prompts are filled up with hidden positions
        raise
    return ""


def _trains(subject: Subject, model: Any, block: str, length: int, shorter: int = 0) -> None:
    """One backward pass through the setup: gradients on all that takes part and on nothing else.

    Args:
        shorter: 1: with the queries of fusion layers scaled down.
    """
    setup, extra = setup_of(block, length)
    if shorter:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("query_weight", "query_bias")) and ".fusions." in name:
                    parameter.mul_(1e-6)
    if "Fuse" in block:
        model.train_adapter_fusion(setup, unfreeze_adapters=True)
    else:
        model.train_adapter(setup)
    model.eval()
    loss(forward(model, {**subject.inputs, **extra}, grad=True)).backward()
    names = list(dict.fromkeys(names_in(setup)))
    if block == "BatchSplit(Stack,Route)":
        names = ["a", "b"]  # no row is routed to c
        for parameter in model.adapter_handle.iter_parameters("c"):
            if parameter.grad is not None and bool(parameter.grad.any()):
                raise Failed("a gradient on an adapter without a row")
            parameter.grad = None
    order = {
        "Stack": {"a": "earlier", "b": "later"},
        "Fuse": {"b": "later"},
        TREES[0]: {"c": "earlier", "a": "later", "b": "later"},
        TREES[2]: {"a": "earlier"},
    }.get(block)
    fusion = ".fusions." if "Fuse" in block else ""
    located = block == "Split" and _looks_around(model.adapter_handle.engine)
    try:
        expect_gradients(subject, model, names, fusion, order, maybe_zero=located)
    except Failed as error:
        if "zero gradient" not in str(error) or ".fusions." not in str(error) or shorter == 1:
            raise
        # Between hidden states as large as some models' a softmax is exactly 0 or 1 and has no gradient.
        _trains(subject, model, block, length, shorter=1)


_WAYS: dict[str, Callable[[Subject, Any, str, int], str]] = {
    "Stack": _stack,
    "Fuse": _fuse,
    "Split": _split,
    "Parallel": _parallel,
    "BatchSplit": _batch_split,
    "Route": _route,
    "MultiTask": _multi_task,
    "Average": _average,
}
