"""Passwords of users, kept as argon2id hashes.

Looking at a wrong name takes as long as looking at a wrong password, so that nobody learns from the
clock which accounts exist. Hashing takes 64 MiB and some ten milliseconds on purpose; few run at once,
or a crowd at the sign-in page would take the memory of the machine, and nobody waits long for it, or the
crowd would take the threads of the server.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Account, Password, utcnow
from adapterhub.hub.store.refusals import Malformed, TooMany

MIN_LENGTH = 10
MAX_LENGTH = 200
_AT_ONCE = threading.BoundedSemaphore(4)
_PATIENCE = 20.0
#: The beginnings of most guesses; what is left of a password without them must be long enough, too.
_COMMON = (
    *("password", "passwort", "qwerty", "qwertz", "letmein", "welcome", "iloveyou", "admin"),
    *("1234567890", "123456789", "12345678", "123456", "abc123", "adapterhub"),
)
_LEFT = 5


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobodys() -> str:
    return _hasher().hash("the password of nobody")


def _clean(password: str) -> str:
    # The same letters may be typed in several encodings of Unicode.
    return unicodedata.normalize("NFKC", password)


def problems(password: str, name: str = "") -> list[str]:
    """Return why *password* cannot be that of the account *name*; empty if it can."""
    text = _clean(password)
    if len(text) < MIN_LENGTH:
        return [f"A password has at least {MIN_LENGTH} characters; a few words are easy to keep."]
    if len(text) > MAX_LENGTH:
        return [f"A password has at most {MAX_LENGTH} characters."]
    left = text.casefold()
    for word in (*_COMMON, name.casefold()):
        left = left.replace(word, "") if word else left
    if len(left) < _LEFT or len(set(text)) < _LEFT:
        return ["This password is among the first that anybody would guess; take another one."]
    return []


def hashed(password: str) -> str:
    """Return what is kept of a password; call it outside of a transaction, it takes long."""
    with _turn():
        return _hasher().hash(_clean(password))


@contextmanager
def _turn() -> Iterator[None]:
    if not _AT_ONCE.acquire(timeout=_PATIENCE):
        raise TooMany(
            "Too many people sign in at the moment; try again in a few seconds.",
            headers={"Retry-After": "5"},
        )
    try:
        yield
    finally:
        _AT_ONCE.release()


def require(password: str, name: str) -> None:
    """Refuse a password that cannot be one.

    Raises:
        Malformed: Then, with the reason.
    """
    wrong = problems(password, name)
    if wrong:
        raise Malformed(" ".join(wrong))


def keep(session: Session, account_id: int, kept: str) -> None:
    """Make *kept* (of :func:`hashed`) the password of an account."""
    row = session.get(Password, account_id)
    if row is None:
        session.add(Password(account_id=account_id, hashed=kept))
    else:
        row.hashed, row.changed = kept, utcnow()


def has_one(session: Session, account_id: int) -> bool:
    """Return whether an account can sign in with a password."""
    return session.get(Password, account_id) is not None


def find(database: Database, name: str, password: str) -> int | None:
    """Return the id of the account with that name and password, or ``None``; slowly in either case."""
    with database.read() as session:
        row = session.execute(
            select(Account.id, Password.hashed)
            .join(Password, Password.account_id == Account.id)
            .where(
                Account.key == name.casefold(), Account.kind == "user", Account.disabled.is_(False)
            )
        ).first()
    kept = row.hashed if row else _nobodys()
    text = _clean(password)[: MAX_LENGTH + 1]
    with _turn():
        try:
            right = _hasher().verify(kept, text)
        except (VerificationError, InvalidHashError):
            right = False
    if row is None or not right:
        return None
    if _hasher().check_needs_rehash(kept):
        better = hashed(text)
        with database.write() as session:
            keep(session, row.id, better)
    return row.id
