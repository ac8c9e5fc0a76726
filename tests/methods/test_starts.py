"""Starts of LoRA: what A and B begin with, and that the base stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adapterhub
from adapterhub.errors import AdapterHubError, ConfigError
from adapterhub.methods.hosts import effective_weight
from adapterhub.methods.starts import PrincipalInputs, spread_ranks, weight_start
from tests.rules.families import FAMILIES


def lora(model: Any, **fields: Any) -> Any:
    model.add_adapter("a", config=adapterhub.LoRAConfig(**fields))
    return model.adapter_handle.engine.adapters["a"].modules


def bert() -> Any:
    return adapterhub.init(FAMILIES["bert"].model())


def output(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs)[0]


@pytest.mark.parametrize("how", ["pissa", "olora"])
@pytest.mark.parametrize("use_dora", [False, True])
def test_weight_starts_keep_function_and_base(how: str, use_dora: bool) -> None:
    model = bert()
    inputs = FAMILIES["bert"].inputs()
    expected = output(model, inputs)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    modules = lora(model, r=4, alpha=2, init_weights=how, use_dora=use_dora)
    model.set_active_adapters("a")
    torch.testing.assert_close(output(model, inputs), expected, rtol=0, atol=2e-6)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in weights.items())
    assert all(m.lora_B.abs().max() > 0 for m in modules.values())
    with torch.no_grad():
        for module in modules.values():
            module.lora_A.mul_(1.5)
    assert (output(model, inputs) - expected).abs().max() > 1e-3


def test_pissa_is_the_best_approximation_of_its_rank() -> None:
    weight = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    a, b = weight_start("pissa", weight, 3, scaling=0.25)
    rest = torch.linalg.svdvals(weight - 0.25 * b @ a)
    torch.testing.assert_close(rest[:9], torch.linalg.svdvals(weight)[3:], rtol=1e-4, atol=1e-5)


def test_olora_starts_from_an_orthonormal_basis() -> None:
    weight = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    a, b = weight_start("olora", weight, 12, scaling=1.0)
    torch.testing.assert_close(b.T @ b, torch.eye(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(b @ a, weight, rtol=0, atol=1e-5)


def test_the_start_survives_a_file_and_merging(tmp_path: Path) -> None:
    model = bert()
    inputs = FAMILIES["bert"].inputs()
    for module in lora(model, r=4, init_weights="pissa").values():
        nn.init.normal_(module.lora_B, std=0.3)
    model.set_active_adapters("a")
    expected = output(model, inputs)
    model.save_adapter(tmp_path / "a", "a")
    model.load_adapter(tmp_path / "a", load_as="b", set_active=True)
    assert torch.equal(output(model, inputs), expected)
    model.merge_adapter("b")
    torch.testing.assert_close(output(model, inputs), expected, rtol=0, atol=1e-5)
    model.reset_adapter()
    # As plain LoRA, which other libraries read: of twice the rank.
    model.average_adapter("plain", ["a"], [1.0], combine_strategy="lora_concat")
    model.set_active_adapters("plain")
    torch.testing.assert_close(output(model, inputs), expected, rtol=0, atol=1e-5)


def test_a_rank_larger_than_the_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 32"):
        lora(bert(), r=64, init_weights="pissa")


def test_principal_inputs_are_those_of_all_batches_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([9.0, 5.0, 3.0, 0.1, 0.1, 0.1])
    x = torch.randn(400, 6, generator=generator) * spread + 2.0
    state = PrincipalInputs(3)
    for part in x.split(37):
        state.update(part)
    _, values, vt = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    torch.testing.assert_close(
        (state.components * vt[:3]).sum(1).abs(), torch.ones(3), rtol=0, atol=1e-3
    )
    shares = values.pow(2) / values.pow(2).sum()
    torch.testing.assert_close(state.share, shares[:3], rtol=1e-2, atol=1e-3)


def test_ranks_go_where_there_is_variance() -> None:
    shares = {"x": torch.tensor([0.5, 0.4, 0.05, 0.01]), "y": torch.tensor([0.9, 0.06, 0.01, 0.0])}
    assert spread_ranks(shares, 2) == {"x": 2, "y": 2}
    assert spread_ranks({**shares, "z": torch.tensor([0.3, 0.3, 0.3, 0.1])}, 2) == {
        "x": 2,
        "y": 1,
        "z": 3,
    }


def test_eva_points_a_at_the_inputs_and_changes_nothing(tmp_path: Path) -> None:
    model = bert()
    inputs = FAMILIES["bert"].inputs(8)
    expected = output(model, inputs)
    modules = lora(model, r=4)
    seen: list[torch.Tensor] = []
    key, _ = next(iter(modules.items()))
    host = model.adapter_handle.engine.resolved.sites[key].host
    handle = host.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.start_adapter("a", "eva", data=[inputs])
    handle.remove()
    vectors = seen[0][inputs["attention_mask"].bool()]
    main = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[2][:4]
    torch.testing.assert_close(
        (modules[key].lora_A * main).sum(1).abs(), torch.ones(4), rtol=0, atol=1e-4
    )
    model.set_active_adapters("a")
    assert torch.equal(output(model, inputs), expected)


def test_eva_moves_ranks_and_the_file_knows(tmp_path: Path) -> None:
    model = bert()
    inputs = FAMILIES["bert"].inputs(8)
    count = len(lora(model, r=4))
    model.train_adapter("a")
    model.start_adapter("a", "eva", data=[inputs, inputs], rho=2.0)
    modules = model.adapter_handle.engine.adapters["a"].modules
    ranks = [module.rank for module in modules.values()]
    assert sum(ranks) == 4 * count
    assert len(set(ranks)) > 1
    assert max(ranks) <= 8
    assert {module.scaling for module in modules.values()} == {8 / 4}
    assert all(p.requires_grad for m in modules.values() for p in m.parameters())
    assert model.active_adapters is not None
    for module in modules.values():
        nn.init.normal_(module.lora_B)
    model.eval()
    expected = output(model, inputs)
    model.save_adapter(tmp_path / "a", "a")
    again = bert()
    again.load_adapter(tmp_path / "a", set_active=True)
    assert torch.equal(output(again, inputs), expected)


class Packed(nn.Module):
    """A projection with a 4-bit weight in one byte an entry, as quantised models have it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = float(linear.weight.detach().abs().max() / 7)
        self.weight = nn.Parameter((linear.weight / self.scale).round().to(torch.int8), False)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


