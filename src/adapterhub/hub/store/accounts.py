"""Users, organisations, roles and tokens.

A namespace is an account. A user is *admin* of his own; in an organisation he has the role of his
membership: ``read`` (sees private repositories), ``write`` (commits) or ``admin`` (settings, members).
What a request may do is the lesser of the role and the token's scope. A token has 256 random bits, so
its SHA-256 is all that needs to be kept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from adapterhub.hub.store.models import Account, Audit, Membership, Setting, Token, utcnow
from adapterhub.hub.store.refusals import Conflict, Forbidden, Malformed, Missing, Unidentified
from adapterhub.hub.store.upsert import insert_missing

LEVELS = {"": 0, "read": 1, "write": 2, "admin": 3}
TOKEN_PREFIX = "ahub_"
BAD_TOKEN = "Invalid credentials in Authorization header"

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38}[A-Za-z0-9])?")
#: First parts of addresses that the hub needs itself.
_RESERVED = set(
    """
    about adapters api architectures assets buckets collections compare datasets docs explore health
    healthz join kernels languages login logout metrics models new oauth organizations papers people
    readyz resolve search settings spaces static tasks uploads
    """.split()  # noqa: SIM905
)
_REFRESH = timedelta(hours=1)


@dataclass(frozen=True)
class Caller:
    """Who makes a request, and how much his token allows; without an account: anybody."""

    account_id: int | None = None
    name: str = ""
    admin: bool = False
    scope: str = ""
    address: str = ""
    token_id: int | None = None

    @property
    def known(self) -> bool:
        """Whether a valid token came with the request."""
        return self.account_id is not None

    def require_scope(self, scope: str) -> None:
        """Refuse unless there is a token whose scope is at least *scope*.

        Raises:
            Unidentified: Without a token.
            Forbidden: If the token allows less.
        """
        if not self.known:
            raise Unidentified("This needs a token; log in with 'hf auth login' or set HF_TOKEN.")
        if LEVELS[self.scope] < LEVELS[scope]:
            raise Forbidden(f"This needs a token of scope {scope!r}; yours has {self.scope!r}.")

    def require_admin(self) -> None:
        """Refuse unless this is an administrator of the hub with a token of scope admin."""
        self.require_scope("admin")
        if not self.admin:
            raise Forbidden("Only administrators of this hub may do this.")


def require_name(name: str) -> None:
    """Check the name of an account to be.

    Raises:
        Malformed: If it cannot be one.
    """
    if not _NAME.fullmatch(name) or "--" in name or name.lower() in _RESERVED:
        raise Malformed(
            f"account name {name[:60]!r} is not usable: take up to 40 letters, digits, - and _, none of the "
            "reserved words"
        )


def create_account(
    session: Session,
    name: str,
    *,
    kind: str = "user",
    fullname: str = "",
    email: str | None = None,
    admin: bool = False,
) -> Account:
    """Add a user or (kind ``"org"``) an organisation.

    Raises:
        Malformed: If the name cannot be one.
        Conflict: If it is taken, whatever the case of its letters.
    """
    require_free(session, name)
    account = Account(
        name=name,
        key=name.casefold(),
        kind=kind,
        fullname=fullname or name,
        email=email,
        admin=admin,
    )
    session.add(account)
    try:
        session.flush()
    except IntegrityError as error:  # two requests at once
        raise Conflict(f"account {name!r} exists already") from error
    return account


def require_free(session: Session, name: str) -> None:
    """Check that an account can be made with this name.

    Raises:
        Malformed: If the name cannot be one.
        Conflict: If it is taken, whatever the case of its letters.
    """
    require_name(name)
    if session.scalar(select(Account.id).where(Account.key == name.casefold())) is not None:
        raise Conflict(f"account {name!r} exists already")


def known(session: Session, name: str) -> str | None:
    """Return the name of an account as its owner spells it, or ``None`` if there is none."""
    return session.scalar(select(Account.name).where(Account.key == name.casefold()))


def find_account(session: Session, name: str) -> Account:
    """Return the account of that name.

    Raises:
        Missing: If there is none.
    """
    account = session.scalar(select(Account).where(Account.key == name.casefold()))
    if account is None:
        raise Missing(f"there is no account {name[:60]!r} here")
    return account


def issue_token(
    session: Session,
    account: Account,
    *,
    name: str,
    scope: str = "read",
    expires: datetime | None = None,
) -> tuple[Token, str]:
    """Make a token and return it with its secret, which can never be read again.

    Raises:
        Malformed: If the scope is not read, write or admin.
    """
    if scope not in ("read", "write", "admin"):
        raise Malformed(f"token scope {scope!r} is not read, write or admin")
    if account.kind != "user":
        raise Malformed(f"{account.name} is an organisation; tokens belong to users")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = Token(
        account=account,
        name=name[:200] or scope,
        digest=_digest(secret),
        hint=secret[-4:],
        scope=scope,
        expires=expires,
    )
    session.add(token)
    session.flush()
    return token, secret


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def identify(session: Session, secret: str, address: str = "") -> tuple[Caller, bool]:
    """Return who a token stands for, and whether its time of use should be noted again.

    Raises:
        Unidentified: If there is no such token, or it has expired or been revoked.
    """
    token = session.scalar(select(Token).where(Token.digest == _digest(secret)))
    caller = _caller(token, address)
    return caller, token is None or token.used is None or token.used < utcnow() - _REFRESH


def identify_again(session: Session, token_id: int, address: str = "") -> Caller:
    """Return who the token of that number stands for, for whom was given something on its strength.

    Raises:
        Unidentified: As :func:`identify`.
    """
    return _caller(session.get(Token, token_id), address)


def _caller(token: Token | None, address: str) -> Caller:
    if (
        token is None
        or token.revoked
        or token.account.disabled
        or (token.expires and token.expires <= utcnow())
    ):
        raise Unidentified(BAD_TOKEN)
    account = token.account
    return Caller(account.id, account.name, account.admin, token.scope, address, token.id)


def note_use(session: Session, token_id: int) -> None:
    """Remember that a token was used (to the hour, so that reading stays reading)."""
    token = session.get(Token, token_id)
    if token is not None:
        token.used = utcnow()


def role(session: Session, caller: Caller, owner_id: int) -> str:
    """Return what *caller* is in a namespace: ``""``, ``"read"``, ``"write"`` or ``"admin"``."""
    if not caller.known:
        return ""
    if caller.account_id == owner_id or (caller.admin and caller.scope == "admin"):
        return "admin"
    member = session.get(Membership, (owner_id, caller.account_id))
    return member.role if member else ""


def set_member(session: Session, organisation: Account, user: Account, role_: str) -> None:
    """Give a user a role in an organisation; ``""`` takes him out.

    Raises:
        Malformed: If it is no organisation, no user or no role.
        Conflict: If nobody would be left to administer it.
    """
    if organisation.kind != "org" or user.kind != "user" or role_ not in LEVELS:
        raise Malformed("a member is a user with the role read, write or admin in an organisation")
    row = session.get(Membership, (organisation.id, user.id))
    if row is not None and row.role == "admin" and role_ != "admin":
        others = session.scalar(
            select(Membership.user_id).where(
                Membership.organisation_id == organisation.id,
                Membership.role == "admin",
                Membership.user_id != user.id,
            )
        )
        if others is None:
            raise Conflict(f"{user.name} is the last administrator of {organisation.name}")
    if not role_:
        if row is not None:
            session.delete(row)
    elif row is None:
        session.add(Membership(organisation_id=organisation.id, user_id=user.id, role=role_))
    else:
        row.role = role_


def organisations(session: Session, account_id: int) -> list[tuple[Account, str]]:
    """Return the organisations of a user, by name, each with his role there."""
    found = session.execute(
        select(Account, Membership.role)
        .join(Membership, Membership.organisation_id == Account.id)
        .where(Membership.user_id == account_id)
        .order_by(Account.key)
    )
    return [(account, role_) for account, role_ in found]


def audit(session: Session, caller: Caller, action: str, target: str, detail: str = "") -> None:
    """Write a line of the audit log, in the transaction of what it tells about."""
    line = Audit(
        actor=caller.name or "anonymous",
        action=action,
        target=target[:255],
        detail=detail,
        address=caller.address[:255],
    )
    session.add(line)


def shared_secret(session: Session, name: str) -> str:
    """Return a random value that all processes of this hub share, made at its first use."""
    if session.get(Setting, name) is None:
        insert_missing(session, Setting, name=name, value=secrets.token_hex(32))
    return session.get_one(Setting, name).value
