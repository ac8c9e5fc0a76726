"""Checking again what is on a server: everything, or what was checked by older versions of the checks."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.store import jobs
from adapterhub.hub.store.models import Check, Commit, Job, Reference
from adapterhub.hub.verify import adapter, deep, duplicates, examination, files, signatures
from adapterhub.hub.verify.examination import RECHECK

#: Every check that there is, and its version now.
CURRENT = {
    **files.VERSIONS,
    **deep.VERSIONS,
    "integrity": examination.INTEGRITY,
    "adapter": adapter.VERSION,
    signatures.NAME: signatures.VERSION,
    duplicates.NAME: duplicates.VERSION,
}


def shown_commits(session: Session) -> list[Commit]:
    """Return the commits that branches and tags show to anybody, or to their writers; oldest first."""
    rows = session.execute(select(Reference.commit_id, Reference.published_id)).all()
    wanted = sorted({item for row in rows for item in row if item})
    found: list[Commit] = []
    for start in range(0, len(wanted), 500):
        query = select(Commit).where(Commit.id.in_(wanted[start : start + 500]))
        found += session.scalars(query).all()
    return sorted(found, key=lambda commit: commit.created)


def outdated(session: Session, commits: Iterable[Commit]) -> list[str]:
    """Return the ids of those commits that a check has not seen in its present version."""
    found = []
    for commit in commits:
        rows = session.execute(
            select(Check.name, Check.version).where(Check.commit_id == commit.id)
        ).all()
        checked = {row.name for row in rows}
        old = any(CURRENT.get(row.name, row.version) != row.version for row in rows)
        # Before there were these checks, an adapter could be published without them.
        wanted = {*deep.ALWAYS}
        if commit.facts.get("head") and commit.facts.get("format") != "peft":
            wanted.add(deep.HEAD)
        never = commit.status == "verified" and not wanted <= checked
        if rows and (old or never):
            found.append(commit.id)
    return found


def enqueue(session: Session, commit_ids: Iterable[str]) -> int:
    """Ask for the checks of commits, but for those that are asked for already; return how many."""
    count = 0
    for commit_id in commit_ids:
        waiting = select(Job.id).where(
            Job.commit_id == commit_id, Job.kind == RECHECK, Job.state.in_(("queued", "running"))
        )
        if session.scalar(waiting) is None:
            jobs.enqueue(session, RECHECK, commit_id)
            count += 1
    return count
