"""Adapters that lie as an archive at an address: ``load_adapter("https://.../adapter.zip")``.

What arrives is held to the checksum that is known for it (``#sha256=...`` behind the address, or a card's)
and unpacked within limits, regular files only. It is read afterwards as any folder of a stranger is. The
cache keeps the unpacked folder under the archive's hash with a list of its files, and compares them whenever
it is used; several processes may do so at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

from adapterhub.errors import HubError
from adapterhub.hub.cards import AdapterVersion, Member
from adapterhub.hub.download import Download, Unreachable, download
from adapterhub.hub.fetching import Damaged, offline
from adapterhub.hub.pull import cache_folder, holds
from adapterhub.hub.signedfolder import Requirement, verify_folder
from adapterhub.hub.storage import file_sha256, replace_file
from adapterhub.hub.unpacking import unpack

_DIGESTS = {"sha256": 64, "sha1": 40}
_CONFIGS = ("adapter_config.json", "adapter_fusion_config.json", "adapter_setup.json")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ATTEMPTS = 5


@dataclass(frozen=True)
class Checksum:
    """What an archive's hash has to be: ``sha256`` or ``sha1``, and the digest in hex."""

    kind: str
    digest: str


def folder_for(
    address: str,
    *,
    version: str | None = None,
    config: Any = None,
    base_model: str | None = None,
    preferred: str | None = None,
    require_signature: Requirement = None,
) -> Path:
    """Return the folder of an adapter whose archive (zip or tar) lies at an http or https address.

    Args:
        address: may end in ``#sha256=<64 hex digits>`` (or ``#sha1=<40>``), which is verified.
        version, config, base_model, preferred: choose among a hub's adapters; an address is one already.
        require_signature: whose signature is needed; see :data:`~.signedfolder.Requirement`.

    Raises:
        Damaged: If the checksum is wrong, or the archive cannot be read to its end.
        SignatureError: If the signature is wrong, or is needed and missing.
        HubError: If it cannot be had, or what is there is no adapter.
    """
    url, fragment = urldefrag(address)
    folder = fetch_archive(url, _stated(fragment))
    verify_folder(folder, None, require_signature)
    return folder


def _stated(fragment: str) -> Checksum | None:
    if not fragment:
        return None
    kind, _, digest = fragment.partition("=")
    if kind not in _DIGESTS or not re.fullmatch(f"[0-9a-f]{{{_DIGESTS[kind]}}}", digest.lower()):
        raise HubError(
            f"'#{fragment}' behind an address is no checksum; write #sha256= and 64 hex digits"
        )
    return Checksum(kind, digest.lower())


def fetch_archive(url: str, checksum: Checksum | None = None) -> Path:
    """Bring an archive into the cache and return the folder in it that holds an adapter.

    An archive that was fetched before is asked for again only to hear that it is the same; with a
    *checksum*, or without a network (``HF_HUB_OFFLINE=1``), not even that.

    Raises:
        Damaged, HubError: As :func:`folder_for`.
    """
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and checksum is None:
        raise HubError(
            f"what comes from {url} may be changed on its way; use https, or add the archive's checksum: "
            f"{url}#sha256=..."
        )
    store = cache_folder().absolute() / "archives"
    record = store / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    known = _read(record)
    folder = _unpacked(store, known.get("sha256"))
    if folder is not None and checksum is not None and known.get(checksum.kind) == checksum.digest:
        return _adapter_in(folder, url)
    if offline():
        if folder is None or checksum is not None:
            raise HubError(f"{url} was not fetched before, and HF_HUB_OFFLINE forbids to do so now")
        return _adapter_in(folder, url)
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _temporary(store) as part:
            try:
                usable = folder is not None and checksum is None
                got = download(url, part, known.get("tag") if usable else None)
            except Unreachable:
                if folder is None or checksum is not None:
                    raise
                return _adapter_in(folder, url)  # the network is away, and it was here before
            if got is not None:
                if checksum is not None and getattr(got, checksum.kind) != checksum.digest:
                    raise Damaged(
                        f"{url} is not what it should be: its {checksum.kind} is "
                        f"{getattr(got, checksum.kind)} and not {checksum.digest}"
                    )
                folder = _unpack(part, store, got, url)
                known = {"url": url, "tag": got.tag, "sha256": got.sha256, "sha1": got.sha1}
                replace_file(record, json.dumps(known).encode())
    except OSError as error:
        raise HubError(f"{url} could not be fetched: {error}") from error
    if folder is None:
        raise HubError(f"{url} says that nothing changed, but nothing was fetched before")
    return _adapter_in(folder, url)


