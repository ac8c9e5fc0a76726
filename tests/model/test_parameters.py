"""Ejecting prefixes, sharing parameters, moving, asking what a model can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub
from adapterhub import Fuse
from adapterhub.errors import ConfigError, UnknownAdapterError
from tests import tiny

IDS = tiny.tokens()


@pytest.mark.parametrize("config", ["prefix_tuning[prefix_length=3]", "unipelt"])
def test_an_ejected_prefix_keeps_its_function_and_is_saved_as_it_is(
    config: str, tmp_path: Path
) -> None:
    model = adapterhub.init(tiny.bert())
    model.add_adapter("a", config=config)
    tiny.randomize(model, "a")
    model.set_active_adapters("a")
    expected = tiny.run(model, IDS)
    size = sum(p.numel() for p in model.adapter_handle.iter_parameters("a"))
    model.eject_prefix_tuning("a")
    torch.testing.assert_close(tiny.run(model, IDS), expected, rtol=0, atol=1e-6)
    assert sum(p.numel() for p in model.adapter_handle.iter_parameters("a")) < size / 2
    model.eject_prefix_tuning("a")  # nothing left to do
    model.train_adapter("a")
    model(IDS)[0].sum().backward()
    assert all(p.grad is not None for p in model.adapter_handle.iter_parameters("a"))
    model.eval()
    model.save_adapter(tmp_path / "a", "a")
    fresh = adapterhub.init(tiny.bert())
    fresh.load_adapter(tmp_path / "a", set_active=True)
    torch.testing.assert_close(tiny.run(fresh, IDS), expected, rtol=0, atol=1e-6)


def test_only_prefixes_are_ejected() -> None:
    model = adapterhub.init(tiny.bert())
    model.add_adapter("a")
    with pytest.raises(ConfigError, match="no prefixes to eject; it is SeqBnConfig"):
        model.eject_prefix_tuning("a")


def _sharers() -> Any:
    model = adapterhub.init(tiny.bert())
    for name in "abc":
        model.add_adapter(name, config="mtl_lora[r=4]")
        tiny.randomize(model, name)
    return model


def test_shared_parameters_train_together_and_part_again() -> None:
    model = _sharers()
    records = model.adapter_handle.engine.adapters
    model.share_parameters(["a", "b"], reference_adapter_name="b")
    key = next(iter(records["a"].modules))
    one, other, third = (records[name].modules[key] for name in "abc")
    assert one.lora_A is other.lora_A
    assert one.lora_B is other.lora_B
    assert one.task is not other.task
    assert third.lora_A is not other.lora_A
    with pytest.raises(ConfigError, match="already"):
        model.share_parameters(["a", "b"])
    model.unshare_parameters(["a", "b"])
    assert one.lora_A is not other.lora_A
    assert torch.equal(one.lora_A, other.lora_A)
    with pytest.raises(UnknownAdapterError, match="No group 'a,b'"):
        model.unshare_parameters(["a", "b"])


def test_sharing_checks_first_and_forgets_deleted_adapters() -> None:
    model = _sharers()
    model.add_adapter("lora", config="lora[r=4]")
    model.add_adapter("wide", config="mtl_lora[r=5]")
    before = {name: tuple(map(id, r.parameters())) for name, r in _records(model).items()}
    for names, message in ((["a", "lora"], "Only MTL-LoRA"), (["a", "b", "wide"], "lora_A at")):
        with pytest.raises(ConfigError, match=message):
            model.share_parameters(names)
    assert before == {name: tuple(map(id, r.parameters())) for name, r in _records(model).items()}
    model.share_parameters(["a", "b"])
    model.delete_adapter("a")
    model.add_adapter("a", config="mtl_lora[r=4]")
    model.share_parameters(["a", "b"])


def _records(model: Any) -> dict[str, Any]:
    return model.adapter_handle.engine.adapters


def test_what_a_model_can_have() -> None:
    model = adapterhub.init(tiny.bert())
    before = list(model.state_dict())
    kinds = ("bottleneck", "invertible", "lora", "reft", "prefix_tuning")
    assert all(model.supports_adapter(kind) for kind in kinds)
    assert model.supports_adapter("lora[attn_matrices=['o']]")
    assert not model.supports_adapter("seq_bn[output_adapter=False,cross_adapter=True]")
    assert list(model.state_dict()) == before
    with pytest.raises(ConfigError, match="Unknown configuration"):
        model.supports_adapter("bottlenek")


def test_layers_are_numbered_through() -> None:
    model = adapterhub.init(tiny.bert())
    assert [(i, type(layer).__name__) for i, layer in model.iter_layers()] == [
        (0, "BertLayer"),
        (1, "BertLayer"),
    ]


def test_a_fusion_layer_moves_alone() -> None:
    model = adapterhub.init(tiny.bert())
    model.add_adapter("a")
    model.add_adapter("b")
    model.add_adapter_fusion(["a", "b"])
    model.adapter_fusion_to(Fuse("a", "b"), dtype=torch.float64)
    record = model.adapter_handle.engine.fusions["a,b"]
    assert {p.dtype for p in record.parameters()} == {torch.float64}
    assert {p.dtype for p in model.adapter_handle.iter_parameters("a")} == {torch.float32}
