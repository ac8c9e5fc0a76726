from __future__ import annotations

from pathlib import Path

import pytest

from adapterhub.hub import Entry, Hub, cardfile
from adapterhub.hub.storage import blob_path
from tests.hub.conftest import LORA, make_adapter

ARGS = {"task": "sentiment", "subtask": "sst-2", "owner": "ada"}


@pytest.fixture
def entry(hub: Hub, adapter: Path) -> Entry:
    return hub.publish(adapter, **ARGS, license="MIT")


def codes(hub: Hub, severity: str, **options: bool) -> set[str]:
    return {f.code for f in hub.check(**options) if f.severity == severity}


def edit(hub: Hub, entry: Entry, **changes: object) -> None:
    path = hub.path / entry.card.path
    path.write_bytes(cardfile.dumps({**cardfile.load(path), **changes}))


def test_a_good_hub_has_no_findings(hub: Hub, entry: Entry) -> None:
    assert hub.check() == []


@pytest.mark.parametrize(
    ("changes", "severity", "code"),
    [
        ({"task": "other"}, "warning", "unknown-task"),
        ({"subtask": "other"}, "warning", "unknown-subtask"),
        ({"config": {"using": "nothing"}}, "error", "unknown-architecture"),
        ({"default_version": "7"}, "error", "unknown-version"),
        ({"dependencies": [{"key": "@ada/nothing"}]}, "warning", "dependency"),
        ({"dependencies": [{"key": "sentiment/sst-2@ada"}]}, "note", "dependency"),
        ({"license": "whatever"}, "warning", "license"),
        ({"license": None}, "note", "no-license"),
        ({"surprise": 1}, "error", "schema"),
        ({"email": 5}, "error", "schema"),
        ({"files": []}, "error", "unusable"),
        ({"model_name": None}, "error", "unusable"),
        ({"url": "ftp://x"}, "error", "schema"),
        ({"github": "https://github.com/ada/"}, "note", "repaired"),
        ({"twitter": ""}, "note", "repaired"),
    ],
)
def test_cards(hub: Hub, entry: Entry, changes: dict, severity: str, code: str) -> None:
    edit(hub, entry, **changes)
    assert code in codes(hub, severity)


def test_known_dependencies_in_any_spelling(hub: Hub, entry: Entry, tmp_path: Path) -> None:
    other = hub.publish(make_adapter(tmp_path / "b", config=LORA), **ARGS, license="MIT")
    for key in (entry.identifier, entry.identifier[1:]):
        edit(hub, other, dependencies=[{"key": key}])
        assert hub.check() == []


def test_stored_files(hub: Hub, entry: Entry) -> None:
    first, second = entry.version.members
    blob = blob_path(hub.path, first.sha256)
    data = blob.read_bytes()
    blob.write_bytes(b"X" + data[1:])
    assert codes(hub, "error") == {"checksum"}
    assert codes(hub, "error", files=False) == set()
    blob.write_bytes(data + b"X")
    assert codes(hub, "error", files=False) == {"checksum"}
    blob.write_bytes(data)
    blob_path(hub.path, second.sha256).rename(blob.with_name("a" * 64))
    assert codes(hub, "error") == {"missing-file"}
    assert "unused-file" in codes(hub, "note")


def test_claims_about_files(hub: Hub, entry: Entry) -> None:
    card = cardfile.load(hub.path / entry.card.path)
    version = {**card["files"][0], "sha256": "0" * 64}
    edit(hub, entry, files=[version, version])
    assert codes(hub, "error") == {"manifest", "duplicate-version"}
    member = {**version["members"][0], "path": "../x"}
    edit(hub, entry, files=[{**version, "members": [member]}])
    assert "member-name" in codes(hub, "error")


def test_twins_and_duplicates(hub: Hub, entry: Entry) -> None:
    path = hub.path / entry.card.path
    path.with_name("copy.yaml").write_bytes(path.read_bytes())
    assert codes(hub, "warning") == {"twin"}
    path.with_suffix(".yml").write_bytes(path.read_bytes())
    assert codes(hub, "error") == {"duplicate"}


def test_file_names_and_odd_ids(hub: Hub) -> None:
    folder = hub.path / "tasks" / "text_task"
    folder.mkdir()
    (folder / "x.yml").write_text("task: 'x\"'\ndisplayname: X\n")
    assert codes(hub, "warning") == {"file-name", "odd-identifier"}
    (hub.path / "subtasks" / "text_task").mkdir()
    (hub.path / "subtasks" / "text_task" / "a_b.yaml").write_text("task: a\nsubtask: b\n")
    assert codes(hub, "warning") == {"file-name", "odd-identifier", "unknown-task"}


def test_worst_first(hub: Hub, entry: Entry) -> None:
    edit(hub, entry, default_version="7", license="whatever", twitter="")
    order = [finding.severity for finding in hub.check()]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    assert len(set(order)) == 3


def test_leftovers_of_a_kill_are_noted(hub: Hub) -> None:
    (hub.path / ".staging").mkdir()
    assert codes(hub, "note") == {"staging"}
