"""The public keys that users sign with: registered, revoked, and looked up by a check."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.signing import PublicKey, SignatureError
from adapterhub.hub.store.models import Account, Membership, SignerKey, utcnow
from adapterhub.hub.store.refusals import Conflict, Malformed, Missing

MAX_KEYS = 20


def register(
    session: Session,
    account: Account,
    public: str,
    *,
    name: str = "",
    expires: datetime | None = None,
    past: bool = False,
) -> SignerKey:
    """Add a public key to the profile of a user.

    Args:
        past: take one that has expired, too: what it signed before is to be known.

    Raises:
        Malformed: If it is no key, has expired, or *account* is no user or has too many.
        Conflict: If somebody registered it already, or it was revoked: that is for ever.
    """
    try:
        key = PublicKey.parse(public)
    except SignatureError as error:
        raise Malformed(str(error)) from error
    if account.kind != "user":
        raise Malformed(f"{account.name} is an organisation; keys belong to its members")
    if expires is not None and expires <= utcnow() and not past:
        raise Malformed("the key has expired")
    if session.scalar(select(SignerKey.id).where(SignerKey.public == str(key))) is not None:
        raise Conflict(f"key {key.id} is registered here already, or was; make a new one")
    if sum(row.revoked is None for row in of(session, account)) >= MAX_KEYS:
        raise Malformed(f"{account.name} has {MAX_KEYS} keys; revoke one first")
    row = SignerKey(
        account=account, public=str(key), fingerprint=key.id, name=name[:200], expires=expires
    )
    session.add(row)
    session.flush()
    return row


def of(session: Session, account: Account) -> list[SignerKey]:
    """Return the keys of a user, revoked ones too, oldest first."""
    query = select(SignerKey).where(SignerKey.account_id == account.id).order_by(SignerKey.id)
    return list(session.scalars(query).unique())


def revoke(session: Session, account: Account, fingerprint: str) -> SignerKey:
    """Revoke a key of a user; what it signed is not believed any more.

    Raises:
        Missing: If the user has no such key.
    """
    row = session.scalar(
        select(SignerKey).where(
            SignerKey.account_id == account.id, SignerKey.fingerprint == fingerprint
        )
    )
    if row is None:
        raise Missing(f"{account.name} has no key {fingerprint[:40]!r} here")
    row.revoked = row.revoked or utcnow()
    return row


def find(session: Session, key: PublicKey) -> SignerKey | None:
    """Return the row of a key, if anybody registered it."""
    return session.scalar(select(SignerKey).where(SignerKey.public == str(key)))


def speaks_for(session: Session, account: Account, owner_id: int) -> bool:
    """Tell whether a user may sign for a namespace: its owner, or a member who may write there."""
    if account.disabled:
        return False
    if account.id == owner_id:
        return True
    member = session.get(Membership, (owner_id, account.id))
    return member is not None and member.role in ("write", "admin")
