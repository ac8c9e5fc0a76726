"""The Hugging Face protocol: branches and tags."""

from __future__ import annotations

from starlette.responses import Response

from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, delete, post
from adapterhub.hub.store import accounts, commits, history
from adapterhub.hub.store.models import Commit, Reference
from adapterhub.hub.store.refusals import Conflict
from adapterhub.hub.store.repos import DEFAULT_BRANCH

_MAX_REFERENCES = 1000


def create_branch(call: Call) -> Response:
    """Make a branch at a revision; by default at that of ``main``."""
    start = call.text(call.json(), "startingPoint", DEFAULT_BRANCH, limit=300)
    return _create(call, "branch", call.parts["ref"], start)


def create_tag(call: Call) -> Response:
    """Make a tag at the revision in the path."""
    body = call.json()
    name = call.text(body, "tag", limit=300)
    return _create(
        call, "tag", name, call.parts["ref"], call.text(body, "message", "", limit=10_000)
    )


def _create(call: Call, kind: str, name: str, start: str, message: str = "") -> Response:
    commits.require_reference_name(name)
    with call.service.database.write() as session:
        seen = call.view(session, need="write", lock=True)
        commit = history.resolve(session, seen, start)
        # A name means one thing: a branch and a tag of the same name would hide each other.
        if any(
            history.find_reference(session, seen.repo.id, other, name)
            for other in ("branch", "tag")
        ):
            raise Conflict(f"Reference {name} already exists")
        if len(history.references(session, seen)) >= _MAX_REFERENCES:
            raise Conflict(f"a repository can have {_MAX_REFERENCES} branches and tags")
        reference = Reference(
            repo_id=seen.repo.id, kind=kind, name=name, commit_id=commit.id, message=message
        )
        if kind == "branch":
            published: Commit | None = commit
            while published is not None and published.status != "verified":
                published = (
                    session.get(Commit, published.parent_id) if published.parent_id else None
                )
            reference.published_id = published.id if published else None
        session.add(reference)
        accounts.audit(
            session, call.caller, f"{kind}.create", seen.repo.full_name, f"{name} {commit.id}"
        )
    return Json({"name": name, "targetCommit": commit.id}, status_code=201)


def delete_branch(call: Call) -> Response:
    """Delete a branch."""
    return _delete(call, "branch")


def delete_tag(call: Call) -> Response:
    """Delete a tag."""
    return _delete(call, "tag")


def _delete(call: Call, kind: str) -> Response:
    with call.service.database.write() as session:
        seen = call.view(session, need="write", lock=True)
        commits.remove_reference(session, seen, kind, call.parts["ref"])
    return Json({})


_REPO = "/api/models/{owner}/{name}"
ROUTES: list[Route] = [
    post(f"{_REPO}/branch/{{ref}}", create_branch),
    delete(f"{_REPO}/branch/{{ref}}", delete_branch),
    post(f"{_REPO}/tag/{{ref}}", create_tag),
    delete(f"{_REPO}/tag/{{ref}}", delete_tag),
]
