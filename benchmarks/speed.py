"""Suites that time a model: forward, training step, generation, mixed batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from adapterhub import Fuse
from benchmarks import cases
from benchmarks.models import Spec, batch, build, twin
from benchmarks.records import Options, Record, from_timing
from benchmarks.timing import compare

Call = Callable[[], Any]


def copy_for(base: Any, case: str) -> Any:
    """Return a copy for a case: with weights of its own where the case changes them."""
    return twin(base, share="merged" not in case)


def forward_call(model: Any, inputs: dict[str, Any]) -> Call:
    """Return a call that runs the model without gradients."""

    def call() -> Any:
        with torch.no_grad():
            return model(**inputs)

    return call


def forward(options: Options) -> Iterator[Record]:
    """Forward pass over the base's forward pass."""
    for spec in options.specs("tiny", "mini", "bert", "qwen"):
        base, inputs = build(spec), batch(spec)
        calls = {
            name: forward_call(prepare(copy_for(base, name)), inputs)
            for name, prepare in cases.single_cases().items()
        }
        yield from _timed("forward", spec, options, forward_call(base, inputs), calls)
        if spec.name in ("tiny", "mini"):
            small = batch(spec, 4, 64)
            calls = {
                name: forward_call(prepare(twin(base)), small)
                for name, prepare in cases.composed_cases().items()
            }
            yield from _timed(
                "forward", spec, options, forward_call(base, small), calls, "batch 4 x 64"
            )


def _timed(
    suite: str, spec: Spec, options: Options, base: Call, calls: dict[str, Call], note: str = ""
) -> Iterator[Record]:
    sample = 0.0 if spec.name == "bert" else 0.04
    for name, timing in compare(base, calls, options.rounds_for(spec), sample).items():
        yield from_timing(suite, spec.name, name, timing, note)


# -- training ------------------------------------------------------------------------------------------


def step_call(model: Any, inputs: dict[str, Any]) -> Call:
    """Return a call that does one training step (forward, backward, AdamW) of what is trainable."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)
    model.train()

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(**inputs).loss.backward()
        optimizer.step()

    return call


def trained(model: Any, method: str) -> Any:
    """Prepare *model* to train one adapter."""
    cases.one(model, method).train_adapter("a")
    return model


def trained_fusion(model: Any, number: int) -> Any:
    """Prepare *model* to train a fusion layer over frozen adapters."""
    cases.fusion(model, number)
    model.train_adapter_fusion(Fuse(*(f"a{index}" for index in range(number))))
    return model


def separate(base: Any) -> Any:
    """Copy *base* so that the copy's frozen weights are shared and its flags and head are its own."""
    head = {id(p) for name, p in base.named_parameters() if name.startswith(("classifier", "lm_"))}
    copied = twin(base, share=False)
    modules, parameters = dict(copied.named_modules()), dict(base.named_parameters())
    frozen = {}
    for name, parameter in parameters.items():
        if id(parameter) not in head:
            path, _, attribute = name.rpartition(".")
            frozen[name] = torch.nn.Parameter(parameter.detach(), requires_grad=False)
            setattr(modules[path], attribute, frozen[name])
    return copied


def train(options: Options) -> Iterator[Record]:
    """Training step over a step of full fine-tuning."""
    for spec in options.specs("tiny", "mini", "bert"):
        base, inputs = build(spec), batch(spec, labels=True)
        methods = ["seq_bn", "lora_qv"] if spec.name == "bert" else list(cases.METHODS)
        calls = {name: step_call(trained(separate(base), name), inputs) for name in methods}
        yield from _timed("train", spec, options, step_call(twin(base, False), inputs), calls)
        if spec.name == "mini":
            small = batch(spec, 4, 64, labels=True)
            calls = {
                f"fusion of {number}": step_call(trained_fusion(separate(base), number), small)
                for number in (3, 8)
            }
            full = step_call(twin(base, False), small)
            yield from _timed("train", spec, options, full, calls, "batch 4 x 64")


# -- generation ----------------------------------------------------------------------------------------


def generate(options: Options) -> Iterator[Record]:
    """Tokens a second over the base's: 64 new tokens, batch 4, greedy, with the key-value cache."""
    for spec in options.specs("qwen"):
        length = 16 if options.quick else 64
        base = build(spec)
        prompt = batch(spec, 4, 16)
        settings = {"do_sample": False, "max_new_tokens": length, "min_new_tokens": length}

        def run(model: Any, prompt: Any = prompt, settings: Any = settings, **more: Any) -> Any:
            with torch.no_grad():
                return model.generate(**prompt, **settings, **more)

        models = {
            name: prepare(copy_for(base, name)) for name, prepare in cases.single_cases().items()
        }
        expected = run(base)
        rounds = min(options.rounds, 5)
        timings = compare(
            partial(run, base), {n: partial(run, m) for n, m in models.items()}, rounds, 0.0
        )
        for name, timing in timings.items():
            note = ""
            if name != "base":
                cached, uncached = run(models[name]), run(models[name], use_cache=False)
                note = "cache = no cache: " + ("yes" if torch.equal(cached, uncached) else "NO")
                if name.startswith("inactive") or name == "lora_qv":  # no effect: equal to the base
                    same = torch.equal(cached, expected)
                    note = f"tokens equal to base: {'yes' if same else 'NO'}; {note}"
            speed = (1 / timing.ratio, 1 / timing.high, 1 / timing.low)
            yield Record(
                "generate", spec.name, name, speed[0], "speed ratio", *speed[1:], timing.ms, rounds, note
            )  # fmt: skip


# -- mixed batches -------------------------------------------------------------------------------------


def mixed(options: Options) -> Iterator[Record]:
    """Rows of one batch with different adapters, over the base's forward of the same rows."""
    for spec in options.specs("qwen", "mini"):
        rows, length = (32, 1) if spec.name == "qwen" else (32, 64)
        base, inputs = build(spec), batch(spec, rows, length)
        if spec.name == "qwen":
            inputs["use_cache"] = False  # one position a row, as in a decoding step
        calls: dict[str, Call] = {}
        for method in ("lora_qv", "seq_bn"):
            calls[f"{method}, one for all rows"] = forward_call(
                cases.one(twin(base), method), inputs
            )
            for number in (2, 8, 32):
                order = torch.randperm(rows, generator=torch.Generator().manual_seed(4)) % number
                calls[f"{method}, {number} mixed"] = forward_call(
                    cases.routed(twin(base), method, number), {**inputs, "adapter_rows": order}
                )
        timings = compare(forward_call(base, inputs), calls, options.rounds_for(spec))
        for name, timing in timings.items():
            yield from_timing("mixed", spec.name, name, timing, f"{rows} rows x {length}")
