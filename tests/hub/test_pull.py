from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from adapterhub.errors import HubError
from adapterhub.hub import Entry, Hub, cache_folder, cardfile
from adapterhub.hub.cards import Member, manifest_sha256
from adapterhub.hub.storage import blob_path
from tests.hub.conftest import make_adapter, snapshot

ARGS = {"task": "sentiment", "subtask": "sst-2", "owner": "ada"}


@pytest.fixture
def entry(hub: Hub, adapter: Path) -> Entry:
    (adapter / "sub").mkdir()
    (adapter / "sub" / "notes.txt").write_text("x")
    return hub.publish(adapter, **ARGS)


def test_pulled_folder_is_the_published_one(hub: Hub, adapter: Path, entry: Entry) -> None:
    folder = hub.pull("sentiment/sst-2")
    assert snapshot(folder) == snapshot(adapter)
    assert cache_folder() in folder.parents
    assert hub.pull(entry.identifier) == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_into_a_folder_of_the_user(hub: Hub, adapter: Path, entry: Entry, tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep"
    assert hub.pull(entry.identifier, target) == target
    assert snapshot(target) == snapshot(adapter)
    assert hub.pull(entry.identifier, str(target)) == target
    empty = tmp_path / "empty"
    empty.mkdir()
    hub.pull(entry.identifier, empty)
    assert snapshot(empty) == snapshot(adapter)
    (target / "mine.txt").write_text("keep")
    with pytest.raises(HubError, match="holds something else"):
        hub.pull(entry.identifier, target)
    assert (target / "mine.txt").read_text() == "keep"
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(HubError, match="is a file"):
        hub.pull(entry.identifier, file)


def test_versions_have_folders_of_their_own(hub: Hub, adapter: Path, entry: Entry) -> None:
    hub.publish(make_adapter(adapter.parent / "b", weights=(9.0,)), **ARGS, version="2")
    assert hub.pull("sst-2") != hub.pull("sst-2", version="1")
    assert snapshot(hub.pull("sst-2", version="1")) == snapshot(adapter)


def test_edited_cache_is_replaced(hub: Hub, adapter: Path, entry: Entry) -> None:
    folder = hub.pull(entry.identifier)
    (folder / "adapter.safetensors").write_bytes(b"edited")
    (folder / "extra").write_text("x")
    assert hub.pull(entry.identifier) == folder
    assert snapshot(folder) == snapshot(adapter)


@pytest.mark.parametrize("same_size", [True, False])
def test_damaged_blob_is_never_delivered(hub: Hub, entry: Entry, same_size: bool) -> None:
    member = entry.version.members[0]
    blob = blob_path(hub.path, member.sha256)
    data = bytearray(blob.read_bytes())
    data[0] ^= 1
    blob.write_bytes(data if same_size else data + b"x")
    with pytest.raises(HubError, match="is damaged in the hub"):
        hub.pull(entry.identifier)
    assert list((cache_folder() / "adapters").iterdir()) == []


def test_missing_blob(hub: Hub, entry: Entry) -> None:
    blob_path(hub.path, entry.version.members[0].sha256).unlink()
    with pytest.raises(HubError, match=r"missing from the hub.*hub check"):
        hub.pull(entry.identifier)


def rewrite(hub: Hub, entry: Entry, members: list[Member], sha256: str | None = None) -> None:
    path = hub.path / entry.card.path
    card = cardfile.load(path)
    card["files"][0]["members"] = [member.to_json() for member in members]
    card["files"][0]["sha256"] = sha256 or manifest_sha256(members)
    path.write_bytes(cardfile.dumps(card))


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "a/../../evil", "C:evil"])
def test_card_cannot_write_outside(hub: Hub, entry: Entry, tmp_path: Path, name: str) -> None:
    good = entry.version.members[0]
    rewrite(hub, entry, [Member(name, good.size, good.sha256)])
    before = snapshot(tmp_path / "hub")
    with pytest.raises(HubError, match="cannot be trusted"):
        hub.pull(entry.identifier, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert snapshot(tmp_path / "hub") == before
    assert not list(tmp_path.rglob("*evil*"))


def test_card_cannot_name_files_outside_the_store(hub: Hub, entry: Entry) -> None:
    rewrite(hub, entry, [Member("x.json", 1, "../../../../etc/hostname")])
    with pytest.raises(HubError, match="not a SHA-256"):
        hub.pull(entry.identifier)


def test_list_of_files_must_match_its_hash(hub: Hub, entry: Entry) -> None:
    rewrite(hub, entry, list(entry.version.members[1:]), entry.version.sha256)
    with pytest.raises(HubError, match="does not match its sha256"):
        hub.pull(entry.identifier)
    twice = [*entry.version.members, entry.version.members[0]]
    rewrite(hub, entry, twice)
    with pytest.raises(HubError, match="listed twice"):
        hub.pull(entry.identifier)


def test_full_disk_leaves_no_half_folder(hub: Hub, entry: Entry, monkeypatch) -> None:
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HubError, match=r"could not be pulled.*No space left"):
        hub.pull(entry.identifier)
    assert list((cache_folder() / "adapters").iterdir()) == []


def _pull(hub: str, identifier: str, barrier, results) -> None:
    barrier.wait()
    results.put(str(Hub(hub).pull(identifier)))


def test_processes_may_pull_at_once(hub: Hub, adapter: Path, entry: Entry) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.SimpleQueue()
    arguments = (str(hub.path), entry.identifier, barrier, results)
    workers = [context.Process(target=_pull, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    (folder,) = {results.get() for _ in workers}
    assert snapshot(Path(folder)) == snapshot(adapter)
    assert len(list(Path(folder).parent.iterdir())) == 1


def test_no_network_is_touched(hub: Hub, entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_, **__):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    assert hub.pull(entry.identifier).is_dir()


def test_files_elsewhere_without_a_checksum_are_said_to_be(hub: Hub, entry: Entry) -> None:
    path = hub.path / entry.card.path
    card = cardfile.load(path)
    card["files"].append({"version": "old", "url": "https://example.org/a.zip"})
    path.write_bytes(cardfile.dumps(card))
    with pytest.raises(HubError, match=r"not in this hub.*https://example.org/a.zip"):
        hub.pull(entry.identifier, version="old")
