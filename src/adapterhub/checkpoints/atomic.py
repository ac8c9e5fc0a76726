"""Replace a folder as a whole: a reader finds the old contents or the new, never a mixture.

The new folder is written beside the old one and swapped in: on Linux in one system call
(``renameat2`` with ``RENAME_EXCHANGE``), elsewhere by two renames. A process killed between those two
leaves the old folder under a reserved name, from where :func:`recover` puts it back.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapterhub.errors import CheckpointError

_OLD, _NEW = ".old", ".new-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def replacing(target: str | os.PathLike[str], replaced: tuple[str, ...]) -> Iterator[Path]:
    """Yield a new folder to write into; on success it takes *target*'s place.

    Args:
        target: the folder to make or replace; missing parents are made.
        replaced: names of files that the caller owns. Everything else in an existing *target* is
            carried over.

    Raises:
        CheckpointError: *target* is a file.
        OSError: e.g. disk full; *target* is as it was and no temporary folder is left.
    """
    path = Path(target)
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path} is a file; an adapter is saved into a folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}{_NEW}", dir=path.parent))
    try:
        os.chmod(fresh, 0o777 & ~_umask())
        yield fresh
        if path.exists():
            for item in path.iterdir():
                if item.name not in replaced:
                    _carry_over(item, fresh / item.name)
        for item in fresh.rglob("*"):
            if item.is_file():
                _sync(item)
        _sync(fresh)
        _swap(fresh, path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def recover(path: Path) -> None:
    """Put back a folder that a killed process had moved aside; clear what it left unfinished."""
    old = path.with_name(f".{path.name}{_OLD}")
    if old.exists():
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, path)


def _swap(fresh: Path, path: Path) -> None:
    if not path.exists():
        os.rename(fresh, path)
        return
    if _exchange(fresh, path):
        shutil.rmtree(fresh, ignore_errors=True)
        return
    old = path.with_name(f".{path.name}{_OLD}")
    os.rename(path, old)
    try:
        os.rename(fresh, path)
    except BaseException:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _carry_over(source: Path, target: Path) -> None:
    if target.exists():
        return
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy)
    else:
        _link_or_copy(str(source), str(target))


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems cannot sync folders
        if path.is_file():
            raise
    finally:
        os.close(descriptor)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
