"""Save and load: the same function, whatever the method, format and class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

import adapterhub
from tests import tiny


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to the order of float32 sums, which depends on how memory is aligned."""
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


METHODS = [
    "seq_bn",
    "double_seq_bn[ln_before=True,use_gating=True,scaling='channel']",
    "par_bn",
    "seq_bn_inv",
    "seq_bn[inv_adapter='glow',inv_adapter_reduction_factor=2]",
    "adapter_plus[reduction_factor=8]",
    "lora[attn_matrices=['q','k','v','o'],intermediate_lora=True,output_lora=True]",
    "lora[use_gating=True]",
    "prefix_tuning[prefix_length=3,bottleneck_size=6]",
    "prefix_tuning_flat[prefix_length=3,use_gating=True]",
    "mam",
    "unipelt",
    "seq_bn[leave_out=[0]]",
]


@pytest.mark.parametrize("config", METHODS)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_same_function(tmp_path: Path, config: str, family: str) -> None:
    make = getattr(tiny, family)
    first = adapterhub.init(make())
    first.add_adapter("mine", config=config)
    tiny.randomize(first, "mine")
    first.set_active_adapters("mine")
    ids = tiny.tokens()
    expected = tiny.run(first, ids)
    assert not torch.allclose(expected, tiny.run(make(), ids), atol=1e-3)
    for safetensors in (True, False):
        first.save_adapter(tmp_path / str(safetensors), "mine", use_safetensors=safetensors)
        second = adapterhub.init(make())
        name = second.load_adapter(tmp_path / str(safetensors), set_active=True)
        assert name == "mine"
        same(tiny.run(second, ids), expected)
        assert second.adapter_handle.adapters["mine"] == first.adapter_handle.adapters["mine"]


@pytest.mark.parametrize("config", METHODS)
def test_load_as(tmp_path: Path, config: str) -> None:
    model = adapterhub.init(tiny.bert())
    model.add_adapter("a,b", config=config)
    tiny.randomize(model, "a,b")
    model.save_adapter(tmp_path / "x", "a,b")
    model.set_active_adapters("a,b")
    expected = tiny.run(model, tiny.tokens())
    assert model.load_adapter(tmp_path / "x", load_as="other", set_active=True) == "other"
    same(tiny.run(model, tiny.tokens()), expected)


def test_across_base_and_task_classes(tmp_path: Path) -> None:
    task = adapterhub.init(tiny.bert(tf.BertForSequenceClassification))
    task.add_adapter("t", config="lora|seq_bn|prefix_tuning[prefix_length=2]")
    tiny.randomize(task, "t")
    task.save_adapter(tmp_path / "t", "t")
    task.set_active_adapters("t")
    base = adapterhub.init(tiny.bert())
    base.load_state_dict(task.bert.state_dict(), strict=False)
    base.load_adapter(tmp_path / "t", set_active=True)
    with torch.no_grad():
        inner = task.bert(tiny.tokens())[0]
    same(tiny.run(base, tiny.tokens()), inner)


def test_head_of_a_task_class_travels_along(tmp_path: Path) -> None:
    first = adapterhub.init(tiny.bert(tf.BertForSequenceClassification))
    first.add_adapter("t")
    tiny.randomize(first, "t")
    torch.nn.init.normal_(first.classifier.weight)
    first.save_adapter(tmp_path / "t", "t")
    first.set_active_adapters("t")
    second = adapterhub.init(tiny.bert(tf.BertForSequenceClassification))
    torch.nn.init.zeros_(second.classifier.weight)
    second.load_adapter(tmp_path / "t", set_active=True)
    same(tiny.run(second, tiny.tokens()), tiny.run(first, tiny.tokens()))
    second.load_adapter(tmp_path / "t", with_head=False)


def test_files_have_the_names_of_the_format(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.bert(tf.BertForMaskedLM))
    model.add_adapter("n", config="seq_bn|lora[attn_matrices=['q']]")
    model.save_adapter(tmp_path / "n", "n", with_head=False)
    names = set(load_file(tmp_path / "n" / "adapter.safetensors"))
    assert "bert.encoder.layer.0.output.adapters.n.adapter_down.0.weight" in names
    assert "bert.encoder.layer.1.attention.self.query.loras.n.lora_A" in names
    facts = json.loads((tmp_path / "n" / "adapter_config.json").read_text())
    assert facts["model_type"] == "bert"
    assert facts["config"]["architecture"] == "union"
    assert facts["hidden_size"] == 32


def test_fused_projection_is_one_tensor(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.gpt2())
    model.add_adapter("n", config="lora[attn_matrices=['v','q'],r=3]")
    model.save_adapter(tmp_path / "n", "n")
    tensors = load_file(tmp_path / "n" / "adapter.safetensors")
    assert tensors["h.0.attn.c_attn.loras.n.lora_A"].shape == (6, 32)
    assert tensors["h.0.attn.c_attn.loras.n.lora_B"].shape == (64, 3)


