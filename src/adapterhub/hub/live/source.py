"""A running hub as a source of pages, for one caller."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select

from adapterhub.hub.live import norms
from adapterhub.hub.live.detail import detail_of, read_text
from adapterhub.hub.live.liveindex import LiveIndex
from adapterhub.hub.live.measured import measured_of, measured_on
from adapterhub.hub.live.places import TEXT_LANG
from adapterhub.hub.store import repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.blobs import Blobs
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Membership
from adapterhub.hub.store.refusals import Refusal
from adapterhub.hub.store.staging import Staging
from adapterhub.hub.web.index import ALL_GROUPS, Groups
from adapterhub.hub.web.query import Found, Query
from adapterhub.hub.web.source import (
    Account,
    Adapter,
    Architecture,
    Dataset,
    Detail,
    File,
    HubInfo,
    Measured,
    Problem,
    Result,
    Task,
    Tensor,
    Trial,
    Version,
)

_ALL = 10**9
_SIBLINGS = 13


class LiveSource:
    """The records of a hub as they are now, as far as one caller may see them.

    Args:
        live: the index, refreshed.
        info: what the hub says about itself.
        caller: who looks.
        offer: returns how an adapter with the given facts can be tried, if it can.
    """

    def __init__(
        self,
        live: LiveIndex,
        database: Database,
        home: Blobs,
        staging: Staging,
        info: HubInfo,
        caller: Caller,
        offer: Callable[[Mapping[str, Any]], Trial | None] | None = None,
    ) -> None:
        self._offer = offer
        self.live, self._database, self._home, self._staging = live, database, home, staging
        self._info, self._caller = info, caller
        self._groups = groups_of(database, caller)
        self._allowed: set[str] = set()
        self._tensors: dict[str, Sequence[Tensor] | None] = {}

    def hub(self) -> HubInfo:
        return self._info

    def search(self, query: Query) -> Found:
        return self.live.index.search(query, self._groups)

    def keys(self, query: Query) -> list[Any]:
        """Return the numbers of the repositories (and names of the cards) that fit, in order."""
        return self.live.index.keys(query, self._groups)

    def detail(self, owner: str, name: str) -> Detail | None:
        try:
            with self._database.read() as session:
                seen = repos.view(session, self._caller, owner, name)
                return detail_of(self, session, seen)
        except Refusal:
            return self.live.cards.detail(owner, name)

    def siblings(self, adapter: Adapter) -> list[Adapter]:
        """Return other adapters for the same data and base model."""
        chosen = {
            "type": (adapter.type,),
            "dataset": (f"{adapter.task}/{adapter.subtask}",),
            "model": (adapter.base_model,),
        }
        found = self.search(
            Query(chosen=chosen, sort="best", page_size=_SIBLINGS, counted=False)
        ).adapters
        return [other for other in found if other.identifier != adapter.identifier]

    def allow(self, hashes: Iterable[str]) -> None:
        """Note files that the caller may read; the tensors of others are not shown."""
        self._allowed.update(hashes)

    def text(self, version: Version, path: str) -> str | None:
        """Return a text file of a version, if it has one."""
        file = next((item for item in version.files if item.path == path), None)
        if file is None:
            return None
        text = self.live.kept_text(file.sha256)
        if text is None:
            text = read_text(self._home.read(file.sha256))
            if text is not None:
                self.live.keep_text(file.sha256, text)
        return text

    def tensors(self, file: File) -> Sequence[Tensor] | None:
        if file.sha256 not in self._allowed or not file.path.endswith(".safetensors"):
            return None
        if file.sha256 not in self._tensors:
            self._tensors[file.sha256] = norms.measure(
                self._database, self._home, self._staging, file.sha256, norms.READ_AT_ONCE
            )
        return self._tensors[file.sha256]

    def _kept(self, name: str, make: Any) -> Any:
        return self.live.index.kept(name, self._groups, make)

    def _everything(self) -> Sequence[Adapter]:
        return self.search(Query(sort="best", page_size=_ALL, counted=False)).adapters

    def tasks(self) -> Sequence[Task]:
        return self._kept("tasks", self._make_tasks)

    def _make_tasks(self) -> list[Task]:
        names = {(a.type, a.task): a.task_name for a in self._everything()}
        counts = Counter((a.type, a.task) for a in self._everything())
        cards = self.live.cards.catalogue.tasks
        found = [
            Task(c.type, c.task, c.displayname, c.description, counts[c.type, c.task])
            for c in cards.values()
        ]
        found += [
            Task(t, i, name, "", counts[t, i])
            for (t, i), name in names.items()
            if (t, i) not in cards
        ]
        return sorted(found, key=lambda task: (task.type, task.name.casefold(), task.id))

    def datasets(self, type_: str | None = None, task: str | None = None) -> Sequence[Dataset]:
        groups = self._kept("datasets", self._make_datasets)
        if type_ is not None and task is not None:
            return groups.get((type_, task), [])
        return [
            item
            for (kind, name), items in groups.items()
            if type_ in (None, kind) and task in (None, name)
            for item in items
        ]

    def _make_datasets(self) -> dict[tuple[str, str], list[Dataset]]:
        counts = Counter((a.type, a.task, a.subtask) for a in self._everything())
        cards = {(d.type, d.task, d.id): d for d in self.live.cards.datasets()}
        names = {(a.type, a.task, a.subtask): a for a in self._everything()}
        groups: dict[tuple[str, str], list[Dataset]] = defaultdict(list)
        for key in sorted({*cards, *names}):
            card = cards.get(key)
            title = card.name if card else names[key].subtask_name
            groups[key[:2]].append(
                Dataset(
                    *key,
                    title,
                    description=card.description if card else "",
                    languages=card.languages if card else (),
                    metric=card.metric if card else None,
                    higher_is_better=card.higher_is_better if card else None,
                    url=card.url if card else None,
                    hf_datasets_id=card.hf_datasets_id if card else None,
                    citation=card.citation if card else None,
                    adapters=counts[key],
                )
            )
        for items in groups.values():
            items.sort(key=lambda item: (item.name.casefold(), item.id))
        return groups

    def architectures(self) -> Sequence[Architecture]:
        return self._kept("architectures", self._make_architectures)

    def _make_architectures(self) -> list[Architecture]:
        counts = dict(self.search(Query(page_size=1)).counts["architecture"])
        found = [
            Architecture(
                name=item.name,
                title=item.title,
                description=item.description,
                method=item.method,
                config=item.config,
                config_hash=item.config_hash,
                citation=item.citation,
                adapters=counts.pop(item.name, 0),
            )
            for item in self.live.cards.architectures()
        ]
        found += [Architecture(n, n, method=n, adapters=number) for n, number in counts.items()]
        return sorted(found, key=lambda item: item.name)

    def accounts(self) -> Sequence[Account]:
        return self._kept("accounts", self._make_accounts)

    def _make_accounts(self) -> list[Account]:
        names: dict[str, Counter[str]] = defaultdict(Counter)
        for adapter in self._everything():
            names[adapter.owner][adapter.author] += 1
        found = [
            Account(
                owner,
                ", ".join(name for name, _ in titles.most_common(3) if name != owner),
                adapters=titles.total(),
            )
            for owner, titles in names.items()
        ]
        return sorted(found, key=lambda account: (-account.adapters, account.name))

    def results(self, type_: str, task: str, subtask: str | None = None) -> Sequence[Result]:
        chosen: dict[str, tuple[str, ...]] = {"type": (type_,)}
        if subtask is not None:
            chosen["dataset"] = (f"{task}/{subtask}",)
        elif type_ == TEXT_LANG:
            chosen["dataset"] = tuple(f"{task}/{item.id}" for item in self.datasets(type_, task))
        else:
            chosen["task"] = (task,)
        found = []
        for key in self.keys(Query(chosen=chosen, sort="best")):
            adapter = self.live.index.get(key)
            if adapter is None or isinstance(key, str):
                continue
            found += [
                Result(adapter, adapter.version, item.metric, item.value)
                for item in self.live.results(key)
            ]
        if subtask is None or (type_, task, subtask) in self.live.cards.catalogue.subtasks:
            found += self.live.cards.results(type_, task, subtask)
        return sorted(
            found,
            key=lambda r: (
                r.adapter.subtask,
                r.metric,
                -r.value if r.adapter.higher_is_better is not False else r.value,
                r.adapter.identifier,
                r.version,
            ),
        )

    def measured(self, owner: str, name: str) -> Sequence[Measured]:
        found = measured_of(self._database, self._caller, owner, name)
        return [self._with_page(item) for item in found]

    def measured_results(
        self, type_: str, task: str, subtask: str | None = None
    ) -> Sequence[Result]:
        found = measured_on(self._database, self._caller, self.live.index.get, type_, task, subtask)
        return [
            replace(item, measured=self._with_page(item.measured)) if item.measured else item
            for item in found
        ]

    def _with_page(self, item: Measured) -> Measured:
        """Say whether who signed has published something, and so has a page."""
        names = self._kept("account names", lambda: {a.name for a in self.accounts()})
        return item if item.signed_by in names else replace(item, has_page=False)

    def trial(self, owner: str, name: str) -> Trial | None:
        if self._offer is None:
            return None
        try:
            with self._database.read() as session:
                seen = repos.view(session, self._caller, owner, name)
                repos.require_files(session, seen)
                published = seen.repo.published_id is not None
                return self._offer(seen.repo.facts) if published else None
        except Refusal:
            return None

    def problems(self) -> Sequence[Problem]:
        return [problem for problem in self.live.cards.problems() if problem.code != "no-hub-file"]


def groups_of(database: Database, caller: Caller) -> Groups:
    """Return whose unpublished and private adapters a caller sees beside what everybody does."""
    if not caller.known or caller.account_id is None:
        return frozenset()
    if caller.admin and caller.scope == "admin":
        return ALL_GROUPS
    with database.read() as session:
        found = session.scalars(
            select(Membership.organisation_id).where(Membership.user_id == caller.account_id)
        )
        return frozenset({caller.account_id, *found})
