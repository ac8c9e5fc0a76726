"""Suite ``lifecycle``: CPU milliseconds of preparing, adding, saving, loading and switching."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import adapterhub
from benchmarks import cases
from benchmarks.models import Spec, batch, build, twin
from benchmarks.records import Options, Record
from benchmarks.speed import forward_call
from benchmarks.timing import milliseconds, seconds


def _spread(spec: Spec, case: str, values: list[float], note: str = "") -> Record:
    return Record(
        "lifecycle",
        spec.name,
        case,
        statistics.median(values),
        "ms",
        min(values),
        max(values),
        rounds=len(values),
        note=note,
    )


def lifecycle(options: Options) -> Iterator[Record]:
    """What an adapter's life costs beside its work."""
    for spec in options.specs("mini", "bert"):
        base = build(spec)
        step = milliseconds(forward_call(base, batch(spec, 1, 16)), options.rounds)
        yield Record("lifecycle", spec.name, "base forward, 1 x 16", step[0], "ms", *step[1:],
                     rounds=options.rounds, note="for comparison")  # fmt: skip
        yield from _prepare(spec, base, options)
        for method in ("lora_qv", "seq_bn"):
            with tempfile.TemporaryDirectory() as folder:
                yield from _files(spec, base, method, Path(folder), options)
            yield from _switch(spec, base, method, options)


def _prepare(spec: Spec, base: Any, options: Options) -> Iterator[Record]:
    attach: list[float] = []
    both: dict[str, list[float]] = {"lora_qv": [], "seq_bn": []}
    for _ in range(options.rounds):
        for method, values in both.items():
            model = twin(base)
            first = seconds(lambda model=model: adapterhub.init(model)) * 1e3
            second = seconds(
                lambda model=model, method=method: model.add_adapter("a", config=cases.METHODS[method])
            )  # fmt: skip
            attach.append(first)
            values.append(first + second * 1e3)
    yield _spread(spec, "init", attach)
    for method, values in both.items():
        yield _spread(spec, f"init and first add, {method}", values)


def _files(spec: Spec, base: Any, method: str, folder: Path, options: Options) -> Iterator[Record]:
    number = 20 if options.quick else 100
    source = twin(base)
    names = cases.many(source, method, number)
    adds = [
        seconds(lambda n=n: source.add_adapter(f"b{n}", config=cases.METHODS[method])) * 1e3
        for n in range(options.rounds)
    ]
    yield _spread(spec, f"add, {method}", adds, f"{number} loaded before")
    saves = [seconds(lambda n=n: source.save_adapter(folder / n, n)) * 1e3 for n in names]
    yield _spread(spec, f"save, {method}", saves)
    file = next((folder / names[0]).glob("*.safetensors"))
    reads = [seconds(lambda: load_file(file)) * 1e3 for _ in range(20)]
    size = f"{file.stat().st_size / 1024:.0f} KiB"
    yield _spread(spec, f"read the file alone, {method}", reads, f"{size}; for comparison")
    target = adapterhub.init(twin(base))
    loads = [seconds(lambda n=n: target.load_adapter(folder / n, load_as=n)) * 1e3 for n in names]
    first = [loads[0]]
    for _ in range(options.rounds - 1):
        fresh = adapterhub.init(twin(base))
        first.append(seconds(lambda m=fresh: m.load_adapter(folder / names[0], load_as="a")) * 1e3)
    yield _spread(spec, f"load the first, {method}", first)
    yield _spread(spec, f"load the {number}th, {method}", loads[-10:], "the last ten")
    yield Record(
        "lifecycle", spec.name, f"load {number} in total, {method}", sum(loads), "ms",
        sum(loads), sum(loads),
    )  # fmt: skip
    last = names[-1]
    twins = all(
        torch.equal(a, b)
        for a, b in zip(
            source.adapter_handle.iter_parameters(last),
            target.adapter_handle.iter_parameters(last),
            strict=True,
        )
    )
    assert twins, "what was loaded is not what was saved"


def _switch(spec: Spec, base: Any, method: str, options: Options) -> Iterator[Record]:
    for number in (2, 100):
        model = twin(base)
        names = cases.many(model, method, number)

        def there_and_back(model: Any = model, names: list[str] = names) -> None:
            model.set_active_adapters(names[0])
            model.set_active_adapters(names[-1])

        there_and_back()
        values = [v / 2 for v in _each(there_and_back, max(options.rounds, 7))]
        yield _spread(spec, f"switch, {number} loaded, {method}", values)
        model.set_active_adapters(None)

        def on_and_off(model: Any = model, names: list[str] = names) -> None:
            model.set_active_adapters(names[0])
            model.set_active_adapters(None)

        values = [v / 2 for v in _each(on_and_off, max(options.rounds, 7))]
        yield _spread(spec, f"on or off, {number} loaded, {method}", values)


def _each(call: Any, rounds: int) -> list[float]:
    return [seconds(call, 50) * 1e3 for _ in range(rounds)]
