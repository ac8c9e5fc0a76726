"""Links with which somebody sets a password, once, within some days.

An administrator makes one for a new user (with a name, or free to choose one) or for a user who has no
password or forgot it. The link holds a random value (behind the ``#``, so that no log of a server has it), of
which only the SHA-256 is kept.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.store import accounts, logins, passwords
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.models import Account, Invitation, utcnow
from adapterhub.hub.store.refusals import Conflict, Malformed, Missing

LIFETIME = timedelta(days=7)


def invite(
    session: Session,
    caller: Caller,
    *,
    name: str = "",
    email: str = "",
    admin: bool = False,
    lifetime: timedelta = LIFETIME,
) -> str:
    """Make an invitation and return the value for its link, which can never be read again.

    Args:
        name: of the account; if there is one, its password is set, else it is made. Empty: whoever
            has the link chooses a name.
        admin: whether a new user administers the hub.
        lifetime: after which the link is worth nothing.

    Raises:
        Malformed: If the name cannot be one, or is that of an organisation.
    """
    account = None
    if name:
        account = session.scalar(select(Account).where(Account.key == name.casefold()))
        if account is None:
            accounts.require_name(name)
        elif account.kind != "user":
            raise Malformed(
                f"{account.name} is an organisation; invite users, then make them members"
            )
    secret = secrets.token_urlsafe(32)
    session.add(
        Invitation(
            digest=logins.digest(secret),
            account_id=account.id if account else None,
            name=account.name if account else name,
            email=email[:255],
            admin=admin and account is None,
            author=caller.name,
            expires=utcnow() + lifetime,
        )
    )
    accounts.audit(
        session,
        caller,
        "invitation.create",
        account.name if account else name,
        "password" if account else "administrator" if admin else "user",
    )
    session.flush()
    return secret


def find(session: Session, secret: str, *, lock: bool = False) -> Invitation:
    """Return the invitation of a link.

    Raises:
        Missing: If there is none, it was used, or it has expired.
    """
    query = select(Invitation).where(Invitation.digest == logins.digest(secret))
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None or row.used is not None or row.expires <= utcnow():
        raise Missing(
            "This invitation was used already, has expired, or was never made. Ask for another one."
        )
    return row


def accept(
    session: Session, caller: Caller, secret: str, *, name: str, fullname: str, kept: str
) -> Account:
    """Use up an invitation: make the account if it is new, and set its password.

    Args:
        name: chosen by the user, where the invitation leaves it open.
        kept: the password, as :func:`~adapterhub.hub.store.passwords.hashed` returns it.

    Raises:
        Missing: If the invitation is not valid any more.
        Malformed, Conflict: If the name cannot be had.
    """
    row = find(session, secret, lock=True)
    account = session.get(Account, row.account_id) if row.account_id else None
    if account is None:
        account = accounts.create_account(
            session, row.name or name, fullname=fullname, email=row.email or None, admin=row.admin
        )
        action = "user.join"
    else:
        if account.disabled:
            raise Conflict(f"{account.name} may not sign in here; ask an administrator.")
        action = "password.reset"
        logins.end_all(session, account.id)
    row.used = utcnow()
    passwords.keep(session, account.id, kept)
    who = Caller(account.id, account.name, address=caller.address)
    accounts.audit(session, who, action, account.name, f"invited by {row.author}")
    return account


def open_ones(session: Session) -> list[Invitation]:
    """Return the invitations that still can be used, newest first."""
    query = select(Invitation).where(Invitation.used.is_(None), Invitation.expires > utcnow())
    return list(session.scalars(query.order_by(Invitation.id.desc())))


def withdraw(session: Session, caller: Caller, number: int) -> None:
    """Make an invitation worth nothing.

    Raises:
        Missing: If there is none.
    """
    row = session.get(Invitation, number)
    if row is None:
        raise Missing("there is no such invitation")
    accounts.audit(session, caller, "invitation.withdraw", row.name)
    session.delete(row)
