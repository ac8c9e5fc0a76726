"""The formulas, in float64, against hand-written forks of one layer; and the traps that hooks bring."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch.nn import functional as F

import adapterhub
from adapterhub import Fuse, Parallel, Route, Split, Stack
from adapterhub.errors import CompositionError
from tests.rules.families import FAMILIES
from tests.rules.test_rules import output, randomize


def double(name: str, config: str) -> Any:
    """A float64 BERT whose layers all differ, with one random adapter, active."""
    model = adapterhub.init(FAMILIES["bert"].model().double())
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():  # every layer its own norm
        if parameter.dim() == 1:
            parameter.data.add_(
                torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3
            )
    model.add_adapter(name, config=config)
    randomize(model, name)
    model.set_active_adapters(name)
    return model


def states(model: Any, inputs: dict[str, Any]) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(model(**inputs, output_hidden_states=True).hidden_states)


def layer_by_hand(model: Any, index: int, x: torch.Tensor, change_ffn: Any = None) -> torch.Tensor:
    """One BERT layer without padding, with a function in place of its feed-forward output."""
    layer = model.encoder.layer[index]
    attention = layer.attention.self
    heads = [
        part.weight @ x.mT + part.bias[:, None]
        for part in (attention.query, attention.key, attention.value)
    ]
    q, k, v = (h.mT.unflatten(-1, (4, 8)).transpose(1, 2) for h in heads)
    mixed = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
    mixed = mixed.transpose(1, 2).flatten(2)
    a = layer.attention.output.LayerNorm(
        F.linear(mixed, layer.attention.output.dense.weight, layer.attention.output.dense.bias) + x
    )
    o = layer.output.dense(F.gelu(layer.intermediate.dense(a)))
    y = o if change_ffn is None else change_ffn(o, a, layer.output.LayerNorm)
    return layer.output.LayerNorm(y + a)


@pytest.mark.parametrize("index", [0, 1])
def test_sequential_bottleneck_with_each_layers_own_norm(index: int) -> None:
    model = double("a", "seq_bn[reduction_factor=4]")
    ids = torch.arange(2, 14).view(2, 6)
    seen = states(model, {"input_ids": ids})
    module = model.get_adapter("a")[index]["output_adapter"]

    def change(o: torch.Tensor, x: torch.Tensor, norm: Any) -> torch.Tensor:
        z = norm(o + x)
        hidden = torch.relu(z @ module.down_weight.T + module.down_bias)
        return hidden @ module.up_weight.T + module.up_bias + o

    with torch.no_grad():
        expected = layer_by_hand(model, index, seen[index], change)
    torch.testing.assert_close(seen[index + 1], expected, rtol=0, atol=1e-12)


def test_parallel_bottleneck() -> None:
    model = double("a", "par_bn[reduction_factor=4]")
    seen = states(model, {"input_ids": torch.arange(2, 14).view(2, 6)})
    module = model.get_adapter("a")[0]["output_adapter"]

    def change(o: torch.Tensor, x: torch.Tensor, norm: Any) -> torch.Tensor:
        hidden = torch.relu(x @ module.down_weight.T + module.down_bias)
        return 4.0 * (hidden @ module.up_weight.T + module.up_bias) + o

    with torch.no_grad():
        expected = layer_by_hand(model, 0, seen[0], change)
    torch.testing.assert_close(seen[1], expected, rtol=0, atol=1e-12)


def test_lora_equals_changed_weights() -> None:
    model = double("a", "lora[r=3,alpha=5,attn_matrices=['q','k','v','o'],intermediate_lora=True]")
    inputs = FAMILIES["bert"].inputs()
    found = output(model, inputs)
    plain = double("a", "lora[r=3]")
    plain.set_active_adapters(None)
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if "adapterhub" not in k}, strict=False
    )
    for key, module in model.adapter_handle.engine.adapters["a"].modules.items():
        host = plain.adapter_handle.engine.resolved.sites[key].host
        host.weight.data += 5 / 3 * module.lora_B @ module.lora_A
    torch.testing.assert_close(found, output(plain, inputs), rtol=0, atol=1e-10)


def test_prefix_equals_a_filled_cache() -> None:
    from transformers import DynamicCache

    model = adapterhub.init(FAMILIES["gpt2"].model().double())
    model.add_adapter("p", config="prefix_tuning_flat[prefix_length=3]")
    randomize(model, "p")
    ids = torch.arange(2, 14).view(2, 6)
    model.set_active_adapters("p")
    found = output(model, {"input_ids": ids, "use_cache": False})
    cache = DynamicCache()
    for layer in range(2):
        module = model.get_adapter("p")[layer]["self_prefix"]
        keys, values = module.states(2, None)
        cache.update(keys.detach(), values.detach(), layer)
    model.set_active_adapters(None)
    options = {"past_key_values": cache, "position_ids": torch.arange(6)[None]}
    expected = output(model, {"input_ids": ids, **options})
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["nice", "glow"])
def test_invertible_adapters_invert(kind: str) -> None:
    model = double("a", f"seq_bn[inv_adapter='{kind}',inv_adapter_reduction_factor=2]")
    module = model.get_adapter("a")[-1]["invertible"]
    e = torch.randn(2, 5, 32, dtype=torch.float64)
    torch.testing.assert_close(module.inverse(module(e)), e, rtol=0, atol=1e-10)
    assert not torch.allclose(module(e), e)


def test_fusion_by_hand() -> None:
    model = double("a", "seq_bn[reduction_factor=4]")
    model.add_adapter("b", config="seq_bn[reduction_factor=4]")
    randomize(model, "b")
    model.add_adapter_fusion(["a", "b"])
    fusion = model.adapter_handle.engine.fusions["a,b"]
    layer = next(iter(fusion.modules.values()))
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.set_active_adapters(Fuse("a", "b"))
    seen = states(model, {"input_ids": torch.arange(2, 14).view(2, 6)})
    adapters = [model.get_adapter(n)[0]["output_adapter"] for n in ("a", "b")]

    def change(o: torch.Tensor, x: torch.Tensor, norm: Any) -> torch.Tensor:
        z = norm(o + x)
        ups = torch.stack(
            [
                torch.relu(z @ m.down_weight.T + m.down_bias) @ m.up_weight.T + m.up_bias
                for m in adapters
            ],
            2,
        )
        q = z @ layer.query_weight.T + layer.query_bias
        k = ups @ layer.key_weight.T + layer.key_bias
        p = torch.softmax((q.unsqueeze(2) * k).sum(-1), -1)
        return (p.unsqueeze(-1) * (ups @ layer.value_weight.T)).sum(2) + o

    with torch.no_grad():
        expected = layer_by_hand(model, 0, seen[0], change)
    torch.testing.assert_close(seen[1], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    "method",
    ["double_seq_bn[reduction_factor=16]", "lora[r=1]", "prefix_tuning_flat[prefix_length=1]"],
)
def test_gradients_by_finite_differences(method: str) -> None:
    model = double("a", method)
    model.train_adapter("a")
    model.eval()
    parameters = list(model.adapter_handle.iter_parameters("a"))[:2]
    ids = torch.arange(2, 8).view(1, 6)

    def loss(*values: torch.Tensor) -> torch.Tensor:
        return model(ids)[0].pow(2).mean()

    assert torch.autograd.gradcheck(loss, parameters, eps=1e-6, atol=1e-6)


# -- traps -----------------------------------------------------------------------------------------------


def test_hidden_states_that_transformers_records_contain_the_adapters() -> None:
    model = double("a", "seq_bn")
    with torch.no_grad():
        found = model(torch.arange(2, 14).view(2, 6), output_hidden_states=True)
    torch.testing.assert_close(found.hidden_states[-1], found.last_hidden_state, rtol=0, atol=0)


def test_attention_weights_keep_their_shape_under_a_prefix() -> None:
    model = adapterhub.init(FAMILIES["bert"].model())
    model.set_attn_implementation("eager")
    model.add_adapter("p", config="prefix_tuning[prefix_length=3]")
    model.set_active_adapters("p")
    with torch.no_grad():
        found = model(torch.arange(2, 14).view(2, 6), output_attentions=True)
    assert found.attentions[0].shape == (2, 4, 6, 6)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::FutureWarning"
)  # transformers renames the method in its version 6
def test_compiling_after_gradient_checkpointing_was_on_and_off() -> None:
    model = double("a", "seq_bn")
    model.train_adapter("a")
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model(torch.arange(2, 14).view(2, 6))[0].sum().backward()
    model.gradient_checkpointing_disable()
    model.eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    inputs = {"input_ids": torch.arange(2, 14).view(2, 6)}
    torch.testing.assert_close(output(compiled, inputs), output(model, inputs), rtol=0, atol=1e-10)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_forward_leaves_nothing_behind(error: type[BaseException]) -> None:
    model = double("a", "seq_bn")
    model.set_active_adapters(Parallel("a", "a"))
    ids = torch.arange(2, 14).view(2, 6)
    expected = output(model, {"input_ids": ids})

    def fail(*args: Any) -> None:
        raise error

    for _ in range(2):
        handle = model.encoder.layer[1].register_forward_pre_hook(fail)
        with pytest.raises(error):
            model(ids)
        handle.remove()
        with adapterhub.AdapterSetup(Parallel("a", "a")):
            assert torch.equal(output(model, {"input_ids": ids}), expected)
        assert torch.equal(output(model, {"input_ids": ids}), expected)


def test_rows_and_sizes_that_do_not_fit_are_named() -> None:
    model = double("a", "seq_bn")
    ids = torch.arange(2, 14).view(2, 6)
    model.set_active_adapters(Route("a"))
    with pytest.raises(CompositionError, match="says not which"):
        model(ids)
    with pytest.raises(CompositionError, match="3 entries for a batch of 2"):
        model(ids, adapter_rows=[0, 0, 0])
    with pytest.raises(adapterhub.UnknownAdapterError, match="'b'"):
        model(ids, adapter_rows=["a", "b"])
    model.set_active_adapters(adapterhub.BatchSplit("a", None, batch_sizes=[1, 2]))
    with pytest.raises(CompositionError, match="2 rows"):
        model(ids)
    model.set_active_adapters(Split("a", "a", splits=[1, 2]))
    with pytest.raises(CompositionError, match="6 positions"):
        model(ids)
    with pytest.raises(CompositionError, match="outside"):
        model.set_active_adapters(adapterhub.BatchSplit(Parallel("a", "a"), None, batch_sizes=1))


def test_stacks_of_lora_must_be_square() -> None:
    model = double("a", "lora[intermediate_lora=True]")
    model.add_adapter("b", config="lora[intermediate_lora=True]")
    with pytest.raises(CompositionError, match="square"):
        model.set_active_adapters(Stack("a", "b"))


@pytest.mark.slow
def test_switching_after_compiling_is_noticed_and_alike_adapters_share_a_graph() -> None:
    model = double("a", "lora")
    for name, config in (("b", "lora"), ("s", "seq_bn"), ("t", "seq_bn")):
        model.add_adapter(name, config=config)
        randomize(model, name)
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    inputs = {"input_ids": torch.arange(2, 14).view(2, 6)}
    graphs = []
    for setup in ("a", "b", None, "a", "s", "t", None, "b", Stack("a", "s"), Stack("b", "t")):
        model.set_active_adapters(setup)
        torch.testing.assert_close(
            output(compiled, inputs), output(model, inputs), rtol=0, atol=1e-10
        )
        graphs.append(counter.frame_count)
    assert graphs == [1, 1, 2, 2, 3, 3, 3, 3, 4, 4]


@pytest.mark.parametrize("family_name", ["bert", "gpt2", "llama", "t5", "vit"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_split_over_prefixes(family_name: str, implementation: str) -> None:
    """Each part of the sequence attends to its own prefix, as in a run where only its rows count."""
    family = FAMILIES[family_name]
    model = adapterhub.init(family.model())
    model.set_attn_implementation(implementation)
    for name, length in (("a", 3), ("b", 5)):
        model.add_adapter(
            name, config=f"prefix_tuning_flat[prefix_length={length},cross_prefix=False]"
        )
    randomize(model, "a", "b")
    inputs = family.inputs()
    options: dict[str, Any] = {"output_hidden_states": True}
    if family.encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    total = model(**inputs, **options)[
        "encoder_hidden_states" if family.encoder_decoder else "hidden_states"
    ]
    length = total[0].shape[1]

    def first_layer(setup: Any) -> torch.Tensor:
        model.set_active_adapters(setup)
        with torch.no_grad():
            found = model(**inputs, **options)
        name = "encoder_hidden_states" if family.encoder_decoder else "hidden_states"
        return found[name][1]

    # Within the first layer a position depends on the prefixes only through what it attends to itself.
    found = first_layer(Split("a", "b", splits=[2, length - 2]))
    one, two = first_layer("a"), first_layer("b")
    assert (one - two).abs().max() > 1e-3
    torch.testing.assert_close(found[:, :2], one[:, :2], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, 2:], two[:, 2:], rtol=0, atol=1e-5)
