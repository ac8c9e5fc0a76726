"""The store of a server on this machine: every public, published repository as a card.

What is private, gated, held or not checked yet is left out: a copy is for everybody. The server may be
running; this only reads.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubError
from adapterhub.hub import cardfile, folderkeys, folderreports
from adapterhub.hub.cards import Member
from adapterhub.hub.catalogue import catalogue_of
from adapterhub.hub.copies.index import about_card
from adapterhub.hub.copies.origin import Draft, Filter, Got, Note, Offer, Wanted
from adapterhub.hub.copies.paths import path_problem
from adapterhub.hub.copies.published import read_adapter
from adapterhub.hub.copies.repocard import RepoState, RepoVersion, card_of, task_cards
from adapterhub.hub.folderkeys import FolderKey
from adapterhub.hub.live.cardrows import NOWHERE
from adapterhub.hub.live.places import Architectures
from adapterhub.hub.names import slug_problems
from adapterhub.hub.reports import SignedReport
from adapterhub.hub.signing import PublicKey
from adapterhub.hub.store import changes, reports
from adapterhub.hub.store.blobs import Blobs
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import (
    Account,
    CardRow,
    Commit,
    File,
    Reference,
    Repo,
    SignerKey,
)
from adapterhub.hub.store.repos import DEFAULT_BRANCH

_BATCH = 400
#: When more repositories than these have changed, all are read anew.
_MANY = 5000
_SHORT = 12


def repo_states(
    session: Session, only: Iterable[int] | None = None
) -> Iterator[tuple[int, RepoState]]:
    """Yield every public repository (or those of the ids *only*) with the versions that are published."""
    query = (
        select(Repo)
        .where(Repo.private.is_(False), Repo.gated.is_(None), Repo.published_id.is_not(None))
        .order_by(Repo.id)
    )
    if only is not None:
        query = query.where(Repo.id.in_(list(only)))
    repos = [
        repo
        for repo in session.scalars(query).unique()
        if not slug_problems("owner", repo.owner.name) and not slug_problems("name", repo.name)
    ]
    for first in range(0, len(repos), _BATCH):
        yield from _states(session, repos[first : first + _BATCH])


def _states(session: Session, repos: Sequence[Repo]) -> Iterator[tuple[int, RepoState]]:
    ids = [repo.id for repo in repos]
    references: dict[int, list[Reference]] = defaultdict(list)
    for item in session.scalars(
        select(Reference).where(Reference.repo_id.in_(ids)).order_by(Reference.name)
    ):
        references[item.repo_id].append(item)
    shown = {_shown(item) for items in references.values() for item in items}
    shown |= {repo.published_id for repo in repos}
    wanted = sorted(filter(None, shown))
    commits: dict[str, Commit] = {}
    files: dict[str, list[File]] = defaultdict(list)
    for first in range(0, len(wanted), _BATCH):
        some = wanted[first : first + _BATCH]
        for commit in session.scalars(select(Commit).where(Commit.id.in_(some))):
            commits[commit.id] = commit
        for file in session.scalars(
            select(File).where(File.commit_id.in_(some)).order_by(File.path)
        ):
            files[file.commit_id].append(file)
    for repo in repos:
        named: dict[str, Commit] = {}
        for item in sorted(references[repo.id], key=lambda r: (r.kind != "tag", r.name)):
            commit = commits.get(_shown(item) or "")
            is_main = item.kind == "branch" and item.name == DEFAULT_BRANCH
            if commit is not None and commit.status == "verified" and not is_main:
                named.setdefault(item.name, commit)
        default = commits[str(repo.published_id)]
        name = next((n for n, c in named.items() if c.id == default.id), default.id[:_SHORT])
        named.pop(name, None)
        others = sorted(named.items(), key=lambda pair: (pair[1].created, pair[0]))
        versions = [
            _version(label, commit, files[commit.id])
            for label, commit in [*others, (name, default)]
        ]
        yield repo.id, RepoState(repo.owner.name, repo.name, versions, repo.owner.fullname)


def _shown(reference: Reference) -> str | None:
    return reference.commit_id if reference.kind == "tag" else reference.published_id


def _version(name: str, commit: Commit, files: Iterable[File]) -> RepoVersion:
    members = [Member(item.path, item.size, item.sha256) for item in files]
    return RepoVersion(name, _time(commit.created), members, commit.facts)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stored_keys(session: Session) -> Iterator[tuple[str, bytes]]:
    """Yield the keys of each user who has any, as a file of a hub folder with its path."""
    query = select(SignerKey).join(SignerKey.account).where(Account.disabled.is_(False))
    groups: dict[str, list[FolderKey]] = defaultdict(list)
    for row in session.scalars(query.order_by(SignerKey.id)).unique():
        key = PublicKey.parse(row.public)
        made = FolderKey(key, row.account.name, row.name, row.expires, row.revoked)
        groups[row.account.name].append(made)
    for name, keys in sorted(groups.items()):
        yield f"{folderkeys.FOLDER}/{name}.yaml", folderkeys.dumps(keys)


def stored_reports(
    session: Session, only: Iterable[int] | None = None
) -> Iterator[tuple[int, str, bytes]]:
    """Yield the reports that count (about the repositories *only*): repository, path and content."""
    for row in reports.counting(session, only):
        value = {"report": row.document, "signature": row.signature}
        try:
            signed = SignedReport.from_json(value)
        except HubError:
            continue  # taken in by a version that knew another format
        if signed.report.repo.casefold() != row.repo.full_name.casefold():
            continue  # moved since; the signature is for the name that it had
        yield row.repo_id, folderreports.report_path(signed), folderreports.dumps(signed)


class Cards:
    """Every card of a store as everybody may see it, by its path, kept in step with the store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._number: int | None = None
        self._own: dict[str, bytes] = {}
        self._catalogue = catalogue_of(NOWHERE, {})
        self._architectures = Architectures(self._catalogue)
        self._made: dict[int, tuple[str, dict[str, Any]]] = {}
        self._bytes: dict[int, bytes] = {}
        self._keys: dict[str, bytes] = {}
        self._reports: dict[int, dict[str, bytes]] = {}
        self.all: dict[str, bytes] = {}
        #: When the newest of the changes was made that are taken over here.
        self.changed: datetime | None = None

    def refresh(self) -> bool:
        """Take over what has changed; tell whether anything has."""
        with self._database.read() as session:
            if self._number is None:
                news = changes.News(changes.latest(session), everything=True)
            else:
                news = changes.since(session, self._number)
            if news.number == self._number:
                return False
            changed = changes.time_of(session, news.number)
            if news.everything or news.cards or len(news.repos) > _MANY:
                rows = {row.path: dict(row.data) for row in session.scalars(select(CardRow))}
                own = {path: card for path, card in rows.items() if path_problem(path) is None}
                self._own = {path: cardfile.dumps(card) for path, card in own.items()}
                self._catalogue = catalogue_of(NOWHERE, own)
                self._architectures = Architectures(self._catalogue)
                self._made, self._bytes = {}, {}
                states = repo_states(session)
            else:
                for repo_id in news.repos:
                    self._made.pop(repo_id, None)
                    self._bytes.pop(repo_id, None)
                states = repo_states(session, news.repos)
            self._take(states)
            if news.everything or changes.KEYS in news.repos or len(news.repos) > _MANY:
                self._keys, self._reports = dict(stored_keys(session)), {}
                self._take_reports(session, None)
            else:
                self._take_reports(session, news.repos)
        self._number, self.changed = news.number, changed
        self._put_together()
        return True

    def _take(self, states: Iterable[tuple[int, RepoState]]) -> None:
        for repo_id, state in states:
            try:
                card = card_of(state, self._catalogue, self._architectures)
            except HubError:
                continue  # files that are no adapter: nothing that a card could say
            self._made[repo_id] = f"adapters/{state.owner}/{state.name}.yaml", card
            self._bytes[repo_id] = cardfile.dumps(card)

    def _take_reports(self, session: Session, only: Iterable[int] | None) -> None:
        for repo_id in only or ():
            self._reports.pop(repo_id, None)
        for repo_id, path, data in stored_reports(session, only):
            self._reports.setdefault(repo_id, {})[path] = data

    def _put_together(self) -> None:
        cards = dict(self._own)
        for _, card in self._made.values():
            for path, extra in task_cards(card, self._catalogue).items():
                if path not in cards:
                    cards[path] = cardfile.dumps(extra)
        cards |= {path: self._bytes[repo_id] for repo_id, (path, _) in self._made.items()}
        for repo_id in self._made:
            cards |= self._reports.get(repo_id, {})
        self.all = dict(sorted({**cards, **self._keys}.items()))


