"""A queue of work in the database: each piece is leased to one worker at a time, who renews the lease.

A worker that dies renews nothing, its lease ends, and another one takes the work. What fails is tried
again, later each time; after some attempts it is left for a person to look at.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Job, utcnow

LEASE = timedelta(seconds=60)
#: Seconds after which a worker renews its lease.
RENEW_SECONDS = 15.0
MAX_ATTEMPTS = 5
_LONGEST_DELAY = 60.0


def enqueue(session: Session, kind: str, commit_id: str) -> None:
    """Add a piece of work, in the transaction of what makes it necessary."""
    session.add(Job(kind=kind, commit_id=commit_id))


def claim(database: Database, worker: str, *, commit_id: str | None = None) -> Job | None:
    """Take the oldest piece of work that is ready (or that of one commit), if there is any."""
    now = utcnow()
    # A running job is ready again when its lease ends.
    query = select(Job).where(Job.state.in_(("queued", "running")), Job.ready <= now)
    query = query.order_by(Job.id).limit(1)
    if commit_id is not None:
        query = query.where(Job.commit_id == commit_id)
    with database.read() as session:  # mostly there is nothing, and looking takes no lock
        if session.scalar(query) is None:
            return None
    with database.write() as session:
        job = session.scalar(query.with_for_update(skip_locked=True))
        if job is None:
            return None
        job.state, job.worker, job.ready = "running", worker, now + LEASE
        job.attempts += 1
        return job


def renew(session: Session, job: Job) -> None:
    """Go on with a piece of work that takes its time; nothing happens if the lease is lost already."""
    session.execute(
        update(Job)
        .where(Job.id == job.id, Job.attempts == job.attempts, Job.state == "running")
        .values(ready=utcnow() + LEASE)
    )


def done(session: Session, job: Job) -> bool:
    """Close a piece of work; ``False`` if the lease has gone to another worker meanwhile."""
    changed = session.execute(
        update(Job)
        .where(Job.id == job.id, Job.attempts == job.attempts, Job.state == "running")
        .values(state="done", finished=utcnow(), error="")
    )
    return changed.rowcount == 1  # type: ignore[attr-defined]


def failed(session: Session, job: Job, error: str, *, passing: bool = False) -> bool:
    """Note a failure and plan the next attempt; return whether there will be one.

    Args:
        passing: The work is not to blame (no database, no bucket, no room): it is tried until it is done.
    """
    again = passing or job.attempts < MAX_ATTEMPTS
    delay = timedelta(seconds=min(2.0 ** min(job.attempts, 10), _LONGEST_DELAY))
    session.execute(
        update(Job)
        .where(Job.id == job.id, Job.attempts == job.attempts)
        .values(state="queued" if again else "failed", ready=utcnow() + delay, error=error[:2000])
    )
    return again


def release_all(session: Session) -> None:
    """End every lease; for the start of a process that knows itself to be the only one."""
    session.execute(
        update(Job).where(Job.state == "running").values(state="queued", ready=utcnow())
    )
