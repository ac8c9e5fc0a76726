"""Our own JSON API, below ``/api/hub/v1``: accounts, tokens, organisations, checks, the audit log."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, delete, get, post, put
from adapterhub.hub.store import accounts, history, jobs
from adapterhub.hub.store.accounts import LEVELS, TOKEN_PREFIX
from adapterhub.hub.store.models import Account, Audit, Check, Membership, Token, utcnow
from adapterhub.hub.store.refusals import Forbidden, Malformed, Missing
from adapterhub.hub.store.repos import DEFAULT_BRANCH


def create_user(call: Call) -> Response:
    """Add a user (administrators only)."""
    body = call.json()
    call.caller.require_admin()
    with call.service.database.write() as session:
        account = accounts.create_account(
            session,
            call.text(body, "name", limit=100),
            fullname=call.text(body, "fullname", "", limit=200),
            email=call.text(body, "email", "", limit=200) or None,
            admin=body.get("admin") is True,
        )
        accounts.audit(session, call.caller, "user.create", account.name)
        return Json({"name": account.name, "admin": account.admin}, status_code=201)


def change_user(call: Call) -> Response:
    """Let a user in or keep him out (administrators only)."""
    disabled = call.json().get("disabled")
    call.caller.require_admin()
    if not isinstance(disabled, bool):
        raise Malformed("disabled must be true or false")
    with call.service.database.write() as session:
        account = accounts.find_account(session, call.parts["owner"])
        if account.id == call.caller.account_id:
            raise Forbidden("You cannot disable yourself.")
        account.disabled = disabled
        accounts.audit(
            session, call.caller, "user.disable" if disabled else "user.enable", account.name
        )
    return Json({"name": account.name, "disabled": disabled})


def create_token(call: Call) -> Response:
    """Make a token for oneself, or as an administrator for a user; its secret is shown only here."""
    body = call.json()
    call.caller.require_scope("admin")
    days = body.get("expires_in_days")
    if days is not None and (
        not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 3650
    ):
        raise Malformed("expires_in_days must be a whole number from 1 to 3650")
    expires: datetime | None = utcnow() + timedelta(days=days) if days else None
    name = call.text(body, "user", call.caller.name, limit=100)
    with call.service.database.write() as session:
        account = accounts.find_account(session, name)
        if account.id != call.caller.account_id:
            call.caller.require_admin()
        scope = call.text(body, "scope", "read", limit=10)
        token, secret = accounts.issue_token(
            session,
            account,
            name=call.text(body, "name", "", limit=200),
            scope=scope,
            expires=expires,
        )
        accounts.audit(session, call.caller, "token.create", account.name, f"{token.id} {scope}")
        return Json({**_token(token), "token": secret}, status_code=201)


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "hint": f"{TOKEN_PREFIX}...{token.hint}",
        "created": token.created,
        "expires": token.expires,
        "used": token.used,
        "revoked": token.revoked,
    }


def list_tokens(call: Call) -> Response:
    """List one's own tokens, without their secrets."""
    call.caller.require_scope("admin")
    with call.service.database.read() as session:
        rows = session.scalars(
            select(Token).where(Token.account_id == call.caller.account_id).order_by(Token.id)
        ).unique()
        return Json([_token(row) for row in rows])


def revoke_token(call: Call) -> Response:
    """Make a token useless: one's own, or as an administrator anybody's."""
    call.caller.require_scope("admin")
    number = call.parts["token"]
    with call.service.database.write() as session:
        token = session.get(Token, int(number)) if number.isdigit() and len(number) < 16 else None
        if token is None or (token.account_id != call.caller.account_id and not call.caller.admin):
            raise Missing("there is no such token")
        token.revoked = token.revoked or utcnow()
        accounts.audit(session, call.caller, "token.revoke", token.account.name, str(token.id))
    return Json({})


def create_organisation(call: Call) -> Response:
    """Make an organisation, with oneself as its administrator."""
    body = call.json()
    call.caller.require_scope("admin")
    with call.service.database.write() as session:
        name, fullname = (
            call.text(body, "name", limit=100),
            call.text(body, "fullname", "", limit=200),
        )
        account = accounts.create_account(session, name, kind="org", fullname=fullname)
        accounts.set_member(
            session, account, session.get_one(Account, call.caller.account_id), "admin"
        )
        accounts.audit(session, call.caller, "org.create", account.name)
        return Json({"name": account.name}, status_code=201)


