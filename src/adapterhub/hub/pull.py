"""Pulling: from a card to a folder on the user's disk whose every byte was checked.

Files come from the blob store of the hub folder only; nothing here opens a network connection (an
archive elsewhere that a card names is fetched by :mod:`~adapterhub.hub.archives`). A folder is built
aside and renamed into place when it is complete, so several processes may pull the same adapter at
once: the first to finish wins, and the others find an identical folder.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from adapterhub.errors import HubError
from adapterhub.hub.cards import Member, manifest_sha256
from adapterhub.hub.entries import Entry
from adapterhub.hub.findings import raise_all
from adapterhub.hub.names import collision_problems, member_path_problems
from adapterhub.hub.storage import blob_path, copy_hashed, file_sha256

CACHE_VARIABLE = "ADAPTERHUB_CACHE"
_ATTEMPTS = 5


def cache_folder() -> Path:
    """Return the folder for pulled adapters: ``$ADAPTERHUB_CACHE`` or ``~/.cache/adapterhub``."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "adapterhub"


def pull(root: Path, entry: Entry, target: Path | None = None) -> Path:
    """Bring the chosen version of *entry* into *target* (else the cache) and return the folder.

    Raises:
        HubError: If its files are not in this hub, a checksum is wrong, the target holds something
            else, or the disk fails.
    """
    members = _members(entry)
    try:
        if target is not None:
            return _into(root, entry, members, target.expanduser().absolute())
        # The hash makes two adapters of that name from two hubs live side by side.
        digest = manifest_sha256(members)
        return _into_cache(root, entry, members, cache_folder().absolute() / "adapters" / digest)
    except OSError as error:
        raise HubError(f"{entry.identifier} could not be pulled: {error}") from error


def _members(entry: Entry) -> tuple[Member, ...]:
    """Return the files of the chosen version, after checks on what the card claims about them."""
    version = entry.version
    label = f"{entry.identifier} version {version.version!r}"
    if not version.members:
        raise HubError(
            f"{label}: its files are not in this hub, and its card gives no checksum for the address "
            f"{version.url}; get the archive there, load it, save_adapter it as safetensors, and publish that"
        )
    names = [member.path for member in version.members]
    problems = [line for name in names for line in member_path_problems(name)]
    problems += collision_problems(names)
    if len(set(names)) != len(names):
        problems.append("a file is listed twice")
    if manifest_sha256(version.members) != version.sha256:
        problems.append("its list of files does not match its sha256")
    raise_all(f"{label}: the card cannot be trusted:", problems)
    return version.members


def holds(folder: Path, members: tuple[Member, ...]) -> bool:
    """Tell whether *folder* holds exactly these files, byte for byte."""
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if present != {member.path for member in members}:
        return False
    return all(
        file_sha256(folder / member.path) == (member.sha256, member.size) for member in members
    )


def _build(root: Path, entry: Entry, members: tuple[Member, ...], beside: Path) -> Path:
    """Copy and check all files into a new folder next to *beside*."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    folder = beside.parent / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    try:
        for member in members:
            target = folder / member.path
            target.parent.mkdir(parents=True, exist_ok=True)
            source = blob_path(root, member.sha256)
            try:
                copy = copy_hashed(source, target)
            except FileNotFoundError as error:
                if source.exists():
                    raise
                raise HubError(
                    f"{entry.identifier}: {member.path} is missing from the hub ({source}); "
                    "see 'adapterhub hub check'"
                ) from error
            if (copy.sha256, copy.size) != (member.sha256, member.size):
                raise HubError(
                    f"{entry.identifier}: {member.path} is damaged in the hub ({source}): its "
                    f"SHA-256 is {copy.sha256} and not {member.sha256}; publish it again to mend it"
                )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _into(root: Path, entry: Entry, members: tuple[Member, ...], target: Path) -> Path:
    if target.is_dir() and any(target.iterdir()):
        if holds(target, members):
            return target
        raise HubError(f"{target} holds something else; give an empty or new folder")
    if target.exists() and not target.is_dir():
        raise HubError(f"{target} is a file; give an empty or new folder")
    folder = _build(root, entry, members, target)
    try:
        if target.is_dir():
            target.rmdir()
        os.rename(folder, target)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        if target.is_dir() and holds(target, members):
            return target  # another process was faster
        raise
    return target


def _into_cache(root: Path, entry: Entry, members: tuple[Member, ...], target: Path) -> Path:
    for _ in range(_ATTEMPTS):
        if target.is_dir():
            if holds(target, members):
                return target
            # Somebody edited or truncated the cache. Rename first: a rename happens at once, a
            # removal does not, and another process may be looking.
            aside = target.parent / f".tmp-damaged-{uuid.uuid4().hex[:12]}"
            try:
                os.rename(target, aside)
            except FileNotFoundError:
                continue
            shutil.rmtree(aside, ignore_errors=True)
        folder = _build(root, entry, members, target)
        try:
            os.rename(folder, target)
            return target
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            if not target.is_dir():
                raise
    raise HubError(f"{target} keeps changing while it is checked; remove it and try again")
