"""Copying a hub: whole, in part, again, after a cut, and from sources that cannot be trusted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterhub.errors import HubError
from adapterhub.hub import Hub, cardfile
from adapterhub.hub.copies.choose import mirror
from adapterhub.hub.copies.origin import Filter
from adapterhub.hub.copies.run import Limits
from adapterhub.hub.static import build_site
from adapterhub.hub.storage import blob_path
from tests.hub.conftest import make_adapter
from tests.hub.copies.conftest import WebServer, send

CARD = "adapters/ada/nli-b.yaml"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


def contents(hub: Hub) -> dict[str, bytes]:
    """Cards and blobs of a folder hub."""
    folders = ("tasks", "subtasks", "architectures", "adapters", "blobs")
    return {
        path.relative_to(hub.path).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted((hub.path / folder).rglob("*"))
        if path.is_file()
    }


def test_a_mirror_is_the_hub_and_the_second_run_does_nothing(
    site: WebServer, filled: Hub, tmp_path: Path
) -> None:
    report, _ = mirror(site.url, tmp_path / "m")
    copied = Hub(tmp_path / "m")
    assert contents(copied) == contents(filled)
    assert not [f for f in copied.check() if f.severity == "error"]
    assert len(report.added) == 7
    assert not report.refused
    assert copied.pull("@ada/sentiment-a").is_dir()
    site.asked.clear()
    before = {path: path.stat().st_mtime_ns for path in copied.path.rglob("*.yaml")}
    report, _ = mirror(site.url, tmp_path / "m")
    assert (report.changed, report.same, report.files, report.bytes) == (False, 7, 0, 0)
    assert set(site.paths()) == {"dist/index.json", "dist/index.sig"}
    assert before == {path: path.stat().st_mtime_ns for path in copied.path.rglob("*.yaml")}


def test_a_new_version_brings_only_what_is_new(
    site: WebServer, filled: Hub, tmp_path: Path
) -> None:
    mirror(site.url, tmp_path / "m")
    made = make_adapter(tmp_path / "x", weights=(9.0,))
    filled.publish(
        made, task="nli", subtask="mnli", owner="ada", name="nli-b", version="2", license="MIT"
    )
    build_site(filled, site.root)
    site.asked.clear()
    report, _ = mirror(site.url, tmp_path / "m")
    assert report.updated == [CARD]
    assert report.files == 1  # the configuration is the same
    assert contents(Hub(tmp_path / "m")) == contents(filled)


def test_what_is_gone_stays_until_pruned(site: WebServer, filled: Hub, tmp_path: Path) -> None:
    mirror(site.url, tmp_path / "m")
    (filled.path / CARD).unlink()
    build_site(filled, site.root)
    report, _ = mirror(site.url, tmp_path / "m")
    assert report.gone == [CARD]
    assert (tmp_path / "m" / CARD).is_file()
    report, _ = mirror(site.url, tmp_path / "m", prune=True)
    assert report.removed == [CARD]
    assert report.blobs_removed == 1  # its weights; the configuration is shared
    assert [entry.identifier for entry in Hub(tmp_path / "m").catalogue.entries] == [
        "@ada/sentiment-a",
        "@bob/nli-c",
    ]
    assert not [f for f in Hub(tmp_path / "m").check() if f.severity == "error"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(task="nli"), ["@ada/nli-b", "@bob/nli-c"]),
        (Filter(task="sentiment/sst-2"), ["@ada/sentiment-a"]),
        (Filter(owner="bob"), ["@bob/nli-c"]),
        (Filter(model="bert-base-uncased", owner="ADA", task="nli"), ["@ada/nli-b"]),
        (Filter(since="2000-01-01"), ["@ada/nli-b", "@ada/sentiment-a", "@bob/nli-c"]),
        (Filter(since="2999-01-01"), []),
        (Filter(model="gpt2"), []),
    ],
)
def test_a_part(site: WebServer, tmp_path: Path, wanted: Filter, found: list[str]) -> None:
    mirror(site.url, tmp_path / "m", wanted=wanted)
    copied = Hub(tmp_path / "m")
    assert [entry.identifier for entry in copied.catalogue.entries] == found
    assert {task for _, task in copied.catalogue.tasks} == {
        e.card.task for e in copied.catalogue.entries
    }
    assert not [f for f in copied.check() if f.severity in ("error", "warning")]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    site: WebServer, filled: Hub, tmp_path: Path
) -> None:
    site.cut = 5000
    report, _ = mirror(site.url, tmp_path / "m", jobs=1)
    assert not report.refused
    assert contents(Hub(tmp_path / "m")) == contents(filled)
    ranges = [headers["range"] for _, headers in site.asked if "range" in headers]
    assert ranges == ["bytes=5000-"]


def test_a_killed_run_goes_on_in_the_middle_of_a_file(
    site: WebServer, filled: Hub, tmp_path: Path
) -> None:
    def stop(handler: Any, path: str) -> bool:
        if "nli-b" not in path or not path.endswith(".safetensors"):
            return False
        if "Range" in handler.headers:
            return False
        data = (site.root / path).read_bytes()
        send(handler, 200, data[:7000], length=len(data))
        handler.connection.close()
        raise ConnectionAbortedError

    class Killed(BaseException):
        pass

    def sleep(_: float) -> None:
        raise Killed

    site.trick = stop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", sleep)
        with pytest.raises(Killed):
            mirror(site.url, tmp_path / "m", jobs=1)
    half = Hub(tmp_path / "m")
    assert "@ada/nli-b" not in [entry.identifier for entry in half.catalogue.entries]
    assert not [f for f in half.check() if f.severity == "error"]
    site.asked.clear()
    mirror(site.url, tmp_path / "m", jobs=1)
    assert [h["range"] for _, h in site.asked if "range" in h] == ["bytes=7000-"]
    assert contents(Hub(tmp_path / "m")) == contents(filled)


def test_a_damaged_file_is_refused_and_the_others_come(
    site: WebServer, filled: Hub, tmp_path: Path
) -> None:
    target = next((site.root / "adapters/ada/nli-b").rglob("adapter.safetensors"))
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    report, _ = mirror(site.url, tmp_path / "m")
    assert list(report.refused) == [CARD]
    assert "SHA-256" in report.refused[CARD]
    copied = Hub(tmp_path / "m")
    assert len(copied.catalogue.entries) == 2
    assert not [f for f in copied.check() if f.severity == "error"]
    assert not list((tmp_path / "m/.mirror/parts").iterdir())  # nothing of it is kept
    data[-1] ^= 1
    target.write_bytes(data)
    report, _ = mirror(site.url, tmp_path / "m")
    assert report.added == [CARD]


def test_a_card_that_is_not_the_one_of_the_index_is_refused(
    site: WebServer, tmp_path: Path
) -> None:
    card = site.root / "dist/cards" / CARD
    card.write_bytes(card.read_bytes().replace(b"MIT", b"BSD"))
    report, _ = mirror(site.url, tmp_path / "m")
    assert list(report.refused) == [CARD]
    assert "the index lists" in report.refused[CARD]


def test_a_file_damaged_here_is_found_and_mended(
    site: WebServer, filled: Hub, tmp_path: Path
) -> None:
    mirror(site.url, tmp_path / "m")
    members = filled.resolve("@ada/nli-b").version.members
    blob = blob_path(tmp_path / "m", members[0].sha256)
    blob.write_bytes(b"x" * members[0].size)
    report, _ = mirror(site.url, tmp_path / "m")
    assert not report.changed  # only --verify reads everything
    report, _ = mirror(site.url, tmp_path / "m", verify=True)
    assert report.files == 1
    assert contents(Hub(tmp_path / "m")) == contents(filled)


def lie(site: WebServer, change: Callable[[dict[str, Any]], None], path: str = CARD) -> None:
    """Publish another card than the hub has, with an index that agrees."""
    file = site.root / "dist/cards" / path
    card = cardfile.load(file)
    change(card)
    data = cardfile.dumps(card)
    file.write_bytes(data)
    index = json.loads((site.root / "dist/index.json").read_bytes())
    index["cards"][path]["sha256"] = hashlib.sha256(data).hexdigest()
    (site.root / "dist/index.json").write_text(json.dumps(index))


def _member(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(card: dict[str, Any]) -> None:
        card["files"][0]["members"][0][key] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _member("path", "../../../escaped"),
        _member("path", "/etc/escaped"),
        _member("path", "a\\..\\escaped"),
        _member("path", ".git/config"),
        _member("sha256", "../../../../escaped"),
        _member("sha256", "0" * 63),
        _member("size", -1),
        _member("size", "many"),
        lambda card: card.update(unknown="key"),
        lambda card: card["files"][0].update(sha256="0" * 64),
        lambda card: card.update(files="none"),
    ],
    ids=range(11),
)
def test_hostile_cards(
    site: WebServer, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    lie(site, change)
    report, _ = mirror(site.url, tmp_path / "m")
    assert list(report.refused) == [CARD]
    assert not (tmp_path / "m" / CARD).exists()
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    "path",
    [
        "adapters/../../escaped.yaml",
        "../escaped.yaml",
        "/etc/escaped.yaml",
        "adapters/a/b/escaped.yaml",
        "blobs/escaped.yaml",
        ".github/workflows/escaped.yaml",
        "adapters/.git/escaped.yaml",
        "adapters/a/escaped.sh",
        "adapters/con/escaped.yaml",
        "hub.yaml",
        "adapters/a/\x1b[31mescaped.yaml",
    ],
)
def test_hostile_paths_in_the_index(site: WebServer, tmp_path: Path, path: str) -> None:
    index = json.loads((site.root / "dist/index.json").read_bytes())
    index["cards"][path] = index["cards"][CARD]
    (site.root / "dist/index.json").write_text(json.dumps(index))
    before = set(tmp_path.rglob("*"))
    report, _ = mirror(site.url, tmp_path / "m")
    assert len(report.refused) == 1
    new = {p for p in set(tmp_path.rglob("*")) - before if tmp_path / "m" not in (p, *p.parents)}
    assert not new
    assert not any("\x1b" in name for name in report.refused)
    assert len(Hub(tmp_path / "m").catalogue.entries) == 3


def test_cards_that_differ_only_in_case(site: WebServer, tmp_path: Path) -> None:
    other = "adapters/ADA/nli-b.yaml"
    index = json.loads((site.root / "dist/index.json").read_bytes())
    index["cards"][other] = index["cards"][CARD]
    (site.root / "dist/index.json").write_text(json.dumps(index))
    copy = site.root / "dist/cards" / other
    copy.parent.mkdir(parents=True)
    copy.write_bytes((site.root / "dist/cards" / CARD).read_bytes())
    shutil.copytree(site.root / "adapters/ada", site.root / "adapters/ADA")
    report, _ = mirror(site.url, tmp_path / "m")
    assert list(report.refused.values()) == [f"differs only in case from {other}"]
    assert len(Hub(tmp_path / "m").catalogue.entries) == 3


def test_a_pickle_never_becomes_part_of_a_mirror(site: WebServer, tmp_path: Path) -> None:
    import pickle

    evil = pickle.dumps({"x": 1})
    digest = hashlib.sha256(evil).hexdigest()
    target = next((site.root / "adapters/ada/nli-b").rglob("adapter.safetensors"))
    target.write_bytes(evil)

    def change(card: dict[str, Any]) -> None:
        members = card["files"][0]["members"]
        for member in members:
            if member["path"] == "adapter.safetensors":
                member.update(size=len(evil), sha256=digest)
        lines = "".join(
            f"{m['sha256']}  {m['path']}\n" for m in sorted(members, key=lambda m: m["path"])
        )
        card["files"][0]["sha256"] = hashlib.sha256(lines.encode()).hexdigest()

    lie(site, change)
    report, _ = mirror(site.url, tmp_path / "m")
    assert "is refused" in report.refused[CARD]
    assert not blob_path(tmp_path / "m", digest).exists()


def test_more_bytes_than_announced(site: WebServer, tmp_path: Path) -> None:
    def endless(handler: Any, path: str) -> bool:
        if not path.endswith("adapter.safetensors") or "nli-b" not in path:
            return False
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        try:
            for _ in range(1000):
                handler.wfile.write(b"x" * 100_000)
        except OSError:
            pass
        return True

    site.trick = endless
    report, _ = mirror(site.url, tmp_path / "m")
    assert "more than" in report.refused[CARD]
    assert report.bytes < 10_000_000


def test_limits_of_size(site: WebServer, tmp_path: Path) -> None:
    report, _ = mirror(site.url, tmp_path / "m", limits=Limits(file=10_000))
    assert list(report.refused) == [CARD]
    assert "--max-file" in report.refused[CARD]
    report, _ = mirror(site.url, tmp_path / "n", limits=Limits(total=10_000), jobs=1)
    assert "--max-total" in report.refused[CARD]
    assert len(Hub(tmp_path / "n").catalogue.entries) == 2


def test_an_index_that_is_too_large(
    site: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterhub.hub.copies.index.MAX_INDEX", 500)
    with pytest.raises(HubError, match="more than 500 bytes"):
        mirror(site.url, tmp_path / "m")


def test_a_source_that_fails_for_good_is_not_asked_for_ever(
    site: WebServer, tmp_path: Path
) -> None:
    def broken(handler: Any, path: str) -> bool:
        if path.startswith("dist/index"):
            return False
        send(handler, 503, b"")
        return True

    site.trick = broken
    monkey = pytest.MonkeyPatch()
    monkey.setattr("adapterhub.hub.copies.run._GIVE_UP", 3)
    try:
        with pytest.raises(HubError, match="fails again and again"):
            mirror(site.url, tmp_path / "m", jobs=1)
    finally:
        monkey.undo()
    site.trick = None
    assert not mirror(site.url, tmp_path / "m")[0].refused


def test_an_empty_answer_does_not_empty_the_mirror(site: WebServer, tmp_path: Path) -> None:
    mirror(site.url, tmp_path / "m")
    index = json.loads((site.root / "dist/index.json").read_bytes())
    (site.root / "dist/index.json").write_text(json.dumps({**index, "cards": {}}))
    with pytest.raises(HubError, match="not believed"):
        mirror(site.url, tmp_path / "m", prune=True)
    assert len(Hub(tmp_path / "m").catalogue.entries) == 3


def test_a_folder_of_something_else_is_left_alone(
    site: WebServer, filled: Hub, tmp_path: Path
) -> None:
    with pytest.raises(HubError, match="--adopt"):
        mirror(site.url, filled.path)
    (tmp_path / "text").write_text("x")
    with pytest.raises(HubError, match="is a file"):
        mirror(site.url, tmp_path / "text")
    mirror(site.url, tmp_path / "m")
    with pytest.raises(HubError, match="is a copy of"):
        mirror(site.url.replace("127.0.0.1", "localhost"), tmp_path / "m")
    report, _ = mirror(site.url, filled.path, adopt=True)  # the same cards: nothing to do
    assert not report.changed
    assert report.files == 0


def test_a_full_disk_leaves_a_whole_hub(
    site: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.replace, [0]

    def full(source: Any, target: Any) -> None:
        if "blobs" in str(target):
            count[0] += 1
            if count[0] > 2:
                raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(HubError, match="No space left"):
        mirror(site.url, tmp_path / "m", jobs=1)
    monkeypatch.setattr(os, "replace", real)
    assert not [f for f in Hub(tmp_path / "m").check() if f.severity == "error"]
    assert not mirror(site.url, tmp_path / "m")[0].refused
