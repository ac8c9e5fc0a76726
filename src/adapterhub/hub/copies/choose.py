"""From what a user names (an address, a folder) to an origin, and the whole of a mirror run."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from adapterhub.errors import HubError
from adapterhub.hub.client import is_server
from adapterhub.hub.copies.endpoint import Endpoint
from adapterhub.hub.copies.origin import EVERYTHING, Filter
from adapterhub.hub.copies.published import Published
from adapterhub.hub.copies.run import Limits, Progress, Report, copy, open_copy
from adapterhub.hub.copies.wire import NotThere, Wire
from adapterhub.hub.pull import cache_folder
from adapterhub.hub.signing import PublicKey, SignatureError
from adapterhub.hub.trust import TrustedKeys

if TYPE_CHECKING:
    from adapterhub.hub.copies.stored import Stored

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def since(text: str) -> str:
    """Check a date or time for :class:`Filter`.

    Raises:
        HubError: If it is none.
    """
    if not text:
        return ""
    try:
        datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except ValueError:
        raise HubError(f"{text!r} is no date; write e.g. 2026-11-21") from None
    return text


def store(data: Path) -> Stored:
    """Return the store of a server on this machine: the folder *data*, or what the environment names.

    Raises:
        HubError: If there is none, or it is of another version.
    """
    from adapterhub.hub.copies.stored import Stored
    from adapterhub.hub.server.service import open_blobs
    from adapterhub.hub.server.settings import Settings
    from adapterhub.hub.store.database import Database

    settings = Settings.from_environment(data)
    if settings.embedded and not (data / "hub.db").is_file() and not settings.database_url:
        raise HubError(f"{data} holds no hub.db; give the --data folder of a hub server")
    database = Database(settings.database)
    database.upgrade()
    return Stored(
        database,
        open_blobs(settings),
        name=settings.title,
        description=settings.about,
        # Without the password: this is shown, and kept in the copy.
        place=str(data.absolute())
        if settings.embedded
        else database.engine.url.render_as_string(hide_password=True),
    )


def mirror(
    url: str,
    target: str | os.PathLike[str],
    *,
    wanted: Filter = EVERYTHING,
    keys: Sequence[str] = (),
    token: str | None = None,
    hosts: tuple[str, ...] = (),
    prune: bool = False,
    verify: bool = False,
    adopt: bool = False,
    limits: Limits | None = None,
    jobs: int = 4,
    progress: Progress | None = None,
) -> tuple[Report, Published | Endpoint]:
    """Copy the hub at *url* into the folder *target*; the second time, only what is new.

    Args:
        keys: public keys (``ed25519:...``) of which one must have signed the index; the folder remembers
            them, and asks for them from then on.
        token: for a hub that asks for one; it goes to that host only.
        hosts: other hosts to which the hub may redirect downloads.

    The others are as for :func:`.run.copy` and :func:`.run.open_copy`.

    Raises:
        HubError: The hub cannot be reached, its index is not to be believed, or the folder is no copy of it.
    """
    wire = Wire(url, token=token, hosts=hosts)
    state = open_copy(target, wire.base, adopt=adopt)
    for text in keys:
        state.keys[str(PublicKey.parse(text))] = ""
    believed = {PublicKey.parse(text): name for text, name in state.keys.items()}
    try:
        origin: Published | Endpoint = Published(wire, keys=believed, before=state.seen)
    except NotThere:
        if believed:
            raise SignatureError(
                f"{wire.base} publishes no index, but this copy asks for a signed one"
            ) from None
        origin = Endpoint(wire)
    if isinstance(origin, Published):
        _refuse_revoked(origin)
        state.seen = origin.seen or state.seen
    report = copy(
        origin,
        state,
        wanted=wanted,
        prune=prune,
        verify=verify,
        limits=limits,
        jobs=jobs,
        progress=progress,
    )
    return report, origin


def _refuse_revoked(origin: Published) -> None:
    if origin.signature is not None:
        TrustedKeys.load().refuse_revoked(origin.signature)


def export(
    source: str,
    target: str | os.PathLike[str],
    *,
    wanted: Filter = EVERYTHING,
    prune: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Write the public adapters of a server as a folder hub.

    Args:
        source: the data folder of a server (which may be running), or its address.
        target: a new or empty folder, or one of an earlier export.
        prune: remove what the server does not have any more.

    Raises:
        HubError: As :func:`mirror`.
    """
    if is_server(source):
        return mirror(source, target, wanted=wanted, prune=prune, progress=progress)[0]
    origin = store(Path(source).expanduser())
    state = open_copy(target, origin.name)
    return copy(origin, state, wanted=wanted, prune=prune, examined=True, progress=progress)


def working_folder(source: str) -> Path:
    """Return the folder in the cache for copies of *source* that pages are built from."""
    name = source.rstrip("/") if is_server(source) else str(Path(source).expanduser().resolve())
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return cache_folder() / "copies" / digest
