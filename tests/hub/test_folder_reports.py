"""Signed evaluation reports in a hub folder: checked, shown, ranked, published, mirrored."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the pages need adapterhub[hub]")
pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.errors import HubError
from adapterhub.hub import Hub
from adapterhub.hub.folderkeys import FolderKey, dumps
from adapterhub.hub.folderreports import keep
from adapterhub.hub.reports import Report, SignedReport, Value
from adapterhub.hub.signing import SigningKey, now
from adapterhub.hub.web import FolderSource, Site
from tests.hub.conftest import LORA, SEQ_BN, make_adapter
from tests.hub.copies.conftest import WebServer

DATA = "ab" * 32


def report(key: SigningKey, folder: Path, repo: str, value: float = 0.9, **changes: Any) -> Any:
    wanted = ("adapter_config.json", "adapter.safetensors")
    made = Report(
        **{
            "repo": repo,
            "files": {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in wanted},
            "base_model": "bert-base-uncased",
            "data_name": "diary.jsonl",
            "data_sha256": DATA,
            "split": "test",
            "examples": 500,
            "results": (Value("accuracy", value, 0.01),),
            "dataset": "mood/diary",
            **changes,
        }
    )
    return SignedReport.make(made, key)


def list_key(hub: Hub, key: SigningKey, account: str = "eva", **more: Any) -> None:
    (hub.path / "keys").mkdir(exist_ok=True)
    place = hub.path / "keys" / f"{account}.yaml"
    place.write_bytes(dumps([FolderKey(key.public, account, **more)]))


def put(hub: Hub, signed: SignedReport) -> str:
    return keep(hub.path, hub.catalogue, signed).path


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate("eva")


@pytest.fixture
def filled(hub: Hub, tmp_path: Path, key: SigningKey) -> Hub:
    for name, config in (("one", LORA), ("two", SEQ_BN)):
        made = make_adapter(tmp_path / name, config=config)
        hub.publish(made, task="mood", subtask="diary", owner="ada", name=name)
    list_key(hub, key)
    return hub


def findings(hub: Hub) -> list[tuple[str, str, str]]:
    return [
        (f.severity, f.code, f.message)
        for f in hub.check()
        if f.where.startswith(("reports/", "keys/"))
    ]


def test_shown_and_ranked(filled: Hub, tmp_path: Path, key: SigningKey) -> None:
    for name, value in (("one", 0.8), ("two", 0.9)):
        put(filled, report(key, tmp_path / name, f"ada/{name}", value))
    older = report(key, tmp_path / "one", "ada/one", 0.99, evaluated=now().replace(year=2020))
    put(filled, older)
    assert findings(filled) == []
    site = Site(FolderSource(filled))
    page = site.answer("adapters/ada/one/").body.decode()
    assert "Measured results" in page
    assert "0.8000" in page
    assert "@eva" in page
    [newest, oldest] = json.loads(site.answer("adapters/ada/one/index.json").body)["measured"]
    assert (newest["value"], newest["signed_by"], newest["current"]) == (0.8, "eva", True)
    assert oldest["value"] == 0.99
    boards = json.loads(site.answer("tasks/text_task/mood/diary/index.json").body)["measured"]
    ranked = [(r["adapter"]["name"], r["value"]) for b in boards for r in b["results"]]
    assert ranked == [("two", 0.9), ("one", 0.8)]  # the newest of each
    assert "Measured and signed" in site.answer("tasks/text_task/mood/").body.decode()
    assert site.answer("people/eva/").status == 200


def test_an_older_version(filled: Hub, tmp_path: Path, key: SigningKey) -> None:
    put(filled, report(key, tmp_path / "one", "ada/one"))
    newer = make_adapter(tmp_path / "newer", config=LORA, weights=(9.0, 9.0))
    filled.publish(newer, task="mood", subtask="diary", owner="ada", name="one", version="2")
    [found] = FolderSource(filled).measured("ada", "one")
    assert (found.version, found.current) == ("1", False)


def test_what_does_not_count_is_refused(filled: Hub, tmp_path: Path, key: SigningKey) -> None:
    stranger = SigningKey.generate()
    one = tmp_path / "one"
    signed = report(key, one, "ada/one")
    forged = SignedReport(report(key, one, "ada/one", 0.95).report, signed.signature)
    for wrong, words in (
        (report(stranger, one, "ada/one"), r"nobody has listed"),
        (report(key, one, "ada/none"), "no adapter @ada/none"),
        (report(key, tmp_path / "two", "ada/one"), "no version of @ada/one"),
        (report(key, one, "ada/one", base_model="gpt2"), "is for bert-base-uncased"),
        (forged, "after it was signed"),
    ):
        with pytest.raises(HubError, match=words):
            put(filled, wrong)
    assert not (filled.path / "reports").exists()


def test_the_check_finds_what_was_put_there_by_hand(
    filled: Hub, tmp_path: Path, key: SigningKey
) -> None:
    place = filled.path / put(filled, report(key, tmp_path / "one", "ada/one"))
    good = place.read_bytes()

    def found(data: bytes, where: Path = place) -> str:
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(data)
        [(severity, _, message)] = findings(filled)
        assert not FolderSource(filled).measured("ada", "one") or where != place
        if where != place:
            where.unlink()
        return f"{severity}: {message}"

    assert "after it was signed" in found(good.replace(b"0.9", b"0.95", 1))
    assert "error: " in found(b"nothing")
    assert "at most" in found(good + b" " * (64 << 10))
    place.write_bytes(good)
    elsewhere = place.parent.parent / "two" / place.name
    assert "belongs to reports/ada/one/" in found(good, elsewhere)
    (filled.path / "keys" / "eva.yaml").unlink()
    assert found(good).startswith("warning: signed by a key that nobody has listed")
    list_key(filled, key, revoked=now())
    assert "was revoked" in found(good)
    list_key(filled, key)
    assert findings(filled) == []
    filled.path.joinpath("adapters/ada/one.yaml").unlink()
    assert "no adapter @ada/one" in found(good)


@pytest.mark.slow
def test_published_and_mirrored(filled: Hub, tmp_path: Path, key: SigningKey) -> None:
    from adapterhub.hub.copies.choose import mirror
    from adapterhub.hub.copies.origin import Filter
    from adapterhub.hub.static import build_site

    paths = [put(filled, report(key, tmp_path / n, f"ada/{n}")) for n in ("one", "two")]
    build_site(filled, tmp_path / "site")  # finds dead links itself
    page = (tmp_path / "site/adapters/ada/one/index.html").read_text()
    assert f"dist/cards/{paths[0]}" in page
    server = WebServer(tmp_path / "site")
    running = server.start()
    try:
        report_, _ = mirror(server.url, tmp_path / "copy")
        assert not report_.refused
        copied = Hub(tmp_path / "copy")
        assert findings(copied) == []
        assert len(FolderSource(copied).measured("ada", "one")) == 1
        again, _ = mirror(server.url, tmp_path / "copy")
        assert not again.changed
        # Of a part, only the reports about what is copied.
        gone = tmp_path / "site/dist/cards" / paths[0]
        mirror(server.url, tmp_path / "part", wanted=Filter(owner="ada", task="mood/diary"))
        assert (tmp_path / "part" / paths[1]).is_file()
        mirror(server.url, tmp_path / "none", wanted=Filter(owner="nobody"))
        assert not list((tmp_path / "none").glob("reports/*/*/*"))
        # What was changed on the way is not written.
        gone.write_bytes(gone.read_bytes().replace(b"0.9", b"0.8", 1))
        report_, _ = mirror(server.url, tmp_path / "third")
        assert list(report_.refused) == [paths[0]]
    finally:
        running.shutdown()
        running.server_close()
