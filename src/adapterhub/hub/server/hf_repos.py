"""The Hugging Face protocol: who am I, and the life of repositories."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from starlette.responses import Response

from adapterhub.hub.server.answers import Json, moment
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, delete, get, post, put
from adapterhub.hub.store import accounts, quotas, repos
from adapterhub.hub.store.models import Access, Account, Token
from adapterhub.hub.store.refusals import Conflict, Forbidden, Malformed, Missing, Unidentified
from adapterhub.hub.verify.files import card_problems


def whoami(call: Call) -> Response:
    """Say who the token belongs to; clients store the token under its display name."""
    if not call.caller.known:
        raise Unidentified("Invalid username or password.")
    with call.service.database.read() as session:
        token = session.get_one(Token, call.caller.token_id)
        account = token.account
        organisations = [
            {"type": "org", "name": item.name, "fullname": item.fullname, "roleInOrg": role}
            for item, role in accounts.organisations(session, account.id)
        ]
        answer: dict[str, Any] = {
            "type": "user",
            "id": str(account.id),
            "name": account.name,
            "fullname": account.fullname,
            "isPro": False,
            "canPay": False,
            "orgs": organisations,
            "auth": {
                "type": "access_token",
                "accessToken": {
                    "displayName": token.name,
                    "role": token.scope,
                    "createdAt": moment(token.created),
                },
            },
        }
        if account.email:
            answer |= {"email": account.email, "emailVerified": False}
    return Json(answer)


def _only_models(body: dict[str, Any]) -> None:
    kind = body.get("type") or "model"
    if kind != "model":
        raise Forbidden(
            f"This hub holds adapters; it has no {str(kind)[:20]}s. Use repo_type='model'."
        )


def _is_private(body: dict[str, Any]) -> bool | None:
    """Read ``visibility``, or what older clients send; ``None`` if neither is there."""
    visibility = body.get("visibility")
    if visibility in ("private", "public"):
        return visibility == "private"
    if visibility is not None:
        raise Malformed("visibility must be 'private' or 'public'")
    private = body.get("private")
    if private is not None and not isinstance(private, bool):
        raise Malformed("private must be true or false")
    return private


def _split(full_name: str) -> tuple[str | None, str]:
    owner, slash, name = full_name.partition("/")
    return (owner, name) if slash else (None, owner)


def create(call: Call) -> Response:
    """Make a repository; a client that does not mind that it exists reads ``url`` of the refusal, too."""
    body = call.json()
    _only_models(body)
    name = call.text(body, "name", limit=200)
    organisation = call.text(body, "organization", "", limit=200) or None
    if organisation is None:
        organisation, name = _split(name)
    private = _is_private(body)
    database = call.service.database
    with database.read() as session:
        owner_name = repos.owner_for(session, call.caller, organisation).name
    url = call.repo_url(f"{owner_name}/{name}")
    try:
        with database.write() as session:
            owner = repos.owner_for(session, call.caller, owner_name)
            repo = repos.create(session, call.caller, owner, name, private=bool(private))
            quotas.require_repo(session, owner, call.service.settings.quota)
            answer = {"url": url, "name": repo.full_name, "id": f"{repo.id:024x}"}
    except Conflict as error:
        headers = {"X-Error-Message": str(error)}
        return Json({"error": str(error), "url": url}, status_code=409, headers=headers)
    return Json(answer)


def remove(call: Call) -> Response:
    """Delete a repository."""
    body = call.json()
    _only_models(body)
    owner, name = _split(call.text(body, "name", limit=200))
    owner = call.text(body, "organization", "", limit=200) or owner or call.caller.name
    with call.service.database.write() as session:
        repos.remove(
            session, repos.view(session, call.caller, owner, name, need="admin", lock=True)
        )
    return Json({})


def move(call: Call) -> Response:
    """Rename a repository, or give it to another owner."""
    body = call.json()
    _only_models(body)
    source, target = (_split(call.text(body, key, limit=200)) for key in ("fromRepo", "toRepo"))
    if source[0] is None or target[0] is None:
        raise Malformed("fromRepo and toRepo must be owner/name")
    with call.service.database.write() as session:
        seen = repos.view(session, call.caller, source[0], source[1], need="admin", lock=True)
        before, owner = seen.repo.owner_id, repos.owner_for(session, call.caller, target[0])
        repos.move(session, seen, owner, target[1])
        if owner.id != before:
            quotas.require_fit(session, owner, call.service.settings.quota)
    return Json({})


def settings(call: Call) -> Response:
    """Change who may see a repository and its files."""
    body = call.json()
    private, gated = _is_private(body), body.get("gated")
    if gated not in (None, False, "auto", "manual"):
        raise Malformed("gated must be 'auto', 'manual' or false")
    with call.service.database.write() as session:
        seen = call.view(session, need="admin", lock=True)
        repos.change(session, seen, private=private, gated=None if gated is None else gated or "")
        repo = seen.repo
        return Json({"private": repo.private, "gated": repo.gated or False})


def auth_check(call: Call) -> Response:
    """Answer 200 if the caller may read the files (or write, if the path says so)."""
    with call.service.database.read() as session:
        seen = call.view(session, need="write" if call.parts.get("what") == "write" else "read")
        repos.require_files(session, seen)
    return Json({})


def ask_access(call: Call) -> Response:
    """Ask to be let in to a gated repository."""
    with call.service.database.write() as session:
        return Json({"status": repos.ask_access(session, call.view(session))})


def access_requests(call: Call) -> Response:
    """List who asked (``pending``), was let in (``accepted``) or turned away (``rejected``)."""
    state = {"pending": "pending", "accepted": "granted", "rejected": "rejected"}.get(
        call.parts["state"]
    )
    if state is None:
        raise Missing("access requests are pending, accepted or rejected")
    with call.service.database.read() as session:
        seen = call.view(session, need="admin")
        rows = session.execute(
            select(Access, Account)
            .join(Account, Account.id == Access.account_id)
            .where(Access.repo_id == seen.repo.id, Access.state == state)
            .order_by(Access.created)
        ).all()
        return Json(
            [
                {
                    "user": {
                        "user": account.name,
                        "fullname": account.fullname,
                        "email": account.email,
                    },
                    "status": call.parts["state"],
                    "timestamp": moment(access.created),
                }
                for access, account in rows
            ]
        )


def handle_access(call: Call) -> Response:
    """Let a user in to a gated repository, or turn him away (``handle``), asked or not (``grant``)."""
    body = call.json()
    status = "accepted" if call.parts["state"] == "grant" else body.get("status")
    state = {"pending": "pending", "accepted": "granted", "rejected": "rejected"}.get(str(status))
    if state is None or call.parts["state"] not in ("grant", "handle"):
        raise Malformed("status must be accepted, rejected or pending")
    with call.service.database.write() as session:
        seen = call.view(session, need="admin")
        user = accounts.find_account(session, call.text(body, "user", limit=100))
        repos.answer_access(session, seen, user, state)
    return Json({})


def validate_yaml(call: Call) -> Response:
    """Check the front matter of a README before it is uploaded."""
    body = call.json()
    problems, warnings, _ = card_problems(call.text(body, "content", limit=2_000_000))
    answer = {
        "errors": [{"message": line} for line in problems],
        "warnings": [{"message": line} for line in warnings],
    }
    return Json(answer, status_code=400 if problems else 200)


def overview(call: Call) -> Response:
    """Say who an account is."""
    with call.service.database.read() as session:
        account = accounts.find_account(session, call.parts["owner"])
        wanted = "org" if "/organizations/" in call.request.url.path else "user"
        if account.kind != wanted:
            raise Missing(f"there is no {wanted} {account.name!r} here")
        key = "name" if wanted == "org" else "user"
        return Json(
            {"type": wanted, key: account.name, "name": account.name, "fullname": account.fullname}
        )


_REPO = "/api/models/{owner}/{name}"
ROUTES: list[Route] = [
    get("/api/whoami-v2", whoami),
    post("/api/repos/create", create),
    delete("/api/repos/delete", remove),
    post("/api/repos/move", move),
    put(f"{_REPO}/settings", settings),
    get(f"{_REPO}/auth-check", auth_check),
    get(f"{_REPO}/auth-check/{{what}}", auth_check),
    get(f"{_REPO}/user-access-request/{{state}}", access_requests),
    post(f"{_REPO}/user-access-request/{{state}}", handle_access),
    post("/{owner}/{name}/ask-access", ask_access),
    post("/api/validate-yaml", validate_yaml),
    get("/api/users/{owner}/overview", overview),
    get("/api/organizations/{owner}/overview", overview),
]
