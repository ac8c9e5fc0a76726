"""One's own tokens: made here, shown once, revoked here."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select
from starlette.responses import Response

from adapterhub.hub.server.account.show import go, require, show
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.store import accounts
from adapterhub.hub.store.accounts import TOKEN_PREFIX
from adapterhub.hub.store.models import Account, Token, utcnow
from adapterhub.hub.store.refusals import Missing, Refusal

SCOPES = ("read", "write", "admin")
DAYS = ("30", "90", "365", "")


def tokens_page(call: Call, problem: Refusal | None = None, secret: str = "") -> Response:
    """Show the tokens; *secret* is that of one just made, which is never shown again."""
    account_id = require(call)
    with call.service.database.read() as session:
        query = select(Token).where(Token.account_id == account_id).order_by(Token.id.desc())
        rows = list(session.scalars(query).unique())
    now = utcnow()
    return show(
        call,
        "tokens.html",
        "Tokens",
        section="settings/tokens/",
        problem=problem,
        rows=[row for row in rows if not row.revoked and not (row.expires and row.expires <= now)],
        ended=[row for row in rows if row.revoked or (row.expires and row.expires <= now)][:20],
        secret=secret,
        prefix=TOKEN_PREFIX,
        name=call.form.raw("name")[:200] if problem else "",
        scopes=SCOPES,
        endpoint=call.base_url,
    )


def create_token(call: Call) -> Response:
    """Make a token."""
    account_id = require(call)
    try:
        name = call.form.text("name", "The name")
        scope = call.form.choice("scope", "What it may do", SCOPES)
        days = call.form.choice("days", "How long it lasts", DAYS)
        expires = utcnow() + timedelta(days=int(days)) if days else None
        with call.service.database.write() as session:
            account = session.get_one(Account, account_id)
            token, secret = accounts.issue_token(
                session, account, name=name, scope=scope, expires=expires
            )
            detail = f"{token.id} {scope}"
            accounts.audit(session, call.caller, "token.create", account.name, detail)
    except Refusal as error:
        return tokens_page(call, error)
    return tokens_page(call, secret=secret)


def revoke_token(call: Call) -> Response:
    """Make a token useless, and sign out the browsers that were signed in with it."""
    account_id = require(call)
    number = call.form.number("token", "The token", 1, 2**62)
    with call.service.database.write() as session:
        token = session.get(Token, number) if number else None
        if token is None or token.account_id != account_id:
            raise Missing("There is no such token.")
        if token.revoked is None:
            token.revoked = utcnow()
            accounts.audit(session, call.caller, "token.revoke", call.caller.name, str(token.id))
    return go(call, "settings/tokens/", done="revoked")


ROUTES: list[Route] = [
    page("/settings/tokens/", tokens_page),
    form("/settings/tokens/", create_token),
    form("/settings/tokens/revoke/", revoke_token),
]
