"""The way of an upload: examined, stored, committed, checked as a whole, published.

Up to the commit nothing is visible to anybody, and a refusal leaves nothing behind. The commit is one
transaction; what follows it can be done again from the start by whoever finds it undone.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from adapterhub.hub.store import commits, history, jobs, ledger, quotas, repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.blobs import Blobs, FolderBlobs
from adapterhub.hub.store.commits import Change, Content
from adapterhub.hub.store.database import UNREACHABLE, Database
from adapterhub.hub.store.models import Commit, Job
from adapterhub.hub.store.quotas import Allowance
from adapterhub.hub.store.refusals import Unacceptable, file_problems
from adapterhub.hub.store.staging import Staged, Staging, stage
from adapterhub.hub.verify import convert
from adapterhub.hub.verify.deep import DeepChecks
from adapterhub.hub.verify.examination import DEEP, NORMS, Examiner
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.results import errors

log = logging.getLogger("adapterhub.hub.verify")
_WAIT_SECONDS = 30.0


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
        #: What a namespace may hold, unless it has limits of its own.
        self.allowance = Allowance()
        #: The dear checks; a server switches them on.
        self.deep = DeepChecks(enabled=False)
        #: Prepares what pages show of a file's tensors, by its SHA-256; done by workers, so that nobody
        #: who looks at a page waits for it (:func:`adapterhub.hub.live.norms.attach`).
        self.measure: Callable[[str], object] | None = None
        self._unnoted: list[tuple[Job, str]] = []

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
        received, problems = without_pickles(received)
        for path, staged in received.staged.items():
            problems[path] = errors(examine(staged.path, path))
            change.put[path] = Content(
                staged.sha256, staged.size, staged.git_oid, _is_lfs(staged.path)
            )
        for path, content in linked.items():
            with self._local(content.sha256) as file:
                problems[path] = errors(examine(file, path))
            change.put[path] = content
        if any(problems.values()):
            raise file_problems("These files cannot be published", problems)
        contents = {item.sha256: item.size for item in change.put.values()}
        with self.database.read() as session:
            seen = repos.view(session, caller, owner, name, need="write")
            commits.plan(session, seen, branch, change)
            quotas.require_room(session, seen.repo.owner, contents, self.allowance)
        ledger.add(self.database, self.home, received.staged.values())
        with self.database.write() as session:
            seen = repos.view(session, caller, owner, name, need="write", lock=True)
            quotas.require_room(session, seen.repo.owner, contents, self.allowance)
            commit, new = commits.record(session, seen, branch, change)
        if new and check_now:
            try:
                if not self.finish(commit.id):
                    self._await_worker(commit.id)
                with self.database.read() as session:
                    return session.get(Commit, commit.id) or commit
            except UNREACHABLE:  # the commit is stored; a worker checks it when there is a database
                log.exception("checks of commit %s are put off", commit.id)
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
        self._note_failures()
        job = jobs.claim(self.database, self._worker, commit_id=commit_id)
        if job is None:
            return False
        try:
            with self._leased(job):
                self._run(job)
        except Exception as error:  # whatever it is, it must neither be lost nor stop the others
            log.exception("checks of commit %s failed", job.commit_id)
            self._failed(job, error)
        return True

    @contextmanager
    def _leased(self, job: Job) -> Iterator[None]:
        """Renew the lease of a piece of work while the block runs."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(jobs.RENEW_SECONDS):
                try:
                    with self.database.write() as session:
                        jobs.renew(session, job)
                except UNREACHABLE:
                    log.exception("the lease of commit %s could not be renewed", job.commit_id)

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _await_worker(self, commit_id: str) -> None:
        """A worker was faster in taking the quick checks of a commit: let it end them."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            with self.database.read() as session:
                commit = session.get(Commit, commit_id)
                if commit is None or commit.status != "pending" or commit.reason:
                    return
            time.sleep(0.05)

    def _failed(self, job: Job, error: Exception) -> None:
        passing = isinstance(error, (*UNREACHABLE, OSError)) and not isinstance(
            error, FileNotFoundError
        )
        text = f"{type(error).__name__}: {error}"
        try:
            with self.database.write() as session:
                if not jobs.failed(session, job, text, passing=passing):
                    commit = session.get(Commit, job.commit_id)
                    checking = job.kind != NORMS
                    if checking and commit is not None and commit.status == "pending":
                        reason = "the checks could not be run; see the log"
                        commit.status, commit.reason = "held", reason
        except UNREACHABLE:
            self._unnoted.append((job, text))
            raise

    def _note_failures(self) -> None:
        """Give back the work that failed while nothing could be noted, instead of waiting for its lease."""
        while self._unnoted:
            job, text = self._unnoted[0]
            with self.database.write() as session:
                jobs.failed(session, job, text, passing=True)
            with contextlib.suppress(ValueError):  # another thread was faster
                self._unnoted.remove((job, text))

    def _run(self, job: Job) -> None:
        if job.kind == NORMS:
            self._measure(job)
            return
        examiner = Examiner(self.database, self.home, self._local, self.deep, self.staging)
        examined = examiner.examine(job)
        if examined is None:
            return
        outcome = examined.outcome
        with self.database.write() as session:
            if not jobs.done(session, job):
                return  # the lease went to another worker, whose result counts
            published = commits.conclude(session, session.get_one(Commit, job.commit_id), outcome)
            if examined.waiting:
                jobs.enqueue(session, DEEP, job.commit_id)
            elif outcome.status == "verified" and self.measure is not None:
                jobs.enqueue(session, NORMS, job.commit_id)
        self.wake.set()
        log.info(
            "commit %s is %s%s", job.commit_id, outcome.status, ", published" if published else ""
        )

    def _measure(self, job: Job) -> None:
        """Prepare what pages show of the tensors of a commit."""
        with self.database.read() as session:
            commit = session.get(Commit, job.commit_id)
            files = list(history.files(session, commit)) if commit is not None else []
        for item in files:
            if self.measure is not None and item.path.endswith(".safetensors"):
                self.measure(item.sha256)
        with self.database.write() as session:
            jobs.done(session, job)


def without_pickles(received: Received) -> tuple[Received, dict[str, list[str]]]:
    """Put safetensors in the place of pickled weights; see :mod:`.convert`.

    Where the same commit brings the safetensors, too, the pickle is left out.

    Returns:
        What there is then, and by path why a pickle could not be converted.
    """
    staged: dict[str, Staged] = {}
    problems: dict[str, list[str]] = {}
    for path, item in received.staged.items():
        target = convert.target_of(path)
        if target is None:
            staged[path] = item
        elif target not in received.staged and target not in received.linked:
            made = item.path.with_name(item.path.name + ".safetensors")
            try:
                convert.convert(item.path, made, path)
            except Unacceptable as error:
                problems[path] = [str(error)]
                continue
            staged[target] = stage(made)
    return Received(received.change, staged, received.linked), problems


def _is_lfs(path: Path) -> bool:
    """Tell whether clients are to know a file by its SHA-256: weights are, text is not."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 48
