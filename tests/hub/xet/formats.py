"""Xorbs and shards written by hand, right and wrong ones, so that no reader is tested by itself."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

PLAIN, LZ4, GROUPED = 0, 1, 2
HEAD = b"HFRepoMetaData\0" + bytes(
    [85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169]
)
END = b"\xff" * 32 + bytes(16)


def packed(data: bytes, scheme: int) -> bytes:
    """Pack the content of a chunk."""
    import lz4.frame

    if scheme == GROUPED:
        data = b"".join(data[start::4] for start in range(4))
    return data if scheme == PLAIN else lz4.frame.compress(data)


def header(packed_size: int, scheme: int, size: int, version: int = 0) -> bytes:
    """Write the header of a chunk."""
    return (
        bytes([version])
        + packed_size.to_bytes(3, "little")
        + bytes([scheme])
        + size.to_bytes(3, "little")
    )


def chunk(data: bytes, scheme: int = PLAIN) -> bytes:
    """Write a chunk; as clients do, without packing if that would make it longer."""
    body = packed(data, scheme)
    if len(body) >= len(data):
        scheme, body = PLAIN, data
    return header(len(body), scheme, len(data)) + body


def raw_hash(text: str) -> bytes:
    """Write a hash of 64 hex digits as four little-endian numbers."""
    return b"".join(
        struct.pack("<Q", int(text[place : place + 16], 16)) for place in range(0, 64, 16)
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


#: Hash of a xorb, bytes, first chunk, chunk after the last one.
Run = tuple[str, int, int, int]


def file_of(
    digest: str, runs: Sequence[Run], *, proofs: bool = True, flags: int = 1 << 30
) -> bytes:
    """Write what a shard says of a file."""
    flags |= (1 << 31) if proofs else 0
    text = struct.pack("<32s2IQ", b"f" * 32, flags, len(runs), 0)
    for xorb, size, start, end in runs:
        text += struct.pack("<32s4I", raw_hash(xorb), 0, size, start, end)
    text += (b"p" * 32 + bytes(16)) * (len(runs) if proofs else 0)
    return text + raw_hash(digest) + bytes(16) if flags & (1 << 30) else text


def xorb_of(name: str, chunks: int) -> bytes:
    """Write what a shard says of a xorb that was sent."""
    text = struct.pack("<32s4I", raw_hash(name), 0, chunks, 0, 0)
    return text + (b"c" * 32 + bytes(16)) * chunks


def shard(
    files: Sequence[bytes], xorbs: Sequence[bytes] = (), *, version: int = 2, footer: int = 0
) -> bytes:
    """Write a shard."""
    head = HEAD + struct.pack("<QQ", version, footer)
    return head + b"".join(files) + END + b"".join(xorbs) + END
