"""Fetching and reading the data archive."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapterhub.training import archive
from adapterhub.training.archive import DataError, cache_folder, fetch_archive, read_domain


def make_archive(path: Path, texts: dict[str, bytes]) -> None:
    """Write an archive of the real one's form."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for domain, content in texts.items():
            info = tarfile.TarInfo(archive._MEMBERS[domain])
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(archive._INNER)
        info.size = len(inner.getvalue())
        tar.addfile(info, io.BytesIO(inner.getvalue()))


def test_reads_one_domain_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    make_archive(path, {"movies": "1\t2.0\tcafé\r\n".encode(), "tweets": b"1\t-2.0\tno\r\n"})
    assert read_domain(path, "movies") == "1\t2.0\tcafé\r\n"
    assert read_domain(path, "tweets").endswith("no\r\n")
    assert list(tmp_path.iterdir()) == [path], "nothing is unpacked to disk"


@pytest.mark.parametrize("damage", ["truncated", "no member", "latin-1"])
def test_a_damaged_archive_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.tar.gz"
    make_archive(path, {"movies": b"1\t2.0\tcaf\xe9\n" if damage == "latin-1" else b"1\t2.0\tx\n"})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not the expected archive"):
        read_domain(path, "tweets" if damage == "no member" else "movies")


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ADAPTERHUB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "adapterhub"


def fake_pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> list[list[str]]:
    """Let 'pip download' write *content*, or fail."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        calls.append(command)
        if content is None:
            return SimpleNamespace(returncode=1, stderr="ERROR: no route to index")
        folder = Path(command[command.index("--dest") + 1])
        (folder / archive.FILE_NAME).write_bytes(content)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_fetches_once_and_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "SHA256", hashlib.sha256(b"content").hexdigest())
    calls = fake_pip(monkeypatch, b"content")
    path = fetch_archive(tmp_path / "cache")
    assert path.read_bytes() == b"content"
    assert "--require-hashes" in calls[0]
    assert fetch_archive(tmp_path / "cache") == path
    assert len(calls) == 1
    path.write_bytes(b"somebody's editor was here")
    assert fetch_archive(tmp_path / "cache").read_bytes() == b"content"
    assert [item.name for item in path.parent.iterdir()] == [archive.FILE_NAME]


def test_a_wrong_checksum_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_pip(monkeypatch, b"something else")
    with pytest.raises(DataError, match="thrown away"):
        fetch_archive(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_an_index_the_error_shows_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = fake_pip(monkeypatch, None)
    with pytest.raises(DataError, match="no route to index") as caught:
        fetch_archive(tmp_path)
    assert str(tmp_path / archive.FILE_NAME) in str(caught.value)
    assert len(calls) == 2, "with and without build isolation"


@pytest.mark.slow
def test_the_real_archive(tmp_path: Path) -> None:
    """Needs a package index."""
    from adapterhub.training.tasks import DOMAINS, load_task

    sizes = {}
    for name in DOMAINS:
        task = load_task(name, cache=tmp_path)
        sizes[name] = len(task.train), len(task.validation), len(task.test)
        texts = [*task.train.texts, *task.validation.texts, *task.test.texts]
        assert len(set(texts)) == len(texts)
        assert not any("&amp;" in text or "\t" in text for text in texts)
    assert sizes == {
        "movies": (7049, 1007, 2014),
        "tweets": (2361, 337, 674),
        "products": (2085, 297, 595),
        "editorials": (2052, 293, 586),
    }
