"""Chunks unpack to what was packed, and to nothing else."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lz4", reason="Xet's format needs the [hub] extra")

from adapterhub.errors import HubError
from adapterhub.hub.xet import xorbs
from adapterhub.hub.xet.xorbs import Xorb, unpack
from tests.hub.xet.formats import GROUPED, LZ4, PLAIN, chunk, header, packed

_BYTES = st.binary(min_size=1, max_size=600) | st.builds(
    lambda part, times: part * times, st.binary(min_size=1, max_size=9), st.integers(1, 900)
)


@settings(deadline=None)
@given(_BYTES, st.sampled_from([PLAIN, LZ4, GROUPED]))
def test_a_chunk_unpacks_to_what_was_packed(data: bytes, scheme: int) -> None:
    assert unpack(chunk(data, scheme)) == data


@pytest.mark.parametrize("length", [600, 601, 602, 603, xorbs.MAX_CHUNK])
def test_bytes_in_groups(length: int) -> None:
    data = bytes(place % 4 * 60 + place // 3000 for place in range(length))
    body = packed(data, GROUPED)
    assert len(body) < length
    assert unpack(header(len(body), GROUPED, length) + body) == data


@settings(deadline=None)
@given(st.lists(_BYTES, min_size=1, max_size=6), st.data())
def test_a_xorb_gives_the_chunks_asked_for(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("xorb") / "xorb"
    path.write_bytes(b"".join(chunk(item, number % 3) for number, item in enumerate(contents)))
    xorbs.check(path)
    start = data.draw(st.integers(0, len(contents) - 1))
    end = data.draw(st.integers(start + 1, len(contents)))
    xorb = Xorb(path)
    try:
        assert len(xorb) == len(contents)
        assert list(xorb.read(start, end)) == contents[start:end]
        for wrong in ((start, start), (0, len(contents) + 1), (len(contents), len(contents) + 1)):
            with pytest.raises(HubError, match="has no chunks"):
                list(xorb.read(*wrong))
    finally:
        xorb.close()


_ZEROS = packed(bytes(100_000), LZ4)
_WRONG_XORBS = {
    "empty": b"",
    "half a header": chunk(b"abc")[:5],
    "half a chunk": chunk(b"abc")[:-1],
    "more than it says": chunk(b"abc") + b"d",
    "another version": header(3, PLAIN, 3, version=1) + b"abc",
    "another way of packing": header(3, 3, 4) + b"abc",
    "a chunk without bytes": header(0, PLAIN, 0),
    "packed into nothing": header(0, LZ4, 9),
    "plain, and of other length": header(3, PLAIN, 4) + b"abc",
    "longer when packed": header(9, LZ4, 4) + b"123456789",
    "too long a chunk": header(len(_ZEROS), LZ4, xorbs.MAX_CHUNK + 1) + _ZEROS,
    "a footer": chunk(b"abc") + b"XETBLOB\x01" + bytes(40),
    "too many chunks": chunk(b"a") * (xorbs.MAX_CHUNKS + 1),
}


@pytest.mark.parametrize("data", _WRONG_XORBS.values(), ids=_WRONG_XORBS)
def test_what_is_no_xorb(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "xorb"
    path.write_bytes(data)
    with pytest.raises(HubError):
        xorbs.check(path)
    with pytest.raises(HubError):
        Xorb(path)


_FRAME = packed(bytes(1000), LZ4)
_WRONG_CHUNKS = {
    "no frame": header(20, LZ4, 1000) + b"x" * 20,
    "half a frame": header(len(_FRAME) - 4, LZ4, 1000) + _FRAME[:-4],
    "less than it says": header(len(_FRAME), LZ4, 1001) + _FRAME,
    "more than it says": header(len(_FRAME), LZ4, 999) + _FRAME,
    "two frames": header(2 * len(_FRAME), LZ4, 1000) + 2 * _FRAME,
    "frame and more": header(len(_FRAME) + 3, LZ4, 1000) + _FRAME + b"abc",
    "not all of it there": header(len(_FRAME), LZ4, 1000) + _FRAME[:-1],
    "a frame to skip": header(16, LZ4, 20) + b"\x50\x2a\x4d\x18\x08\0\0\0" + bytes(8),
    "no header": b"abc",
}


@pytest.mark.parametrize("record", _WRONG_CHUNKS.values(), ids=_WRONG_CHUNKS)
def test_what_is_no_chunk(record: bytes) -> None:
    with pytest.raises(HubError):
        unpack(record)


@pytest.mark.parametrize("scheme", [LZ4, GROUPED])
@pytest.mark.parametrize("stated", [True, False], ids=["stated", "not stated"])
def test_a_bomb_takes_no_memory(scheme: int, stated: bool) -> None:
    """200 MB packed into a chunk that says it has 128 KiB."""
    import lz4.frame

    body = lz4.frame.compress(bytes(200_000_000), store_size=stated)
    record = header(min(len(body), xorbs.MAX_CHUNK - 1), scheme, xorbs.MAX_CHUNK) + body
    tracemalloc.start()
    try:
        with pytest.raises(HubError):
            unpack(record[: 8 + xorbs.MAX_CHUNK - 1])
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(st.data())
def test_whatever_comes_is_unpacked_or_refused(data: st.DataObject) -> None:
    record = bytearray(chunk(data.draw(_BYTES), data.draw(st.sampled_from([PLAIN, LZ4, GROUPED]))))
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack(bytes(record))
    except HubError:
        return
    assert 0 < len(found) <= xorbs.MAX_CHUNK
