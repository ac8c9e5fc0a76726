"""The tables of the hub server, the same in SQLite and PostgreSQL.

What never changes (blobs, commits, their files) is kept apart from the few rows that do (references,
the facts of a repository that follow from its published commit), because a publication is one change
of one reference. Times are UTC. Names are compared by their case-folded *key*.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

# SQLite counts by itself only in a column that is exactly INTEGER.
Key = BigInteger().with_variant(Integer, "sqlite")


def utcnow() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(timezone.utc)


class Moment(TypeDecorator[datetime]):
    """A time in UTC; SQLite forgets time zones, so they are taken off and put back here."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(timezone.utc).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=timezone.utc) if value else None


class Base(DeclarativeBase):
    """Base of all tables; constraints have names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Moment, dict[str, Any]: JSON, str: String(255)}


class Account(Base):
    """A user or an organisation: whoever a namespace belongs to."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(String(8))
    fullname: Mapped[str] = mapped_column(default="")
    email: Mapped[str | None]
    admin: Mapped[bool] = mapped_column(default=False)
    disabled: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=utcnow)


class Membership(Base):
    """That a user belongs to an organisation, and as what: ``read``, ``write`` or ``admin``."""

    __tablename__ = "memberships"

    organisation_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    role: Mapped[str] = mapped_column(String(8))


class Token(Base):
    """A secret by which a program acts for a user; only its SHA-256 is kept."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    hint: Mapped[str] = mapped_column(String(16))
    scope: Mapped[str] = mapped_column(String(8))
    created: Mapped[datetime] = mapped_column(default=utcnow)
    expires: Mapped[datetime | None]
    used: Mapped[datetime | None]
    revoked: Mapped[datetime | None]
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class Repo(Base):
    """An adapter with its history. ``facts``, ``modified`` and the tags follow the published commit."""

    __tablename__ = "repos"
    __table_args__ = (UniqueConstraint("owner_id", "key"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str]
    key: Mapped[str]
    private: Mapped[bool] = mapped_column(default=False)
    gated: Mapped[str | None] = mapped_column(String(8))
    created: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    modified: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    downloads: Mapped[int] = mapped_column(BigInteger, default=0)
    likes: Mapped[int] = mapped_column(BigInteger, default=0)
    published_id: Mapped[str | None] = mapped_column(String(40), index=True)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    owner: Mapped[Account] = relationship(lazy="joined", innerjoin=True)

    @property
    def full_name(self) -> str:
        """``owner/name``, as people write it."""
        return f"{self.owner.name}/{self.name}"


class RepoAlias(Base):
    """A former name of a repository, which leads to it for ever unless the name is taken again."""

    __tablename__ = "repo_aliases"

    owner_key: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repos.id", ondelete="CASCADE"), index=True)


class RepoTag(Base):
    """A word by which a repository is found; derived from its published files."""

    __tablename__ = "repo_tags"

    repo_id: Mapped[int] = mapped_column(
        ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    __table_args__ = (Index("ix_repo_tags_tag", "tag"),)


class Access(Base):
    """That a user was let in to a gated repository, or asked to be."""

    __tablename__ = "accesses"

    repo_id: Mapped[int] = mapped_column(
        ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True
    )
    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    state: Mapped[str] = mapped_column(String(8))
    created: Mapped[datetime] = mapped_column(default=utcnow)


class Blob(Base):
    """The content of a file, under its SHA-256. ``state`` is ``live`` or, while removed, ``dying``."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    git_oid: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(8), default="live")
    touched: Mapped[datetime] = mapped_column(default=utcnow, index=True)


class Upload(Base):
    """Proof that somebody sent the content to this repository, and so may put it into a commit."""

    __tablename__ = "uploads"

    repo_id: Mapped[int] = mapped_column(
        ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True
    )
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), primary_key=True, index=True)
    account_id: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(default=utcnow)


class StagedXorb(Base):
    """A part of large files that came in Xet's format, until the files are put together; see ``xorbs``.

    *used*: a shard that told of it is done with.
    """

    __tablename__ = "staged_xorbs"

    folder: Mapped[str] = mapped_column(String(100), primary_key=True)
    xorb: Mapped[str] = mapped_column(String(64), primary_key=True)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repos.id", ondelete="CASCADE"), index=True)
    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    size: Mapped[int] = mapped_column(BigInteger)
    used: Mapped[bool] = mapped_column(default=False)
    touched: Mapped[datetime] = mapped_column(default=utcnow)


