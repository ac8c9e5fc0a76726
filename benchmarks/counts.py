"""Suites without a clock: ``counts`` and ``compile``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, Unsupported

from benchmarks import cases, counters
from benchmarks.models import SPECS, Spec, batch, build, twin, with_layers
from benchmarks.records import Options, Record, exact
from benchmarks.speed import copy_for, forward_call, separate, trained, trained_fusion

DEPTHS = (2, 4)


def measure(
    spec: Spec, case: str, count: Callable[[Callable[[], Any]], Counter[str]]
) -> counters.Extra:
    """Return what *case* adds to the base, as *count* sees it, in a layer and once a pass."""
    prepare = {**cases.single_cases(), **cases.composed_cases()}[case]
    extra = {}
    for depth in DEPTHS:
        shallow = with_layers(spec, depth)
        base, inputs = build(shallow), batch(shallow)
        calls = (
            forward_call(base, inputs),
            forward_call(prepare(copy_for(base, case)), inputs),
        )
        numbers = []
        for call in calls:
            call()  # caches are full then, and lazy imports done
            numbers.append(count(call).total())
        extra[depth] = numbers[1] - numbers[0]
    return counters.split_by_depth(extra)


def counts(options: Options) -> Iterator[Record]:
    """Kernels and Python calls over the base, bytes kept for backward, modules an adapter."""
    spec = SPECS["tiny"]
    for case in (*cases.single_cases(), *cases.composed_cases()):
        for what, count in (("kernels", counters.kernels), ("calls", counters.python_calls)):
            extra = measure(spec, case, count)
            yield exact("counts", "tiny", case, extra.layer, f"{what} a layer")
            yield exact("counts", "tiny", case, extra.once, f"{what} once")
    for method in cases.METHODS:
        model, modules = twin(build(spec)), []
        cases.many(model, method, 2)
        for name in ("x", "y"):
            before = counters.module_count(model)
            model.add_adapter(name, config=cases.METHODS[method])
            modules.append(counters.module_count(model) - before)
        assert modules[0] == modules[1], "the cost of an adapter depends on how many there are"
        yield exact(
            "counts", "tiny", method, modules[0], "modules an adapter", f"{spec.layers} layers"
        )
    for name in options.models:
        if name in ("tiny", "mini"):
            yield from saved(SPECS[name])


def saved(spec: Spec) -> Iterator[Record]:
    """Yield the bytes kept for backward over those of full fine-tuning."""
    base, inputs = build(spec), batch(spec, labels=True)
    full = twin(base, share=False).train()
    whole = counters.saved_bytes(full, lambda: full(**inputs).loss)
    ready: dict[str, Callable[[Any], Any]] = {
        method: lambda model, method=method: trained(model, method) for method in cases.METHODS
    }
    ready["fusion of 3"] = lambda model: trained_fusion(model, 3)
    for case, prepare in ready.items():
        model = prepare(separate(base)).train()
        kept = counters.saved_bytes(model, lambda model=model: model(**inputs).loss)
        yield exact("counts", spec.name, case, kept / whole, "saved bytes over full fine-tuning")


# -- torch.compile -------------------------------------------------------------------------------------


def compile_(options: Options) -> Iterator[Record]:
    """Graphs that ``torch.compile(fullgraph=True)`` makes, and whether their results are right."""
    spec = SPECS["tiny"]
    base = build(spec)
    for inner in ("eager", "aot_eager"):
        for case, prepare in (*cases.single_cases().items(), *cases.composed_cases().items()):
            model = prepare(copy_for(base, case))
            yield _graphs(spec, model, inner, f"{case}", [lambda: None])
        for number in (2, 10):
            yield _graphs(spec, *_switching(base, inner, number))
        model = cases.routed(twin(base), "lora_qv", 10)
        mixes = [torch.full((4,), k) for k in range(10)]
        yield _graphs(spec, model, inner, "Route: 10 adapters, one after another", [lambda: None],
                      mixes)  # fmt: skip
        for method in ("lora_qv", "seq_bn"):
            model = cases.routed(twin(base), method, 4)
            mixes = [torch.tensor(m) for m in ([0, 1, 2, 3], [3, 3, 1, 0], [2, -1, 2, 2], [1] * 4)]
            case = f"Route: {method}, 4 row mixes"
            yield _graphs(spec, model, inner, case, [lambda: None], mixes)


def _switching(base: Any, inner: str, number: int) -> tuple[Any, str, str, list[Any]]:
    model = twin(base)
    names = cases.many(model, "lora_qv", number)
    acts = [lambda name=name: model.set_active_adapters(name) for name in names]
    return model, inner, f"set_active_adapters through {number}", acts


def _graphs(
    spec: Spec,
    model: Any,
    inner: str,
    case: str,
    acts: list[Callable[[], Any]],
    mixes: list[torch.Tensor] | None = None,
) -> Record:
    """Run *acts* and row *mixes* in turn, through the compiled and the eager model."""
    inputs = batch(spec, 4, 16)
    compiled, graphs = counters.compiled(model, inner)
    note = ""
    try:
        with torch.no_grad():
            for act in acts:
                act()
                for rows in mixes or [None]:
                    more = {} if rows is None else {"adapter_rows": rows}
                    got = compiled(**inputs, **more).logits
                    worst = (got - model(**inputs, **more).logits).abs().max().item()
                    if worst > 1e-5:
                        note = f"WRONG by {worst:.1e}"
    except FailOnRecompileLimitHit:
        note = "recompile limit hit"
    except Unsupported as error:
        note = f"does not trace: {str(error).splitlines()[0]}"
    torch.compiler.reset()
    return exact("compile", spec.name, f"{case} ({inner})", graphs.count, "graphs", note)
