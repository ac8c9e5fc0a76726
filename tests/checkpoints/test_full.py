"""Whole models as the ``adapters`` library saves them, with adapters and heads inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

import adapterhub
from adapterhub import Fuse, ModelAdaptersConfig
from adapterhub.configs import config_hash
from adapterhub.errors import CheckpointError
from tests import tiny

IDS = tiny.tokens()
CONFIGS = {
    "bn": "double_seq_bn_inv",
    "b2": "double_seq_bn",
    "b3": "double_seq_bn",
    "lora": "lora[r=4,alpha=16]",
    "prefix": "prefix_tuning[prefix_length=3,bottleneck_size=6]",
    "compact": "compacter[reduction_factor=4]",
}


@pytest.fixture
def model() -> Any:
    made = adapterhub.AutoAdapterModel.from_config(tiny.bert().config).eval()
    for name, config in CONFIGS.items():
        made.add_adapter(name, config=config)
        tiny.randomize(made, name)
    made.add_adapter_fusion(["b2", "b3"])
    for parameter in made.adapter_handle.engine.fusions["b2,b3"].parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.add_classification_head("bn", num_labels=3)
    made.add_tagging_head("tags", num_labels=4)
    return made


def peer_checkpoint(model: Any, folder: Path, sharded: bool = False) -> None:
    """Write *model* as that library does: adapters' tensors among the others, listed in config.json."""
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name in model.adapters_config:
        model.save_adapter(folder / "-", name, with_head=False, use_safetensors=False)
        tensors.update(torch.load(folder / "-" / "pytorch_adapter.bin", weights_only=True))
    for name in model.adapters_config.fusions:
        model.save_adapter_fusion(folder / "f", name)
        tensors.update(load_file(folder / "f" / "model_adapter_fusion.safetensors"))
    file = folder / "model.safetensors"
    if sharded:
        file.unlink()
        parts = [sorted(tensors)[::2], sorted(tensors)[1::2]]
        names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
        for part, name in zip(parts, names, strict=True):
            save_file({k: tensors[k].clone() for k in part}, folder / name, {"format": "pt"})
        where = {key: name for part, name in zip(parts, names, strict=True) for key in part}
        index = {"metadata": {"total_size": 0}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file({k: v.clone() for k, v in tensors.items()}, file, {"format": "pt"})
    edit(folder, adapters=model.adapters_config.to_dict())


def edit(folder: Path, **entries: Any) -> None:
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**facts, **entries}))


SETUPS: tuple[Any, ...] = (*CONFIGS, Fuse("b2", "b3"))


def outputs(model: Any) -> list[torch.Tensor]:
    found = []
    for setup in SETUPS:
        model.set_active_adapters(setup)
        found += [tiny.run(model, IDS, head=head) for head in ("bn", "tags")]
    return found


@pytest.mark.parametrize("sharded", [False, True])
def test_everything_in_a_full_checkpoint_is_loaded(
    model: Any, tmp_path: Path, sharded: bool
) -> None:
    expected = outputs(model)
    peer_checkpoint(model, tmp_path / "full", sharded)
    again = adapterhub.AutoAdapterModel.from_pretrained(tmp_path / "full")
    assert list(again.adapters_config) == list(CONFIGS)
    assert again.active_adapters is None
    assert all(map(torch.equal, outputs(again), expected))
    assert not hasattr(again.config, "adapters")  # it would be written into the next config.json
    again.save_pretrained(tmp_path / "base")
    # (transformers 5.0 saves norms under the names that they had in TensorFlow)
    saved = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        )
        for name in load_file(tmp_path / "base" / "model.safetensors")
    }
    assert saved == {key for key in again.state_dict() if "adapterhub" not in key}
    assert "adapters" not in json.loads((tmp_path / "base" / "config.json").read_text())


def test_task_models_are_loaded_with_their_adapters(tmp_path: Path) -> None:
    plain = adapterhub.init(tiny.bert(tf.BertForSequenceClassification))
    plain.add_adapter("a", config="seq_bn")
    tiny.randomize(plain, "a")
    plain.set_active_adapters("a")
    expected = tiny.run(plain, IDS)
    peer_checkpoint(plain, tmp_path)
    again = adapterhub.load_model(tmp_path, tf.AutoModelForSequenceClassification)
    assert type(again).__name__ == "BertForSequenceClassification"
    again.set_active_adapters("a")
    assert torch.equal(tiny.run(again, IDS), expected)
    flexible = adapterhub.AutoAdapterModel.from_pretrained(tmp_path)
    flexible.set_active_adapters("a")
    assert torch.equal(tiny.run(flexible, IDS), expected)