class Commit(Base):
    """An immutable state of a repository. ``status``: pending, verified, held or rejected."""

    __tablename__ = "commits"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repos.id", ondelete="CASCADE"))
    parent_id: Mapped[str | None] = mapped_column(String(40))
    reference_id: Mapped[int | None] = mapped_column(BigInteger)
    author: Mapped[str]
    title: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[datetime] = mapped_column(default=utcnow)
    status: Mapped[str] = mapped_column(String(8), default="pending")
    reason: Mapped[str] = mapped_column(Text, default="")
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    __table_args__ = (UniqueConstraint("repo_id", "number"),)


class File(Base):
    """One line of a commit's manifest. *lfs*: clients see it by its SHA-256 and not as a git blob."""

    __tablename__ = "files"

    commit_id: Mapped[str] = mapped_column(
        ForeignKey("commits.id", ondelete="CASCADE"), primary_key=True
    )
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    git_oid: Mapped[str] = mapped_column(String(40))
    lfs: Mapped[bool]

    @property
    def oid(self) -> str:
        """The hash by which clients of the protocol know this content."""
        return self.sha256 if self.lfs else self.git_oid


class Reference(Base):
    """A branch or tag. *commit_id* is what its writers see, *published_id* what everybody sees."""

    __tablename__ = "refs"
    __table_args__ = (UniqueConstraint("repo_id", "kind", "name"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repos.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(8))
    name: Mapped[str]
    commit_id: Mapped[str] = mapped_column(String(40))
    published_id: Mapped[str | None] = mapped_column(String(40))
    message: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[datetime] = mapped_column(default=utcnow)


class Check(Base):
    """What one check of one version said about a file of a commit (*path* empty: about the whole)."""

    __tablename__ = "checks"
    __table_args__ = (
        UniqueConstraint("commit_id", "path", "name"),
        Index("ix_checks_file", "sha256", "path"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    commit_id: Mapped[str] = mapped_column(ForeignKey("commits.id", ondelete="CASCADE"))
    path: Mapped[str] = mapped_column(String(1024), default="")
    sha256: Mapped[str] = mapped_column(String(64), default="")
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int]
    outcome: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(Text, default="")
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime] = mapped_column(default=utcnow)


class Job(Base):
    """Work for a check worker. A worker that died loses its lease, and another takes over."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    commit_id: Mapped[str] = mapped_column(ForeignKey("commits.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(8), default="queued", index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str] = mapped_column(default="")
    ready: Mapped[datetime] = mapped_column(default=utcnow)
    error: Mapped[str] = mapped_column(Text, default="")
    created: Mapped[datetime] = mapped_column(default=utcnow)
    finished: Mapped[datetime | None]


class Audit(Base):
    """Who did what, when and from where; never changed, never removed by the server."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    created: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    actor: Mapped[str]
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str]
    detail: Mapped[str] = mapped_column(Text, default="")
    address: Mapped[str] = mapped_column(default="")


