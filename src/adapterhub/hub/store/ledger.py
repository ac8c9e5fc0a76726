"""Which blobs exist, so that adding and removing the same content at the same time is safe.

Adding: the row is written (or touched) first, then the content. Removing: only a row that nothing names
and nobody touched for a while is marked ``dying``; then the content goes, then the row. Who wants to add
a dying blob waits for its row to go. So a row that a commit names always has its content.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import delete, exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from adapterhub.hub.store.blobs import Blobs
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Blob, File, Upload, utcnow
from adapterhub.hub.store.refusals import Conflict
from adapterhub.hub.store.staging import Staged
from adapterhub.hub.store.upsert import insert_missing

GRACE = timedelta(hours=24)
#: A remover that has not finished after this time is dead.
_DYING = timedelta(seconds=60)
_WAIT_SECONDS = 90.0


def add(database: Database, home: Blobs, staged: Iterable[Staged]) -> None:
    """Make blobs of staged files. Safe to repeat, and safe at any kill."""
    items = {item.sha256: item for item in staged}
    deadline = time.monotonic() + _WAIT_SECONDS
    while items:
        waiting = _touch(database, items)
        for sha256 in items.keys() - waiting:
            home.put(items[sha256].path, sha256)
        items = {sha256: item for sha256, item in items.items() if sha256 in waiting}
        if items:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"blob {next(iter(items))} is being removed and never goes; try again"
                )
            time.sleep(0.05)


def _touch(database: Database, items: dict[str, Staged]) -> set[str]:
    """Write or touch the rows; return which must wait for their removal."""
    waiting = set()
    try:
        with database.write() as session:
            for item in sorted(items.values(), key=lambda item: item.sha256):
                row = session.get(Blob, item.sha256, with_for_update={"key_share": True})
                if row is None:
                    session.add(Blob(sha256=item.sha256, size=item.size, git_oid=item.git_oid))
                elif row.state == "live" or row.touched < utcnow() - _DYING:
                    row.state, row.touched = "live", utcnow()
                else:
                    waiting.add(item.sha256)
    except IntegrityError:
        return set(items)  # another process wrote the same row just now: look again
    return waiting


def note_upload(session: Session, repo_id: int, sha256: str, account_id: int) -> None:
    """Remember that somebody sent this content to this repository."""
    insert_missing(session, Upload, repo_id=repo_id, sha256=sha256, account_id=account_id)
    session.get_one(Upload, (repo_id, sha256)).created = utcnow()


def collect(database: Database, home: Blobs, *, grace: timedelta = GRACE) -> list[str]:
    """Remove what nothing names and nobody touched for *grace*; return the hashes removed."""
    cutoff = utcnow() - grace
    unnamed = (
        ~exists().where(File.sha256 == Blob.sha256),
        ~exists().where(Upload.sha256 == Blob.sha256),
    )
    with database.write() as session:
        session.execute(delete(Upload).where(Upload.created < cutoff))
    with database.read() as session:
        found = session.scalars(select(Blob.sha256).where(Blob.touched < cutoff, *unnamed)).all()
    removed = []
    for sha256 in found:
        with database.write() as session:
            marked = session.execute(
                update(Blob)
                .where(Blob.sha256 == sha256, Blob.touched < cutoff, *unnamed)
                .values(state="dying", touched=utcnow()),
                execution_options={"synchronize_session": False},
            )
        if marked.rowcount == 1:  # type: ignore[attr-defined]
            home.remove(sha256)
            with database.write() as session:
                session.execute(delete(Blob).where(Blob.sha256 == sha256, Blob.state == "dying"))
            removed.append(sha256)
    return removed + _orphans(database, home)


def _orphans(database: Database, home: Blobs) -> list[str]:
    """Remove contents without a row; the row always comes first, so nobody is about to name them."""
    removed = []
    for sha256 in home.all():
        with database.read() as session:
            if session.get(Blob, sha256) is None:
                home.remove(sha256)
                removed.append(sha256)
    return removed
