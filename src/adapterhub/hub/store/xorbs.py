"""Which xorbs have arrived for large files that clients send as to a Xet server, and how many bytes they are.

A push is the time from a client's first xorb to its last shard; its xorbs lie together in one folder of
pieces (:mod:`.pending`). Nobody but the sender of a push can refer to them. They go when the files are
put together, when that fails, or a day after the last one came.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Account, StagedXorb, utcnow
from adapterhub.hub.store.pending import GRACE, Pending
from adapterhub.hub.store.quotas import human
from adapterhub.hub.store.refusals import TooLarge

#: A push that nobody has touched for so long may be gone on with by another run of the client.
_QUIET = timedelta(minutes=2)


def folder_of(repo_id: int, account_id: int, push: str) -> str:
    """Return the folder of a push: everybody has his own for each repository."""
    return f"xet-{repo_id}-{account_id}-{push}"


def push_for(session: Session, repo_id: int, account_id: int) -> str:
    """Return the name of a push: that of one which was broken off, else a new one.

    A client remembers what it has sent by the address that it sent it to. So one that starts again goes on
    where it was; and nobody refers to what was removed, as no name comes twice.
    """
    # Those that are about to expire are left alone.
    now = utcnow()
    found = session.execute(
        select(StagedXorb.folder, func.max(StagedXorb.touched).label("last"))
        .where(StagedXorb.repo_id == repo_id, StagedXorb.account_id == account_id)
        .group_by(StagedXorb.folder)
        .having(func.max(StagedXorb.touched) < now - _QUIET)
        .having(func.min(StagedXorb.touched) > now - GRACE / 2)
        .order_by(func.max(StagedXorb.touched).desc())
        .limit(1)
    ).first()
    return found.folder.rpartition("-")[2] if found else uuid.uuid4().hex


@dataclass(frozen=True)
class Room:
    """How many bytes there may be.

    Attributes:
        user: in all unfinished pushes of one user.
        namespace: what the namespace may still add; ``None``: no limit.
    """

    user: int
    namespace: int | None


@dataclass(frozen=True)
class Arriving:
    """A xorb: its push's folder, its hash, whose it is, for which repository, and its bytes."""

    folder: str
    xorb: str
    account_id: int
    repo_id: int
    size: int


def require_room(session: Session, item: Arriving, room: Room) -> None:
    """Refuse a xorb for which there is no room.

    Raises:
        TooLarge: If it, with those that are there, would be more than there may be.
    """
    others = select(func.coalesce(func.sum(StagedXorb.size), 0)).where(
        or_(StagedXorb.folder != item.folder, StagedXorb.xorb != item.xorb)
    )
    mine = session.scalar(others.where(StagedXorb.account_id == item.account_id)) or 0
    if mine + item.size > room.user:
        raise TooLarge(
            f"you have {human(int(mine))} of unfinished uploads here, of at most {human(room.user)}; "
            "send fewer files at once, or wait until the others are finished"
        )
    if room.namespace is not None:
        here = session.scalar(others.where(StagedXorb.folder == item.folder)) or 0
        if here + item.size > room.namespace:
            raise TooLarge(f"there is no room for these files: {human(room.namespace)} are left")


def add(session: Session, item: Arriving, room: Room) -> None:
    """Write down a xorb that has arrived; many at once cannot pass the limits together.

    Raises:
        TooLarge: As :func:`require_room`.
    """
    session.execute(
        select(Account.id).where(Account.id == item.account_id).with_for_update(key_share=True)
    )
    require_room(session, item, room)
    same = (StagedXorb.folder == item.folder, StagedXorb.xorb == item.xorb)
    session.execute(delete(StagedXorb).where(*same))
    session.add(StagedXorb(**asdict(item)))


def touch(session: Session, folder: str) -> list[str]:
    """Return the hashes of a push's xorbs, and remember that it goes on."""
    session.execute(
        update(StagedXorb).where(StagedXorb.folder == folder).values(touched=utcnow()),
        execution_options={"synchronize_session": False},
    )
    return list(session.scalars(select(StagedXorb.xorb).where(StagedXorb.folder == folder)))


def used(session: Session, folder: str, hashes: Collection[str]) -> bool:
    """Note that a shard that told of these xorbs is done with; return whether that was the last one.

    A client with very many files sends several shards, each of which tells of some of the xorbs.
    """
    rows = session.scalars(select(StagedXorb).where(StagedXorb.folder == folder)).all()
    for row in rows:
        row.used = row.used or row.xorb in hashes
    return all(row.used for row in rows)


def remove(database: Database, pending: Pending, folder: str) -> None:
    """Remove the xorbs of a push; those of one that is not there is no error."""
    with database.write() as session:
        session.execute(delete(StagedXorb).where(StagedXorb.folder == folder))
    pending.remove(folder)


def expire(database: Database, pending: Pending, grace: timedelta = GRACE) -> int:
    """Remove the xorbs of pushes that nobody has touched for *grace*; return how many."""
    with database.read() as session:
        found = session.execute(
            select(StagedXorb.folder, func.count())
            .group_by(StagedXorb.folder)
            .having(func.max(StagedXorb.touched) < utcnow() - grace)
        ).all()
    for folder, _ in found:
        remove(database, pending, folder)
    return sum(count for _, count in found)
