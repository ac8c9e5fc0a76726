"""Pieces of files that come in several requests, kept until the last one is there.

A piece belongs to a folder (an upload) and has a name. Several servers of one hub see the same pieces, so
each request may reach another one. Nothing here is ever served; what is not finished is removed after a
while by ``adapterhub hub clean``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adapterhub.hub.store.blobs import CHUNK, Blobs, FolderBlobs, move_into

if TYPE_CHECKING:
    from adapterhub.hub.store.s3 import S3Blobs

GRACE = timedelta(hours=24)
_NAME = re.compile(r"[0-9a-z][0-9a-z.-]{0,199}")


class Pending(Protocol):
    """A home of pieces. Any method raises ``OSError`` if it does not answer or has no room."""

    def put(self, folder: str, name: str, source: Path) -> None:
        """Store the file *source*, which may be moved away, in the place of one of that name."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of all pieces of a folder, sorted; none if there is no such folder."""
        ...

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield the bytes of a piece."""
        ...

    def fetch(self, folder: str, name: str, into: Path) -> Path:
        """Return where a piece is on this machine: where it lies, or a copy in the folder *into*.

        Raises:
            FileNotFoundError: If there is no such piece.
        """
        ...

    def remove(self, folder: str) -> None:
        """Remove a folder with all its pieces; one that is not there is no error."""
        ...

    def clean(self, grace: timedelta = GRACE) -> int:
        """Remove pieces older than *grace*; return how many."""
        ...


def pending_of(home: Blobs) -> Pending:
    """Return the home of pieces beside a home of blobs."""
    if isinstance(home, FolderBlobs):
        return FolderPending(home.root / "pending")
    from adapterhub.hub.store.s3 import S3Blobs

    if isinstance(home, S3Blobs):
        return S3Pending(home)
    raise TypeError(f"{type(home).__name__} has no place for pieces")


def _require_name(*names: str) -> None:
    for name in names:
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"{name[:80]!r} cannot be the name of a piece")


class FolderPending:
    """Pieces as files ``<root>/<folder>/<name>``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, folder: str, name: str) -> Path:
        _require_name(folder, name)
        return self.root / folder / name

    def put(self, folder: str, name: str, source: Path) -> None:
        path = self._path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        move_into(source, path)

    def names(self, folder: str) -> list[str]:
        _require_name(folder)
        with contextlib.suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self.root / folder) if name[0] != ".")
        return []

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        with self._path(folder, name).open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece

    def fetch(self, folder: str, name: str, into: Path) -> Path:
        return self._path(folder, name)

    def remove(self, folder: str) -> None:
        _require_name(folder)
        # Out of the way in one step, so that nobody finds half of it.
        gone = self.root / f".gone-{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.root / folder, gone)
            shutil.rmtree(gone, ignore_errors=True)

    def clean(self, grace: timedelta = GRACE) -> int:
        count, before = 0, time.time() - grace.total_seconds()
        for folder in self.root.glob("*"):
            for path in folder.iterdir():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        count += 1
            with contextlib.suppress(OSError):  # it is not empty yet
                folder.rmdir()
        return count


class S3Pending:
    """Pieces as objects ``<prefix>pending/<folder>/<name>`` of a bucket."""

    def __init__(self, home: S3Blobs) -> None:
        self._home = home

    def put(self, folder: str, name: str, source: Path) -> None:
        _require_name(folder, name)
        self._home.put_object(f"pending/{folder}/{name}", source)

    def names(self, folder: str) -> list[str]:
        _require_name(folder)
        found = self._home.objects(f"pending/{folder}/")
        return sorted(name.rpartition("/")[2] for name, _ in found)

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        _require_name(folder, name)
        return self._home.read_object(f"pending/{folder}/{name}")

    def fetch(self, folder: str, name: str, into: Path) -> Path:
        path = into / name
        if not path.exists():
            part = into / f".{uuid.uuid4().hex}"
            with part.open("xb") as file:
                for piece in self.read(folder, name):
                    file.write(piece)
            part.replace(path)
        return path

    def remove(self, folder: str) -> None:
        _require_name(folder)
        for name, _ in list(self._home.objects(f"pending/{folder}/")):
            self._home.remove_object(name)

    def clean(self, grace: timedelta = GRACE) -> int:
        before, count = time.time() - grace.total_seconds(), 0
        for name, changed in list(self._home.objects("pending/")):
            if changed < before:
                self._home.remove_object(name)
                count += 1
        return count
