"""What strangers write, and disks that fill up: one clear error, and nothing has changed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapterhub
from adapterhub.errors import AdapterHubError, CheckpointError, ConfigError
from tests import tiny


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = adapterhub.init(tiny.bert())
    model.add_adapter("a", config="lora[r=4]|seq_bn[reduction_factor=8]")
    tiny.randomize(model, "a")
    model.save_adapter(tmp_path / "a", "a")
    return tmp_path / "a"


class Unchanged:
    """Asserts that a model answers, and is built, as before."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.ids = tiny.tokens()
        self.keys = list(model.state_dict())
        self.adapters = list(model.adapter_handle.adapters)
        self.output = tiny.run(model, self.ids)

    def check(self) -> None:
        assert list(self.model.state_dict()) == self.keys
        assert list(self.model.adapter_handle.adapters) == self.adapters
        assert torch.equal(tiny.run(self.model, self.ids), self.output)


@pytest.fixture
def model() -> Any:
    made = adapterhub.init(tiny.bert())
    made.add_adapter("old", config="seq_bn")
    tiny.randomize(made, "old")
    made.set_active_adapters("old")
    return made


def refused(model: Any, folder: Path, *words: str, **options: Any) -> None:
    before = Unchanged(model)
    with pytest.raises(AdapterHubError) as caught:
        model.load_adapter(folder, **options)
    for word in words:
        assert word in str(caught.value)
    before.check()


def test_truncated_weights(model: Any, saved: Path) -> None:
    weights = saved / "adapter.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(model, saved, str(weights), "damaged")


def test_header_that_lies(model: Any, saved: Path) -> None:
    weights = saved / "adapter.safetensors"
    weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])
    refused(model, saved, "damaged")


def test_unknown_field_names_it_and_its_neighbour(model: Any, saved: Path) -> None:
    path = saved / "adapter_config.json"
    facts = json.loads(path.read_text())
    facts["config"]["configs"][0]["rankk"] = 3
    facts["config"]["configs"][0]["alpah"] = 3
    path.write_text(json.dumps(facts))
    refused(model, saved, "'rankk'", "'alpah'", "'alpha'")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"config": 3}', '{"config": {"architecture": "x"}}']
)
def test_malformed_configuration(model: Any, saved: Path, text: str) -> None:
    (saved / "adapter_config.json").write_text(text)
    refused(model, saved)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/adapterhub-was-here",))


def test_pickle_with_code_is_not_run(model: Any, saved: Path, tmp_path: Path) -> None:
    marker = Path("/tmp/adapterhub-was-here")
    marker.unlink(missing_ok=True)
    (saved / "adapter.safetensors").unlink()
    evil = saved / "pytorch_adapter.bin"
    for content in (
        pickle.dumps(_Evil(), protocol=2),
        _as_torch_archive(pickle.dumps({"a": _Evil()}, protocol=2)),
    ):
        evil.write_bytes(content)
        refused(model, saved, "pytorch_adapter.bin")
        assert not marker.exists()


def _as_torch_archive(payload: bytes) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


def test_pickle_of_something_else_than_tensors(model: Any, saved: Path) -> None:
    (saved / "adapter.safetensors").unlink()
    torch.save({"a": [1, 2]}, saved / "pytorch_adapter.bin")
    refused(model, saved, "tensors")


def test_other_architecture(model: Any, tmp_path: Path) -> None:
    other = adapterhub.init(tiny.gpt2())
    other.add_adapter("g", config="lora")
    other.save_adapter(tmp_path / "g", "g")
    refused(model, tmp_path / "g", "gpt2", "bert")


def test_other_width(model: Any, tmp_path: Path) -> None:
    other = adapterhub.init(tiny.bert(hidden_size=16))
    other.add_adapter("w")
    other.save_adapter(tmp_path / "w", "w")
    refused(model, tmp_path / "w", "16", "32")


def test_all_problems_of_the_tensors_at_once(model: Any, saved: Path) -> None:
    path = saved / "adapter.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    del tensors[names[0]]
    tensors[names[1]] = torch.zeros(3, 3)
    tensors["encoder.layer.9.surprise"] = torch.zeros(1)
    save_file(tensors, path)
    refused(
        model,
        saved,
        "missing",
        names[0],
        "[3, 3]",
        names[1],
        "encoder.layer.9.surprise",
        "3 tensors",
    )


def test_more_layers_than_the_model_has(model: Any, tmp_path: Path) -> None:
    other = adapterhub.init(tiny.bert(num_hidden_layers=3))
    other.add_adapter("deep")
    other.save_adapter(tmp_path / "deep", "deep")
    refused(model, tmp_path / "deep", "unexpected", "encoder.layer.2")


@pytest.mark.parametrize("name", ["a.b", "", "a/../../b", "x\x00y", 3, None, "../up"])
def test_bad_names(model: Any, name: Any) -> None:
    before = Unchanged(model)
    with pytest.raises(ConfigError, match="name"):
        model.add_adapter(name)
    before.check()


def test_stored_name_that_climbs_out(model: Any, saved: Path) -> None:
    path = saved / "adapter_config.json"
    facts = json.loads(path.read_text())
    facts["name"] = "a/../../b"
    path.write_text(json.dumps(facts))
    refused(model, saved, "name")


def test_folder_without_adapter(model: Any, tmp_path: Path) -> None:
    refused(model, tmp_path, "adapter_config.json")
    with pytest.raises(AdapterHubError, match="no-such-folder"):
        model.load_adapter(tmp_path / "no-such-folder")


def test_failed_add_leaves_nothing(model: Any) -> None:
    before = Unchanged(model)
    for bad in (
        "lora[r=0]",
        "nonsense",
        "compacter[phm_dim=7]",
        "vera|dvora",
        "seq_bn[reduction_factor={'0': 2}]",
    ):
        with pytest.raises(AdapterHubError):
            model.add_adapter("new", config=bad)
        before.check()


def _fail_with(code: int) -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    "where", ["adapterhub.checkpoints.files.save_file", "os.fsync", "os.rename"]
)
def test_full_disk_while_saving(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    model.save_adapter(tmp_path / "old", "old")
    old = {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()}
    tiny.randomize(model, "old", std=0.5)
    before = Unchanged(model)
    monkeypatch.setattr(where, _fail_with(errno.ENOSPC))
    monkeypatch.setattr("adapterhub.checkpoints.atomic._exchange", lambda one, other: False)
    if where == "os.fsync":
        monkeypatch.setattr("adapterhub.checkpoints.atomic._sync", _fail_with(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        model.save_adapter(tmp_path / "old", "old")
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()} == old
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    before.check()


def test_saving_into_a_file(model: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file"):
        model.save_adapter(tmp_path / "f", "old")
    assert (tmp_path / "f").read_text() == "mine"
