"""Gates without noise: what an adapter may cost in kernels, Python calls, graphs and modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.counters import kernels, python_calls, saved_bytes
from benchmarks.models import SPECS, batch, build, with_layers

import adapterhub


def counted(setup: str | None, layers: int, merged: bool = False) -> tuple[int, int]:
    """Return (kernels, Python calls) of one forward pass of a tiny model with *layers* layers."""
    spec = with_layers(SPECS["tiny"], layers)
    model, inputs = build(spec).eval(), batch(spec)
    if setup is not None:
        adapterhub.init(model)
        for name in ("seq_bn", "lora", "par_bn", "ia3", "prefix_tuning_flat"):
            model.add_adapter(name, config=name)
        model.set_active_adapters("seq_bn")  # so that hooks were there once
        model.set_active_adapters(setup or None)
        if merged:
            model.merge_adapter("lora")

    def call() -> Any:
        with torch.no_grad():
            return model(**inputs)

    call()
    return sum(kernels(call).values()), sum(python_calls(call).values())


def per_layer(setup: str) -> tuple[float, float]:
    """Return what a setup adds for each further layer."""
    more, fewer = (
        [a - b for a, b in zip(counted(setup, n), counted(None, n), strict=True)] for n in (4, 2)
    )
    return (more[0] - fewer[0]) / 2, (more[1] - fewer[1]) / 2


def test_an_inactive_adapter_costs_nothing_at_all() -> None:
    assert counted("", 4) == counted(None, 4)


def test_a_merged_adapter_costs_nothing_at_all() -> None:
    assert counted("lora", 4, merged=True) == counted(None, 4)


@pytest.mark.parametrize(
    ("setup", "most_kernels", "most_calls"),
    [
        ("seq_bn", 6, 10),
        ("lora", 4, 10),
        ("par_bn", 5, 10),
        ("ia3", 3, 15),
        ("prefix_tuning_flat", 3, 24),
    ],
)
def test_cost_of_a_layer(setup: str, most_kernels: int, most_calls: int) -> None:
    found_kernels, found_calls = per_layer(setup)
    assert 0 < found_kernels <= most_kernels
    assert 0 < found_calls <= most_calls


def test_modules_of_an_adapter_are_bounded() -> None:
    spec = SPECS["tiny"]
    model = adapterhub.init(build(spec))
    model.add_adapter("first", config="lora")
    before = sum(1 for _ in model.modules())
    for number in range(10):
        model.add_adapter(f"a{number}", config="lora")
    assert (
        sum(1 for _ in model.modules()) - before == 10 * 2 * spec.layers
    )  # one at each of q and v


@pytest.mark.parametrize(("method", "most"), [("seq_bn", 0.60), ("par_bn", 0.58), ("lora", 0.70)])
def test_memory_kept_for_the_backward_pass(method: str, most: float) -> None:
    """As a share of what full fine-tuning keeps."""
    spec = SPECS["tiny"]
    inputs = batch(spec, labels=True)
    full = build(spec).train()
    whole = saved_bytes(full, lambda: full(**inputs).loss)
    model = adapterhub.init(build(spec))
    model.add_adapter("a", config=method)
    model.train_adapter("a")
    model.train()
    assert 0.3 < saved_bytes(model, lambda: model(**inputs).loss) / whole <= most


@pytest.mark.parametrize("method", ["seq_bn", "lora"])
def test_loading_costs_the_same_however_many_are_loaded(method: str, tmp_path: Any) -> None:
    model = adapterhub.init(build(SPECS["tiny"]))
    model.add_adapter("a", config=method)
    model.save_adapter(tmp_path / "a", "a")

    def load(name: str) -> int:
        return sum(python_calls(lambda: model.load_adapter(tmp_path / "a", load_as=name)).values())

    load("warm")
    early = load("early")
    for number in range(30):
        load(f"more{number}")
    assert abs(load("late") - early) <= 0.02 * early
