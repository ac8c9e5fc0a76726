"""Rules 1, 2 and 4 to 7 for one adapter. Each check returns a note (mostly empty) or raises."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
import torch._dynamo.testing
from safetensors.torch import load_file

import adapterhub
from adapterhub import Route
from adapterhub.methods.prefix import PrefixFamily
from benchmarks.matrix.subject import (
    Failed,
    NotApplicable,
    Subject,
    adapted,
    differs,
    expect_close,
    flatten,
    forward,
    loss,
)


def base_untouched(subject: Subject, method: str) -> str:
    """Rule 1: weights, keys, saved files of the base model stay; without the adapter so do its outputs."""
    plain, model = subject.bare(), subject.adapted(method)
    keys = list(plain.state_dict())
    model.set_active_adapters(method)
    if not differs(forward(model, subject.inputs), subject.before):
        raise Failed("the adapter has no effect")
    mine = model.state_dict()
    base = [key for key in mine if key in set(keys)]
    if base != keys:
        raise Failed("other state_dict keys")
    if any(not torch.equal(mine[key], value) for key, value in plain.state_dict().items()):
        raise Failed("a base weight changed")
    saved = subject.fact("saved", lambda: _saved(plain))
    found = _saved(model)
    if set(found) != set(saved) or any(not torch.equal(found[k], v) for k, v in saved.items()):
        raise Failed("save_pretrained writes something else")
    model.set_active_adapters(None)
    _expect_equal(forward(model, subject.inputs), subject.before, "deactivated")
    model.adapter_handle.detach()
    if list(model.state_dict()) != keys:
        raise Failed("other state_dict keys after detaching")
    _expect_equal(forward(model, subject.inputs), subject.before, "detached")
    return ""


def _saved(model: Any) -> dict[str, torch.Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def _expect_equal(one: list[torch.Tensor], two: list[torch.Tensor], what: str) -> None:
    if len(one) != len(two) or any(not torch.equal(a, b) for a, b in zip(one, two, strict=True)):
        raise Failed(f"{what}: the outputs are not those of the bare model, bit for bit")


def gradients(subject: Subject, method: str) -> str:
    """Rule 2: gradients exactly on what is being trained, none of them zero."""
    other = "seq_bn" if method != "seq_bn" else "lora"
    model = subject.adapted(method, other)
    model.train_adapter(method)
    model.eval()
    loss(forward(model, subject.inputs, grad=True)).backward()
    expect_gradients(subject, model, [method])
    return ""


def expect_gradients(
    subject: Subject,
    model: Any,
    names: list[str],
    also: str = "",
    order: dict[str, str] | None = None,
    maybe_zero: bool = False,
) -> None:
    """Raise Failed unless there are gradients on adapters *names* (where hosts run) and only there.

    Args:
        also: part of the names of further parameters that may have them, and have to where hosts run.
        order: which adapters come ``"earlier"`` or ``"later"`` than others in a Stack; see :func:`acts`.
        maybe_zero: a gradient may be zero where a module acts at positions that its part may not have.
    """
    reached = {id(m) for n, m in model.named_modules() if n in subject.reached}
    engine = model.adapter_handle.engine
    sites = engine.resolved.sites
    wanted: set[int] = set()
    for name in names:
        record = engine.adapters[name]
        place = (order or {}).get(name, "")
        modules = [
            module
            for key, module in record.modules.items()
            if id(sites[key].host) in reached and acts(module, place)
        ]
        # What layers share is part of all of them; it need not get a gradient where not all of them run.
        shared = record.shared.values() if len(modules) == len(record.modules) else ()
        for module in (*modules, *shared):
            wanted |= {
                id(parameter)
                for own, parameter in module.named_parameters()
                if not (
                    place == "earlier" and own == "magnitude"
                )  # DoRA's factor is the last one's
            }
    allowed = wanted | {id(p) for name in names for p in engine.adapters[name].parameters()}
    named: dict[str, Any] = dict(model.named_parameters())
    if also:
        allowed |= {id(p) for n, p in named.items() if also in n}
        wanted |= {
            id(parameter)
            for name, module in model.named_modules()
            if id(module) in reached
            for own, parameter in module.named_parameters()
            if own.startswith("adapterhub.") and also in own
        }
    grown = [n for n, p in named.items() if p.grad is not None and id(p) not in allowed]
    missing = [n for n, p in named.items() if p.grad is None and id(p) in wanted]
    # A bias of a fusion's keys is the same for all that softmax compares: its gradient is rounding.
    dead = [
        n
        for n, p in named.items()
        if id(p) in wanted and p.grad is not None and not p.grad.any() and "key_bias" not in n
    ]
    if grown:
        raise Failed(f"gradient on {grown[0]} and {len(grown) - 1} more, which are not trained")
    if missing:
        raise Failed(f"no gradient on {missing[0]} and {len(missing) - 1} more")
    located = any(
        module.family.needs_positions
        for name in names
        for module in engine.adapters[name].modules.values()
    )
    if dead and not maybe_zero and not (located and subject.ignores_positions()):
        raise Failed(f"zero gradient on {dead[0]} and {len(dead) - 1} more")


def acts(module: Any, order: str) -> bool:
    """Whether an adapter's module acts where it stands in a Stack.

    As in the `adapters` library some act as the first only (invertible adapters), and parallel adapters all
    read the same input, so that what the last one says replaces what the others said.
    """
    if order == "later" and module.family.stack_first_only:
        return False
    return not (order == "earlier" and getattr(module, "parallel", False))


def compiled(subject: Subject, method: str) -> str:
    """Rule 4: torch.compile(fullgraph=True) gives the same values (backend "eager": no code is generated).

    What a boundary does to the inputs (prompts go in there) is a graph of its own.
    """
    inputs = subject.inputs
    subject.demand("compile", lambda: _compile(subject.bare(), inputs, subject.before))
    model = subject.adapted(method)
    model.set_active_adapters(method)
    graphs = _compile(model, inputs, forward(model, inputs))
    return f"{graphs} graphs" if graphs > 1 else ""


def _compile(model: Any, inputs: dict[str, Any], expected: list[torch.Tensor]) -> int:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    found = forward(torch.compile(model, fullgraph=True, backend=counter), inputs)
    torch._dynamo.reset()
    expect_close(found, expected, "compiled")
    return counter.frame_count


def exported(subject: Subject, method: str) -> str:
    """Rule 4: torch.export, with the same values."""
    inputs = subject.inputs
    subject.demand("export", lambda: _export(subject.bare(), inputs, subject.before))
    model = subject.adapted(method)
    model.set_active_adapters(method)
    expected = forward(model, inputs)
    try:
        _export(model, inputs, expected)
    except Failed:
        modules = model.adapter_handle.engine.adapters[method].modules.values()
        if any(isinstance(module.family, PrefixFamily) for module in modules):
            subject.demand_masks()
        raise
    return ""


def _export(model: Any, inputs: dict[str, Any], expected: list[torch.Tensor]) -> None:
    torch._dynamo.reset()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        program = torch.export.export(model, (), inputs, strict=False)
        torch.manual_seed(0)
        found = flatten(program.module()(**inputs))
    torch._dynamo.reset()
    expect_close(found, expected, "exported")


def rerouted(subject: Subject, method: str) -> str:
    """Rule 4: other rows for the adapters of a Route make no new graph (one cell a family)."""
    inputs = subject.inputs
    subject.demand("compile", lambda: _compile(subject.bare(), inputs, subject.before))
    names = ("lora", "seq_bn", "ia3")
    model = subject.adapted(*names)
    model.set_active_adapters(Route(*names))
    forward(model, {**inputs, "adapter_rows": torch.tensor([0, 1])})  # if refused, in its own words
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    run = torch.compile(model, fullgraph=True, backend=counter)
    for chosen in ([0, 1], [2, -1], [1, 2]):
        routed = {**inputs, "adapter_rows": torch.tensor(chosen)}
        expect_close(forward(run, routed), forward(model, routed), f"rows {chosen}")
    torch._dynamo.reset()
    if counter.frame_count != 1:
        raise Failed(f"{counter.frame_count} graphs for three mixes of rows")
    return ""


def checkpointed(subject: Subject, method: str) -> str:
    """Rule 5: gradient checkpointing of both kinds gives the same gradients."""
    if not getattr(subject.bare(), "supports_gradient_checkpointing", False):
        raise NotApplicable("bare model: it does not support gradient checkpointing")
    for reentrant in (False, True):
        subject.demand(
            f"checkpoint {reentrant}", lambda r=reentrant: _bare_checkpointed(subject, r)
        )
    model = subject.adapted(method)
    model.train_adapter(method)
    expected = _trained(model, subject)
    if not expected:
        raise Failed("no gradients at all")
    for reentrant in (False, True):
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        _expect_gradients_equal(_trained(model, subject), expected, reentrant)
        model.gradient_checkpointing_disable()
    return ""


def _bare_checkpointed(subject: Subject, reentrant: bool) -> None:
    model = subject.bare()
    expected = _trained(model, subject)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant and hasattr(model, "enable_input_require_grads"):
        model.enable_input_require_grads()
    _expect_gradients_equal(_trained(model, subject), expected, reentrant)


def _trained(model: Any, subject: Subject) -> dict[str, torch.Tensor]:
    model.train()
    model.zero_grad()
    loss(forward(model, subject.inputs, grad=True)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _expect_gradients_equal(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], reentrant: bool
) -> None:
    kind = "reentrant" if reentrant else "not reentrant"
    if set(found) != set(expected):
        odd = sorted(set(found) ^ set(expected))
        raise Failed(f"{kind}: gradient on {odd[0]} and {len(odd) - 1} more with or without only")
    for name, value in found.items():
        expect_close([value], [expected[name]], f"{kind}: gradient of {name}")


def threads(subject: Subject, method: str) -> str:
    """Rule 6: threads with different setups on one model do not meet (one cell a family)."""
    names = ("lora", "seq_bn", "ia3", "prefix_tuning_flat")
    model, used = adapterhub.init(subject.bare()), []
    for name in names:
        try:
            adapted(model, name)
            used.append(name)
        except adapterhub.AdapterHubError:  # (their own cells say why)
            continue
    expected = {}
    for name in used:
        model.set_active_adapters(name)
        expected[name] = forward(model, subject.inputs)
    model.set_active_adapters(None)
    wrong: list[str] = []

    def work(name: str) -> None:
        try:
            for _ in range(5):
                with adapterhub.AdapterSetup(name), torch.no_grad():
                    expect_close(flatten(model(**subject.inputs)), expected[name], name)
        except BaseException as error:
            wrong.append(f"{name}: {error}")

    running = [threading.Thread(target=work, args=(name,)) for name in used]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if wrong:
        raise Failed(wrong[0])
    return f"{len(used)} threads"


def dtype(subject: Subject, method: str) -> str:
    """Rule 7: adapters follow the base model to bfloat16 and back, and can be trained there."""
    inputs = _cast(subject.inputs, torch.bfloat16)
    subject.demand("bfloat16", lambda: _in_dtype(subject.bare().to(torch.bfloat16), inputs))
    model = adapted(subject.bare().to(torch.bfloat16), method)
    kinds = {p.dtype for p in model.adapter_handle.iter_parameters(method)}
    if kinds != {torch.bfloat16}:
        raise Failed(f"adapter of {kinds} in a bfloat16 model")
    model.set_active_adapters(method)
    _in_dtype(model, inputs)
    model.train_adapter(method)
    model.eval()
    loss(forward(model, inputs, grad=True)).backward()
    model.zero_grad()
    model.to(torch.float32)
    if {p.dtype for p in model.adapter_handle.iter_parameters(method)} != {torch.float32}:
        raise Failed("the adapter did not follow to float32")
    if any(t.dtype != torch.float32 for t in forward(model, subject.inputs)):
        raise Failed("an output of a float32 model is not float32")
    return ""


def _in_dtype(model: Any, inputs: dict[str, Any]) -> None:
    found = forward(model, inputs)
    if not all(torch.isfinite(tensor).all() for tensor in found):
        raise Failed("not finite in bfloat16")
    if found[0].dtype != torch.bfloat16:
        raise Failed(f"{found[0].dtype} comes out of a bfloat16 model")


def _cast(inputs: dict[str, Any], kind: torch.dtype) -> dict[str, Any]:
    return {
        name: value.to(kind)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in inputs.items()
    }
