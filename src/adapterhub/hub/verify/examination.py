"""All checks of one commit: what was read before, what is read now, and what follows for the whole.

The checks of single files and of the set are done at once. The dear ones (:mod:`.deep`) are left to a worker,
unless the same bytes went through them before; until then the commit waits, and its branch shows what
it showed before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.signing import SIGNATURE_FILE
from adapterhub.hub.store import history, likeness
from adapterhub.hub.store.blobs import Blobs
from adapterhub.hub.store.commits import Outcome
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Check, Commit, File, Job, Repo
from adapterhub.hub.store.staging import Staging
from adapterhub.hub.verify import adapter, deep, facts, signatures
from adapterhub.hub.verify.deep import DeepChecks, Subject
from adapterhub.hub.verify.duplicates import duplicates
from adapterhub.hub.verify.files import VERSIONS, examine
from adapterhub.hub.verify.results import Result, errors, result

INTEGRITY = 1
WAITING = "checks against the base model are under way"
#: Kinds of work: the quick checks of a new commit, its dear ones, and all of them on demand.
VERIFY, DEEP, RECHECK = "verify", "deep", "recheck"
#: No check: what pages show of the tensors of a commit that passed them.
NORMS = "norms"

_VERSIONS = {**VERSIONS, "integrity": INTEGRITY}
_Found = dict[str, dict[str, Result]]


@dataclass(frozen=True)
class Examined:
    """What was found about a commit; *waiting*: its dear checks are still to be done."""

    outcome: Outcome
    waiting: bool = False


class Examiner:
    """Examines commits.

    Args:
        local: gives the content of a hash a path on this machine for a while.
        checks: the dear checks.
        staging: where temporary folders are made.
    """

    def __init__(
        self,
        database: Database,
        home: Blobs,
        local: Callable[[str], AbstractContextManager[Path]],
        checks: DeepChecks,
        staging: Staging,
    ) -> None:
        self._database, self._home, self._local = database, home, local
        self._checks, self._staging = checks, staging

    def examine(self, job: Job) -> Examined | None:
        """Do the checks of a piece of work; ``None`` if its commit is gone."""
        with self._database.read() as session:
            commit = session.get(Commit, job.commit_id)
            if commit is None:
                return None
            files = list(history.files(session, commit))
            # A check on demand runs again; otherwise what is known about the same bytes is known.
            known = {} if job.kind == RECHECK else _known(session, commit.repo_id, files)
        found: _Found = {item.path: known.get(item.path) or self._read(item) for item in files}
        hashes = {item.path: item.sha256 for item in files}
        waiting = False
        if not errors(item for results in found.values() for item in results.values()):
            self._sign(commit, found, hashes)
            if not adapter.check_set(found).failed:
                self._compare(commit, found, hashes)
                waiting = self._try(job, commit, found, hashes)
        return Examined(conclusion(files, found, waiting=waiting), waiting)

    def _read(self, item: File) -> dict[str, Result]:
        """Read a stored file back: is it what was sent, and does it pass?"""
        digest = hashlib.sha256()
        for piece in self._home.read(item.sha256):
            digest.update(piece)
        if digest.hexdigest() != item.sha256:
            text = f"{item.path}: the stored content has another hash than what was sent"
            return {"integrity": result("integrity", INTEGRITY, [text])}
        with self._local(item.sha256) as path:
            results = examine(path, item.path)
        return {entry.name: entry for entry in [result("integrity", INTEGRITY), *results]}

    def _sign(self, commit: Commit, found: _Found, hashes: Mapping[str, str]) -> None:
        if SIGNATURE_FILE not in hashes:
            return
        data = b"".join(self._home.read(hashes[SIGNATURE_FILE]))
        with self._database.read() as session:
            repo = session.get_one(Repo, commit.repo_id)
            checked = signatures.check(session, repo, data, hashes, commit.created)
        found[SIGNATURE_FILE] = {**found[SIGNATURE_FILE], signatures.NAME: checked}

    def _compare(self, commit: Commit, found: _Found, hashes: Mapping[str, str]) -> None:
        """Note what the weights look like, and which other adapters look the same."""
        weights = deep.weights_of(found)
        numbers = found[weights]["numbers"].data if "numbers" in found[weights] else {}
        norms = numbers.get("norms")
        if not isinstance(norms, list):
            return
        with self._database.write() as session:
            likeness.note(session, hashes[weights], str(numbers.get("shapes")), norms)
        with self._database.read() as session:
            alike = duplicates(session, commit.repo_id, hashes[weights])
        found[weights] = {**found[weights], alike.name: alike}

    def _try(self, job: Job, commit: Commit, found: _Found, hashes: Mapping[str, str]) -> bool:
        """Add the results of the dear checks; return ``True`` if they are left to a worker."""
        subject, results = self._checks.subject(found, hashes)
        if subject is not None:
            known = None if job.kind == RECHECK else self._tried(commit, subject)
            if known is None and job.kind == VERIFY:
                return True
            results = known or self._run(subject)
        for name, item in results.items():
            place = deep.file_of(name, found)
            found[place] = {**found[place], name: item}
        return False

    def _run(self, subject: Subject) -> dict[str, Result]:
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(self._local(digest))
                for name, digest in subject.hashes.items()
            }
            area = stack.enter_context(self._staging.area())
            return self._checks.run(subject, files, area)

    def _tried(self, commit: Commit, subject: Subject) -> dict[str, Result] | None:
        """Return what an earlier commit of the repository learnt about the same files and base."""
        with self._database.read() as session:
            rows = session.scalars(
                select(Check)
                .join(Commit, Commit.id == Check.commit_id)
                .where(
                    Commit.repo_id == commit.repo_id,
                    Check.sha256.in_(subject.hashes.values()),
                    Check.name.in_(subject.checks),
                )
            ).all()
        found = {row.name: _result(row) for row in rows if row.data.get("key") == subject.key}
        return found if found.keys() == set(subject.checks) else None


def _known(session: Session, repo_id: int, files: list[File]) -> _Found:
    """Return the results that earlier commits of the same repository have for the same files."""
    rows = session.scalars(
        select(Check)
        .join(Commit, Commit.id == Check.commit_id)
        .where(
            Commit.repo_id == repo_id,
            Check.sha256.in_({item.sha256 for item in files}),
            Check.name.in_(_VERSIONS),
        )
    ).all()
    found: _Found = {}
    for item in files:
        mine = {
            row.name: _result(row)
            for row in rows
            if (row.path, row.sha256) == (item.path, item.sha256)
        }
        if "integrity" in mine and all(_VERSIONS[r.name] == r.version for r in mine.values()):
            found[item.path] = mine
    return found


def _result(row: Check) -> Result:
    return Result(row.name, row.version, row.outcome, row.message, row.data)  # type: ignore[arg-type]


def conclusion(
    files: list[File], found: Mapping[str, Mapping[str, Result]], *, waiting: bool = False
) -> Outcome:
    """Put the results of all files of a commit together."""
    whole = adapter.check_set(found)
    broken = errors(item for results in found.values() for item in results.values())
    if broken:
        status, reason = "rejected", "\n".join(broken)
    elif whole.failed:
        status, reason = "held", whole.message
    elif waiting:
        status, reason = "pending", WAITING
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