class Setting(Base):
    """A value that all processes of one hub share, such as the key of its signed addresses."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Password(Base):
    """The password of a user, as argon2 keeps it; apart from the account, so that no list holds it."""

    __tablename__ = "passwords"

    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    hashed: Mapped[str]
    changed: Mapped[datetime] = mapped_column(default=utcnow)


class Login(Base):
    """That a browser is signed in. Only the SHA-256 of its cookie is kept.

    ``scope`` and ``token_id`` say what it was signed in with; it may do no more than that token, and
    ends with it.
    """

    __tablename__ = "logins"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(8), default="admin")
    token_id: Mapped[int | None] = mapped_column(
        ForeignKey("tokens.id", ondelete="CASCADE"), index=True
    )
    created: Mapped[datetime] = mapped_column(default=utcnow)
    used: Mapped[datetime] = mapped_column(default=utcnow)
    expires: Mapped[datetime] = mapped_column(index=True)
    address: Mapped[str] = mapped_column(default="")
    agent: Mapped[str] = mapped_column(default="")
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class Invitation(Base):
    """A link with which somebody sets a password, once: a new user's, or (*account_id*) an old one's."""

    __tablename__ = "invitations"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    account_id: Mapped[int | None] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(default="")
    email: Mapped[str] = mapped_column(default="")
    admin: Mapped[bool] = mapped_column(default=False)
    author: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=utcnow)
    expires: Mapped[datetime]
    used: Mapped[datetime | None]


class Attempt(Base):
    """Failed sign-ins under a key (an account, an address, or both), counted since *since*."""

    __tablename__ = "attempts"

    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=0)
    since: Mapped[datetime] = mapped_column(default=utcnow, index=True)


class Quota(Base):
    """What one namespace may hold instead of what the settings say; ``None``: as the settings say."""

    __tablename__ = "quotas"

    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    max_bytes: Mapped[int | None] = mapped_column(BigInteger)
    max_repos: Mapped[int | None] = mapped_column(BigInteger)


class Change(Base):
    """A line of the log by which every process keeps what it holds in memory in step; see ``changes``.

    *repo_id* is the repository that looks different now (or is gone); ``None``: the cards do.
    """

    __tablename__ = "changes"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    repo_id: Mapped[int | None] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(default=utcnow)


class CardRow(Base):
    """A card of an imported collection: a task, data set, architecture, or adapter kept elsewhere."""

    __tablename__ = "cards"

    path: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]]


class TensorNorms(Base):
    """Names, types, shapes and norms of the tensors of a weight file; reading it again takes time."""

    __tablename__ = "tensor_norms"

    sha256: Mapped[str] = mapped_column(
        ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True
    )
    data: Mapped[dict[str, Any]]


class SignerKey(Base):
    """A public key that a user signs with (``ed25519:<base64>``); kept when revoked, so that all see it."""

    __tablename__ = "signer_keys"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    account_id: Mapped[int] = mapped_column(
        ForeignKey("accounts.id", ondelete="CASCADE"), index=True
    )
    public: Mapped[str] = mapped_column(String(64), unique=True)
    fingerprint: Mapped[str] = mapped_column(String(32), index=True)
    name: Mapped[str] = mapped_column(default="")
    created: Mapped[datetime] = mapped_column(default=utcnow)
    expires: Mapped[datetime | None]
    revoked: Mapped[datetime | None]
    account: Mapped[Account] = relationship(lazy="joined", innerjoin=True)


class Likeness(Base):
    """What a file of weights looks like from afar: equal *shapes* and near *norms* hint at a copy."""

    __tablename__ = "likenesses"

    sha256: Mapped[str] = mapped_column(
        ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True
    )
    shapes: Mapped[str] = mapped_column(String(64), index=True)
    norms: Mapped[dict[str, Any]]


class EvaluationReport(Base):
    """What somebody measured about the files of a commit, signed; kept as sent, in *document*.

    The other columns repeat what leaderboards are made of. *dataset* is ``task/subtask``, or empty.
    """

    __tablename__ = "evaluation_reports"
    __table_args__ = (UniqueConstraint("repo_id", "digest", "key_id"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    repo_id: Mapped[int] = mapped_column(ForeignKey("repos.id", ondelete="CASCADE"))
    commit_id: Mapped[str] = mapped_column(ForeignKey("commits.id", ondelete="CASCADE"), index=True)
    key_id: Mapped[int] = mapped_column(
        ForeignKey("signer_keys.id", ondelete="CASCADE"), index=True
    )
    digest: Mapped[str] = mapped_column(String(64))
    dataset: Mapped[str] = mapped_column(default="", index=True)
    split: Mapped[str]
    data_sha256: Mapped[str] = mapped_column(String(64))
    document: Mapped[dict[str, Any]]
    signature: Mapped[dict[str, Any]]
    created: Mapped[datetime] = mapped_column(default=utcnow)
    withdrawn: Mapped[datetime | None]
    key: Mapped[SignerKey] = relationship(lazy="joined", innerjoin=True)
    repo: Mapped[Repo] = relationship(lazy="joined", innerjoin=True)
    commit: Mapped[Commit] = relationship(lazy="joined", innerjoin=True)
