"""A hint, not a verdict: the same weights are published elsewhere on this hub."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.store import likeness
from adapterhub.hub.store.models import Commit, File, Repo
from adapterhub.hub.verify.results import Result, result

VERSION = 1
NAME = "duplicates"
_SHOWN = 5


def duplicates(session: Session, repo_id: int, sha256: str) -> Result:
    """Name public repositories that publish a file with these weights, or with nearly the same.

    Private repositories are never named, whoever asks: the result is kept and shown to others.
    """
    same = _publishers(session, repo_id, [sha256])
    near = [
        name
        for name in _publishers(session, repo_id, likeness.alike(session, sha256))
        if name not in same
    ]
    lines = [f"the same weights are in {_names(same)}"] if same else []
    lines += [f"nearly the same weights are in {_names(near)}"] if near else []
    return result(NAME, VERSION, (), lines, same=same[:_SHOWN], near=near[:_SHOWN])


def _publishers(session: Session, repo_id: int, hashes: list[str]) -> list[str]:
    if not hashes:
        return []
    repos = session.scalars(
        select(Repo)
        .join(Commit, Commit.id == Repo.published_id)
        .join(File, File.commit_id == Commit.id)
        .where(File.sha256.in_(hashes), Repo.id != repo_id, Repo.private.is_(False))
        .order_by(Repo.id)
        .limit(4 * _SHOWN)
    ).unique()
    return list(dict.fromkeys(repo.full_name for repo in repos))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
