"""The formulas of the LoRA family, PHM and ReFT in float64, against what the papers write."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import adapterhub
from adapterhub import Average, Fuse, Route, Split, Stack
from tests.rules.families import FAMILIES
from tests.rules.test_rules import randomize

TIGHT = {"rtol": 0, "atol": 1e-12}


def double(config: str, family: str = "bert", names: tuple[str, ...] = ("a",)) -> Any:
    model = adapterhub.init(FAMILIES[family].model().double())
    for name in names:
        model.add_adapter(name, config=config)
    randomize(model, *names)
    return model


def at_query(model: Any, setup: Any, **options: Any) -> tuple[torch.Tensor, ...]:
    """Return input and output of the first layer's query under *setup*."""
    query = model.encoder.layer[0].attention.self.query
    seen = []
    handle = query.register_forward_hook(lambda _m, args, out: seen.append((args[0], out)))
    model.set_active_adapters(setup)
    with torch.no_grad():
        model(**FAMILIES["bert"].inputs(), **options)
    handle.remove()
    model.set_active_adapters(None)
    # The observer was registered before the adapter's hook, if that was not there yet.
    x, _ = seen[0]
    return x, F.linear(x, query.weight, query.bias)


def acting(model: Any, setup: Any, **options: Any) -> torch.Tensor:
    """Return what the query gives on with *setup*."""
    query = model.encoder.layer[0].attention.self.query
    model.set_active_adapters(setup)
    seen = []
    handle = query.register_forward_hook(lambda _m, _args, out: seen.append(out))
    with torch.no_grad():
        model(**FAMILIES["bert"].inputs(), **options)
    handle.remove()
    return seen[0]


