"""Everything that changes a hub folder on disk: all or nothing, and never seen half-way.

The order is what makes it safe. Files are first copied into ``.staging/``, where no reader looks,
and checked there, so what was checked is what is stored. Then they are renamed into
``blobs/sha256/`` under their own hash; a blob that no card names does no harm. The card comes
last, by one rename, which is the moment of publication. Killed at any point, the hub is as before
or as after. If an error stops it (a full disk), what was placed so far is taken away again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from adapterhub.errors import HubError

STAGING = ".staging"
LOCK = ".lock"
LOCK_SECONDS = 300.0
_CHUNK = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Staged:
    """A private copy of one file: where it lies, its bytes and its SHA-256."""

    path: Path
    size: int
    sha256: str


def sync_folder(folder: Path) -> None:
    """Make renames inside *folder* survive a power cut, where the system offers that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy_hashed(source: Path, target: Path) -> Staged:
    """Copy one regular file and hash what was written; the copy is on disk on return."""
    digest, size = hashlib.sha256(), 0
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(source, flags), "rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return Staged(target, size, digest.hexdigest())


def file_sha256(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file as it is now."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as reader:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def blob_path(root: Path, sha256: str) -> Path:
    """Return where the hub folder *root* keeps the content with this hash.

    Raises:
        HubError: If it is not a SHA-256 in hex; a card could otherwise point anywhere on the disk.
    """
    if not _SHA256.fullmatch(sha256):
        raise HubError(f"{sha256[:80]!r} is not a SHA-256 in 64 hex digits")
    return root / "blobs" / "sha256" / sha256[:2] / sha256


class Transaction:
    """One change to a hub folder, as a context manager; one process at a time.

    Anything raised inside the ``with`` block undoes what was placed, unless :meth:`commit` was
    reached. What an earlier, killed change left in the staging folder is cleared on entry.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._undo: list[Callable[[], None]] = []
        self._committed = False
        self._count = 0

    def __enter__(self) -> Transaction:
        from filelock import FileLock, Timeout

        self._lock = FileLock(self.root / LOCK)
        try:
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise HubError(
                f"another process has been writing to {self.root} for {LOCK_SECONDS:.0f} seconds"
            ) from error
        try:
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
            (self.root / STAGING).mkdir()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None and not self._committed:
                for step in reversed(self._undo):
                    with contextlib.suppress(OSError):
                        step()
            shutil.rmtree(self.root / STAGING, ignore_errors=True)
        finally:
            self._lock.release()

    def _new_name(self) -> Path:
        self._count += 1
        return self.root / STAGING / str(self._count)

    def stage(self, source: Path) -> Staged:
        """Copy one file of the user into the staging folder."""
        return copy_hashed(source, self._new_name())

    def place_blob(self, staged: Staged) -> None:
        """Put a staged file under its hash; an undamaged blob that is there already is kept."""
        target = blob_path(self.root, staged.sha256)
        if target.exists() and file_sha256(target) == (staged.sha256, staged.size):
            return
        self._place(staged.path, target)

    def write_new(self, target: Path, data: bytes) -> None:
        """Create a file, such as a task card, that no adapter depends on yet."""
        self._place(self._written(data), target)

    def commit(self, target: Path, data: bytes) -> None:
        """Write the card that makes everything visible; nothing is undone after this."""
        source = self._written(data)
        self._make_folder(target.parent)
        os.replace(source, target)
        self._committed = True
        with contextlib.suppress(OSError):  # visible by now; only a power cut could still undo it
            sync_folder(target.parent)

    def _written(self, data: bytes) -> Path:
        path = self._new_name()
        with path.open("xb") as writer:
            writer.write(data)
            writer.flush()
            os.fsync(writer.fileno())
        return path

    def _place(self, source: Path, target: Path) -> None:
        self._make_folder(target.parent)
        existed = target.exists()
        os.replace(source, target)
        if not existed:
            self._undo.append(target.unlink)
        sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir()
            self._undo.append(path.rmdir)
            sync_folder(path.parent)


def replace_file(target: Path, data: bytes) -> None:
    """Write a single small file in one step, without a transaction around it."""
    handle, name = tempfile.mkstemp(prefix=".tmp-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as writer:
            writer.write(data)
            writer.flush()
            os.fsync(writer.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync_folder(target.parent)
