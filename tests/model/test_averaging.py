"""Merging adapters: what the merged one computes, and what cannot be merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adapterhub
from adapterhub import Average
from adapterhub.errors import ConfigError, UnknownAdapterError
from adapterhub.methods import averaging as maths
from tests import tiny
from tests.golden.replay import load_model, run_step

IDS = tiny.tokens()
ALL = "attn_matrices=['q','k','v','o'],intermediate_lora=True,output_lora=True"


def made(*configs: str, model: Any = None) -> Any:
    """Return a model with adapters a, b, c of these configurations, all with an effect."""
    model = adapterhub.init(tiny.bert() if model is None else model)
    for name, config in zip("abc", configs, strict=False):
        model.add_adapter(name, config=config)
    generator = torch.Generator().manual_seed(3)
    for name in list("abc")[: len(configs)]:
        for parameter in model.adapter_handle.iter_parameters(name):
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def states(model: Any, name: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.adapter_handle.iter_parameters(name)]


def changes(model: Any, name: str) -> dict[Any, torch.Tensor]:
    modules = model.adapter_handle.engine.adapters[name].modules
    return {key: module.weight_change().detach() for key, module in modules.items()}


@pytest.mark.parametrize(
    "config", ["double_seq_bn_inv", "unipelt", "compacter[reduction_factor=4]"]
)
def test_linear_is_the_mean_of_every_tensor(config: str) -> None:
    model = made(config, config)
    model.average_adapter("m", {"a": 3, "b": 1}, set_active=True)
    for one, other, mean in zip(*(states(model, n) for n in ("a", "b", "m")), strict=True):
        torch.testing.assert_close(mean, 0.75 * one + 0.25 * other)
    assert all(p.requires_grad for p in model.adapter_handle.iter_parameters("m"))
    before = tiny.run(model, IDS)
    tiny.randomize(model, "a", std=1.0)  # the sources are not touched by it any more
    assert torch.equal(tiny.run(model, IDS), before)


@pytest.mark.parametrize("strategy", ["linear", "ties", "dare"])
@pytest.mark.parametrize(
    "config", ["seq_bn[ln_before=True,ln_after=True]", "lora", "ia3", "dora", "vera", "loreft[r=3]"]
)
def test_merging_an_adapter_with_itself_changes_nothing(config: str, strategy: str) -> None:
    model = made(config)
    if config.startswith("loreft"):  # signs, not numbers: fractions of them would be read as 0
        for module in model.adapter_handle.engine.adapters["a"].modules.values():
            for unit in module.units:
                unit.original.data.diagonal().copy_(torch.tensor([1.0, -1.0, 1.0]))
    model.set_active_adapters("a")
    expected = tiny.run(model, IDS)
    thirds = [0.3, 0.6, 0.1]
    model.average_adapter("m", ["a"] * 3, thirds, strategy, density=1.0, set_active=True)
    torch.testing.assert_close(tiny.run(model, IDS), expected, atol=1e-5, rtol=1e-5)


def test_signs_of_orthogonal_maps_stay_signs() -> None:
    """LoReFT keeps signs as numbers; a mean of them would be read as 0, and the direction lost."""
    model = made("loreft[r=3]", "loreft[r=3]")
    modules = {n: model.adapter_handle.engine.adapters[n].modules for n in "ab"}
    for name, signs in (("a", [1.0, -1.0, 1.0]), ("b", [1.0, 1.0, -1.0])):
        for module in modules[name].values():
            for unit in module.units:
                unit.original.data.diagonal().copy_(torch.tensor(signs))
    model.average_adapter("m", {"a": 0.6, "b": 0.4})
    for module in model.adapter_handle.engine.adapters["m"].modules.values():
        for unit in module.units:
            assert unit.original.data.diagonal().tolist() == [1.0, -1.0, 1.0]


@pytest.mark.parametrize("strategy", ["lora_delta_w_svd", "lora_concat"])
def test_changes_of_different_rank_and_scale_merge_exactly(strategy: str) -> None:
    model = made(f"lora[r=2,alpha=3,{ALL}]", f"lora[r=5,alpha=4,{ALL}]")
    model.average_adapter("m", ["a", "b"], [0.3, 0.7], strategy)
    one, other, merged = (changes(model, name) for name in ("a", "b", "m"))
    for key, change in merged.items():
        torch.testing.assert_close(change, 0.3 * one[key] + 0.7 * other[key], atol=1e-6, rtol=1e-4)
    assert model.adapter_handle.adapters["m"].r == 7
    model.set_active_adapters(Average("a", "b", weights=[0.3, 0.7]))
    expected = tiny.run(model, IDS)
    model.set_active_adapters("m")
    torch.testing.assert_close(tiny.run(model, IDS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", ["vera[r=4,vera_b=0.5]", "mtl_lora[r=4,n_up_projection=2]"])
def test_variants_merge_into_a_plain_lora(config: str, tmp_path: Path) -> None:
    model = made(config, "lora[r=3,alpha=6]")
    model.average_adapter("m", ["a", "b"], combine_strategy="lora_delta_w_svd")
    one, other, merged = (changes(model, name) for name in ("a", "b", "m"))
    for key, change in merged.items():
        torch.testing.assert_close(change, (one[key] + other[key]) / 2, atol=1e-6, rtol=1e-4)
    model.set_active_adapters("m")
    expected = tiny.run(model, IDS)
    model.save_adapter(tmp_path / "m", "m")
    fresh = adapterhub.init(tiny.bert())
    fresh.load_adapter(tmp_path / "m", set_active=True)
    assert torch.equal(tiny.run(fresh, IDS), expected)


def test_a_smaller_rank_is_the_best_approximation() -> None:
    model = made("lora[r=4]", "lora[r=4]", model=tiny.gpt2())
    model.average_adapter("m", ["a", "b"], combine_strategy="lora_delta_w_svd", svd_rank=3)
    one, other, merged = (changes(model, name) for name in ("a", "b", "m"))
    for key, change in merged.items():
        exact = (one[key] + other[key]) / 2
        kept = torch.linalg.svdvals(exact)[3:]
        torch.testing.assert_close((change - exact).norm(), kept.norm(), atol=1e-5, rtol=1e-4)
    model.average_adapter("w", ["a"], combine_strategy="lora_delta_w_svd", svd_rank=40)
    for key, change in changes(model, "w").items():  # more than the matrix has: padded
        torch.testing.assert_close(change, one[key], atol=1e-6, rtol=1e-4)


def test_negative_weights_subtract_only_with_negate_b() -> None:
    model = made("lora[init_weights='bert']")
    model.average_adapter("m", {"a": -1.0}, None, "lora_linear_only_negate_b", False)
    one, merged = changes(model, "a"), changes(model, "m")
    assert all(torch.equal(merged[key], -one[key]) for key in one)
    model.average_adapter("m", {"a": -1.0}, None, "linear", False, overwrite_ok=True)
    assert all(torch.equal(change, one[key]) for key, change in changes(model, "m").items())


@pytest.mark.parametrize("strategy", ["ties", "dare"])
def test_sparse_merges_work_on_changes_of_weight_too(strategy: str) -> None:
    model = made("lora[r=2]", "lora[r=3]")
    model.average_adapter("m", ["a", "b"], None, strategy, svd_rank=32, density=1.0)
    one, other = changes(model, "a"), changes(model, "b")
    for key, change in changes(model, "m").items():
        expected = (one[key] + other[key]) / 2
        if strategy == "ties":
            expected = maths.ties([one[key], other[key]], [0.5, 0.5], 1.0)
        torch.testing.assert_close(change, expected, atol=1e-5, rtol=1e-4)


def test_sparse_merges_keep_what_was_not_learned() -> None:
    """A norm's weight starts at 1 and an (IA)3 factor too: dropped entries go back there, not to 0."""
    model = made("ia3", "ia3")
    model.average_adapter("m", ["a"], None, "dare", density=0.3, seed=5)
    values = torch.cat([v.flatten() for v in states(model, "m")])
    kept = (values != 1).float().mean()
    assert 0.2 < kept < 0.4
    model.average_adapter("again", ["a"], None, "dare", density=0.3, seed=5)
    model.average_adapter("other", ["a"], None, "dare", density=0.3, seed=6)
    assert all(map(torch.equal, states(model, "m"), states(model, "again")))
    assert not all(map(torch.equal, states(model, "m"), states(model, "other")))


