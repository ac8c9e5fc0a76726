"""The way of an upload: examined, stored, committed, checked as a whole, published.

Up to the commit nothing is visible to anybody, and a refusal leaves nothing behind. The commit is one
transaction; what follows it can be done again from the start by whoever finds it undone.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.store import commits, history, jobs, ledger, repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.blobs import Blobs, FolderBlobs
from adapterhub.hub.store.commits import Change, Content, Outcome
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Check, Commit, File, Job
from adapterhub.hub.store.refusals import Unacceptable, all_problems
from adapterhub.hub.store.staging import Staged, Staging, stage
from adapterhub.hub.verify import adapter, convert, facts
from adapterhub.hub.verify.files import VERSIONS, examine
from adapterhub.hub.verify.results import Result, errors, result

log = logging.getLogger("adapterhub.hub.verify")
_INTEGRITY = 1


@dataclass(frozen=True)
class Received:
    """What a request wants to commit: files sent along, and files sent before (by their hash)."""

    change: Change
    staged: Mapping[str, Staged]
    linked: Mapping[str, str]


class Intake:
    """Takes uploads into a hub, and finishes what was begun."""

    def __init__(self, database: Database, home: Blobs, staging: Staging) -> None:
        self.database, self.home, self.staging = database, home, staging
        self._worker = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        #: Set when there is work for a waiting worker thread.
        self.wake = threading.Event()

    def commit(
        self,
        caller: Caller,
        owner: str,
        name: str,
        branch: str,
        received: Received,
        *,
        check_now: bool = True,
    ) -> Commit:
        """Check what was received and put it on top of *branch*; return the commit as it stands now.

        Args:
            check_now: Also run the checks of the whole commit before returning, instead of leaving
                them to a worker.

        Raises:
            Refusal: As :func:`adapterhub.hub.store.commits.record`, or if a file fails a check.
        """
        change = received.change
        with self.database.read() as session:
            seen = repos.view(session, caller, owner, name, need="write")
            linked = self._linked(session, seen.repo.id, received.linked)
        problems = []
        received = without_pickles(received)
        for path, staged in received.staged.items():
            problems += errors(examine(staged.path, path))
            change.put[path] = Content(
                staged.sha256, staged.size, staged.git_oid, _is_lfs(staged.path)
            )
        for path, content in linked.items():
            with self._local(content.sha256) as file:
                problems += errors(examine(file, path))
            change.put[path] = content
        if problems:
            raise all_problems("These files cannot be published", problems)
        with self.database.read() as session:
            seen = repos.view(session, caller, owner, name, need="write")
            commits.plan(session, seen, branch, change)
        ledger.add(self.database, self.home, received.staged.values())
        with self.database.write() as session:
            seen = repos.view(session, caller, owner, name, need="write", lock=True)
            commit, new = commits.record(session, seen, branch, change)
        if new and check_now:
            self.finish(commit.id)
            with self.database.read() as session:
                return session.get(Commit, commit.id) or commit
        self.wake.set()
        return commit

    def _linked(
        self, session: Session, repo_id: int, wanted: Mapping[str, str]
    ) -> dict[str, Content]:
        result = {}
        for path, sha256 in wanted.items():
            blob = commits.may_use(session, repo_id, sha256)
            if blob is None:
                raise Unacceptable(
                    f"{path}: the content {sha256[:80]} was not uploaded to this repository"
                )
            result[path] = Content(blob.sha256, blob.size, blob.git_oid, True)
        return result

    @contextmanager
    def _local(self, sha256: str) -> Iterator[Path]:
        """Give a blob a path on this machine for a while."""
        if isinstance(self.home, FolderBlobs):
            yield self.home.path(sha256)
            return
        with self.staging.area() as folder:
            path = folder / sha256
            with path.open("wb") as file:
                for piece in self.home.read(sha256):
                    file.write(piece)
            yield path

    def finish(self, commit_id: str | None = None) -> bool:
        """Do one piece of waiting work (that of a commit, or any); return whether there was one."""
        job = jobs.claim(self.database, self._worker, commit_id=commit_id)
        if job is None:
            return False
        try:
            self._run(job)
        except Exception as error:  # whatever it is, it must neither be lost nor stop the others
            log.exception("checks of commit %s failed", job.commit_id)
            with self.database.write() as session:
                if not jobs.failed(session, job, f"{type(error).__name__}: {error}"):
                    commit = session.get(Commit, job.commit_id)
                    if commit is not None and commit.status == "pending":
                        commit.status, commit.reason = (
                            "held",
                            "the checks could not be run; see the log",
                        )
        return True

    def _run(self, job: Job) -> None:
        with self.database.read() as session:
            commit = session.get(Commit, job.commit_id)
            if commit is None:
                return
            files = list(history.files(session, commit))
            # A check on demand runs again; otherwise what is known about the same bytes is known.
            known = {} if job.kind == "recheck" else self._known(session, commit.repo_id, files)
        found = {item.path: known.get(item.path) or self._examine(item) for item in files}
        outcome = conclusion(files, found)
        with self.database.write() as session:
            if not jobs.done(session, job):
                return  # the lease went to another worker, whose result counts
            published = commits.conclude(session, session.get_one(Commit, job.commit_id), outcome)
        log.info(
            "commit %s is %s%s", job.commit_id, outcome.status, ", published" if published else ""
        )

    def _known(
        self, session: Session, repo_id: int, files: list[File]
    ) -> dict[str, dict[str, Result]]:
        """Return the results that earlier commits of the same repository have for the same files."""
        rows = session.scalars(
            select(Check)
            .join(Commit, Commit.id == Check.commit_id)
            .where(Commit.repo_id == repo_id, Check.sha256.in_({item.sha256 for item in files}))
        ).all()
        result: dict[str, dict[str, Result]] = {}
        for item in files:
            mine = {
                row.name: Result(row.name, row.version, row.outcome, row.message, row.data)  # type: ignore[arg-type]
                for row in rows
                if (row.path, row.sha256) == (item.path, item.sha256)
            }
            versions = {**VERSIONS, "integrity": _INTEGRITY}
            if "integrity" in mine and all(
                versions.get(r.name) == r.version for r in mine.values()
            ):
                result[item.path] = mine
        return result

    def _examine(self, item: File) -> dict[str, Result]:
        """Read a stored file back: is it what was sent, and does it pass?"""
        digest = hashlib.sha256()
        for piece in self.home.read(item.sha256):
            digest.update(piece)
        if digest.hexdigest() != item.sha256:
            text = f"{item.path}: the stored content has another hash than what was sent"
            return {"integrity": result("integrity", _INTEGRITY, [text])}
        with self._local(item.sha256) as path:
            results = examine(path, item.path)
        return {entry.name: entry for entry in [result("integrity", _INTEGRITY), *results]}


def without_pickles(received: Received) -> Received:
    """Put safetensors in the place of pickled weights; see :mod:`.convert`.

    Where the same commit brings the safetensors, too, the pickle is left out.

    Raises:
        Unacceptable: If a pickle holds more than tensors.
    """
    staged: dict[str, Staged] = {}
    for path, item in received.staged.items():
        target = convert.target_of(path)
        if target is None:
            staged[path] = item
        elif target not in received.staged and target not in received.linked:
            made = item.path.with_name(item.path.name + ".safetensors")
            convert.convert(item.path, made, path)
            staged[target] = stage(made)
    return Received(received.change, staged, received.linked)


def _is_lfs(path: Path) -> bool:
    """Tell whether clients are to know a file by its SHA-256: weights are, text is not."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 48


def conclusion(files: list[File], found: Mapping[str, Mapping[str, Result]]) -> Outcome:
    """Put the results of all files of a commit together."""
    whole = adapter.check_set(found)
    broken = errors(item for results in found.values() for item in results.values())
    if broken:
        status, reason = "rejected", "\n".join(broken)
    elif whole.failed:
        status, reason = "held", whole.message
    else:
        status, reason = "verified", ""
    learnt = facts.derive(found, sum(item.size for item in files))
    by_path = {item.path: item.sha256 for item in files}
    rows = [
        _row(path, by_path[path], item)
        for path, results in found.items()
        for item in results.values()
    ]
    return Outcome(status, reason, learnt, [*rows, _row("", "", whole)])


def _row(path: str, sha256: str, item: Result) -> dict[str, object]:
    return {
        "path": path,
        "sha256": sha256,
        "name": item.name,
        "version": item.version,
        "outcome": item.outcome,
        "message": item.message,
        "data": item.data,
    }
