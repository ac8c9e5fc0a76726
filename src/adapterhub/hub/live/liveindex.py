"""All adapters of a running hub in one index in memory, in step with the database.

Every request asks the log of changes first (one small query) and reads again what others, in this
process or another one, have changed meanwhile. So each of several web servers answers from memory and
yet shows a publication as soon as it is one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub.hub.live import cardrows
from adapterhub.hub.live.places import Architectures, Row, adapter_of, evaluations_of, texts_of
from adapterhub.hub.store import changes
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Account, Commit, Reference, Repo
from adapterhub.hub.store.repos import DEFAULT_BRANCH
from adapterhub.hub.web.folder import FolderSource
from adapterhub.hub.web.index import EVERYBODY, AdapterIndex
from adapterhub.hub.web.source import Evaluation

#: So many repositories are asked for in one query.
_AT_ONCE = 500
_KEPT_TEXTS = 300


@dataclass(frozen=True)
class Held:
    """What is remembered of a repository beside its place in the index."""

    state: tuple[object, ...]
    name: tuple[str, str]
    public: bool
    results: tuple[Evaluation, ...]


class LiveIndex:
    """The index of one server process. :meth:`refresh` before reading."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._number = -1
        self._held: dict[int, Held] = {}
        self._texts: OrderedDict[str, str] = OrderedDict()
        self.index = AdapterIndex()
        self._use(cardrows.CardCollection(cardrows.catalogue_of(cardrows.NOWHERE, {})))
        #: Adapters that are only cards, by folded owner and name.
        self._card_names: dict[tuple[str, str], str] = {}

    @property
    def number(self) -> int:
        """Up to which line of the log of changes the index is."""
        return self._number

    def refresh(self) -> None:
        """Take over what has changed in the database since the last time."""
        with self._database.read() as session:
            if changes.latest(session) == self._number:
                return
        with self._lock, self._database.read() as session:
            if self._number < 0:
                number = changes.latest(session)
                self._read_cards(session)
                self._read_everything(session)
                self._number = number
                return
            news = changes.since(session, self._number)
            if news.everything or news.cards:
                self._read_cards(session)
            if news.everything:
                self._read_everything(session)
            elif news.cards:  # the cards give tasks and data sets their names
                self._held = {i: replace(held, state=()) for i, held in self._held.items()}
                self._read(session, list(self._held))
            self._read(session, news.repos)
            self._number = news.number

    def results(self, repo_id: int) -> tuple[Evaluation, ...]:
        """Return the results on the card of a repository."""
        held = self._held.get(repo_id)
        return held.results if held else ()

    def kept_text(self, sha256: str) -> str | None:
        """Return a text that was kept by its hash."""
        return self._texts.get(sha256)

    def keep_text(self, sha256: str, text: str) -> None:
        """Keep a text by its hash; those that were kept first go first."""
        self._texts[sha256] = text
        while len(self._texts) > _KEPT_TEXTS:
            self._texts.popitem(last=False)

    def _use(self, cards: cardrows.CardCollection) -> None:
        self.cards = FolderSource(cards)
        self.architectures = Architectures(cards.catalogue)

    def _read_cards(self, session: Session) -> None:
        for name in self._card_names.values():
            self.index.drop(name)
        self._use(cardrows.load(session))
        self._card_names = {}
        taken = {held.name for held in self._held.values() if held.public}
        for adapter, texts in self.cards.documents():
            key = (adapter.owner.casefold(), adapter.name.casefold())
            self._card_names[key] = adapter.identifier
            if key not in taken:
                self.index.put(adapter.identifier, adapter, texts)

    def _read_everything(self, session: Session) -> None:
        known = list(session.scalars(select(Repo.id)))
        for repo_id in self._held.keys() - set(known):
            self._drop(repo_id)
        self._read(session, known)

    def _read(self, session: Session, ids: Iterable[int]) -> None:
        """Read repositories again; those that are gone are dropped."""
        wanted = list(ids)
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            found = rows(session, some)
            for row in found:
                self._put(row)
            for repo_id in set(some) - {row.id for row in found}:
                self._drop(repo_id)

    def _put(self, row: Row) -> None:
        state = (
            *(row.owner, row.fullname, row.name, row.private, row.gated, row.published),
            *(row.modified, row.versions, row.commit, row.status),
        )
        before = self._held.get(row.id)
        if before is not None and before.state == state:  # only downloads were counted
            adapter = self.index.get(row.id)
            if adapter is not None:
                self.index.replace(row.id, replace(adapter, downloads=row.downloads))
            return
        catalogue = self.cards.catalogue
        adapter = adapter_of(row, catalogue, self.architectures)
        public = row.published and not row.private
        name = (row.owner.casefold(), row.name.casefold())
        if before is not None and before.name != name:
            self._show_card(before.name)
        self._held[row.id] = Held(state, name, public, evaluations_of(row.facts))
        if public and name in self._card_names:  # what is here stands before what is elsewhere
            self.index.drop(self._card_names[name])
        elif not public:
            self._show_card(name)
        group = EVERYBODY if public else row.owner_id
        self.index.put(row.id, adapter, texts_of(adapter, row.facts, catalogue), group)

    def _drop(self, repo_id: int) -> None:
        held = self._held.pop(repo_id, None)
        self.index.drop(repo_id)
        if held is not None:
            self._show_card(held.name)

    def _show_card(self, name: tuple[str, str]) -> None:
        """Show a card again that a repository of the same name stood before."""
        identifier = self._card_names.get(name)
        if identifier is None or self.index.get(identifier) is not None:
            return
        for adapter, texts in self.cards.documents():
            if adapter.identifier == identifier:
                self.index.put(identifier, adapter, texts)


def rows(session: Session, ids: list[int]) -> list[Row]:
    """Read what lists show of some repositories."""
    tip = (
        select(Reference.commit_id)
        .where(Reference.repo_id == Repo.id, Reference.kind == "branch")
        .where(Reference.name == DEFAULT_BRANCH)
        .scalar_subquery()
    )
    query = (
        select(
            *(Repo.id, Repo.owner_id, Account.name, Account.fullname, Repo.name, Repo.private),
            *(Repo.gated, Repo.published_id, Repo.modified, Repo.downloads, Repo.facts, tip),
        )
        .join(Account, Account.id == Repo.owner_id)
        .where(Repo.id.in_(ids))
    )
    found = session.execute(query).all()
    waiting = [item[11] for item in found if item[7] is None and item[11] is not None]
    tips = {
        commit_id: (facts, status)
        for commit_id, facts, status in session.execute(
            select(Commit.id, Commit.facts, Commit.status).where(Commit.id.in_(waiting))
        )
    }
    verified = select(Commit.repo_id, func.count()).where(
        Commit.repo_id.in_(ids), Commit.status == "verified"
    )
    counts = {row[0]: row[1] for row in session.execute(verified.group_by(Commit.repo_id))}
    return [_row(item, tips, counts) for item in found]


def _row(item: Any, tips: dict[str, tuple[Any, str]], counts: dict[int, int]) -> Row:
    repo_id, owner_id, owner, fullname, name, private, gated, published, *rest = item
    modified, downloads, facts, tip = rest
    status = "verified"
    if published is None:
        facts, status = tips.get(tip, ({}, ""))
    return Row(
        id=repo_id,
        owner_id=owner_id,
        owner=owner,
        fullname=fullname or owner,
        name=name,
        private=private,
        gated=bool(gated),
        published=published is not None,
        modified=modified,
        downloads=downloads,
        versions=max(1, counts.get(repo_id, 0)),
        facts=facts or {},
        commit=published or tip or "",
        status=status,
    )
