"""Evaluation reports in the store: taking one in, and reading those that count.

A report counts as long as the key that signed it is registered by a user who may sign in and was not
revoked, its commit is verified, and it was not withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session, contains_eager

from adapterhub.hub.reports import SignedReport, Value
from adapterhub.hub.signing import SignatureError, stamp
from adapterhub.hub.store import accounts, signers
from adapterhub.hub.store.accounts import LEVELS, Caller
from adapterhub.hub.store.models import (
    Account,
    Commit,
    EvaluationReport,
    File,
    Membership,
    Repo,
    SignerKey,
    utcnow,
)
from adapterhub.hub.store.refusals import Forbidden, Malformed, Missing, TooMany, Unacceptable
from adapterhub.hub.store.repos import View

#: So many reports of one user about one adapter are kept; more tell nobody anything.
MAX_REPORTS = 100


@dataclass(frozen=True)
class Counted:
    """A report that counts, as pages and answers need it.

    Attributes:
        id: number of the report.
        repo_id, repo, commit: what was measured; *current*: whether that is what is published now.
        signer: account of whoever signed, with the fingerprint of the *key*.
        document: the report as it was signed.
    """

    id: int
    repo_id: int
    repo: str
    commit: str
    current: bool
    signer: str
    key: str
    created: datetime
    document: Mapping[str, Any]

    @property
    def values(self) -> tuple[Value, ...]:
        """The results in the report."""
        return tuple(Value(**item) for item in self.document["results"])

    def to_json(self) -> dict[str, Any]:
        """Return what the API says about it."""
        return {
            "id": self.id,
            "repo": self.repo,
            "commit": self.commit,
            "current": self.current,
            "signer": self.signer,
            "key": self.key,
            "received": stamp(self.created),
            "report": self.document,
        }


def add(session: Session, seen: View, signed: SignedReport) -> tuple[EvaluationReport, bool]:
    """Keep a report about the repository *seen*; return it, and whether it is new.

    The repository must be locked.

    Raises:
        Unidentified, Forbidden: If the caller may not write, or the key is not one of his. (An administrator
            may bring what others have signed, as when a hub is taken over.)
        Unacceptable: If the signature is wrong, or no verified commit has these files.
    """
    caller, report = seen.caller, signed.report
    caller.require_scope("write")
    if report.repo.casefold() != seen.repo.full_name.casefold():
        raise Malformed(f"the report is about {report.repo} and not about {seen.repo.full_name}")
    key = _key_of(session, caller, signed)
    commit = _commit_with(session, seen, report.files)
    base = str(commit.facts.get("base_model") or "")
    if base.casefold() != report.base_model.casefold():
        raise Unacceptable(
            f"the adapter is for {base or 'an unknown base model'}, and the report used "
            f"{report.base_model}"
        )
    same = select(EvaluationReport).where(
        EvaluationReport.repo_id == seen.repo.id, EvaluationReport.digest == signed.digest
    )
    known = session.scalars(same.where(EvaluationReport.key_id == key.id)).first()
    if known is not None:
        known.withdrawn = None
        return known, False
    mine = (
        select(EvaluationReport.id)
        .join(SignerKey, SignerKey.id == EvaluationReport.key_id)
        .where(EvaluationReport.repo_id == seen.repo.id, SignerKey.account_id == key.account_id)
        .limit(MAX_REPORTS)
    )
    if len(session.scalars(mine).all()) >= MAX_REPORTS:
        raise TooMany(
            f"{key.account.name} has sent {MAX_REPORTS} reports about {seen.repo.full_name} already"
        )
    row = EvaluationReport(
        repo=seen.repo,
        commit=commit,
        key=key,
        digest=signed.digest,
        dataset=(report.dataset or "").casefold(),
        split=report.split,
        data_sha256=report.data_sha256,
        document=report.to_json(),
        signature=signed.signature.to_json(),
    )
    session.add(row)
    session.flush()
    accounts.audit(
        session,
        caller,
        "report.add",
        seen.repo.full_name,
        f"{row.id} {commit.id} key {key.fingerprint}",
    )
    return row, True


def _key_of(session: Session, caller: Caller, signed: SignedReport) -> SignerKey:
    try:
        signed.verify()
    except SignatureError as error:
        raise Unacceptable(f"the report cannot be taken: {error}") from error
    key = signers.find(session, signed.signature.key)
    brings = caller.admin and caller.scope == "admin"
    if key is None or (key.account_id != caller.account_id and not brings):
        raise Forbidden(
            f"key {signed.signature.key.id} is not registered as one of yours; "
            "'adapterhub hub key new' and 'adapterhub hub key register' make one and tell this hub"
        )
    if key.revoked is not None:
        raise Forbidden(f"key {key.fingerprint} was revoked; sign with another one")
    if key.expires is not None and key.expires <= signed.signature.statement.signed:
        raise Forbidden(f"key {key.fingerprint} had expired when it signed; sign with another one")
    return key


def _commit_with(session: Session, seen: View, files: Mapping[str, str]) -> Commit:
    """Return the newest verified commit that has these files.

    Raises:
        Unacceptable: If there is none.
    """
    query = (
        select(Commit)
        .where(Commit.repo_id == seen.repo.id, Commit.status == "verified")
        .order_by(Commit.number.desc())
    )
    for path, digest in files.items():
        there = select(File.commit_id).where(File.path == path, File.sha256 == digest)
        query = query.where(Commit.id.in_(there))
    commit = session.scalars(query.limit(1)).first()
    if commit is None:
        raise Unacceptable(
            f"no verified version of {seen.repo.full_name} has the files that the report is about; "
            "measure what is published here"
        )
    return commit


def withdraw(session: Session, seen: View, number: int) -> EvaluationReport:
    """Take a report back: its signer may, an owner of the adapter may not, an administrator may.

    Raises:
        Missing: If there is none of that number. Forbidden: If it is not the caller's.
    """
    seen.caller.require_scope("write")
    row = session.get(EvaluationReport, number)
    if row is None or row.repo_id != seen.repo.id or row.withdrawn is not None:
        raise Missing(f"{seen.repo.full_name} has no report {number}")
    if row.key.account_id != seen.caller.account_id and not (
        seen.caller.admin and seen.caller.scope == "admin"
    ):
        raise Forbidden("only who signed a report can take it back")
    row.withdrawn = utcnow()
    accounts.audit(session, seen.caller, "report.withdraw", seen.repo.full_name, str(row.id))
    return row


def of_repo(session: Session, repo_id: int) -> list[Counted]:
    """Return the reports about a repository that count, newest first."""
    rows = session.scalars(_counting().where(EvaluationReport.repo_id == repo_id)).unique().all()
    return _counted(session, rows)


def of_datasets(
    session: Session, caller: Caller, task: str, subtask: str | None = None
) -> list[Counted]:
    """Return the reports on data of a task (or one data set) that count, about what *caller* sees.

    Of several by one signer about the same adapter, data and base model only the newest.
    """
    name = EvaluationReport.dataset
    if subtask is None:
        fits: ColumnElement[bool] = name.startswith(f"{task.casefold()}/", autoescape=True)
    else:
        fits = name == f"{task.casefold()}/{subtask.casefold()}"
    query = _counting().where(fits, _seen_by(caller))
    newest: dict[tuple[Any, ...], EvaluationReport] = {}
    for row in session.scalars(query).unique():
        key = (row.repo_id, row.key.account_id, row.dataset, row.split, row.data_sha256)
        newest.setdefault(key, row)
    return _counted(session, list(newest.values()))


def counting(session: Session, only: Iterable[int] | None = None) -> Iterable[EvaluationReport]:
    """Yield the reports that count, newest first; only those about some repositories if given."""
    query = _counting()
    if only is not None:
        query = query.where(EvaluationReport.repo_id.in_(list(only)))
    return session.scalars(query).unique()


def _counting() -> Select[Any]:
    return (
        select(EvaluationReport)
        .join(EvaluationReport.key)
        .join(EvaluationReport.repo)
        .join(EvaluationReport.commit)
        .join(Account, Account.id == SignerKey.account_id)
        .options(
            contains_eager(EvaluationReport.key),
            contains_eager(EvaluationReport.repo),
            contains_eager(EvaluationReport.commit),
        )
        .where(
            EvaluationReport.withdrawn.is_(None),
            SignerKey.revoked.is_(None),
            Account.disabled.is_(False),
            Commit.status == "verified",
        )
        .order_by(EvaluationReport.id.desc())
    )


def _seen_by(caller: Caller) -> ColumnElement[bool]:
    """The condition that a caller may know of a repository."""
    public = and_(Repo.private.is_(False), Repo.published_id.is_not(None))
    if not caller.known:
        return public
    if caller.admin and LEVELS[caller.scope] >= LEVELS["admin"]:
        return or_(public, Repo.id.is_not(None))
    member = select(Membership.organisation_id).where(Membership.user_id == caller.account_id)
    return or_(public, Repo.owner_id == caller.account_id, Repo.owner_id.in_(member))


def _counted(session: Session, rows: Sequence[EvaluationReport]) -> list[Counted]:
    published = _files_of(session, {row.repo.published_id for row in rows if row.repo.published_id})
    return [
        Counted(
            id=row.id,
            repo_id=row.repo_id,
            repo=row.repo.full_name,
            commit=row.commit_id,
            current=_within(
                row.document["adapter"]["files"], published.get(row.repo.published_id or "", {})
            ),
            signer=row.key.account.name,
            key=row.key.fingerprint,
            created=row.created,
            document=row.document,
        )
        for row in rows
    ]


def _files_of(session: Session, commits: Iterable[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    query = select(File.commit_id, File.path, File.sha256).where(File.commit_id.in_(set(commits)))
    for commit, path, digest in session.execute(query):
        found.setdefault(commit, {})[path] = digest
    return found


def _within(wanted: Mapping[str, str], there: Mapping[str, str]) -> bool:
    return all(there.get(path) == digest for path, digest in wanted.items())


def find(session: Session, seen: View, number: int) -> EvaluationReport:
    """Return a report that counts, with its signature.

    Raises:
        Missing: If there is none.
    """
    query = _counting().where(
        EvaluationReport.repo_id == seen.repo.id, EvaluationReport.id == number
    )
    row = session.scalars(query).unique().first()
    if row is None:
        raise Missing(f"{seen.repo.full_name} has no report {number}")
    return row
