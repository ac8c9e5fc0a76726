"""The rules with teeth, over every method and every family of the table.

1 base untouched - 2 gradients - 3 generation - 4 compile and export - 5 gradient checkpointing -
6 threads - 7 dtype - 8 data-parallel and sharded training (``test_distributed.py``).
"""

from __future__ import annotations

import tempfile
import threading
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from safetensors.torch import load_file

import adapterhub
from adapterhub import BatchSplit, Parallel, Route
from tests.rules.families import FAMILIES, GATED, METHODS, Family, randomize

pytestmark = pytest.mark.filterwarnings(
    # transformers' own notices about its future versions and about tiny configurations
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    "ignore:.*use_reentrant:UserWarning",
)

CELLS = [(family, method) for family in FAMILIES for method in METHODS]
#: The fast part has every method on four kinds of model and every family with four kinds of method.
FAST = (("bert", "llama", "t5", "vit"), ("seq_bn", "lora", "prefix_tuning", "loreft"))
cells = pytest.mark.parametrize(
    ("family_name", "method"),
    [
        pytest.param(f, m, marks=() if f in FAST[0] or m in FAST[1] else pytest.mark.slow)
        for f, m in CELLS
    ],
)


def adapted(family: Family, *methods: str) -> Any:
    model = adapterhub.init(family.model())
    for method in methods:
        model.add_adapter(method, config=METHODS[method])
    randomize(model, *methods)
    return model


def output(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs)[0]


@cells
def test_1_base_is_untouched(family_name: str, method: str) -> None:
    family = FAMILIES[family_name]
    plain = family.model()
    inputs = family.inputs()
    expected = output(plain, inputs)
    keys = list(plain.state_dict())
    model = adapted(family, method)
    model.set_active_adapters(method)
    changed = output(model, inputs)[:, -expected.shape[1] :]  # (prompts make it longer)
    assert (changed - expected).abs().max() > 1e-3
    base = {k: v for k, v in model.state_dict().items() if k in set(keys)}
    assert list(base) == keys
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in base.items())
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(f"{folder}/with")
        plain.save_pretrained(f"{folder}/without")
        again = type(plain).from_pretrained(f"{folder}/with").eval()
        with_adapters, without = (
            load_file(f"{folder}/{name}/model.safetensors") for name in ("with", "without")
        )
        assert set(with_adapters) == set(without)
        assert all(torch.equal(with_adapters[k], v) for k, v in without.items())
        assert torch.equal(output(again, inputs), expected)
    model.set_active_adapters(None)
    assert torch.equal(output(model, inputs), expected)
    model.adapter_handle.detach()
    assert list(model.state_dict()) == keys
    assert torch.equal(output(model, inputs), expected)


@cells
def test_2_gradients_exactly_on_what_is_trained(family_name: str, method: str) -> None:
    family = FAMILIES[family_name]
    model = adapted(family, method, "seq_bn" if method != "seq_bn" else "par_bn")
    model.train_adapter(method)
    model(**family.inputs())[0].pow(2).sum().backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    wanted = {id(p) for p in model.adapter_handle.iter_parameters(method)}
    assert {n for n, p in model.named_parameters() if id(p) in wanted} == with_gradient
    # Single weights behind a dead ReLU may get zero; a whole module may not.
    dead = [
        n for n, p in model.named_parameters() if p.grad is not None and not p.grad.abs().max() > 0
    ]
    assert not dead


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family_name", "method"),
    [(f, m) for f, m in CELLS if FAMILIES[f].generates and m not in GATED],
)
def test_3_generation_with_cache_equals_without(family_name: str, method: str) -> None:
    family = FAMILIES[family_name]
    model = adapted(family, method)
    model.set_active_adapters(method)
    inputs = {k: v for k, v in family.inputs().items() if not k.startswith("decoder")}

    def generate(**options: Any) -> torch.Tensor:
        torch.manual_seed(0)
        return model.generate(**inputs, max_new_tokens=7, min_new_tokens=7, **options)

    greedy = generate(do_sample=False, use_cache=False)
    assert torch.equal(generate(do_sample=False), greedy)
    static = generate(do_sample=False, cache_implementation="static", disable_compile=True)
    assert torch.equal(static, greedy)
    beams = generate(do_sample=False, num_beams=3, use_cache=False)
    assert torch.equal(generate(do_sample=False, num_beams=3), beams)
    sampled = generate(do_sample=True, top_k=5, use_cache=False)
    assert torch.equal(generate(do_sample=True, top_k=5), sampled)
    logits = {}
    for setup in (method, None):  # and the adapter takes part in every step
        model.set_active_adapters(setup)
        steps = generate(do_sample=False, output_logits=True, return_dict_in_generate=True).logits
        logits[setup] = torch.stack(steps)
    assert ((logits[method] - logits[None]).abs().amax((1, 2)) > 1e-4).all()


