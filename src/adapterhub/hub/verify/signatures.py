"""The check of an adapter's signature: is it right, for this repository, and by whose key?

A wrong signature is an error wherever it occurs. None at all is fine, unless a reader asks for one; that is
for the reader's own list of keys to decide (:mod:`adapterhub.hub.trust`), as a hub cannot vouch for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.signedfolder import verify
from adapterhub.hub.signing import SIGNATURE_FILE, Signature, SignatureError, stamp
from adapterhub.hub.store import signers
from adapterhub.hub.store.models import Account, Repo, RepoAlias
from adapterhub.hub.verify.results import Result, result

VERSION = 1
NAME = "signature"


def check(
    session: Session, repo: Repo, data: bytes, files: Mapping[str, str], committed: datetime
) -> Result:
    """Check the signature file of a commit, for the time of that commit.

    A repository that was moved may keep what was signed under a name that still leads to it.
    """
    try:
        signature = Signature.loads(data)
        subject = _subject(session, repo, signature.statement.subject)
        verify(data, subject, files, committed)
    except SignatureError as error:
        return _result([f"{SIGNATURE_FILE}: {error}"])
    said = {"key": signature.key.id, "signed": stamp(signature.statement.signed)}
    row = signers.find(session, signature.key)
    if row is None:
        text = f"signed by key {signature.key.id}, which nobody registered here"
        return _result([], [f"{SIGNATURE_FILE}: {text}"], **said)
    who = row.account.name
    if row.revoked is not None:
        text = f"the key {signature.key.id} of {who} was revoked on {stamp(row.revoked)}"
        return _result([f"{SIGNATURE_FILE}: {text}; sign with a new one"], **said)
    # The time of the commit is the hub's own, while that in the signature is only claimed.
    if row.expires is not None and committed > row.expires:
        text = f"the key {signature.key.id} of {who} expired on {stamp(row.expires)}"
        return _result([f"{SIGNATURE_FILE}: {text}; sign with a new one"], **said)
    if not signers.speaks_for(session, row.account, repo.owner_id):
        text = f"signed by {who}, who is no member of {repo.owner.name}"
        return _result([], [f"{SIGNATURE_FILE}: {text}"], signer=who, **said)
    return _result([], signer=who, **said)


def _subject(session: Session, repo: Repo, claimed: str) -> str:
    owner, _, name = claimed.casefold().partition("/")
    alias = session.get(RepoAlias, (owner, name))
    if alias is not None and alias.repo_id == repo.id:
        # The name is only free for somebody else's repository, not for somebody else's account.
        taken = session.scalar(
            select(Repo.id)
            .join(Account, Account.id == Repo.owner_id)
            .where(Account.key == owner, Repo.key == name)
        )
        if taken is None:
            return claimed
    return repo.full_name


def _result(errors: list[str], warnings: list[str] | None = None, **data: object) -> Result:
    return result(NAME, VERSION, errors, warnings or (), **data)
