"""The log by which every process of a hub learns what looks different since it last asked.

A line is written in the transaction of the change itself: a session of ``Database.write`` notices by
itself when a repository, a commit or an account is changed through it; statements that go past the
objects say so with :func:`note`. Numbers follow the order of commits (on PostgreSQL a lock, held from
the first line to the end of the transaction, sees to that), so whoever has read up to a number misses
nothing below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, event, func, insert, inspect, select, text
from sqlalchemy.orm import Session, sessionmaker

from adapterhub.hub.store.models import (
    Account,
    Change,
    Commit,
    EvaluationReport,
    Repo,
    SignerKey,
    utcnow,
)

#: Any number that no other program of the same database uses, nor the migrations.
_LOG_LOCK = 4_771_190_312
_NOTED = "adapterhub_changed"
_OWNERS = "adapterhub_owners"
_KEPT = timedelta(days=7)
#: Stands for a repository in a line that says: the keys of users are different now.
KEYS = 0
#: What of an account is seen on pages.
_SHOWN = ("name", "fullname", "kind")


@dataclass(frozen=True)
class News:
    """What has changed: up to which number this is, which repositories, and whether the cards have.

    Among the repositories is :data:`KEYS` if the keys of users have changed.
    *everything*: too much time has passed to tell; all must be read again.
    """

    number: int
    repos: frozenset[int] = frozenset()
    cards: bool = False
    everything: bool = False


def note(session: Session, repo_id: int | None) -> None:
    """Write a repository (or ``None``: the cards) into the log at the end of this transaction."""
    session.info.setdefault(_NOTED, set()).add(repo_id)


def attach(writers: sessionmaker[Session]) -> None:
    """Make the sessions of a maker write the log."""
    event.listen(writers, "after_flush", _after_flush)
    event.listen(writers, "before_commit", _before_commit)
    event.listen(writers, "after_soft_rollback", _after_rollback)


def _after_flush(session: Session, context: Any) -> None:
    for item in (*session.new, *session.dirty, *session.deleted):
        if isinstance(item, Repo):
            note(session, item.id)
        elif isinstance(item, Commit | EvaluationReport):
            note(session, item.repo_id)
        elif isinstance(item, SignerKey):
            note(session, KEYS)
        elif isinstance(item, Account) and any(
            inspect(item).attrs[name].history.has_changes() for name in _SHOWN
        ):
            session.info.setdefault(_OWNERS, set()).add(item.id)
        if isinstance(item, Account) and inspect(item).attrs["disabled"].history.has_changes():
            note(session, KEYS)


def _before_commit(session: Session) -> None:
    session.flush()
    noted: set[int | None] = session.info.pop(_NOTED, set())
    owners: set[int] = session.info.pop(_OWNERS, set())
    if owners:
        noted |= set(session.scalars(select(Repo.id).where(Repo.owner_id.in_(owners))))
    if not noted:
        return
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({_LOG_LOCK})"))
    now = utcnow()
    rows = [{"repo_id": item, "created": now} for item in sorted(noted, key=lambda i: i or 0)]
    session.execute(insert(Change), rows)


def _after_rollback(session: Session, previous: Any) -> None:
    session.info.pop(_NOTED, None)
    session.info.pop(_OWNERS, None)


def latest(session: Session) -> int:
    """Return the number of the newest line, 0 if there is none."""
    return session.scalar(select(func.max(Change.id))) or 0


def time_of(session: Session, number: int) -> datetime | None:
    """Return the time of the newest change up to a number, in whole seconds; ``None`` if there is none."""
    # The newest of all: the clocks of several processes differ, and this must not go back.
    found = session.scalar(select(func.max(Change.created)).where(Change.id <= number))
    return found.replace(microsecond=0) if found else None


def since(session: Session, number: int) -> News:
    """Return what has changed after a number that was read before."""
    newest = latest(session)
    if newest == number:
        return News(number)
    oldest = session.scalar(select(func.min(Change.id))) or 0
    if oldest > number + 1 or newest < number:
        return News(newest, everything=True)
    found = session.scalars(select(Change.repo_id).where(Change.id > number, Change.id <= newest))
    ids: Iterable[int | None] = set(found)
    return News(newest, frozenset(i for i in ids if i is not None), None in ids)


def forget(session: Session) -> None:
    """Remove old lines but the newest; who slept longer than that reads everything again."""
    newest = latest(session)
    session.execute(delete(Change).where(Change.created < utcnow() - _KEPT, Change.id < newest))