@pytest.mark.slow
@cells
def test_4_compile_in_one_graph_and_export(family_name: str, method: str) -> None:
    family = FAMILIES[family_name]
    model = adapted(family, method)
    model.set_active_adapters(method)
    inputs = family.inputs()
    options = {"use_cache": False} if family.generates else {}
    expected = output(model, {**inputs, **options})
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(output(compiled, {**inputs, **options}), expected, rtol=0, atol=1e-5)
    torch._dynamo.reset()
    exported = torch.export.export(model, (), {**inputs, **options}, strict=False)
    torch.testing.assert_close(
        output(exported.module(), {**inputs, **options}), expected, rtol=0, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("family_name", FAMILIES)
def test_4_rerouting_rows_makes_no_new_graph(family_name: str) -> None:
    family = FAMILIES[family_name]
    methods = ("lora", "seq_bn", "prefix_tuning")
    model = adapted(family, *methods)
    model.set_active_adapters(Route(*methods))
    inputs = family.inputs()
    options = {"use_cache": False} if family.generates else {}
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for rows in ([0, 1, 2], [2, 2, 0], [-1, 1, -1], [1, 0, 2]):
        routed = {**inputs, **options, "adapter_rows": torch.tensor(rows)}
        torch.testing.assert_close(
            output(compiled, routed), output(model, routed), rtol=0, atol=1e-5
        )
    assert counter.frame_count == 1


@cells
def test_5_gradient_checkpointing_gives_the_same_gradients(family_name: str, method: str) -> None:
    family = FAMILIES[family_name]
    model = adapted(family, method)
    inputs = family.inputs()
    options = {"use_cache": False} if family.generates else {}

    def gradients() -> dict[str, torch.Tensor]:
        model.train_adapter(method)
        model.train()
        model.zero_grad()
        model(**inputs, **options)[0].pow(2).sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    assert expected
    for reentrant in (False, True):
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        found = gradients()
        assert set(found) == set(expected)
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)
        model.gradient_checkpointing_disable()


