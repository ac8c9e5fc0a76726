"""Xorbs: many chunks of files, each packed by itself, one after the other.

A chunk is a header of 8 bytes and its packed bytes. The header is a version (0), the length of what is
packed (3 bytes), how it is packed, and the length of what it unpacks to (3 bytes), little-endian. It is
packed in one of three ways: not at all, as an LZ4 frame, or as an LZ4 frame of its bytes in four groups
(first all that are at places 0, 4, 8 ..., then those at 1, 5, 9 ..., and so on).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from adapterhub.hub.store.refusals import Unacceptable

#: Most bytes of an unpacked chunk, most chunks of a xorb, and most bytes of it: 64 MiB and the headers.
MAX_CHUNK = 128 << 10
MAX_CHUNKS = 8192
_HEADER = 8
MAX_XORB = (64 << 20) + MAX_CHUNKS * _HEADER
_PLAIN, _LZ4, _GROUPED = 0, 1, 2
_GROUPS = 4


def _header(head: bytes) -> tuple[int, int, int]:
    """Return packed length, way of packing and unpacked length of a chunk.

    Raises:
        Unacceptable: If such a chunk cannot be.
    """
    packed, scheme, size = (
        int.from_bytes(head[1:4], "little"),
        head[4],
        int.from_bytes(head[5:8], "little"),
    )
    if head[0] != 0 or scheme not in (_PLAIN, _LZ4, _GROUPED):
        raise Unacceptable(
            f"a chunk of version {head[0]} packed in way {scheme} is not known to this hub"
        )
    # Packing never makes a chunk longer: clients leave such a chunk as it is.
    if (
        not 0 < size <= MAX_CHUNK
        or not 0 < packed <= size
        or (scheme == _PLAIN) != (packed == size)
    ):
        raise Unacceptable(f"a chunk of {size} bytes, packed into {packed}, cannot be")
    return packed, scheme, size


def places(file: BinaryIO, length: int) -> array[int]:
    """Return where each chunk of a xorb begins, and at last where the last one ends.

    Args:
        length: bytes of the xorb.

    Raises:
        Unacceptable: If it is not a row of chunks from its first byte to its last.
    """
    found, place = array("I", [0]), 0
    while place < length:
        file.seek(place)
        head = file.read(_HEADER)
        if len(head) < _HEADER:
            raise Unacceptable("a xorb ends within the header of a chunk")
        place += _HEADER + _header(head)[0]
        found.append(min(place, length))
        if len(found) > MAX_CHUNKS + 1:
            raise Unacceptable(f"a xorb has at most {MAX_CHUNKS} chunks")
    if place != length or not length:
        raise Unacceptable("a xorb ends within a chunk")
    return found


def check(path: Path) -> None:
    """Look at the headers of a xorb that has arrived.

    Raises:
        Unacceptable: As :func:`places`.
    """
    with path.open("rb") as file:
        places(file, path.stat().st_size)


class Xorb:
    """A xorb on this machine, opened for reading.

    Raises:
        Unacceptable: As :func:`places`.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._places = places(self._file, os.fstat(self._file.fileno()).st_size)
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places) - 1

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the chunks from number *start* up to, not including, *end*, unpacked.

        Raises:
            Unacceptable: If there are no such chunks, or one does not unpack to what its header says.
        """
        if not 0 <= start < end <= len(self):
            raise Unacceptable(f"a xorb of {len(self)} chunks has no chunks {start} to {end}")
        self._file.seek(self._places[start])
        for number in range(start, end):
            yield unpack(self._file.read(self._places[number + 1] - self._places[number]))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def unpack(record: bytes) -> bytes:
    """Return the content of a chunk, given with its header.

    Raises:
        Unacceptable: If it does not unpack to just what its header says.
    """
    if len(record) < _HEADER:
        raise Unacceptable("a chunk ends within its header")
    packed, scheme, size = _header(record[:_HEADER])
    body = record[_HEADER:]
    if len(body) != packed:
        raise Unacceptable("a chunk ends too early")
    if scheme == _PLAIN:
        return body
    content = _decompress(body, size)
    return _regroup(content) if scheme == _GROUPED else content


def _decompress(body: bytes, size: int) -> bytes:
    """Unpack an LZ4 frame that must have *size* bytes; one more and it is not unpacked further."""
    from lz4.frame import LZ4FrameDecompressor

    frame = LZ4FrameDecompressor()
    try:
        content = frame.decompress(body, max_length=size + 1)
    except (RuntimeError, ValueError, EOFError, OverflowError) as error:
        raise Unacceptable("a chunk is not the LZ4 frame that its header says it is") from error
    if len(content) != size or not frame.eof or frame.unused_data:
        raise Unacceptable(f"a chunk does not unpack to the {size} bytes that its header says")
    return content


def _regroup(grouped: bytes) -> bytes:
    """Put bytes that are in four groups back to their places."""
    content, begin = bytearray(len(grouped)), 0
    for group in range(_GROUPS):
        end = begin + len(range(group, len(grouped), _GROUPS))
        content[group::_GROUPS] = grouped[begin:end]
        begin = end
    return bytes(content)
