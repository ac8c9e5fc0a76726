"""Pickled weights become safetensors in a child process, or are refused; a pickle is never stored."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the hub server needs the [hub] extra")

import torch
from safetensors import safe_open

from adapterhub.hub.store.refusals import Unacceptable
from adapterhub.hub.verify.convert import convert, target_of
from tests.hub.server.conftest import Hub, adapter_files

pytestmark = pytest.mark.slow  # each conversion starts a process that imports torch


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_targets() -> None:
    assert target_of("a/pytorch_adapter.bin") == "a/adapter.safetensors"
    assert target_of("adapter_model.bin") == "adapter_model.safetensors"
    assert target_of("training_args.bin") is None


def test_tensors_stay_as_they_are(tmp_path: Path) -> None:
    one = torch.randn(3, 4)
    state = OrderedDict(a=one, view=one[1:], turned=one.t(), half=one.half(), count=torch.tensor(7))
    (tmp_path / "in").write_bytes(saved(state))
    convert(tmp_path / "in", tmp_path / "out", "x.bin")
    with safe_open(tmp_path / "out", "pt") as file:
        assert sorted(file.keys()) == sorted(state)
        for name, value in state.items():
            assert torch.equal(file.get_tensor(name), value)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for data in (pickle.dumps(_Evil(trace)), saved({"a": _Evil(trace)})):
        (tmp_path / "in").write_bytes(data)
        with pytest.raises(Unacceptable, match="is a pickle that could not be converted"):
            convert(tmp_path / "in", tmp_path / "out", "x.bin")
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


def test_tensor_larger_than_its_file(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(saved({"a": torch.zeros(1).expand(1 << 28)}))
    with pytest.raises(Unacceptable, match="larger than the file"):
        convert(tmp_path / "in", tmp_path / "out", "x.bin")


def test_pushed_pickle_is_published_as_safetensors(server: Hub) -> None:
    repo = server.new_name()
    server.create(repo)
    files = adapter_files()
    del files["adapter.safetensors"]
    pickled = saved({"bert.encoder.layer.0.output.adapters.a.w": torch.tensor([0.5, -1.0])})
    made = server.commit(repo, {**files, "pytorch_adapter.bin": pickled})
    assert made.json["status"] == "verified"
    assert "converted to safetensors" in made.headers["x-hf-warning"]
    names = [
        item["rfilename"]
        for item in server.ask("GET", f"/api/models/{repo}", token=None).json["siblings"]
    ]
    assert names == ["adapter.safetensors", "adapter_config.json"]
    stored = [path.read_bytes() for path in (server.data / "blobs").rglob("*") if path.is_file()]
    assert pickled not in stored
    again = server.commit(repo, {**files, "pytorch_adapter.bin": pickled})
    assert again.json["commitOid"] == made.json["commitOid"]