def _organisation(call: Call, session: Session, need: str) -> Account:
    account = accounts.find_account(session, call.parts["owner"])
    role = accounts.role(session, call.caller, account.id)
    if account.kind != "org" or not role:
        raise Missing(f"there is no organisation {call.parts['owner'][:60]!r} that you belong to")
    if LEVELS[role] < LEVELS[need]:
        raise Forbidden(f"You have no {need} role in {account.name}.")
    return account


def members(call: Call) -> Response:
    """List the members of an organisation, for its members."""
    call.caller.require_scope("read")
    with call.service.database.read() as session:
        account = _organisation(call, session, "read")
        rows = session.execute(
            select(Account.name, Membership.role)
            .join(Membership, Membership.user_id == Account.id)
            .where(Membership.organisation_id == account.id)
            .order_by(Account.key)
        ).all()
        return Json([{"user": name, "role": role} for name, role in rows])


def set_member(call: Call) -> Response:
    """Give a user a role in an organisation, or (DELETE) take him out."""
    role = "" if call.method == "DELETE" else call.text(call.json(), "role", limit=10)
    call.caller.require_scope("admin")
    with call.service.database.write() as session:
        account = _organisation(call, session, "admin")
        user = accounts.find_account(session, call.parts["user"])
        accounts.set_member(session, account, user, role)
        accounts.audit(
            session, call.caller, "org.member", account.name, f"{user.name} {role or 'removed'}"
        )
    return Json({"user": user.name, "role": role})


def checks(call: Call) -> Response:
    """Return what the checks said about a revision, file by file."""
    with call.service.database.read() as session:
        seen = call.view(session)
        commit = history.resolve(session, seen, call.first("revision", DEFAULT_BRANCH))
        rows = session.scalars(
            select(Check).where(Check.commit_id == commit.id).order_by(Check.path, Check.id)
        ).all()
    return Json(
        {
            "repo": seen.repo.full_name,
            "commit": commit.id,
            "status": commit.status,
            "reason": commit.reason,
            "meaning": "format verified: it loads as what it says; not that it is good or harmless",
            "checks": [
                {
                    "file": row.path or None,
                    "sha256": row.sha256 or None,
                    "check": row.name,
                    "version": row.version,
                    "outcome": row.outcome,
                    "message": row.message,
                    "checked": row.created,
                }
                for row in rows
            ],
        }
    )


def recheck(call: Call) -> Response:
    """Run all checks of a revision again; the answer comes before they have ended."""
    body = call.json()
    with call.service.database.write() as session:
        seen = call.view(session, need="write")
        commit = history.resolve(
            session, seen, call.text(body, "revision", DEFAULT_BRANCH, limit=300)
        )
        jobs.enqueue(session, "recheck", commit.id)
        accounts.audit(session, call.caller, "recheck", seen.repo.full_name, commit.id)
    call.service.intake.wake.set()
    return Json({"commit": commit.id, "state": "queued"}, status_code=202)


def audit_log(call: Call) -> Response:
    """Return the newest lines of the audit log (administrators only)."""
    call.caller.require_admin()
    limit = call.number("limit", 100, 1, 1000)
    before = call.number("before", 10**9 - 1, 1, 10**9 - 1)
    with call.service.database.read() as session:
        query = select(Audit).where(Audit.id < before).order_by(Audit.id.desc()).limit(limit)
        rows = session.scalars(query).all()
    names = ("id", "created", "actor", "action", "target", "detail", "address")
    return Json([{name: getattr(row, name) for name in names} for row in rows])


_V1 = "/api/hub/v1"
ROUTES: list[Route] = [
    post(f"{_V1}/users", create_user),
    put(f"{_V1}/users/{{owner}}", change_user),
    post(f"{_V1}/tokens", create_token),
    get(f"{_V1}/tokens", list_tokens),
    delete(f"{_V1}/tokens/{{token}}", revoke_token),
    post(f"{_V1}/organizations", create_organisation),
    get(f"{_V1}/organizations/{{owner}}/members", members),
    put(f"{_V1}/organizations/{{owner}}/members/{{user}}", set_member),
    delete(f"{_V1}/organizations/{{owner}}/members/{{user}}", set_member),
    get(f"{_V1}/repos/{{owner}}/{{name}}/checks", checks),
    post(f"{_V1}/repos/{{owner}}/{{name}}/checks", recheck),
    get(f"{_V1}/audit", audit_log),
]
