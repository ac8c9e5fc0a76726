"""Making history: a commit is a list of files, and appears as a whole or not at all.

:func:`record` writes the commit, its files, the work for the checks and the new tip of the branch in one
transaction. :func:`conclude` writes what the checks found and, if all passed, turns the one pointer by
which everybody else sees the branch.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from adapterhub.hub.names import collision_problems, member_path_problems
from adapterhub.hub.store import accounts, history, jobs
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.models import (
    Blob,
    Check,
    Commit,
    File,
    Reference,
    Repo,
    RepoTag,
    Upload,
    utcnow,
)
from adapterhub.hub.store.refusals import (
    Conflict,
    EntryMissing,
    Forbidden,
    Malformed,
    RevisionMissing,
    Stale,
    TooLarge,
    all_problems,
)
from adapterhub.hub.store.repos import DEFAULT_BRANCH, View

MAX_FILES = 200


@dataclass(frozen=True)
class Content:
    """What a path is to hold: hashes and size of a blob that exists."""

    sha256: str
    size: int
    git_oid: str
    lfs: bool


@dataclass
class Change:
    """What a commit does: in this order, folders and files deleted, then files put."""

    title: str
    message: str = ""
    parent: str | None = None
    deleted_files: list[str] = field(default_factory=list)
    deleted_folders: list[str] = field(default_factory=list)
    put: dict[str, Content] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What the checks of a commit found; see :mod:`adapterhub.hub.verify`."""

    status: str
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[Mapping[str, Any]] = ()


def _new_id(repo_id: int, parent: str | None, files: Iterable[tuple[str, str]]) -> str:
    """Return an id as git's look: 40 hex digits that no other commit has."""
    data = [repo_id, parent, sorted(files), secrets.token_hex(16)]
    return hashlib.sha1(json.dumps(data).encode(), usedforsecurity=False).hexdigest()


def first_commit(session: Session, repo: Repo, caller: Caller) -> Commit:
    """Write the empty commit with which every repository begins; nobody but its writers sees it."""
    commit = Commit(
        id=_new_id(repo.id, None, ()),
        number=1,
        repo_id=repo.id,
        author=caller.name,
        title="initial commit",
        status="held",
        reason="nothing is in it yet",
    )
    session.add(commit)
    session.flush()
    return commit


def plan(
    session: Session, seen: View, branch: str, change: Change
) -> tuple[Reference, Commit, dict[str, Content] | None]:
    """Return the branch, its tip, and the files after *change* (``None``: the same as before).

    Changes nothing, so that what cannot be committed is refused before it is stored.

    Raises:
        RevisionMissing: If there is no such branch.
        Stale: If ``change.parent`` is not the tip any more.
        EntryMissing: If a file to delete is not there.
        Unacceptable, TooLarge: If the files would not be a folder that others can unpack.
    """
    name = branch.removeprefix("refs/heads/")
    reference = history.find_reference(session, seen.repo.id, "branch", name)
    if reference is None:
        if history.find_reference(session, seen.repo.id, "tag", branch) is not None:
            raise Malformed(f"{branch} is a tag; commit to a branch")
        raise RevisionMissing(f"Invalid rev id: {branch[:200]} of {seen.repo.full_name}")
    tip = session.get_one(Commit, reference.commit_id)
    if change.parent is not None and change.parent != tip.id:
        raise Stale(
            f"A commit has happened since. The tip of {branch} is {tip.id} and not {change.parent}; "
            "look at what changed, then commit on top of it."
        )
    before = {item.path: _content(item) for item in history.files(session, tip)}
    after = _apply(before, change, seen.repo)
    if after == before:
        return reference, tip, None
    _check_tree(after, set(change.put))
    return reference, tip, after


