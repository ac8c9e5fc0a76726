"""Where the contents of files lie: each once, under its SHA-256, never changed.

Two homes with one interface: a folder (:class:`FolderBlobs`) and an S3-compatible bucket
(``s3.py``). Which blobs exist for the hub is a matter of the database; a home may hold more, left by a
process that was killed, until garbage collection removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from adapterhub.errors import HubError
from adapterhub.hub.storage import sync_folder

CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def require_sha256(value: str) -> str:
    """Return *value* if it is a SHA-256 in lower-case hex; it becomes part of a path."""
    if not _SHA256.fullmatch(value):
        raise HubError(f"{value[:80]!r} is not a SHA-256 in 64 hex digits")
    return value


class BlobsUnreachable(OSError):
    """The home of blobs does not answer; trying again later may help."""

    def __init__(self, reason: str) -> None:
        super().__init__(None, reason)


class Blobs(Protocol):
    """A home of blobs. Any method raises ``OSError`` if it does not answer or has no room."""

    def put(self, source: Path, sha256: str) -> None:
        """Store the checked file *source*, which may be moved away; a blob that is there stays."""
        ...

    def size(self, sha256: str) -> int | None:
        """Return the number of bytes stored, or ``None`` if there is no such blob."""
        ...

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from *start* up to, not including, *end*, in pieces."""
        ...

    def link(self, sha256: str, name: str) -> str | None:
        """Return an address from which a client can fetch the content itself, if there is one."""
        ...

    def remove(self, sha256: str) -> None:
        """Remove a blob; one that is not there is no error."""
        ...

    def all(self) -> Iterator[str]:
        """Yield the SHA-256 of every blob stored."""
        ...


def move_into(source: Path, target: Path) -> None:
    """Make the file *source*, which is on the disk, appear as *target* in one step."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # the staging folder may be on another disk
            raise
        beside = target.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            shutil.copyfile(source, beside)
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    sync_folder(target.parent)


class FolderBlobs:
    """Blobs as files ``<root>/sha256/ab/cd/<hash>``; a blob appears by one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sha256").mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where the blob lies or would lie."""
        require_sha256(sha256)
        return self.root / "sha256" / sha256[:2] / sha256[2:4] / sha256

    def put(self, source: Path, sha256: str) -> None:
        target = self.path(sha256)
        if target.exists() and target.stat().st_size == source.stat().st_size:
            return
        for folder in (target.parent.parent, target.parent):
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                sync_folder(folder.parent)
        move_into(source, target)

    def size(self, sha256: str) -> int | None:
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self.path(sha256).open("rb") as file:
            file.seek(start)
            left = None if end is None else end - start
            while left is None or left > 0:
                piece = file.read(CHUNK if left is None else min(CHUNK, left))
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece

    def link(self, sha256: str, name: str) -> str | None:
        return None

    def remove(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def all(self) -> Iterator[str]:
        for path in (self.root / "sha256").glob("*/*/*"):
            if _SHA256.fullmatch(path.name):
                yield path.name