def test_loftq_gives_back_what_quantising_took(tmp_path: Path) -> None:
    full = FAMILIES["bert"].model()
    inputs = FAMILIES["bert"].inputs()
    expected = output(full, inputs)
    full.save_pretrained(tmp_path / "full")
    quantised = FAMILIES["bert"].model()
    for layer in quantised.encoder.layer:
        for holder, name in ((layer.attention.self, "query"), (layer.attention.self, "value")):
            setattr(holder, name, Packed(getattr(holder, name)))
    model = adapterhub.init(quantised)
    far = (output(model, inputs) - expected).abs().mean()
    errors = []
    for rank in (4, 32):
        model.add_adapter(f"r{rank}", config=adapterhub.LoRAConfig(r=rank, alpha=3))
        model.start_adapter(f"r{rank}", "loftq", weights=full if rank == 4 else tmp_path / "full")
        model.set_active_adapters(f"r{rank}")
        errors.append(float((output(model, inputs) - expected).abs().mean()))
    assert errors[0] < far
    assert errors[1] < 1e-5  # of full rank: all of it
    record = model.adapter_handle.engine.adapters["r4"]
    for key, module in record.modules.items():
        site = model.adapter_handle.engine.resolved.sites[key]
        whole = full.get_parameter(f"{site.path}.weight")
        left = torch.linalg.svdvals(
            whole - effective_weight(site) - module.scaling * module.product()
        )
        best = torch.linalg.svdvals(whole - effective_weight(site))[4]
        torch.testing.assert_close(left[0], best, rtol=1e-3, atol=1e-6)


def test_bad_starts_are_refused_and_change_nothing(tmp_path: Path) -> None:
    model = bert()
    lora(model, r=4)
    model.add_adapter("bn", config="seq_bn")
    model.add_adapter("ia3", config="ia3")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    other = FAMILIES["bert"].model()
    other.encoder.layer[0].attention.self.query = nn.Linear(16, 32)
    for name, how, options, words in (
        ("a", "corda", {}, "No start 'corda'"),
        ("a", "eva", {}, "needs data="),
        ("a", "eva", {"data": []}, "No batch"),
        ("a", "eva", {"data": [], "rho": 0.5}, "at least 1"),
        ("a", "loftq", {}, "needs weights="),
        ("a", "loftq", {"weights": {}}, "has no 'encoder.layer.0.attention.self.query.weight'"),
        ("a", "loftq", {"weights": tmp_path}, "no safetensors file"),
        ("a", "loftq", {"weights": other}, r"\(32, 16\) for encoder.0.self.q"),
        ("bn", "eva", {"data": []}, "Bottleneck"),
        ("ia3", "loftq", {"weights": {}}, "IA3"),
        ("b", "eva", {"data": []}, "No adapter 'b'"),
    ):
        with pytest.raises(AdapterHubError, match=words):
            model.start_adapter(name, how, **options)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
