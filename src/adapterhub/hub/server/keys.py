"""Our JSON API for the keys that users sign with; whoever wants may read them."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, delete, get, post
from adapterhub.hub.signing import SignatureError, moment, stamp
from adapterhub.hub.store import accounts, signers
from adapterhub.hub.store.models import Account, SignerKey
from adapterhub.hub.store.refusals import Malformed


def _key(row: SignerKey) -> dict[str, Any]:
    return {
        "id": row.fingerprint,
        "key": row.public,
        "name": row.name,
        "created": stamp(row.created),
        "expires": stamp(row.expires),
        "revoked": stamp(row.revoked),
    }


def register_key(call: Call) -> Response:
    """Register a public key in one's own profile; an administrator may name another *user*.

    That is for taking over a hub with what its people have signed. It may have expired, and with *revoked*
    it is known as revoked at once.
    """
    body = call.json()
    call.caller.require_scope("write")
    other = call.text(body, "user", "", limit=200)
    try:
        expires = moment(body.get("expires"), "'expires'")
    except SignatureError as error:
        raise Malformed(str(error)) from error
    with call.service.database.write() as session:
        account = session.get_one(Account, call.caller.account_id)
        if other and other.casefold() != account.name.casefold():
            call.caller.require_admin()
            account = accounts.find_account(session, other)
        row = signers.register(
            session,
            account,
            call.text(body, "key", limit=200),
            name=call.text(body, "name", "", limit=200),
            expires=expires,
            past=bool(other),
        )
        if other and body.get("revoked"):
            signers.revoke(session, account, row.fingerprint)
        accounts.audit(session, call.caller, "key.register", account.name, row.fingerprint)
        return Json(_key(row), status_code=201)


def list_keys(call: Call) -> Response:
    """List the keys of a user, revoked ones with the time since when."""
    with call.service.database.read() as session:
        account = accounts.find_account(session, call.parts["owner"])
        return Json([_key(row) for row in signers.of(session, account)])


def revoke_key(call: Call) -> Response:
    """Revoke a key of one's own, or as an administrator anybody's."""
    call.caller.require_scope("write")
    with call.service.database.write() as session:
        account = accounts.find_account(session, call.parts["owner"])
        if account.id != call.caller.account_id:
            call.caller.require_admin()
        row = signers.revoke(session, account, call.parts["key"])
        accounts.audit(session, call.caller, "key.revoke", account.name, row.fingerprint)
        return Json(_key(row))


_V1 = "/api/hub/v1"
ROUTES: list[Route] = [
    post(f"{_V1}/keys", register_key),
    get(f"{_V1}/users/{{owner}}/keys", list_keys),
    delete(f"{_V1}/users/{{owner}}/keys/{{key}}", revoke_key),
]