@pytest.mark.parametrize("family_name", FAMILIES)
def test_5_checkpointing_with_routing_and_two_forwards(family_name: str) -> None:
    family = FAMILIES[family_name]
    methods = ("lora", "seq_bn", "prefix_tuning")
    model = adapted(family, *methods)
    inputs = family.inputs()
    options = {"use_cache": False} if family.generates else {}

    def gradients() -> dict[str, torch.Tensor]:
        model.train_adapter(Route(*methods))
        model.train()
        model.zero_grad()
        losses = [
            model(**inputs, **options, adapter_rows=torch.tensor(rows))[0].pow(2).sum()
            for rows in ([0, 1, 2], [2, -1, 0])
        ]
        sum(losses).backward()  # type: ignore[union-attr]
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for name, value in gradients().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family_name", FAMILIES)
def test_6_threads_with_different_setups_do_not_meet(family_name: str) -> None:
    family = FAMILIES[family_name]
    methods = ("lora", "seq_bn", "prefix_tuning", "double_seq_bn")
    model = adapted(family, *methods)
    inputs = family.inputs()
    expected = {}
    for method in methods:
        model.set_active_adapters(method)
        expected[method] = output(model, inputs)
    model.set_active_adapters(None)
    wrong: list[str] = []

    def work(method: str) -> None:
        for _ in range(10):
            with adapterhub.AdapterSetup(method):
                found = output(model, inputs)
            if not torch.allclose(found, expected[method], rtol=0, atol=1e-5):
                wrong.append(method)

    threads = [threading.Thread(target=work, args=(method,)) for method in methods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@cells
def test_7_adapters_follow_the_dtype(family_name: str, method: str) -> None:
    family = FAMILIES[family_name]
    model = adapterhub.init(family.model().to(torch.bfloat16))
    model.add_adapter(method, config=METHODS[method])
    randomize(model, method)
    assert {p.dtype for p in model.adapter_handle.iter_parameters(method)} == {torch.bfloat16}
    inputs = {
        k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in family.inputs().items()
    }
    model.set_active_adapters(method)
    low = output(model, inputs)
    assert low.dtype == torch.bfloat16
    assert torch.isfinite(low).all()
    model.to(torch.float32)
    high = output(model, family.inputs())
    assert high.dtype == torch.float32
    model.train_adapter(method)
    model(**family.inputs())[0].sum().backward()


TREES = {
    "stack": lambda: adapterhub.Stack("lang", Parallel("a", "b", adapterhub.Fuse("a", "b"))),
    "parallel": lambda: Parallel(adapterhub.Stack("a", "b"), adapterhub.Average("b", "lang")),
    "rows": lambda: BatchSplit(
        adapterhub.Stack("a", "b"), adapterhub.Average("b", "lang"), None, batch_sizes=1
    ),
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("family_name", FAMILIES)
def test_nested_trees_equal_their_parts(family_name: str, tree: str) -> None:
    family = FAMILIES[family_name]
    model = adapterhub.init(family.model())
    for name in ("lang", "a", "b"):
        model.add_adapter(name, config=METHODS["double_seq_bn"])
    randomize(model, "lang", "a", "b")
    model.add_adapter_fusion(["a", "b"])
    inputs = family.inputs()
    block = TREES[tree]()
    model.set_active_adapters(block)
    found = output(model, inputs)
    if tree == "stack":
        parts = [adapterhub.Stack("lang", child) for child in block.children[1].children]
    else:
        parts = list(block.children)
    expected = []
    for index, part in enumerate(parts):
        model.set_active_adapters(part)
        rows = slice(None) if tree != "rows" else slice(index, index + 1)
        expected.append(output(model, {k: v[rows] for k, v in inputs.items()}))
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=5e-5)


@pytest.mark.parametrize("family_name", FAMILIES)
@pytest.mark.parametrize("block", ["Parallel", "BatchSplit", "Route"])
def test_mixed_methods_in_one_batch(family_name: str, block: str) -> None:
    family = FAMILIES[family_name]
    methods = ("lora_all", "seq_bn", "prefix_tuning")
    model = adapted(family, *methods)
    inputs = family.inputs()
    options: dict[str, Any] = {}
    if block == "Parallel":
        model.set_active_adapters(Parallel(*methods))
    elif block == "BatchSplit":
        model.set_active_adapters(BatchSplit(*methods, batch_sizes=1))
    else:
        model.set_active_adapters(Route(*methods))
        options["adapter_rows"] = list(methods)
    found = output(model, {**inputs, **options})
    expected = []
    for index, method in enumerate(methods):
        model.set_active_adapters(method)
        rows = slice(None) if block == "Parallel" else slice(index, index + 1)
        expected.append(output(model, {k: v[rows] for k, v in inputs.items()}))
    torch.testing.assert_close(found, torch.cat(expected), rtol=0, atol=5e-5)


@pytest.mark.parametrize("method", ["lora", "lora_all", "seq_bn", "par_bn", "prefix_tuning_flat"])
@pytest.mark.parametrize("family_name", ["bert", "gpt2", "llama"])
def test_same_shaped_adapters_routed_together(family_name: str, method: str) -> None:
    """The stacked-weights path: three adapters of one shape, rows in any order, one without."""
    family = FAMILIES[family_name]
    model = adapterhub.init(family.model())
    names = ("x", "y", "z")
    for name in names:
        model.add_adapter(name, config=METHODS[method])
    randomize(model, *names)
    inputs = family.inputs(4)
    model.set_active_adapters(Route(*names))
    rows = ["z", None, "x", "z"]
    found = output(model, {**inputs, "adapter_rows": rows})
    for index, name in enumerate(rows):
        model.set_active_adapters(name)
        alone = output(model, {k: v[index : index + 1] for k, v in inputs.items()})
        torch.testing.assert_close(found[index : index + 1], alone, rtol=0, atol=5e-5)
    # After a training step the kept stacks must not be used any more.
    randomize(model, "x")
    with torch.no_grad():
        for parameter in model.adapter_handle.iter_parameters("z"):
            parameter.mul_(0.5)
    model.set_active_adapters(Route(*names))
    changed = output(model, {**inputs, "adapter_rows": rows})
    model.set_active_adapters("z")
    alone = output(model, {k: v[:1] for k, v in inputs.items()})
    torch.testing.assert_close(changed[:1], alone, rtol=0, atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family_name", [n for n, f in FAMILIES.items() if f.generates])
def test_generation_with_rows_and_channels(family_name: str) -> None:
    family = FAMILIES[family_name]
    methods = ("lora", "seq_bn", "prefix_tuning")
    model = adapted(family, *methods)
    inputs = {k: v for k, v in family.inputs().items() if not k.startswith("decoder")}

    def generate(rows: slice = slice(None), **options: Any) -> torch.Tensor:
        part = {k: v[rows] for k, v in inputs.items()}
        return model.generate(
            **part, max_new_tokens=6, min_new_tokens=6, do_sample=False, **options
        )

    for beams in (1, 3):
        single = {}
        for method in methods:
            model.set_active_adapters(method)
            single[method] = generate(num_beams=beams)
        model.set_active_adapters(Parallel(*methods))
        assert torch.equal(generate(num_beams=beams), torch.cat([single[m] for m in methods]))
        expected = torch.cat([single[m][i : i + 1] for i, m in enumerate(methods)])
        model.set_active_adapters(BatchSplit(*methods, batch_sizes=1))
        assert torch.equal(generate(num_beams=beams), expected)
        model.set_active_adapters(Route(*methods))
        assert torch.equal(generate(num_beams=beams, adapter_rows=[0, 1, 2]), expected)
        with model.adapter_routing([0, 1, 2]):
            assert torch.equal(generate(num_beams=beams), expected)
