"""A large file in parts, each sent in a request of its own to an address of its own.

The parts of a file are equally long but the last. They may come in any order, several times, and through
several servers; what has arrived stays (:mod:`adapterhub.hub.store.pending`), so an upload that broke off
goes on with the parts that are missing. A part is stored under its number and SHA-256, which is its ETag:
the request that ends the upload names the ETag of each part, and gets just these parts.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from adapterhub.hub.server import signed
from adapterhub.hub.server.signed import Announced
from adapterhub.hub.store.pending import Pending
from adapterhub.hub.store.refusals import Malformed, Unacceptable
from adapterhub.hub.store.staging import Writer

#: More addresses than this do not fit one answer.
MAX_PARTS = 1000
_TAG = re.compile(r'"?([0-9a-f]{64})"?')


def part_size(wanted: int, size: int) -> int:
    """Return the length of the parts of a file: *wanted*, or as much more as it takes to have few."""
    return max(wanted, -(-size // MAX_PARTS))


def number_of_parts(wanted: int, size: int) -> int:
    """Return how many parts a file has."""
    return -(-size // part_size(wanted, size))


def part_of(item: Announced, number: int) -> Announced:
    """Return what is announced for one part (or :data:`~.signed.END`)."""
    return replace(item, part=number)


def addresses(key: str, address: str, item: Announced, length: int) -> dict[str, str]:
    """Return what clients of the transfer ``multipart`` expect: the size of parts, and an address each."""
    count = -(-item.size // length)
    rows = {
        f"{number:05d}": f"{address}?{signed.sign(key, part_of(item, number))}"
        for number in range(1, count + 1)
    }
    return {"chunk_size": str(length), **rows}


def size_of(wanted: int, item: Announced) -> int:
    """Return the length of one part, in bytes."""
    length = part_size(wanted, item.size)
    return min(length, item.size - (item.part - 1) * length)


def folder(item: Announced) -> str:
    """Return where the parts of a file lie; everybody has his own, so nobody can spoil another's."""
    return f"lfs-{item.repo}-{item.account}-{item.oid}"


def _name(number: int, tag: str) -> str:
    return f"{number:05d}-{tag}"


def keep(pending: Pending, item: Announced, writer: Writer, size: int) -> str:
    """Store a part that was received, and return its ETag.

    Raises:
        Malformed: If it is shorter than it should be.
    """
    staged = writer.finish()
    if staged.size != size:
        raise Malformed(f"part {item.part} has {staged.size} bytes and should have {size}")
    pending.put(folder(item), _name(item.part, staged.sha256), staged.path)
    return staged.sha256


def find(pending: Pending, item: Announced) -> str | None:
    """Return the ETag of a part that has arrived."""
    start = f"{item.part:05d}-"
    found = [name for name in pending.names(folder(item)) if name.startswith(start)]
    return found[-1].removeprefix(start) if found else None


def wanted(body: dict[str, Any], item: Announced, length: int) -> list[str]:
    """Return the ETags of all parts, in their order, from what the client says at the end.

    Raises:
        Malformed: If it does not say for each part just once which it was.
    """
    rows = body.get("parts")
    count = number_of_parts(length, item.size)
    if body.get("oid", item.oid) != item.oid or not isinstance(rows, list) or len(rows) != count:
        raise Malformed(f"the end of an upload needs its oid, and the ETags of its {count} parts")
    tags: dict[int, str] = {}
    for row in rows:
        number, tag = (row.get("partNumber"), row.get("etag")) if isinstance(row, dict) else (0, "")
        match = _TAG.fullmatch(tag) if isinstance(tag, str) else None
        if not isinstance(number, int) or isinstance(number, bool) or match is None:
            raise Malformed(
                "each part needs its partNumber, and the etag that it was answered with"
            )
        tags[number] = match[1]
    if sorted(tags) != list(range(1, count + 1)):
        raise Malformed(f"parts must be numbered from 1 to {count}")
    return [tags[number] for number in sorted(tags)]


def join(pending: Pending, item: Announced, tags: list[str], writer: Writer) -> None:
    """Write the parts one after the other.

    Raises:
        Unacceptable: If some have not arrived.
    """
    names = [_name(number, tag) for number, tag in enumerate(tags, start=1)]
    there = set(pending.names(folder(item)))
    lost = [str(number) for number, name in enumerate(names, start=1) if name not in there]
    if lost:
        more = " ..." if len(lost) > 20 else ""
        raise Unacceptable(
            f"part(s) {', '.join(lost[:20])}{more} have not arrived; send them again"
        )
    for name in names:
        for piece in pending.read(folder(item), name):
            writer.write(piece)


@dataclass
class Assembling:
    """Sees to it that a file is put together once, also when a client that waits too long asks again."""

    _locks: dict[str, list[Any]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Wait until nobody else of this process is inside with the same *name*."""
        with self._guard:
            entry = self._locks.setdefault(name, [threading.Lock(), 0])
            entry[1] += 1
        try:
            with entry[0]:
                yield
        finally:
            with self._guard:
                entry[1] -= 1
                if not entry[1]:
                    del self._locks[name]