def test_early_releases(tmp_path: Path) -> None:
    """Version 1 wrote types, other names of modules, and fusion layers into lists of their own."""
    model = adapterhub.AutoAdapterModel.from_config(tiny.bert().config).eval()
    for name in ("a", "b"):
        model.add_adapter(name, config="houlsby[non_linearity='gelu_new']")
        tiny.randomize(model, name)
    model.add_adapter_fusion(["a", "b"], "static")
    model.set_active_adapters(Fuse("a", "b"))
    expected = tiny.run(model, IDS)
    peer_checkpoint(model, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {
        key.replace(".output.adapters.", ".output.layer_text_task_adapters."): value
        for key, value in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})
    config = {**adapterhub.DoubleSeqBnConfig(non_linearity="gelu").to_dict()}
    names = ("inv_adapter", "inv_adapter_reduction_factor")
    old = {
        **{key: value for key, value in config.items() if key not in names},
        "invertible_adapter": {
            "block_type": "nice",
            "non_linearity": "relu",
            "reduction_factor": 2,
        },
    }
    edit(
        tmp_path,
        adapters={
            "adapters": {"a": ["text_task", "mine"], "b": ["text_task", None]},
            "config_map": {"mine": old, "text_task": old},
        },
        adapter_fusion_models=["a,b"],
        adapter_fusion="static",
    )
    again = adapterhub.AutoAdapterModel.from_pretrained(tmp_path)
    assert again.adapters_config.get("a").non_linearity == "gelu_new"
    again.set_active_adapters(Fuse("a", "b"))
    assert torch.equal(tiny.run(again, IDS), expected)


def test_what_does_not_fit_is_left_out_aloud(model: Any, tmp_path: Path) -> None:
    peer_checkpoint(model, tmp_path)
    entry = model.adapters_config.to_dict()
    edit(tmp_path, adapters={**entry, "adapters": {**entry["adapters"], "lost": "lora"}})
    with pytest.warns(UserWarning, match="(?s)'lost' in this checkpoint was not.*missing"):
        again = adapterhub.AutoAdapterModel.from_pretrained(tmp_path)
    assert set(again.adapters_config) == set(CONFIGS)
    edit(tmp_path, adapters={"adapters": ["a"]})
    with pytest.warns(UserWarning, match="does not list adapters"):
        again = adapterhub.AutoAdapterModel.from_pretrained(tmp_path)
    assert len(again.adapters_config) == 0
    assert set(again.heads) == {"bn", "tags"}


def test_foreign_entries_stay(tmp_path: Path) -> None:
    """Some configurations have an entry of that name that means something else."""
    tiny.bert().save_pretrained(tmp_path)
    edit(tmp_path, adapters=["a list"])
    model = adapterhub.AutoAdapterModel.from_pretrained(tmp_path)
    assert model.config.adapters == ["a list"]


def test_lists_of_adapters(model: Any) -> None:
    listed = model.adapters_config
    data = json.loads(json.dumps(listed.to_dict()))
    assert data["adapters"]["lora"] == config_hash(listed.get("lora"))
    again = ModelAdaptersConfig.from_dict(data)
    assert again.adapters == listed.adapters
    assert again.fusions == listed.fusions
    assert again.get_fusion(["b2", "b3"])[1] == ["b2", "b3"]  # type: ignore[index]
    assert "lora" in again
    assert len(again) == 6
    fresh = adapterhub.init(tiny.bert(), adapters_config=data)
    assert list(fresh.adapters_config) == list(CONFIGS)
    listed.active_setup = "lora"
    assert model.active_adapters == listed.active_setup
    with pytest.raises(adapterhub.ConfigError, match="no model"):
        again.active_setup  # noqa: B018
    with pytest.raises(CheckpointError, match="does not list"):
        ModelAdaptersConfig.from_dict({"adapters": 3})


def test_recorded_adapters_inside_a_full_checkpoint(shared: Path, tmp_path: Path) -> None:
    """Tensors and configurations that the other library wrote, in one checkpoint with the base model."""
    case = shared / "golden" / "cases" / "roberta__m__mam"
    facts = json.loads((case / "case.json").read_text())
    adapterhub.AutoAdapterModel.from_pretrained(
        shared / "golden" / facts["model"]["dir"]
    ).save_pretrained(tmp_path)
    file, folder = tmp_path / "model.safetensors", case / "adapters" / "a"
    tensors = load_file(file)
    for name in ("pytorch_adapter.bin", "pytorch_model_head.bin"):
        tensors.update(torch.load(folder / name, weights_only=True))
    save_file({k: v.clone() for k, v in tensors.items()}, file, {"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())["config"]
    head = json.loads((folder / "head_config.json").read_text())["config"]
    listed = {"adapters": {"a": "x"}, "config_map": {"x": config}, "fusions": {}}
    edit(tmp_path, adapters=listed, prediction_heads={"a": head})
    model = adapterhub.AutoAdapterModel.from_pretrained(tmp_path, attn_implementation="eager")
    model.set_active_adapters("a")
    with torch.no_grad():
        found = model(**load_file(shared / "golden" / facts["forward"]["inputs"])).logits
    expected = load_file(case / "outputs.safetensors")["logits"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
