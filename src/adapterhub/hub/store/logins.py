"""Who is signed in, in which browser.

A login is a random value in a cookie, of which only the SHA-256 is kept. It ends when it was not used
for a while (*idle*), when it is old (*expires*), when its token ends, when its user signs out here or
everywhere or is disabled. Signing in always makes a new value: one that was planted in a browser before
is never taken up.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.models import Account, Login, Token, utcnow

_BYTES = 32
_REFRESH = timedelta(minutes=5)


@dataclass(frozen=True)
class Found:
    """A valid login: its row, who it stands for, and whether its time of use should be noted."""

    login: Login
    caller: Caller
    stale: bool


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def begin(
    session: Session,
    account: Account,
    *,
    lifetime: timedelta,
    address: str = "",
    agent: str = "",
    token: Token | None = None,
) -> str:
    """Sign a user in, and return the secret for the cookie.

    Args:
        lifetime: after which it ends, used or not; that of *token* ends it earlier.
        token: with which it was signed in; it may do no more than the token.
    """
    secret = secrets.token_urlsafe(_BYTES)
    expires = utcnow() + lifetime
    if token is not None and token.expires is not None:
        expires = min(expires, token.expires)
    login = Login(
        account=account,
        digest=digest(secret),
        scope=token.scope if token else "admin",
        token_id=token.id if token else None,
        expires=expires,
        address=address[:255],
        agent=" ".join(agent.split())[:255],
    )
    session.add(login)
    session.execute(delete(Login).where(Login.expires <= utcnow()))
    session.flush()
    return secret


def find(session: Session, secret: str, *, idle: timedelta, address: str = "") -> Found | None:
    """Return the login of a cookie, if there is one and it has not ended."""
    login = session.scalar(select(Login).where(Login.digest == digest(secret)))
    now = utcnow()
    if login is None or login.expires <= now or login.used + idle <= now or login.account.disabled:
        return None
    if login.token_id is not None:
        token = session.get(Token, login.token_id)
        if token is None or token.revoked:
            return None
    account = login.account
    caller = Caller(account.id, account.name, account.admin, login.scope, address)
    return Found(login, caller, login.used < now - _REFRESH)


def note_use(session: Session, login_id: int, address: str) -> None:
    """Remember that a login was used (to some minutes, so that reading stays reading)."""
    login = session.get(Login, login_id)
    if login is not None:
        login.used, login.address = utcnow(), address[:255]


def end(session: Session, account_id: int, login_id: int) -> bool:
    """End one login of a user; return whether there was such."""
    row = session.get(Login, login_id)
    if row is None or row.account_id != account_id:
        return False
    session.delete(row)
    return True


def end_all(session: Session, account_id: int, *, but: int | None = None) -> int:
    """End all logins of a user (except *but*); return how many that were."""
    rows = session.scalars(select(Login).where(Login.account_id == account_id)).unique().all()
    gone = [row for row in rows if row.id != but]
    for row in gone:
        session.delete(row)
    return len(gone)


def of(session: Session, account_id: int, *, idle: timedelta) -> list[Login]:
    """Return the logins of a user that have not ended, the one used last first."""
    now = utcnow()
    rows = session.scalars(
        select(Login)
        .where(Login.account_id == account_id, Login.expires > now, Login.used > now - idle)
        .order_by(Login.used.desc(), Login.id.desc())
    ).unique()
    return list(rows)
