"""Reading the history: from a revision as people write it to a commit, and from there to files.

Writers of a repository see the newest commit of a branch; everybody else sees the newest one that all
checks have passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from adapterhub.hub.store.models import Commit, File, Reference
from adapterhub.hub.store.refusals import EntryMissing, RevisionMissing
from adapterhub.hub.store.repos import View

_SHA = re.compile(r"[0-9a-f]{7,40}")
_PREFIXES = {"refs/heads/": "branch", "refs/tags/": "tag"}


def find_reference(session: Session, repo_id: int, kind: str, name: str) -> Reference | None:
    """Return the branch or tag (*kind*) of that name."""
    query = select(Reference).where(
        Reference.repo_id == repo_id, Reference.kind == kind, Reference.name == name
    )
    return session.scalar(query)


def resolve(session: Session, seen: View, revision: str) -> Commit:
    """Return the commit that *revision* (branch, tag, or 7 to 40 digits of a commit id) stands for.

    Raises:
        RevisionMissing: If there is none that the caller may see.
    """
    commit = _named(session, seen, revision)
    if commit is None and _SHA.fullmatch(revision):
        found = session.scalars(
            select(Commit)
            .where(Commit.repo_id == seen.repo.id, Commit.id.startswith(revision))
            .limit(2)
        ).all()
        commit = found[0] if len(found) == 1 else None
    if commit is None or not (seen.sees_tips or commit.status == "verified"):
        raise RevisionMissing(f"Invalid rev id: {revision[:200]} of {seen.repo.full_name}")
    return commit


def _named(session: Session, seen: View, revision: str) -> Commit | None:
    kinds, name = ("branch", "tag"), revision
    for prefix, kind in _PREFIXES.items():
        if revision.startswith(prefix):
            kinds, name = (kind,), revision.removeprefix(prefix)
    for kind in kinds:
        reference = find_reference(session, seen.repo.id, kind, name)
        if reference is not None:
            return visible(session, seen, reference)
    return None


def visible(session: Session, seen: View, reference: Reference) -> Commit | None:
    """Return the commit that a branch or tag shows to this caller, if any."""
    if seen.sees_tips or reference.kind == "tag":
        return session.get(Commit, reference.commit_id)
    return session.get(Commit, reference.published_id) if reference.published_id else None


def references(session: Session, seen: View) -> list[tuple[Reference, Commit]]:
    """Return all branches and tags that the caller may see, with their commits."""
    rows = session.scalars(
        select(Reference).where(Reference.repo_id == seen.repo.id).order_by(Reference.name)
    )
    result = []
    for reference in rows.all():
        commit = visible(session, seen, reference)
        if commit is not None and (seen.sees_tips or commit.status == "verified"):
            result.append((reference, commit))
    return result


def log(session: Session, seen: View, commit: Commit, *, limit: int, skip: int = 0) -> list[Commit]:
    """Return *commit* and its ancestors, newest first, as far as the caller may see them."""
    return [
        item
        for index, item in zip(range(skip + limit), _walk(session, seen, commit), strict=False)
        if index >= skip
    ]


def _walk(session: Session, seen: View, commit: Commit | None) -> Iterator[Commit]:
    while commit is not None:
        if seen.sees_tips or commit.status == "verified":
            yield commit
        commit = session.get(Commit, commit.parent_id) if commit.parent_id else None


def files(session: Session, commit: Commit) -> Sequence[File]:
    """Return the manifest of a commit, by path."""
    return session.scalars(
        select(File).where(File.commit_id == commit.id).order_by(File.path)
    ).all()


def below(folder: str) -> ColumnElement[bool]:
    """Return the condition that a file lies in *folder*, at any depth."""
    return File.path.startswith(f"{folder}/", autoescape=True)


def file(session: Session, commit: Commit, path: str) -> File:
    """Return one file of a commit.

    Raises:
        EntryMissing: If there is none; the answer names the commit, so that clients remember it.
    """
    found = session.get(File, (commit.id, path))
    if found is None:
        raise EntryMissing(f"Entry not found: {path[:200]}", headers={"X-Repo-Commit": commit.id})
    return found
