"""Bias and norm tuning: the same functions as training the base model's own parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adapterhub
from adapterhub import Average, BatchSplit, Parallel, Route, Stack
from adapterhub.errors import ArchitectureError
from tests.architectures.tiny import tiny_model
from tests.rules.families import FAMILIES
from tests.rules.test_rules import randomize


def output(model: Any, inputs: dict[str, Any], **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs, **options)[0]


def host_of(model: Any, key: Any) -> Any:
    return model.adapter_handle.engine.resolved.sites[key].host


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart", "vit"])
def test_bitfit_is_a_change_of_the_biases(family: str) -> None:
    model = adapterhub.init(FAMILIES[family].model())
    inputs = FAMILIES[family].inputs()
    model.add_adapter("a", config="bitfit")
    randomize(model, "a")
    model.set_active_adapters("a")
    found = output(model, inputs)
    model.set_active_adapters(None)
    bare = output(model, inputs)
    assert (found - bare).abs().max() > 1e-3
    with torch.no_grad():
        for key, module in model.adapter_handle.engine.adapters["a"].modules.items():
            site = model.adapter_handle.engine.resolved.sites[key]
            bias = site.host.bias
            start, stop = site.slice or (0, bias.shape[0])
            bias[start:stop] += module.shift
    torch.testing.assert_close(output(model, inputs), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama", "gemma3_text", "t5", "qwen3"])
def test_norm_tuning_is_a_change_of_weights_and_biases(family: str) -> None:
    model: Any = FAMILIES[family].model() if family in FAMILIES else tiny_model(family).eval()
    model = adapterhub.init(model)
    inputs = FAMILIES.get(family, FAMILIES["llama"]).inputs()
    model.add_adapter("a", config="ln_tuning")
    randomize(model, "a")
    model.set_active_adapters("a")
    found = output(model, inputs)
    model.set_active_adapters(None)
    offset = 1 if family.startswith("gemma") else 0
    with torch.no_grad():
        for key, module in model.adapter_handle.engine.adapters["a"].modules.items():
            norm = host_of(model, key)
            norm.weight.copy_((norm.weight + offset) * (1 + module.scale) - offset)
            if isinstance(norm, nn.LayerNorm):
                norm.bias.copy_(norm.bias * (1 + module.scale) + module.shift)
    torch.testing.assert_close(output(model, inputs), found, rtol=0, atol=2e-5)


@pytest.mark.parametrize("method", ["bitfit", "ln_tuning"])
def test_starts_at_the_base_trains_saves_merges_and_leaves(method: str, tmp_path: Path) -> None:
    model = adapterhub.init(FAMILIES["bert"].model())
    inputs = FAMILIES["bert"].inputs()
    bare = output(model, inputs)
    model.add_adapter("a", config=method)
    model.train_adapter("a")
    model.eval()
    assert torch.equal(output(model, inputs), bare)
    optimizer = torch.optim.SGD(model.adapter_handle.iter_parameters("a"), lr=0.1)
    model(**inputs)[0].pow(2).mean().backward()
    assert all(p.grad is not None for p in model.adapter_handle.iter_parameters("a"))
    optimizer.step()
    found = output(model, inputs)
    assert (found - bare).abs().max() > 1e-4
    for safetensors in (True, False):
        folder = tmp_path / str(safetensors)
        model.save_adapter(folder, "a", use_safetensors=safetensors)
        model.load_adapter(folder, load_as=f"b{safetensors}", set_active=True)
        torch.testing.assert_close(output(model, inputs), found, rtol=0, atol=1e-6)
    model.merge_adapter("a")
    torch.testing.assert_close(output(model, inputs), found, rtol=0, atol=1e-5)
    model.reset_adapter()
    model.adapter_handle.detach()
    torch.testing.assert_close(output(model, inputs), bare, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["bitfit", "ln_tuning"])
def test_in_blocks(method: str) -> None:
    model = adapterhub.init(FAMILIES["bert"].model())
    inputs = FAMILIES["bert"].inputs()
    for name in ("a", "b"):
        model.add_adapter(name, config=method)
    model.add_adapter("l", config="lora[init_weights='bert']")
    randomize(model, "a", "b", "l")
    alone = {}
    for name in (None, "a", "b", "l"):
        model.set_active_adapters(name)
        alone[name] = output(model, inputs)
    model.set_active_adapters(Parallel("a", "b"))
    expected = torch.cat([alone["a"], alone["b"]])
    torch.testing.assert_close(output(model, inputs), expected, rtol=0, atol=1e-5)
    model.set_active_adapters(BatchSplit("a", "l", "b", batch_sizes=1))
    expected = torch.cat([alone["a"][:1], alone["l"][1:2], alone["b"][2:]])
    torch.testing.assert_close(output(model, inputs), expected, rtol=0, atol=1e-5)
    model.set_active_adapters(Route("a", "b"))
    expected = torch.cat([alone["a"][:1], alone[None][1:2], alone["b"][2:]])
    found = output(model, inputs, adapter_rows=["a", None, "b"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    model.set_active_adapters(Average("a", "b", weights=[0.0, 1.0], normalize_weights=False))
    torch.testing.assert_close(output(model, inputs), alone["b"], rtol=0, atol=1e-5)
    model.set_active_adapters(Stack("a", "b"))
    stacked = output(model, inputs)
    adapters = model.adapter_handle.engine.adapters
    with torch.no_grad():  # both as one
        for key, first in adapters["a"].modules.items():
            second = adapters["b"].modules[key]
            if method == "ln_tuning":
                first.shift.mul_(1 + second.scale)
                first.scale.copy_((1 + first.scale) * (1 + second.scale) - 1)
            first.shift.add_(second.shift)
    model.set_active_adapters("a")
    torch.testing.assert_close(output(model, inputs), stacked, rtol=0, atol=1e-5)


def test_bitfit_needs_biases() -> None:
    model = adapterhub.init(FAMILIES["llama"].model())
    with pytest.raises(ArchitectureError, match="finds no place"):
        model.add_adapter("a", config="bitfit")


def test_parts_can_be_chosen() -> None:
    model = adapterhub.init(FAMILIES["bert"].model())
    model.add_adapter(
        "a", config="bitfit[attn_matrices=['q'],ffn_matrices=['up'],norms=False,leave_out=[1]]"
    )
    places = sorted(map(str, model.adapter_handle.engine.adapters["a"].modules))
    assert places == ["encoder.0.ffn.up", "encoder.0.self.q"]
    model.add_adapter("b", config="ln_tuning[shift=False]")
    modules = model.adapter_handle.engine.adapters["b"].modules
    assert len(modules) == 5  # two a layer, one at the embeddings
    assert not any(hasattr(module, "shift") for module in modules.values())
