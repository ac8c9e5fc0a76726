"""A shard is read as it is, or refused; files are put together from just the chunks that it names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lz4", reason="Xet's format needs the [hub] extra")

from adapterhub.errors import HubError
from adapterhub.hub.xet import shards
from adapterhub.hub.xet.rebuild import Xorbs, rebuild
from adapterhub.hub.xet.shards import (
    hash_bytes,
    hash_text,
    read_shard,
    require_known,
    segments,
)
from tests.hub.xet.formats import (
    END,
    HEAD,
    Run,
    chunk,
    file_of,
    raw_hash,
    sha256,
    shard,
    xorb_of,
)

_A, _B = "a" * 63 + "1", "b" * 63 + "2"
_KNOWN = {raw_hash(_A), raw_hash(_B)}
_SHA = sha256(b"x")
_GOOD = shard([file_of(_SHA, [(_A, 5, 0, 1), (_B, 7, 2, 4)])], [xorb_of(_A, 1), xorb_of(_B, 4)])


def _read(path: Path, data: bytes, max_file: int = 100, max_total: int = 1000) -> Any:
    path.write_bytes(data)
    with path.open("rb") as file:
        found = read_shard(file, _KNOWN, max_file, max_total)
        return found, [list(segments(file, item)) for item in found.files]


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_hashes_there_and_back(raw: bytes) -> None:
    text = hash_text(raw)
    assert hash_bytes(text) == raw == raw_hash(text)


@pytest.mark.parametrize("proofs", [True, False])
def test_a_shard(tmp_path: Path, proofs: bool) -> None:
    files = [
        file_of(_SHA, [(_A, 5, 0, 1), (_B, 7, 2, 4)], proofs=proofs),
        file_of("0" * 64, []),
        file_of("1" * 64, [(_B, 3, 0, 2)], proofs=not proofs),
    ]
    text = shard(files, [xorb_of(_A, 2), xorb_of(_B, 4), xorb_of("c" * 64, 9)])
    found, runs = _read(tmp_path / "s", text)
    assert [(item.sha256, item.size) for item in found.files] == [
        (_SHA, 12),
        ("0" * 64, 0),
        ("1" * 64, 3),
    ]
    assert found.sent == _KNOWN  # the third is not remembered, whatever else a shard lists
    assert runs[0] == [(raw_hash(_A), 5, 0, 1), (raw_hash(_B), 7, 2, 4)]
    assert runs[1:] == [[], [(raw_hash(_B), 3, 0, 2)]]


def _one(*runs: Run, **options: Any) -> bytes:
    return shard([file_of(_SHA, runs, **options)])


_MANY = file_of(_SHA, [(_A, 5, 0, 1)])
_WRONG = {
    "empty": b"",
    "no shard": b"x" * 400,
    "another tag": b"X" + _GOOD[1:],
    "another version": shard([], version=3),
    "a footer": shard([], footer=200) + bytes(200),
    "no end of files": HEAD + _GOOD[32:48] + file_of(_SHA, [(_A, 5, 0, 1)]),
    "no end of xorbs": _GOOD[:-48],
    "cut within a record": _GOOD[:-3],
    "more after its end": _GOOD + b"x",
    "a second end": _GOOD + END,
    "a file without SHA-256": _one((_A, 5, 0, 1), flags=0),
    "unknown flags": _one((_A, 5, 0, 1), flags=1 << 30 | 1 << 3),
    "more segments than there are": HEAD
    + _GOOD[32:48]
    + b"f" * 32
    + (1 << 30).to_bytes(4, "little")
    + b"\xff\xff\xff\xff"
    + bytes(8)
    + END * 4,
    "more chunks than there are": shard([], [xorb_of(_A, 5)[:96]]),
    "chunks from the end to the start": _one((_A, 5, 3, 2)),
    "no chunks": _one((_A, 5, 3, 3)),
    "chunks beyond any xorb": _one((_A, 5, 8192, 8193)),
    "chunks beyond any xorb, from the first": _one((_A, 9000, 0, 8193)),
    "fewer bytes than chunks": _one((_A, 1, 0, 2)),
    "more bytes than fit": _one((_A, 2 * (128 << 10) + 1, 0, 2)),
    "too large a file": _one((_A, 60, 0, 1), (_A, 60, 0, 1)),
    "too much together": shard([file_of(_SHA, [(_A, 90, 0, 1)])] * 12),
}


@pytest.mark.parametrize("data", _WRONG.values(), ids=_WRONG)
def test_what_is_no_shard(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(HubError):
        _read(tmp_path / "s", data)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_FILES", 3)
    assert len(_read(tmp_path / "s", shard([_MANY] * 3))[0].files) == 3
    with pytest.raises(HubError, match="at most 3 files"):
        _read(tmp_path / "s", shard([_MANY] * 4))


@settings(deadline=None)
@given(st.data())
def test_whatever_comes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = bytearray(_GOOD)
    for _ in range(data.draw(st.integers(0, 5))):
        text[data.draw(st.integers(48, len(text) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(text)))
    try:
        found, _ = _read(tmp_path_factory.mktemp("s") / "s", bytes(text[: cut or None]))
    except HubError:
        return
    assert sum(item.size for item in found.files) <= 1000


class _Folder:
    """Xorbs in a folder, and a shard that tells of them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, name: str, *contents: bytes) -> None:
        data = b"".join(chunk(item, number % 3) for number, item in enumerate(contents))
        (self.root / name).write_bytes(data)

    def built(self, *runs: Run, known: set[bytes] | None = None) -> bytes:
        path, sink = self.root / "shard", io.BytesIO()
        path.write_bytes(_one(*runs))
        with path.open("rb") as file, Xorbs(lambda name: self.root / name) as there:
            (item,) = read_shard(file, _KNOWN, 1 << 20, 1 << 20).files
            if known is not None:
                require_known(file, item, known)
            rebuild(file, item, there, sink)
        return sink.getvalue()


def test_files_are_put_together(tmp_path: Path) -> None:
    folder = _Folder(tmp_path)
    folder.add(_A, b"one", b"2" * 5000, b"three" * 100)
    folder.add(_B, b"four")
    whole = b"one" + b"2" * 5000 + b"three" * 100 + b"four" + b"2" * 5000
    runs = ((_A, 5503, 0, 3), (_B, 4, 0, 1), (_A, 5000, 1, 2))
    assert folder.built(*runs, known={raw_hash(_A), raw_hash(_B)}) == whole
    with pytest.raises(HubError, match="did not arrive for this push"):
        folder.built(*runs, known={raw_hash(_A)})
    with pytest.raises(HubError, match=r"is not there any more.*push again"):
        folder.built(("c" * 64, 4, 0, 1))
    with pytest.raises(HubError, match="has no chunks 0 to 4"):
        folder.built((_A, 5503, 0, 4))
    for size in (4999, 5001):
        with pytest.raises(HubError, match="do not have the"):
            folder.built((_A, size, 1, 2))


def test_more_xorbs_than_are_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapterhub.hub.xet import rebuild as module

    monkeypatch.setattr(module, "_OPEN", 2)
    folder, names = _Folder(tmp_path), [f"{number:064x}" for number in range(5)]
    for number, name in enumerate(names):
        folder.add(name, b"%d" % number)
    order = [0, 1, 2, 3, 4, 0, 3, 3, 1]
    built = folder.built(*((names[number], 1, 0, 1) for number in order))
    assert built == b"".join(b"%d" % number for number in order)
