"""Shards: which chunks of which xorbs make which files.

All of a shard is records of 48 bytes, little-endian, and most begin with a hash (32 bytes): a head; for each
file a header, its segments (chunks *start* to *end* of a xorb, and how many bytes they unpack to), maybe a
proof for each segment, and its SHA-256; an end of files; for each xorb that was sent a header and its chunks;
an end of xorbs. Hashes are four numbers of 8 bytes, and people see each number with its highest digit first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from adapterhub.hub.store.refusals import TooLarge, Unacceptable
from adapterhub.hub.xet.xorbs import MAX_CHUNK, MAX_CHUNKS

#: Clients make shards of up to 64 MiB and begin another one then.
MAX_SHARD = 64 << 20
MAX_FILES = 10_000
_TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_VERSION = 2
_RECORD = struct.Struct("<32s4I")
_END = b"\xff" * 32
_WITH_PROOFS, _WITH_SHA256 = 1 << 31, 1 << 30


def hash_text(raw: bytes) -> str:
    """Return a hash of 32 bytes as people and addresses write it."""
    return "".join(raw[place : place + 8][::-1].hex() for place in range(0, 32, 8))


def hash_bytes(text: str) -> bytes:
    """Return a hash, written in 64 hex digits, as it is in a shard."""
    raw = bytes.fromhex(text)
    return b"".join(raw[place : place + 8][::-1] for place in range(0, 32, 8))


class Segment(NamedTuple):
    """A run of chunks: those of *xorb* from number *start* up to, not including, *end*."""

    xorb: bytes
    size: int
    start: int
    end: int


@dataclass(frozen=True)
class FileOf:
    """A file that a shard tells of: its SHA-256, bytes, and where its segments are in the shard."""

    sha256: str
    size: int
    place: int
    segments: int


@dataclass(frozen=True)
class Shard:
    """What a shard says.

    Attributes:
        files: those to be put together.
        sent: hashes of those known xorbs that it says were sent for it.
    """

    files: tuple[FileOf, ...]
    sent: frozenset[bytes]


def read_shard(file: BinaryIO, known: Container[bytes], max_file: int, max_total: int) -> Shard:
    """Read a shard from its beginning to its end.

    Args:
        known: hashes of the xorbs that have arrived; files may refer to others, see :func:`require_known`.
        max_file: most bytes of one file.
        max_total: most bytes of all its files together.

    Raises:
        Unacceptable: If it is not a shard.
        TooLarge: If a file, or all of them, would have more bytes than allowed, or there are too many.
    """
    length = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(_RECORD.size)
    if len(head) < _RECORD.size or head[:32] != _TAG:
        raise Unacceptable("this is not a shard")
    version, footer = struct.unpack("<QQ", head[32:])
    if version != _VERSION or footer:
        raise Unacceptable(
            f"a shard of version {version} with a footer of {footer} bytes is not known"
        )
    files, total = [], 0
    while (made := _file(file, max_file)) is not None:
        files.append(made)
        total += made.size
        if len(files) > MAX_FILES:
            raise TooLarge(f"a shard may tell of at most {MAX_FILES} files")
        if total > max_total:
            raise TooLarge(
                f"the files of one push may have {max_total} bytes together; send them in several pushes"
            )
    sent = set()
    while (xorb := _xorb(file)) is not None:
        if xorb in known:
            sent.add(xorb)
    if file.tell() != length:
        raise Unacceptable("a shard ends with its list of xorbs, and this one goes on")
    return Shard(tuple(files), frozenset(sent))


def segments(file: BinaryIO, item: FileOf) -> Iterator[Segment]:
    """Yield the segments of a file, in their order; they were checked by :func:`read_shard`."""
    for number in range(item.segments):
        file.seek(item.place + number * _RECORD.size)
        xorb, _, size, start, end = _RECORD.unpack(file.read(_RECORD.size))
        yield Segment(xorb, size, start, end)


def require_known(file: BinaryIO, item: FileOf, known: Container[bytes]) -> None:
    """Refuse a file that refers to xorbs that are not *known* (their hashes).

    Raises:
        Unacceptable: Then.
    """
    for segment in segments(file, item):
        if segment.xorb not in known:
            raise Unacceptable(
                f"a shard refers to the xorb {hash_text(segment.xorb)}, which did not arrive for this "
                "push; push again"
            )


def _record(file: BinaryIO) -> tuple[bytes, int, int, int, int]:
    data = file.read(_RECORD.size)
    if len(data) < _RECORD.size:
        raise Unacceptable("a shard ends too early")
    return _RECORD.unpack(data)


def _file(file: BinaryIO, max_file: int) -> FileOf | None:
    hashed, flags, count, _, _ = _record(file)
    if hashed == _END:
        return None
    if flags & ~(_WITH_PROOFS | _WITH_SHA256) or not flags & _WITH_SHA256:
        raise Unacceptable("a shard must state the SHA-256 of each file, and nothing unknown")
    proofs = count if flags & _WITH_PROOFS else 0
    place, size = file.tell(), 0
    for _ in range(count):
        size += _segment(Segment(*_without_flags(_record(file))))
        if size > max_file:
            raise TooLarge(f"this hub takes files of up to {max_file} bytes")
    file.seek(proofs * _RECORD.size, os.SEEK_CUR)
    return FileOf(hash_text(_record(file)[0]), size, place, count)


def _without_flags(record: tuple[bytes, int, int, int, int]) -> tuple[bytes, int, int, int]:
    return record[0], record[2], record[3], record[4]


def _segment(segment: Segment) -> int:
    """Check a segment as far as it can be without its xorb, and return its bytes."""
    chunks = segment.end - segment.start
    if not 0 <= segment.start < segment.end <= MAX_CHUNKS:
        raise Unacceptable(f"a shard refers to chunks {segment.start} to {segment.end}")
    if not chunks <= segment.size <= chunks * MAX_CHUNK:
        raise Unacceptable(f"{chunks} chunks cannot have {segment.size} bytes")
    return segment.size


def _xorb(file: BinaryIO) -> bytes | None:
    hashed, _, count, _, _ = _record(file)
    if hashed == _END:
        return None
    if count > MAX_CHUNKS:
        raise Unacceptable(f"a xorb has at most {MAX_CHUNKS} chunks")
    file.seek(count * _RECORD.size, os.SEEK_CUR)
    return hashed