def archive_of(version: AdapterVersion) -> tuple[str, Checksum] | None:
    """Return the address and checksum of the archive of a card's version whose files are not in the hub."""
    if version.members or version.url is None:
        return None
    for kind in _DIGESTS:
        digest = getattr(version, kind)
        if digest:
            return version.url, Checksum(kind, digest)
    return None


def bring(url: str, checksum: Checksum, target: Path | None) -> Path:
    """Fetch the archive that a card names; return its folder in the cache, or *target* as a copy of it.

    Raises:
        HubError: As :func:`folder_for`, or if *target* holds something else.
    """
    folder = fetch_archive(url, checksum)
    if target is None:
        return folder
    members = _list(folder)
    if target.is_dir() and any(target.iterdir()):
        if holds(target, members):
            return target
        raise HubError(f"{target} holds something else; give an empty or new folder")
    if target.exists() and not target.is_dir():
        raise HubError(f"{target} is a file; give an empty or new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target.parent) as part:
        shutil.copytree(folder, part)
        if target.is_dir():
            target.rmdir()
        os.rename(part, target)
    return target


@contextlib.contextmanager
def _temporary(beside: Path) -> Iterator[Path]:
    """Give a name for a file or folder that is gone afterwards, unless it was renamed."""
    path = beside / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    try:
        yield path
    finally:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# -- the cache ---------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _list(folder: Path) -> tuple[Member, ...]:
    found = []
    for path in sorted(p for p in folder.rglob("*") if not p.is_dir()):
        digest, size = file_sha256(path)
        found.append(Member(path.relative_to(folder).as_posix(), size, digest))
    return tuple(found)


def _unpacked(store: Path, sha256: Any) -> Path | None:
    """Return the folder of an archive with this hash, if it is here and every file is as it was."""
    if not isinstance(sha256, str):
        return None
    folder, listed = store / sha256, _read(store / f"{sha256}.files.json").get("files")
    if not isinstance(listed, list) or not folder.is_dir():
        return None
    try:
        members = tuple(Member(**item) for item in listed)
        return folder if holds(folder, members) else None
    except (OSError, TypeError):  # another process is replacing it, or it was edited
        return None


def _unpack(archive: Path, store: Path, got: Download, url: str) -> Path:
    """Unpack an archive into its place in the cache, as a whole or not at all."""
    there = _unpacked(store, got.sha256)
    if there is not None:
        return there
    target = store / got.sha256
    with _temporary(store) as part:
        part.mkdir()
        try:
            unpack(archive, part)
        except HubError as error:
            raise type(error)(f"{url} ({got.kind}): {error}") from error
        _adapter_in(part, url)
        listed = {"files": [member.to_json() for member in _list(part)]}
        replace_file(store / f"{got.sha256}.files.json", json.dumps(listed).encode())
        for _ in range(_ATTEMPTS):
            try:
                os.rename(part, target)
                return target
            except OSError:
                if _unpacked(store, got.sha256) is not None:
                    return target  # another process was faster
                if not target.is_dir():
                    raise
                with _temporary(store) as aside, contextlib.suppress(FileNotFoundError):
                    os.rename(target, aside)  # damaged
    raise HubError(f"{target} keeps changing while it is checked; remove it and try again")


def _adapter_in(folder: Path, url: str) -> Path:
    """Return the one folder at or below *folder* that holds a configuration of an adapter."""
    found = {path.parent for name in _CONFIGS for path in folder.rglob(name)}
    outermost = [p for p in found if not any(other in p.parents for other in found)]
    if not outermost:
        raise HubError(f"{url}: there is no {_CONFIGS[0]} in the archive, so it holds no adapter")
    if len(outermost) > 1:
        names = ", ".join(sorted(p.relative_to(folder).as_posix() for p in outermost)[:8])
        raise HubError(
            f"{url}: the archive holds several adapters ({names}); unpack it and load one by its folder"
        )
    return outermost[0]
