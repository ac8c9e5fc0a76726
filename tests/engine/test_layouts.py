"""Stacks whose hidden states lie otherwise: packed images, positions first, several streams."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapterhub
from adapterhub import BatchSplit, Route, Split
from tests.architectures.tiny import tiny_model
from tests.rules.families import randomize

IDS = torch.arange(4, 16).view(2, 6)
REFT = "loreft[r=2,prefix_positions=2,suffix_positions=1,dropout=0.0]"


def adapted(family: str, *configs: str) -> Any:
    """Return the model with adapters "a", "b", … that matter."""
    model: Any = adapterhub.init(tiny_model(family).eval())
    for name, config in zip("abc", configs, strict=False):
        model.add_adapter(name, config)
        randomize(model, name)
    return model


def run(model: Any, **inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs)[0]


@pytest.mark.parametrize(
    "config", [REFT, "double_seq_bn[reduction_factor=4]", "prefix_tuning[prefix_length=2]"]
)
def test_positions_first_means_rows_by_themselves(config: str) -> None:
    model = adapted("xlnet", config)
    bare = run(model, input_ids=IDS)
    model.set_active_adapters("a")
    together = run(model, input_ids=IDS)
    alone = torch.cat([run(model, input_ids=row[None]) for row in IDS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert not torch.allclose(together, bare, atol=1e-3)


def test_blocks_split_the_batch_and_not_the_positions() -> None:
    config = "seq_bn[reduction_factor=4]"
    model = adapted("xlnet", config, config)
    expected = []
    for row, name in enumerate("ab"):
        model.set_active_adapters(name)
        expected.append(run(model, input_ids=IDS[row : row + 1]))
    model.set_active_adapters(BatchSplit("a", "b", batch_sizes=[1, 1]))
    torch.testing.assert_close(run(model, input_ids=IDS), torch.cat(expected), rtol=0, atol=1e-5)
    model.set_active_adapters(Split("a", "b", splits=[4, 2]))
    assert run(model, input_ids=IDS).shape == (2, 6, 32)


def images(count: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randn(2, 16, 3 * 2 * 8 * 8, generator=generator)[:count]
    return {"hidden_states": pixels.flatten(0, 1), "grid_thw": torch.tensor([[1, 4, 4]] * count)}


@pytest.mark.parametrize(
    "config", [REFT, "double_seq_bn[reduction_factor=4]", "lora", "prefix_tuning[prefix_length=2]"]
)
@pytest.mark.parametrize("family", ["qwen2_vl_vision", "qwen3_vl_vision"])
def test_packed_images_do_not_meet(family: str, config: str) -> None:
    model = adapted(family, config)
    bare = run(model, **images(2))
    model.set_active_adapters("a")
    both = run(model, **images(2))
    assert both.shape == bare.shape
    assert not torch.allclose(both, bare, atol=1e-4)
    first = run(model, **images(1))
    torch.testing.assert_close(both[: len(first)], first, rtol=0, atol=1e-5)


def test_of_several_streams_the_first_is_changed() -> None:
    model = adapted("gemma3n_text", REFT)
    layer = model.base_model.layers[1]
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, args, output: seen.append(output))
    run(model, input_ids=IDS)
    model.set_active_adapters("a")
    inputs: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    run(model, input_ids=IDS)
    bare, changed = seen[0], seen[1]
    assert bare.shape[0] == 4  # streams
    last = adapted("gemma3n_text", REFT.replace("r=2", "r=2,layers=[1]"))
    last.set_active_adapters("a")
    last.base_model.layers[1].register_forward_hook(lambda m, a, output: seen.append(output))
    run(last, input_ids=IDS)
    torch.testing.assert_close(seen[-1][1:], bare[1:])
    different = (seen[-1][0] - bare[0]).abs().amax(-1) > 1e-6
    assert different.tolist() == [[True, True, False, False, False, True]] * 2
    assert changed.shape == bare.shape


@pytest.mark.parametrize("family", ["swin", "opt"])
def test_a_gate_is_the_mean_over_its_row(family: str) -> None:
    """Swin's windows, and OPT's tokens of all rows in one axis: a gate belongs to neither of them."""
    model = adapted(family, "unipelt", "unipelt")
    inputs = {"input_ids": IDS} if family == "opt" else images_of(2)
    model.set_active_adapters("a")
    together = run(model, **inputs)
    alone = [run(model, **{k: v[row : row + 1] for k, v in inputs.items()}) for row in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
    model.set_active_adapters(Route("a", None))
    routed = run(model, **inputs, adapter_rows=[0, 0])
    torch.testing.assert_close(routed, together, rtol=0, atol=1e-5)


def images_of(rows: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    return {"pixel_values": torch.randn(rows, 3, 32, 32, generator=generator)}