def test_ties_by_hand() -> None:
    one = torch.tensor([4.0, 1.0, -3.0, 0.5, 0.0])
    other = torch.tensor([2.0, -5.0, 1.0, 0.1, 0.0])
    # Trimmed to 3 of 5 entries: (4, 1, -3, 0, 0) and (2, -5, 1, 0, 0); elected signs (+, -, -).
    found = maths.ties([one, other], [0.5, 0.5], 0.6)
    torch.testing.assert_close(found, torch.tensor([3.0, -5.0, -3.0, 0.0, 0.0]))
    # Not normalised, weights add up: 2 a where both agree and are equal.
    torch.testing.assert_close(maths.ties([one, one], [1.0, 1.0], 1.0), 2 * one)
    torch.testing.assert_close(maths.ties([one], [-1.0], 1.0), -one)


def test_dare_is_linear_in_the_mean() -> None:
    tensor, generator = torch.ones(200_000), torch.Generator().manual_seed(0)
    found = maths.dare([tensor], [1.0], 0.25, generator)
    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert abs(float(found.mean()) - 1) < 0.02


def test_low_rank_of_a_sum_is_that_of_the_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = [
        (torch.randn(20, r, generator=generator), torch.randn(r, 30, generator=generator))
        for r in (3, 6)
    ]
    whole = sum(b @ a for b, a in pairs)
    for rank in (1, 4, 9, 12):
        b, a = maths.low_rank_of_sum(pairs, rank)
        c, d = maths.low_rank(whole, rank)  # type: ignore[arg-type]
        assert a.shape == d.shape == (rank, 30)
        torch.testing.assert_close(b @ a, c @ d, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_merged_says_why_and_changes_nothing() -> None:
    model = made("lora[r=2]", "lora[r=4]", "seq_bn")
    model.add_adapter("dora", config="dora")
    model.add_adapter("gated", config="lora[use_gating=True]")
    model.add_adapter("keys", config="lora[attn_matrices=['k']]")
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (["a", "b"], {}, "made differently .*r.*lora_concat"),
        (["a", "c"], {}, "made differently"),
        (["a"], {"svd_rank": 3}, "keeps the rank"),
        (["c"], {"combine_strategy": "lora_delta_w_svd"}, "another method"),
        (["dora"], {"combine_strategy": "lora_concat"}, "DoRA also"),
        (["gated"], {"combine_strategy": "lora_concat"}, "gate depends"),
        (["a", "keys"], {"combine_strategy": "lora_concat"}, "same places"),
        (["c"], {"combine_strategy": "lora_linear_only_negate_b"}, "not with down_weight"),
        (["a"], {"combine_strategy": "lora_delta_w_svg"}, "Did you mean 'lora_delta_w_svd'"),
        (["a"], {"combine_strategy": "lora_delta_w_svd", "svd_rank": 0}, "no rank"),
        (["a"], {"combine_strategy": "ties", "density": 0}, "density=0"),
        (["a", "a"], {"weights": [1.0]}, "2 adapters but 1 weights"),
        (["a", "a"], {"weights": [1.0, -1.0]}, "sum 0"),
        ({"a": 1.0}, {"weights": [1.0]}, "weights in it already"),
        ([], {}, "empty"),
        ("a", {}, "list of names"),
    ]
    before = set(model.adapter_handle.adapters)
    for adapters, options, message in cases:
        with pytest.raises(ConfigError, match=message):
            model.average_adapter("m", adapters, **options)
    with pytest.raises(ConfigError, match="overwrite_ok"):
        model.average_adapter("a", ["a"])
    with pytest.raises(UnknownAdapterError, match="nobody"):
        model.average_adapter("m", ["a", "nobody"])
    assert set(model.adapter_handle.adapters) == before


@pytest.mark.parametrize("case", ["bert__a__svd", "llama__a__svd", "t5__a__svd"])
def test_recorded_svd_has_the_recorded_matrices(shared: Path, case: str) -> None:
    """The recording library leaves alpha as it was, so its merged adapter is out of scale; A and B agree."""
    folder = shared / "golden" / "cases" / case
    facts = json.loads((folder / "case.json").read_text())
    model = load_model(shared / "golden", facts)
    for step in [*facts["load"], *facts["run"]]:
        run_step(model, step, folder)
    expected = load_file(folder / "expected_adapters" / "avg" / "adapter.safetensors")
    record = model.adapter_handle.engine.adapters["avg"]
    assert (record.config.r, record.config.alpha) == (3, 6)
    compared = 0
    for key, module in record.modules.items():
        stem = f"{model.adapter_handle.engine.resolved.sites[key].peer_path}.loras.avg."
        product = expected[f"{stem}lora_B"] @ expected[f"{stem}lora_A"]
        torch.testing.assert_close(module.product(), product, atol=1e-5, rtol=1e-4)
        compared += 1
    assert compared == len(expected) // 2