def record(session: Session, seen: View, branch: str, change: Change) -> tuple[Commit, bool]:
    """Write a commit on top of *branch*; return it, and whether it is new (not without an effect).

    The repository must be locked (:func:`~adapterhub.hub.store.repos.view` with ``lock=True``).

    Raises:
        Refusal: As :func:`plan`; also if a content was cleaned up meanwhile.
    """
    reference, tip, after = plan(session, seen, branch, change)
    if after is None:
        return tip, False
    _hold_blobs(session, {item.sha256 for item in change.put.values()})
    commit = Commit(
        id=_new_id(seen.repo.id, tip.id, ((path, item.sha256) for path, item in after.items())),
        number=1
        + (
            session.scalar(select(func.max(Commit.number)).where(Commit.repo_id == seen.repo.id))
            or 0
        ),
        repo_id=seen.repo.id,
        parent_id=tip.id,
        reference_id=reference.id,
        author=seen.caller.name,
        title=change.title,
        message=change.message,
        created=utcnow(),
    )
    session.add(commit)
    session.flush()
    rows = [
        {"commit_id": commit.id, "path": path, **vars(item)} for path, item in sorted(after.items())
    ]
    if rows:
        session.execute(insert(File), rows)
    reference.commit_id = commit.id
    jobs.enqueue(session, "verify", commit.id)
    accounts.audit(
        session,
        seen.caller,
        "commit",
        seen.repo.full_name,
        f"{branch} {commit.id} {change.title[:200]}",
    )
    session.flush()
    return commit, True


def _hold_blobs(session: Session, hashes: set[str]) -> None:
    """Touch the blobs, so that no clean-up that is under way removes them; nobody loses that race."""
    # In one order everywhere, so that two commits with the same files do not wait for each other.
    wanted = select(Blob.sha256).where(Blob.sha256.in_(hashes)).order_by(Blob.sha256)
    session.execute(wanted.with_for_update(key_share=True)).all()
    touched = session.execute(
        update(Blob).where(Blob.sha256.in_(hashes), Blob.state == "live").values(touched=utcnow()),
        execution_options={"synchronize_session": False},
    )
    if touched.rowcount != len(hashes):  # type: ignore[attr-defined]
        raise Conflict("A file of this commit was being cleaned up; send the commit again.")


def _content(item: File) -> Content:
    return Content(item.sha256, item.size, item.git_oid, item.lfs)


def _apply(before: Mapping[str, Content], change: Change, repo: Repo) -> dict[str, Content]:
    after = dict(before)
    for folder in change.deleted_folders:
        prefix = folder.rstrip("/") + "/"
        gone = (
            list(after)
            if prefix in ("/", "./")
            else [path for path in after if path.startswith(prefix)]
        )
        if not gone:
            raise EntryMissing(
                f"A folder with this name doesn't exist: {folder[:200]} in {repo.full_name}"
            )
        for path in gone:
            del after[path]
    for path in change.deleted_files:
        if path not in after:
            raise EntryMissing(
                f"A file with this name doesn't exist: {path[:200]} in {repo.full_name}"
            )
        del after[path]
    after.update(change.put)
    return after


def _check_tree(after: Mapping[str, Content], put: set[str]) -> None:
    if len(after) > MAX_FILES:
        raise TooLarge(
            f"A repository can hold {MAX_FILES} files, and this would make it {len(after)}."
        )
    problems = [line for path in sorted(put) for line in member_path_problems(path)]
    problems += collision_problems(after)
    folders = {
        path.rsplit("/", depth)[0] for path in after for depth in range(1, path.count("/") + 1)
    }
    problems += [f"{path!a} is a file and a folder" for path in sorted(folders & after.keys())]
    if problems:
        raise all_problems("The files cannot be stored", problems)


def may_use(session: Session, repo_id: int, sha256: str) -> Blob | None:
    """Return a blob by its hash if this repository has a right to it: it was sent here or is here.

    Knowing the hash of a stranger's file must not be enough to read it.
    """
    here = select(File.sha256).join(Commit, Commit.id == File.commit_id)
    known = session.get(Upload, (repo_id, sha256)) is not None or session.scalar(
        here.where(Commit.repo_id == repo_id, File.sha256 == sha256).limit(1)
    )
    blob = session.get(Blob, sha256) if known else None
    return blob if blob is not None and blob.state == "live" else None


