"""Small adapters to publish, and a hub of their own for each test."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from adapterhub.hub import Hub
from tests.hub.browser import Browser, find_chromium

SEQ_BN = {
    "adapter_residual_before_ln": False,
    "ln_after": False,
    "ln_before": False,
    "mh_adapter": False,
    "non_linearity": "relu",
    "original_ln_after": True,
    "original_ln_before": True,
    "output_adapter": True,
    "reduction_factor": 16,
    "residual_before_ln": True,
}
LORA = {"architecture": "lora", "r": 8, "alpha": 8, "dropout": 0.0, "selfattn_lora": True}


def safetensors_bytes(tensors: Mapping[str, tuple[str, list[int], bytes]]) -> bytes:
    """Write the format by hand, so that the checks are not tested against their own reader."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def make_adapter(
    folder: Path,
    *,
    config: Mapping[str, Any] | None = None,
    model: str = "bert-base-uncased",
    weights: tuple[float, ...] = (0.5, -1.0),
    head: bool = False,
    **extra: bytes,
) -> Path:
    """Write what ``save_adapter`` writes; *extra* are further files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    info = {
        "config": dict(SEQ_BN if config is None else config),
        "hidden_size": 768,
        "model_class": "BertAdapterModel",
        "model_name": model,
        "model_type": "bert",
        "name": "a",
        "version": "adapters.1.3.0",
    }
    (folder / "adapter_config.json").write_text(json.dumps(info, indent=2))
    tensors = {
        "bert.encoder.layer.0.output.adapters.a.w": ("F32", [len(weights)], floats(*weights))
    }
    (folder / "adapter.safetensors").write_bytes(safetensors_bytes(tensors))
    if head:
        head_info = {**info, "config": {"head_type": "classification", "num_labels": 2}}
        (folder / "head_config.json").write_text(json.dumps(head_info))
        (folder / "model_head.safetensors").write_bytes(
            safetensors_bytes({"heads.a.1.weight": ("F32", [1], floats(1.0))})
        )
    for name, data in extra.items():
        (folder / name).write_bytes(data)
    return folder


def snapshot(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with content, folders with ``None``; the lock aside."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if path.name != ".lock"
    }


def find_program(name: str) -> str | None:
    """Return a program on the path, or beside the interpreter, where pip puts it."""
    beside = os.path.dirname(sys.executable)
    return shutil.which(name, path=os.pathsep.join((beside, os.environ.get("PATH", ""))))


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ADAPTERHUB_HUB", raising=False)
    # Made-up weights fit no base model; tests of those checks switch them on.
    monkeypatch.setenv("ADAPTERHUB_CHECKS", "format")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    # Waiting for the disk takes most of the time and shows only in a power cut.
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub.init(tmp_path / "hub", name="test")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Hub]:
    """Return ``prepared(target, name, fill)``: a copy of a hub that ``fill`` filled only once."""
    made: dict[str, Path] = {}

    def copy(target: Path, name: str, fill: Callable[[Hub, Path], None]) -> Hub:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            fill(Hub.init(folder / "hub", name="test"), folder)
            made[name] = folder / "hub"
        shutil.copytree(made[name], target)
        return Hub(target)

    return copy


@pytest.fixture(scope="session")
def chromium() -> str:
    """The command of a Chromium; without one, tests in a browser are left out."""
    command = find_chromium()
    if command is None:
        pytest.skip("no Chromium here (apt-get install chromium, or set ADAPTERHUB_CHROMIUM)")
    return command


@pytest.fixture(scope="module")
def tab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with one tab, for the tests of a file."""
    browser = Browser(chromium, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core: ``ADAPTERHUB_AXE`` names a copy, else npm is asked for one."""
    named = os.environ.get("ADAPTERHUB_AXE")
    if named:
        return Path(named).read_text()
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("no npm to fetch axe-core with (or set ADAPTERHUB_AXE)")
    try:
        subprocess.run(
            ["npm", "pack", "axe-core@4"], cwd=folder, check=True, capture_output=True, timeout=60
        )
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"axe-core cannot be fetched: {error}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()
