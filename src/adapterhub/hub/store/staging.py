"""Files on their way in: written where nobody looks, hashed while they are written.

A file stays staged until all checks passed; then it becomes a blob by a rename. Whatever a killed
process left here is removed at the next start, because no row of the database ever names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapterhub.hub.storage import file_sha256
from adapterhub.hub.store.refusals import TooLarge

_STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Staged:
    """A file whose bytes and hashes are known; *git_oid* is its name as a blob of git."""

    path: Path
    size: int
    sha256: str
    git_oid: str


def git_oid(path: Path) -> str:
    """Return the SHA-1 that git gives to the content of a file."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def stage(path: Path) -> Staged:
    """Hash a file that lies in a staging folder already."""
    sha256, size = file_sha256(path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return Staged(path, size, sha256, git_oid(path))


class Writer:
    """Receives the bytes of one file, at most *limit*.

    Raises:
        TooLarge: When one more byte than *limit* arrives.
    """

    def __init__(self, path: Path, limit: int, label: str = "a file") -> None:
        self._path, self._limit, self._label = path, limit, label
        self._file = path.open("xb")
        self._sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append *data*."""
        self.size += len(data)
        if self.size > self._limit:
            self.close()
            raise TooLarge(f"{self._label} is larger than the {self._limit} bytes that are allowed")
        self._sha256.update(data)
        self._file.write(data)

    def finish(self) -> Staged:
        """Bring everything to the disk and return what was received."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return Staged(self._path, self.size, self._sha256.hexdigest(), git_oid(self._path))

    def close(self) -> None:
        """Give up the file; it is removed with its folder."""
        self._file.close()


class Staging:
    """A folder of folders, one for each request that receives files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def area(self) -> Iterator[Path]:
        """Make a folder that is removed, with all that is still in it, at the end of the block."""
        path = self.root / uuid.uuid4().hex
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def clear(self, *, older_than: float = _STALE_SECONDS) -> int:
        """Remove what killed processes left; return how many folders that were."""
        count = 0
        for path in self.root.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime >= older_than:
                    shutil.rmtree(path)
                    count += 1
        return count
