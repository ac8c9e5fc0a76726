"""How much a namespace may hold.

The settings say it for all; a row of ``quotas`` says otherwise for one. Bytes are those of the distinct
contents of all commits of the namespace's repositories, and of what was sent for a commit that has not
come yet. They are counted where they are about to grow, in the transaction that lets them grow and with
the namespace locked, so that many pushes at once cannot pass together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Subquery, func, select, union
from sqlalchemy.orm import Session

from adapterhub.hub.store.models import Account, Blob, Commit, File, Quota, Repo, Upload
from adapterhub.hub.store.refusals import Forbidden, TooLarge

_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Allowance:
    """What a namespace may hold; 0 is no limit.

    Attributes:
        bytes: of all contents.
        repos: number of repositories.
    """

    bytes: int = 0
    repos: int = 0


@dataclass(frozen=True)
class Usage:
    """What a namespace holds."""

    bytes: int
    repos: int


def human(size: int) -> str:
    """Return a number of bytes for people: ``1.5 GB``."""
    value = float(size)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def allowance_of(session: Session, owner_id: int, default: Allowance) -> Allowance:
    """Return what a namespace may hold."""
    row = session.get(Quota, owner_id)
    if row is None:
        return default
    return Allowance(
        default.bytes if row.max_bytes is None else row.max_bytes,
        default.repos if row.max_repos is None else row.max_repos,
    )


def set_allowance(
    session: Session, owner_id: int, max_bytes: int | None, max_repos: int | None
) -> None:
    """Give a namespace limits of its own; ``None``: as the settings say, 0: none."""
    row = session.get(Quota, owner_id)
    if max_bytes is None and max_repos is None:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(Quota(account_id=owner_id, max_bytes=max_bytes, max_repos=max_repos))
    else:
        row.max_bytes, row.max_repos = max_bytes, max_repos


def _contents(owner_id: int) -> Subquery:
    committed = (
        select(File.sha256, File.size)
        .join(Commit, Commit.id == File.commit_id)
        .join(Repo, Repo.id == Commit.repo_id)
        .where(Repo.owner_id == owner_id)
    )
    sent = (
        select(Blob.sha256, Blob.size)
        .join(Upload, Upload.sha256 == Blob.sha256)
        .join(Repo, Repo.id == Upload.repo_id)
        .where(Repo.owner_id == owner_id)
    )
    return union(committed, sent).subquery()


def usage(session: Session, owner_id: int) -> Usage:
    """Return what a namespace holds."""
    size = session.scalar(select(func.coalesce(func.sum(_contents(owner_id).c.size), 0)))
    count = session.scalar(select(func.count(Repo.id)).where(Repo.owner_id == owner_id))
    return Usage(int(size or 0), count or 0)


def _lock(session: Session, owner: Account) -> None:
    session.execute(
        select(Account.id).where(Account.id == owner.id).with_for_update(key_share=True)
    )


def require_repo(session: Session, owner: Account, default: Allowance) -> None:
    """Refuse what was just added to a namespace if it has more repositories now than it may have.

    Call it after the repository was added, in the same transaction, which the refusal undoes: so a name
    that is taken is told first.

    Raises:
        Forbidden: Then.
    """
    limit = allowance_of(session, owner.id, default).repos
    if not limit:
        return
    session.flush()
    _lock(session, owner)
    count = session.scalar(select(func.count(Repo.id)).where(Repo.owner_id == owner.id)) or 0
    if count > limit:
        raise Forbidden(
            f"{owner.name} has {count - 1} of {limit} repositories, so none can be added; "
            "delete one, or ask an administrator of this hub for more."
        )


def require_fit(session: Session, owner: Account, default: Allowance) -> None:
    """Refuse what was just moved to a namespace if it holds more now than it may.

    Raises:
        Forbidden, TooLarge: Then.
    """
    require_repo(session, owner, default)
    limit = allowance_of(session, owner.id, default).bytes
    if not limit:
        return
    _lock(session, owner)
    used = usage(session, owner.id).bytes
    if used > limit:
        raise TooLarge(
            f"{owner.name} may hold {human(limit)}, and with this it would be {human(used)}."
        )


def room(session: Session, owner_id: int, default: Allowance) -> int | None:
    """Return how many bytes a namespace may add, or ``None`` if there is no limit."""
    limit = allowance_of(session, owner_id, default).bytes
    return max(0, limit - usage(session, owner_id).bytes) if limit else None


def require_room(
    session: Session, owner: Account, contents: Mapping[str, int], default: Allowance
) -> None:
    """Refuse contents for which a namespace has no room.

    Args:
        contents: size in bytes by SHA-256; those that the namespace holds already are free.

    Raises:
        TooLarge: Then, with what is left.
    """
    limit = allowance_of(session, owner.id, default).bytes
    if not limit or not contents:
        return
    _lock(session, owner)
    rows = _contents(owner.id)
    used = int(session.scalar(select(func.coalesce(func.sum(rows.c.size), 0))) or 0)
    known = set(session.scalars(select(rows.c.sha256).where(rows.c.sha256.in_(list(contents)))))
    wanted = sum(size for sha256, size in contents.items() if sha256 not in known)
    if wanted and used + wanted > limit:
        raise TooLarge(
            f"{owner.name} has {human(used)} of {human(limit)}: {human(max(0, limit - used))} are left, "
            f"and this needs {human(wanted)}. Delete what is not needed, or ask an administrator."
        )