def test_fusion(tmp_path: Path) -> None:
    def make() -> Any:
        model = adapterhub.init(tiny.bert())
        for name in ("a", "b"):
            model.add_adapter(name)
        tiny.randomize(model, "a", "b")
        return model

    first = make()
    fuse = adapterhub.Fuse("a", "b")
    first.add_adapter_fusion(fuse)
    for parameter in first.adapter_handle.engine.fusions["a,b"].parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    first.set_active_adapters(fuse)
    first.save_adapter_fusion(tmp_path / "f", fuse)
    second = make()
    assert second.load_adapter_fusion(tmp_path / "f", set_active=True) == "a,b"
    same(tiny.run(second, tiny.tokens()), tiny.run(first, tiny.tokens()))


def test_setup(tmp_path: Path) -> None:
    first = adapterhub.init(tiny.bert())
    for name in ("a", "b", "c"):
        first.add_adapter(name)
    tiny.randomize(first, "a", "b", "c")
    setup = adapterhub.Stack("a", adapterhub.Fuse("b", "c", name="custom"))
    first.add_adapter_fusion(adapterhub.Fuse("b", "c", name="custom"))
    first.set_active_adapters(setup)
    first.save_adapter_setup(tmp_path / "s", setup)
    second = adapterhub.init(tiny.bert())
    loaded, _ = second.load_adapter_setup(tmp_path / "s", set_active=True)
    assert loaded == setup
    same(tiny.run(second, tiny.tokens()), tiny.run(first, tiny.tokens()))


def test_half_precision_is_kept(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.bert().to(torch.bfloat16))
    model.add_adapter("h", config="lora|seq_bn|prefix_tuning[prefix_length=2]")
    assert {p.dtype for p in model.adapter_handle.iter_parameters("h")} == {torch.bfloat16}
    model.save_adapter(tmp_path / "h", "h")
    full = adapterhub.init(tiny.bert())
    full.load_adapter(tmp_path / "h")
    assert {p.dtype for p in full.adapter_handle.iter_parameters("h")} == {torch.float32}


def test_loading_again_replaces(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.bert())
    model.add_adapter("a")
    tiny.randomize(model, "a")
    model.save_adapter(tmp_path / "a", "a")
    model.set_active_adapters("a")
    expected = tiny.run(model, tiny.tokens())
    model.add_adapter("a", config="lora", overwrite_ok=True)
    model.load_adapter(tmp_path / "a", set_active=True)
    same(tiny.run(model, tiny.tokens()), expected)
    assert list(model.adapter_handle.adapters) == ["a"]


def test_the_temperature_of_a_fusion_is_kept(tmp_path: Path) -> None:
    model = adapterhub.init(tiny.bert())
    for name in ("a", "b"):
        model.add_adapter(name)
    model.add_adapter_fusion(["a", "b"], config={"temperature": True})
    model.save_adapter_fusion(tmp_path / "new", "a,b")
    assert "temperature" not in json.loads(
        (tmp_path / "new" / "adapter_fusion_config.json").read_text()
    )
    model.train_adapter_fusion(adapterhub.Fuse("a", "b"))
    for _ in range(4):
        model(tiny.tokens())
    model.save_adapter_fusion(tmp_path / "f", "a,b")
    facts = json.loads((tmp_path / "f" / "adapter_fusion_config.json").read_text())
    assert facts["temperature"] == pytest.approx(49.8)
    assert facts["config"]["temperature"] is True
    model.load_adapter_fusion(tmp_path / "f", load_as="again")
    modules = model.adapter_handle.engine.fusions["again"].modules.values()
    assert {round(module.temperature, 6) for module in modules} == {49.8}
    model.load_adapter_fusion(tmp_path / "new", load_as="fresh")
    modules = model.adapter_handle.engine.fusions["fresh"].modules.values()
    assert {module.temperature for module in modules} == {50.0}


def test_what_a_file_does_not_say_can_be_said(tmp_path: Path) -> None:
    """Files of the ``adapters`` library do not tell DiReFT from NoReFT."""
    first = adapterhub.init(tiny.bert())
    first.add_adapter("d", config="direft[r=2,dropout=0.0]")
    tiny.randomize(first, "d")
    first.set_active_adapters("d")
    expected = tiny.run(first, tiny.tokens())
    first.save_adapter(tmp_path / "ours", "d")
    first.save_adapter(tmp_path / "theirs", "d")
    path = tmp_path / "theirs" / "adapter_config.json"
    facts = json.loads(path.read_text())
    assert facts["config"].pop("subtract_projection") is False
    path.write_text(json.dumps(facts))
    second = adapterhub.init(tiny.bert())
    for folder, config, right in (
        ("theirs", None, False),
        ("theirs", "direft", True),
        ("theirs", adapterhub.DiReftConfig(r=7), True),
        ("theirs", "noreft", False),
        ("theirs", "lora", False),  # which says nothing about it
        ("ours", None, True),
        ("ours", "noreft", True),  # what a file says counts
    ):
        second.load_adapter(tmp_path / folder, config=config, set_active=True)
        found = tiny.run(second, tiny.tokens())
        assert torch.allclose(found, expected, atol=1e-5) is right, (folder, config)
        assert second.adapters_config.get("d").r == 2
