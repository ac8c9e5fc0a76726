"""Several hubs in ``ADAPTERHUB_HUB``: searched and listed together, and one of them may be down."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterhub.errors import HubError
from adapterhub.hub import Hub as Folder
from adapterhub.hub.listing import get_adapter_info, list_adapters
from tests.hub.conftest import LORA, SEQ_BN, make_adapter
from tests.hub.server.conftest import Hub, adapter_files


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Path]]:
    root = tmp_path_factory.mktemp("several")
    server = Hub(root / "data")
    readme = b"---\ntags:\n- adapterhub:mood/diary\n---\n# Mood\n"
    server.published("admin/far", {**adapter_files(), "README.md": readme})
    server.published("admin/gpt", {**adapter_files(model="gpt2"), "README.md": readme})
    folder = Folder.init(root / "folder", name="near-hub")
    for name, config in (("one", LORA), ("two", SEQ_BN)):
        made = make_adapter(root / name, config=config)
        folder.publish(made, task="mood", subtask="diary", owner="ada", name=name, version=name)
    yield server, folder.path
    server.stop()


@pytest.fixture
def down() -> str:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def search(hub: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adapterhub.cli", "search", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "ADAPTERHUB_HUB": hub, "COLUMNS": "100"},
        timeout=120,
    )


def test_search_takes_the_best_of_each_in_turns(hubs: tuple[Hub, Path], down: str) -> None:
    server, folder = hubs
    found = search(f"{folder}, {server.url},hf", "mood", "--json")
    assert found.returncode == 0, found.stderr
    records = json.loads(found.stdout)
    assert [record["owner"] for record in records] == ["ada", "admin", "ada", "admin"]
    assert [record["hub"] for record in records] == [str(folder), server.url] * 2
    first = search(f"{server.url},{folder}", "mood", "--limit", "3")
    assert "4 adapters in 2 hubs, the first 3" in " ".join(first.stdout.split())
    assert first.stdout.count(server.url) == 2
    assert not first.stderr
    # With one hub nothing names it: all rows are from there.
    alone = search(server.url, "mood", "--json")
    assert all("hub" not in record for record in json.loads(alone.stdout))


def test_one_that_is_down_is_a_warning(hubs: tuple[Hub, Path], down: str) -> None:
    server, folder = hubs
    found = search(f"{down},{folder},{folder}-not-there", "mood", "--json")
    assert found.returncode == 0
    assert len(json.loads(found.stdout)) == 2
    lines = found.stderr.strip().split("\n")
    assert [line.startswith("Warning: ") for line in lines] == [True, True]
    assert down in lines[0]
    assert "not-there" in lines[1]
    none = search(f"{down},{folder}-not-there", "mood")
    assert none.returncode == 1
    assert "no hub can be asked" in none.stderr
    assert not none.stdout
    nothing = search(f"{server.url},{folder}", "zebra")
    assert nothing.returncode == 1
    assert server.url in nothing.stderr
    assert "near-hub" in nothing.stderr


def test_listing_in_python(
    hubs: tuple[Hub, Path], down: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, folder = hubs
    monkeypatch.setenv("ADAPTERHUB_HUB", f"{folder},{server.url}")
    found = list_adapters()
    assert [(i.adapter_id, i.hub) for i in found] == [
        ("@ada/one", str(folder)),
        ("@ada/two", str(folder)),
        ("@admin/far", server.url),
        ("@admin/gpt", server.url),
    ]
    assert [info.adapter_id for info in list_adapters(model_name="gpt2")] == ["@admin/gpt"]
    info = get_adapter_info("@admin/far")
    assert info is not None
    assert info.hub == server.url
    assert get_adapter_info("@no/body") is None
    monkeypatch.setenv("ADAPTERHUB_HUB", f"{down},{folder}")
    with pytest.warns(UserWarning, match=down):
        assert len(list_adapters()) == 2
    assert get_adapter_info("@ada/one") is not None
    monkeypatch.setenv("ADAPTERHUB_HUB", down)
    with pytest.raises(HubError, match=down):
        list_adapters()
    monkeypatch.setenv("ADAPTERHUB_HUB", "hf")
    with pytest.raises(HubError, match="not searched from here"):
        list_adapters()
