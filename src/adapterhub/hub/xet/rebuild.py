"""Putting files together from the chunks of xorbs."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from adapterhub.hub.store.refusals import Unacceptable
from adapterhub.hub.xet.shards import FileOf, hash_text, segments
from adapterhub.hub.xet.xorbs import Xorb

#: Xorbs that are open at the same time.
_OPEN = 32


class Sink(Protocol):
    """Takes the bytes of a file."""

    def write(self, data: bytes) -> object:
        """Append *data*."""
        ...


class Xorbs:
    """The xorbs of one push, opened when they are needed. Use as a context manager.

    Args:
        fetch: returns where a xorb is on this machine, by its hash as in addresses; raises
            ``FileNotFoundError`` if there is none.
    """

    def __init__(self, fetch: Callable[[str], Path]) -> None:
        self._fetch = fetch
        self._open: OrderedDict[bytes, Xorb] = OrderedDict()

    def __enter__(self) -> Xorbs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            for xorb in self._open.values():
                stack.callback(xorb.close)

    def get(self, hashed: bytes) -> Xorb:
        """Return a xorb, which may be closed when others are asked for.

        Raises:
            Unacceptable: If it is not there any more, or is none.
        """
        found = self._open.get(hashed)
        if found is None:
            while len(self._open) >= _OPEN:
                self._open.popitem(last=False)[1].close()
            try:
                found = self._open[hashed] = Xorb(self._fetch(hash_text(hashed)))
            except FileNotFoundError as error:
                raise Unacceptable(
                    f"the xorb {hash_text(hashed)} is not there any more; push again"
                ) from error
        self._open.move_to_end(hashed)
        return found


def rebuild(shard: BinaryIO, item: FileOf, xorbs: Xorbs, sink: Sink) -> None:
    """Write a file, chunk by chunk; its SHA-256 is for the caller to compare.

    Args:
        shard: the shard that tells of the file.

    Raises:
        Unacceptable: If a segment has other bytes than the shard says.
    """
    for piece in _pieces(shard, item, xorbs):
        sink.write(piece)


def _pieces(shard: BinaryIO, item: FileOf, xorbs: Xorbs) -> Iterator[bytes]:
    for segment in segments(shard, item):
        left = segment.size
        for piece in xorbs.get(segment.xorb).read(segment.start, segment.end):
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise Unacceptable(
                f"the chunks {segment.start} to {segment.end} of a xorb do not have the "
                f"{segment.size} bytes that the shard says"
            )