class Stored:
    """The public part of a store.

    Args:
        database, blobs: the store.
        name, description: of the hub.
        place: where it is, for people.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        *,
        name: str = "",
        description: str = "",
        place: str = "the store",
    ) -> None:
        self._blobs, self.name = blobs, place
        self._about = {"name": name, "description": description}
        cards = Cards(database)
        cards.refresh()
        self._cards = cards.all

    def about(self) -> Mapping[str, str]:
        return self._about

    def offers(self, wanted: Filter) -> Iterator[Offer]:
        for path, data in self._cards.items():
            about: dict[str, str] = {}
            if path.startswith("adapters/"):
                about = {**about_card(cardfile.loads(data)), "owner": path.split("/")[1]}
                if not wanted.fits(about):
                    continue
            yield Offer(path, hashlib.sha256(data).hexdigest(), about)

    def draft(self, offer: Offer) -> Draft:
        data = self._cards[offer.path]
        files = []
        if offer.path.startswith("adapters/"):
            for version in read_adapter(offer.path, data).versions:
                files += [
                    Wanted(version.version, m.path, m.sha256, m.size, m.sha256)
                    for m in version.members
                ]

        def finish(found: Mapping[tuple[str, str], Got]) -> Mapping[str, bytes]:
            return {offer.path: data}

        return Draft(files, finish)

    def fetch(self, file: Wanted, target: Path, limit: int, note: Note) -> tuple[str, int]:
        """Copy a blob; the hash is taken of what was written."""
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as writer:
            for piece in self._blobs.read(file.place):
                writer.write(piece)
                digest.update(piece)
                size += len(piece)
                note(len(piece))
            writer.flush()
            os.fsync(writer.fileno())
        return digest.hexdigest(), size