def conclude(session: Session, commit: Commit, outcome: Outcome) -> bool:
    """Store what the checks found; publish the commit if all passed. Return whether it was published.

    A branch only moves forward: checks that end late do not turn it back.
    """
    # The repository first, as everybody who locks it does.
    session.get(Repo, commit.repo_id, with_for_update={"of": Repo, "key_share": True})
    session.execute(delete(Check).where(Check.commit_id == commit.id))
    if outcome.results:
        session.execute(insert(Check), [{"commit_id": commit.id, **row} for row in outcome.results])
    commit.status, commit.reason = outcome.status, outcome.reason
    commit.facts = dict(outcome.facts)
    session.flush()
    if outcome.status != "verified":
        _withdraw(session, commit)
        return False
    reference = session.get(Reference, commit.reference_id) if commit.reference_id else None
    if reference is None:
        return False
    current = session.get(Commit, reference.published_id) if reference.published_id else None
    if current is not None and current.number > commit.number:
        return False
    _point(session, reference, commit)
    return True


def _withdraw(session: Session, commit: Commit) -> None:
    """A published commit failed when it was checked again: go back to the last one that did not."""
    for reference in session.scalars(
        select(Reference).where(Reference.published_id == commit.id)
    ).all():
        before: Commit | None = commit
        while before is not None and before.status != "verified":
            before = session.get(Commit, before.parent_id) if before.parent_id else None
        _point(session, reference, before)


def _point(session: Session, reference: Reference, commit: Commit | None) -> None:
    """Turn the pointer by which everybody sees a branch; main is also how the repository looks."""
    reference.published_id = commit.id if commit else None
    if reference.name != DEFAULT_BRANCH or reference.kind != "branch":
        return
    repo = session.get_one(Repo, reference.repo_id)
    repo.published_id = reference.published_id
    if commit is None:
        return
    repo.facts, repo.modified = commit.facts, commit.created
    session.execute(delete(RepoTag).where(RepoTag.repo_id == repo.id))
    tags = list(dict.fromkeys(str(tag)[:255] for tag in commit.facts.get("tags", ())))
    if tags:
        rows = [
            {"repo_id": repo.id, "tag": tag, "position": index} for index, tag in enumerate(tags)
        ]
        session.execute(insert(RepoTag), rows)


def require_reference_name(name: str) -> None:
    """Check the name of a new branch or tag by git's rules, as far as they matter here.

    Raises:
        Malformed: If it cannot be one.
    """
    parts = name.split("/")
    wrong = (
        not name
        or len(name.encode()) > 200
        or any(char in name for char in " ~^:?*[\\\x7f")
        or any(ord(char) < 32 for char in name)
        or ".." in name
        or "@{" in name
        or any(
            not part or part.startswith((".", "-")) or part.endswith((".", ".lock"))
            for part in parts
        )
        or name.startswith("refs/")
    )
    if wrong:
        raise Malformed(f"{name[:100]!r} cannot be the name of a branch or tag")


def remove_reference(session: Session, seen: View, kind: str, name: str) -> None:
    """Delete a branch or tag; commits stay, as others may have noted their ids.

    Raises:
        RevisionMissing: If there is none.
        Forbidden: For the default branch.
    """
    reference = history.find_reference(session, seen.repo.id, kind, name)
    if reference is None:
        raise RevisionMissing(f"there is no {kind} {name[:200]!r} in {seen.repo.full_name}")
    if kind == "branch" and name == DEFAULT_BRANCH:
        raise Forbidden(f"{DEFAULT_BRANCH} is what people see; it cannot be deleted")
    session.delete(reference)
    accounts.audit(session, seen.caller, f"{kind}.delete", seen.repo.full_name, name)