def weights(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    query = model.encoder.layer[0].attention.self.query
    return query.weight.detach(), query.bias.detach()


def test_lora() -> None:
    model = double("lora[r=4,alpha=2,attn_matrices=['q']]")
    x, y = at_query(model, None)
    own = model.get_adapter("a")[0]["selfattn_lora"]
    expected = y + 0.5 * x @ own.lora_A.T @ own.lora_B.T
    torch.testing.assert_close(acting(model, "a"), expected, **TIGHT)


def test_ia3() -> None:
    model = double("ia3[alpha=3,attn_matrices=['q'],intermediate_lora=False]")
    _, y = at_query(model, None)
    own = model.get_adapter("a")[0]["selfattn_lora"]
    torch.testing.assert_close(acting(model, "a"), 3 * own.lora_B[:, 0] * y, **TIGHT)


def test_dora() -> None:
    model = double("dora[r=4,alpha=2,attn_matrices=['q']]")
    x, y = at_query(model, None)
    own, (weight, _) = model.get_adapter("a")[0]["selfattn_lora"], weights(model)
    product = own.lora_B @ own.lora_A
    norm = torch.linalg.vector_norm(weight + product, dim=1)
    expected = own.magnitude[:, 0] / norm * (y + 0.5 * x @ product.T)
    torch.testing.assert_close(acting(model, "a"), expected, **TIGHT)


def test_dora_starts_as_the_base_model() -> None:
    model = adapterhub.init(FAMILIES["bert"].model().double())
    model.add_adapter("a", config="dora")
    _, y = at_query(model, None)
    torch.testing.assert_close(acting(model, "a"), y, rtol=0, atol=1e-6)


def test_vera_and_its_full_matrices() -> None:
    model = double("vera[r=4,alpha=2,attn_matrices=['q']]")
    x, y = at_query(model, None)
    own = model.get_adapter("a")[0]["selfattn_lora"]
    maps = own.maps[0]
    expected = y + 0.5 * own.vera_B * ((own.vera_D * (x @ maps.lora_A.T)) @ maps.lora_B.T)
    torch.testing.assert_close(acting(model, "a"), expected, **TIGHT)
    assert own.accept_shape("vera_D", (4, 4))
    full = torch.randn(4, 4, dtype=torch.float64)
    own.vera_D = torch.nn.Parameter(full)
    expected = y + 0.5 * own.vera_B * (x @ maps.lora_A.T @ full.T @ maps.lora_B.T)
    torch.testing.assert_close(acting(model, "a"), expected, **TIGHT)
    assert not own.accept_shape("vera_B", (3, 3))


def test_vera_spans_projections_of_unequal_width() -> None:
    model = double("vera[r=4,attn_matrices=['q','v']]", "llama")  # v is narrower: grouped heads
    shapes = {tuple(m.product().shape) for m in model.get_adapter("a")[0]["selfattn_lora"]}
    assert shapes == {(32, 32), (16, 32)}
    model.train_adapter("a")
    assert all("maps" not in n for n, p in model.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", ["singular_values", "linear"])
def test_mtl_lora(kind: str) -> None:
    model = double(
        "mtl_lora[r=4,alpha=2,n_up_projection=3,weights_sharpness=0.5,attn_matrices=['q'],"
        f"task_specific_matrix_type='{kind}']"
    )
    x, y = at_query(model, None)
    own = model.get_adapter("a")[0]["selfattn_lora"]
    task = torch.diag(own.task) if kind == "singular_values" else own.task
    shares = torch.softmax(own.weights / 0.5, 0)
    change = sum(
        s * (x @ own.lora_A.T @ task.T @ b.T) for s, b in zip(shares, own.lora_B, strict=True)
    )
    torch.testing.assert_close(acting(model, "a"), y + 0.5 * change, **TIGHT)


@pytest.mark.parametrize(
    "options",
    ["", "factorized_phm_W=False", "shared_phm_rule=False", "factorized_phm_rule=True",
     "shared_W_phm=True", "shared_W_phm=True,factorized_phm_W=False", "phm_bias=False"],
)  # fmt: skip
def test_compacter(options: str) -> None:
    model = double(f"compacter++[reduction_factor=4,phm_dim=2,phm_rank=2,{options}]")
    own = model.get_adapter("a")[0]["output_adapter"]
    z = torch.randn(2, 3, 32, dtype=torch.float64)

    def by_hand(linear: Any, x: torch.Tensor) -> torch.Tensor:
        matrix: Any = sum(
            torch.kron(rule, weight)
            for rule, weight in zip(linear.rule(), linear.weight(), strict=True)
        )
        return x @ matrix if linear.b is None else x @ matrix + linear.b

    expected = by_hand(own.up_again, F.gelu(by_hand(own.down, z)))
    torch.testing.assert_close(own.up(z), expected, **TIGHT)
    with torch.no_grad():  # the kept constant, and that it notices a change
        torch.testing.assert_close(own.up(z), expected, **TIGHT)
        own.up_again.matrix()
        for parameter in own.up_again.parameters():
            parameter.mul_(2.0)
        own.up(z)
    torch.testing.assert_close(
        own.up(z), by_hand(own.up_again, F.gelu(by_hand(own.down, z))), **TIGHT
    )


@pytest.mark.parametrize("config", ["loreft", "noreft", "direft"])
@pytest.mark.parametrize("positions", [(2, 0), (0, 2), (3, 2), (9, 9)])
def test_reft_changes_the_positions_meant(config: str, positions: tuple[int, int]) -> None:
    first, last = positions
    model = double(
        f"{config}[r=3,prefix_positions={first},suffix_positions={last},dropout=0.0,"
        "non_linearity='tanh',layers=[0]]"
    )
    inputs = FAMILIES["bert"].inputs()
    with torch.no_grad():
        before = model(**inputs, output_hidden_states=True).hidden_states[1]
        model.set_active_adapters("a")
        after = model(**inputs, output_hidden_states=True).hidden_states[1]
    units = model.get_adapter("a")[0]["output_reft"].units
    expected = before.clone()
    for row, size in enumerate(inputs["attention_mask"].sum(1).tolist()):
        for position in range(before.shape[1]):
            unit = None
            if position < first:
                unit = units[0]
            if max(0, size - last) <= position < size:
                unit = units[1]
            if unit is None:
                continue
            h, r = before[row, position], unit.directions()
            source = torch.tanh(unit.source_weight @ h + unit.source_bias)
            expected[row, position] = h + r.T @ (source if config == "direft" else source - r @ h)
            if config == "loreft":
                torch.testing.assert_close(
                    r @ r.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6
                )
    torch.testing.assert_close(after, expected, **TIGHT)


@pytest.mark.parametrize("config", ["lora", "ia3", "dora", "vera", "mtl_lora"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_merging_keeps_the_function(config: str, family: str) -> None:
    model = double(f"{config}[alpha=3,attn_matrices=['q','k','v'],output_lora=True]", family)
    inputs = FAMILIES[family].inputs()
    plain = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        bare = model(**inputs)[0]
        model.set_active_adapters("a")
        expected = model(**inputs)[0]
        assert (expected - bare).abs().max() > 1e-4
        model.merge_adapter("a")
        torch.testing.assert_close(model(**inputs)[0], expected, rtol=0, atol=1e-10)
        model.reset_adapter()
        assert all(torch.equal(v, plain[k]) for k, v in model.state_dict().items())
        torch.testing.assert_close(model(**inputs)[0], expected, **TIGHT)


@pytest.mark.parametrize(
    "config", ["lora[init_weights='bert']", "ia3", "dora", "loreft[dropout=0.0]"]
)
def test_blocks_over_all_method_families(config: str) -> None:
    """Average, Split and Fuse equal what they mean, put together by hand from single runs."""
    model = double(config, names=("a", "b"))
    inputs = {"input_ids": FAMILIES["bert"].inputs()["input_ids"]}

    def first(setup: Any) -> torch.Tensor:
        model.set_active_adapters(setup)
        with torch.no_grad():
            return model(**inputs, output_hidden_states=True).hidden_states[1]

    one, two = first("a"), first("b")
    assert (one - two).abs().max() > 1e-4
    # A mean with all the weight on one child is that child.
    torch.testing.assert_close(first(Average("a", "b", weights=[1.0, 0.0])), one, **TIGHT)
    half = first(Average("a", "b", weights=[0.5, 0.5]))
    assert (half - one).abs().max() > 1e-5
    assert (half - two).abs().max() > 1e-5
    # Rows and positions.
    split = first(Split("a", "a", splits=[2, 4]))
    torch.testing.assert_close(split, one, **TIGHT)
    model.set_active_adapters(Route("a", "b"))
    with torch.no_grad():
        rows = model(**inputs, output_hidden_states=True, adapter_rows=["b", None, "a"])
    routed = rows.hidden_states[1]
    model.set_active_adapters(None)
    with torch.no_grad():
        bare = model(**inputs, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(routed[0], two[0], **TIGHT)
    torch.testing.assert_close(routed[1], bare[1], **TIGHT)
    torch.testing.assert_close(routed[2], one[2], **TIGHT)
    # A fusion without value matrix mixes two equal adapters to themselves.
    model.add_adapter_fusion(["a", "b"], config="static")
    with torch.no_grad():
        for p, q in zip(
            model.adapter_handle.iter_parameters("a"),
            model.adapter_handle.iter_parameters("b"),
            strict=True,
        ):
            q.copy_(p)
    torch.testing.assert_close(first(Fuse("a", "b")), one, rtol=0, atol=1e-10)


def test_a_stack_of_reft_runs_one_after_the_other() -> None:
    model = double("noreft[dropout=0.0,layers=[0]]", names=("a", "b"))
    inputs = FAMILIES["bert"].inputs()
    with torch.no_grad():
        model.set_active_adapters("a")
        h = model(**inputs, output_hidden_states=True).hidden_states[1]
        model.set_active_adapters(Stack("a", "b"))
        both = model(**inputs, output_hidden_states=True).hidden_states[1]
    unit = model.get_adapter("b")[0]["output_reft"].units[0]
    expected = torch.cat([unit(h[:, :3]), h[:, 3:]], 1)
    torch.testing.assert_close(both, expected, **TIGHT)
