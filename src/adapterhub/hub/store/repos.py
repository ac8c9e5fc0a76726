"""Repositories: who may see and change them, and their birth, move and death.

A repository whose owner has published nothing, or that is private, does not exist for strangers: they
get the same answer as for a name that was never used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from adapterhub.hub.store import accounts, changes
from adapterhub.hub.store.accounts import LEVELS, Caller
from adapterhub.hub.store.models import Access, Account, Reference, Repo, RepoAlias, Upload, utcnow
from adapterhub.hub.store.refusals import (
    Conflict,
    Forbidden,
    Malformed,
    RepoGated,
    RepoMissing,
)

DEFAULT_BRANCH = "main"
#: The number of no account.
_NOBODY = 0
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class View:
    """A repository as one caller sees it."""

    repo: Repo
    role: str
    caller: Caller

    @property
    def sees_tips(self) -> bool:
        """Whether commits that are not verified (yet) may be shown."""
        return LEVELS[self.role] >= LEVELS["write"]


def missing(owner: str, name: str) -> RepoMissing:
    """Return the one answer for whatever is not there or may not be seen."""
    return RepoMissing(f"Repository {owner[:96]}/{name[:96]} not found")


def view(
    session: Session,
    caller: Caller,
    owner: str,
    name: str,
    *,
    need: str = "read",
    lock: bool = False,
) -> View:
    """Return the repository if *caller* may do there what *need* says (``read``, ``write``, ``admin``).

    Raises:
        RepoMissing: If there is none, or the caller may not know.
        Unidentified, Forbidden: If the caller sees it, but may do less than *need*.
    """
    repo = _find(session, owner, name, lock)
    # The same questions to the database whether there is none or it may not be known: the time that an
    # answer takes tells nothing.
    role = accounts.role(session, caller, repo.owner_id if repo else _NOBODY)
    if repo is None or not _shown(repo, role):
        raise missing(owner, name)
    if need != "read":
        caller.require_scope("write")
        if LEVELS[role] < LEVELS[need]:
            raise Forbidden(f"You have no {need} access to {repo.full_name}.")
    return View(repo, role, caller)


def _shown(repo: Repo, role: str) -> bool:
    return bool(role) or not (repo.private or repo.published_id is None)


def visible(session: Session, caller: Caller, repo: Repo) -> bool:
    """Return whether a repository exists for *caller*."""
    return _shown(repo, accounts.role(session, caller, repo.owner_id))


def _find(session: Session, owner: str, name: str, lock: bool) -> Repo | None:
    query = (
        select(Repo)
        .join(Account, Account.id == Repo.owner_id)
        .where(Account.key == owner.casefold(), Repo.key == name.casefold())
    )
    if lock:
        query = query.with_for_update(of=Repo, key_share=True)
    repo = session.scalar(query)
    alias = session.get(RepoAlias, (owner.casefold(), name.casefold()))
    if repo is None and alias is not None:
        locked = {"of": Repo, "key_share": True} if lock else None
        repo = session.get(Repo, alias.repo_id, with_for_update=locked)
    return repo


def require_files(session: Session, seen: View) -> None:
    """Refuse the files of a gated repository to whom the owner has not let in.

    Raises:
        RepoGated: Then.
    """
    repo = seen.repo
    if not repo.gated or seen.role:
        return
    if seen.caller.account_id is not None:
        access = session.get(Access, (repo.id, seen.caller.account_id))
        if access is not None and access.state == "granted":
            return
        if repo.gated == "auto":
            text = (
                f"Access to {repo.full_name} is restricted; ask for it first (POST .../ask-access)."
            )
            raise RepoGated(text)
    raise RepoGated(
        f"Access to {repo.full_name} is restricted and you are not in the authorized list."
    )


def require_name(name: str) -> None:
    """Check the second part of a repository's id, by the rules of the Hugging Face clients.

    Raises:
        Malformed: If it cannot be one.
    """
    if (
        not _NAME.fullmatch(name)
        or "--" in name
        or ".." in name
        or name.lower().endswith((".git", ".ipynb"))
    ):
        raise Malformed(
            f"repository name {name[:100]!r} is not usable: take up to 96 letters, digits, "
            "- _ and . (no '--' or '..', no '.git' at the end)"
        )


def owner_for(session: Session, caller: Caller, namespace: str | None) -> Account:
    """Return the account in whose namespace the caller wants to create, if he may.

    Raises:
        Unidentified, Forbidden: If he may not.
    """
    caller.require_scope("write")
    key = (namespace or caller.name).casefold()
    owner = session.scalar(select(Account).where(Account.key == key))
    if owner is None or LEVELS[accounts.role(session, caller, owner.id)] < LEVELS["write"]:
        raise Forbidden(
            f"You don't have the rights to create a model under the namespace {namespace!r}."
        )
    return owner


def create(
    session: Session, caller: Caller, owner: Account, name: str, *, private: bool = False
) -> Repo:
    """Add an empty repository with a branch ``main``.

    Raises:
        Malformed: If the name cannot be one.
        Conflict: If the name is taken.
    """
    from adapterhub.hub.store.commits import first_commit

    require_name(name)
    key = name.casefold()
    if _find(session, owner.name, name, False) is not None:
        # A former name is free again for the one who had it, and only for him.
        alias = session.get(RepoAlias, (owner.key, key))
        if alias is None:
            raise Conflict("You already created this model repo")
        session.delete(alias)
        session.flush()
    repo = Repo(owner=owner, name=name, key=key, private=private)
    session.add(repo)
    try:
        session.flush()
    except IntegrityError as error:  # two requests at once
        raise Conflict("You already created this model repo") from error
    commit = first_commit(session, repo, caller)
    session.add(Reference(repo_id=repo.id, kind="branch", name=DEFAULT_BRANCH, commit_id=commit.id))
    accounts.audit(
        session, caller, "repo.create", repo.full_name, "private" if private else "public"
    )
    return repo


def remove(session: Session, seen: View) -> None:
    """Delete a repository with its history; contents that nothing else names go at the next clean-up."""
    accounts.audit(session, seen.caller, "repo.delete", seen.repo.full_name)
    session.execute(delete(Upload).where(Upload.repo_id == seen.repo.id))
    session.execute(delete(Repo).where(Repo.id == seen.repo.id))
    changes.note(session, seen.repo.id)


def move(session: Session, seen: View, owner: Account, name: str) -> None:
    """Give a repository another name or owner; the old name goes on leading to it.

    Raises:
        Malformed, Conflict: If the new name cannot be had.
    """
    require_name(name)
    repo, old = seen.repo, (seen.repo.owner.key, seen.repo.key)
    other = _find(session, owner.name, name, False)
    if other is not None and other.id != repo.id:
        raise Conflict(f"{owner.name}/{name} exists already")
    before = repo.full_name
    session.execute(
        delete(RepoAlias).where(RepoAlias.owner_key == owner.key, RepoAlias.key == name.casefold())
    )
    repo.owner, repo.name, repo.key = owner, name, name.casefold()
    session.flush()
    if (owner.key, repo.key) != old:
        session.add(RepoAlias(owner_key=old[0], key=old[1], repo_id=repo.id))
    accounts.audit(session, seen.caller, "repo.move", before, repo.full_name)


def change(
    session: Session, seen: View, *, private: bool | None = None, gated: str | None = None
) -> None:
    """Change who may see a repository; *gated* is ``"auto"``, ``"manual"`` or ``""`` for not gated."""
    repo = seen.repo
    if private is not None:
        repo.private = private
    if gated is not None:
        repo.gated = gated or None
    accounts.audit(
        session,
        seen.caller,
        "repo.settings",
        repo.full_name,
        f"private={repo.private} gated={repo.gated}",
    )


def count_downloads(session: Session, repo_id: int, number: int) -> None:
    """Add to the downloads of a repository."""
    session.execute(
        update(Repo).where(Repo.id == repo_id).values(downloads=Repo.downloads + number),
        execution_options={"synchronize_session": False},
    )
    changes.note(session, repo_id)


def ask_access(session: Session, seen: View) -> str:
    """Ask to be let in to a gated repository; return the state: ``granted`` (auto) or ``pending``."""
    seen.caller.require_scope("read")
    repo, account = seen.repo, seen.caller.account_id
    row = session.get(Access, (repo.id, account))
    if row is None:
        state = "pending" if repo.gated == "manual" else "granted"
        row = Access(repo_id=repo.id, account_id=account, state=state, created=utcnow())
        session.add(row)
        accounts.audit(session, seen.caller, "access.ask", repo.full_name, state)
    return row.state


def answer_access(session: Session, seen: View, user: Account, state: str) -> None:
    """Let a user in to the files (``granted``), turn him away (``rejected``), or neither (``pending``)."""
    row = session.get(Access, (seen.repo.id, user.id))
    if row is None:
        session.add(Access(repo_id=seen.repo.id, account_id=user.id, state=state))
    else:
        row.state = state
    accounts.audit(session, seen.caller, f"access.{state}", seen.repo.full_name, user.name)
