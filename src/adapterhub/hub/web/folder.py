"""A hub folder as a source of pages."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from adapterhub.errors import HubError
from adapterhub.hub import search
from adapterhub.hub.cardfile import load
from adapterhub.hub.cards import AdapterCard, AdapterVersion, Member
from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.check import HUB_FILE
from adapterhub.hub.confighash import library_hash, method_name
from adapterhub.hub.entries import Entry
from adapterhub.hub.findings import Finding
from adapterhub.hub.folderkeys import FolderKeys
from adapterhub.hub.folderreports import FolderReports
from adapterhub.hub.inspection import CONFIG_FILE
from adapterhub.hub.resolve import resolve
from adapterhub.hub.storage import blob_path, file_sha256
from adapterhub.hub.tensors import strict_json
from adapterhub.hub.verify.adapter import check_set
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.results import errors
from adapterhub.hub.web.folderfacts import facts_of, measured_in, version_of
from adapterhub.hub.web.foldersigned import signed_of
from adapterhub.hub.web.index import AdapterIndex
from adapterhub.hub.web.query import Found, Query
from adapterhub.hub.web.source import (
    Account,
    Adapter,
    Architecture,
    Check,
    Dataset,
    Dependency,
    Detail,
    File,
    HubInfo,
    Measured,
    Problem,
    Result,
    Status,
    Task,
    Tensor,
    Trial,
    Version,
)
from adapterhub.hub.web.tensorview import tensors_of
from adapterhub.hub.web.text import plain

LANGUAGE_TYPE = "text_lang"
_MAX_README = 200_000


class Cards(Protocol):
    """What this needs of a hub folder."""

    name: str
    path: Path

    @property
    def catalogue(self) -> Catalogue:
        """All cards."""
        ...

    def check(self, *, files: bool = True) -> list[Finding]:
        """Return what is wrong with them."""
        ...


class FolderSource:
    """The records of a hub folder, as it is when this is made.

    Args:
        hub: the folder, or a collection of cards that has the same four things.
        site: address under which the pages will lie, if known.
    """

    def __init__(self, hub: Cards, site: str | None = None) -> None:
        self._hub, self._site = hub, site
        self._catalogue = hub.catalogue
        self._adapters = {e.identifier: self._adapter(e) for e in self._catalogue.entries}
        self._tensors: dict[str, tuple[Tensor, ...] | None] = {}
        self._file_results: dict[str, list[Check]] = {}
        self._places: dict[tuple[str, ...], list[Adapter]] = defaultdict(list)
        for entry in self._catalogue.entries:
            self._places[entry.place].append(self._adapters[entry.identifier])

    @property
    def catalogue(self) -> Catalogue:
        """The cards."""
        return self._catalogue

    def hub(self) -> HubInfo:
        head: Mapping[str, Any] = {}
        if (self._hub.path / HUB_FILE).is_file():
            head = load(self._hub.path / HUB_FILE)
        repository = head.get("x-repository")
        return HubInfo(
            name=self._hub.name,
            description=str(head.get("description") or ""),
            site=self._site,
            repository=repository if isinstance(repository, str) else None,
            publish="adapterhub publish FOLDER --task TASK --subtask DATASET --owner YOU",
        )

    @cached_property
    def _index(self) -> AdapterIndex:
        index = AdapterIndex()
        for adapter, texts in self.documents():
            index.put(adapter.identifier, adapter, texts)
        return index

    def documents(self) -> Iterator[tuple[Adapter, list[tuple[float, str]]]]:
        """Yield every adapter with the weighted texts that it is found by."""
        for entry in self._catalogue.entries:
            yield self._adapters[entry.identifier], search.texts(self._catalogue, entry)

    def search(self, query: Query) -> Found:
        return self._index.search(query)

    def detail(self, owner: str, name: str) -> Detail | None:
        card = self._catalogue.adapters.get((owner, name))
        if card is None:
            return None
        entry = self._catalogue.entry(card)
        adapter = self._adapters[entry.identifier]
        members = {member.path: member for member in entry.version.members}
        info = self._info(members)
        siblings = [other for other in self._places[entry.place] if other is not adapter]
        versions = tuple(self._version(owner, name, item) for item in card.versions)
        web = {"Website": card.url}
        web["GitHub"] = f"https://github.com/{card.github}" if card.github else None
        web["X"] = f"https://x.com/{card.twitter}" if card.twitter else None
        return Detail(
            adapter=adapter,
            author=card.author,
            description=card.description or self._readme(members),
            config=entry.config,
            versions=versions,
            checks=tuple(self._checks(entry)),
            facts=tuple(facts_of(entry, info, members)),
            dependencies=tuple(self._dependency(entry, key) for key in card.dependencies),
            citations=self._citations(entry),
            links={label: url for label, url in web.items() if url},
            hidden_size=card.hidden_size,
            model_class=card.model_class,
            card=card.path,
            siblings=tuple(siblings),
            signed=next((v.signed for v in versions if v.name == adapter.version), None),
        )

    def _version(self, owner: str, name: str, item: AdapterVersion) -> Version:
        signed = signed_of(self._hub.path, self._keys, owner, name, item)
        return replace(version_of(owner, name, item), signed=signed)

    @cached_property
    def _keys(self) -> FolderKeys:
        return FolderKeys.load(self._hub.path)

    def tensors(self, file: File) -> Sequence[Tensor] | None:
        if file.sha256 not in self._tensors:
            path = blob_path(self._hub.path, file.sha256)
            shown = file.path.endswith(".safetensors") and path.is_file()
            self._tensors[file.sha256] = tensors_of(path) if shown else None
        return self._tensors[file.sha256]

    def tasks(self) -> Sequence[Task]:
        return self._tasks

    def datasets(self, type_: str | None = None, task: str | None = None) -> Sequence[Dataset]:
        return [d for d in self._datasets if type_ in (None, d.type) and task in (None, d.task)]

    def accounts(self) -> Sequence[Account]:
        return self._accounts

    @cached_property
    def _tasks(self) -> list[Task]:
        counts = Counter((a.type, a.task) for a in self._adapters.values())
        found = [
            Task(c.type, c.task, c.displayname, c.description, counts[c.type, c.task])
            for c in self._catalogue.tasks.values()
        ]
        known = {(task.type, task.id) for task in found}
        lost = [
            Task(t, name, name, "", n) for (t, name), n in counts.items() if (t, name) not in known
        ]
        return sorted(found + lost, key=lambda t: (t.type, t.name.casefold(), t.id))

    @cached_property
    def _datasets(self) -> list[Dataset]:
        counts = Counter((a.type, a.task, a.subtask) for a in self._adapters.values())
        found = [
            Dataset(
                type=c.type,
                task=c.task,
                id=c.subtask,
                name=c.displayname,
                description=c.description,
                languages=c.languages,
                metric=c.metric,
                higher_is_better=c.higher_is_better,
                url=c.url,
                hf_datasets_id=c.hf_datasets_id,
                citation=c.citation,
                adapters=counts[c.type, c.task, c.subtask],
            )
            for c in self._catalogue.subtasks.values()
        ]
        known = {(d.type, d.task, d.id) for d in found}
        found += [
            Dataset(*key, key[2], adapters=n) for key, n in counts.items() if key not in known
        ]
        return sorted(found, key=lambda d: (d.type, d.task, d.name.casefold(), d.id))

    def architectures(self) -> Sequence[Architecture]:
        counts = Counter(a.architecture for a in self._adapters.values())
        found = [
            Architecture(
                name=c.name,
                title=c.displayname,
                description=c.description,
                method=method_name(c.config),
                config=c.config,
                config_hash=library_hash(c.config),
                citation=c.citation,
                adapters=counts[c.name],
            )
            for c in self._catalogue.architectures.values()
        ]
        known = {item.name for item in found}
        found += [
            Architecture(n, n, method=n, adapters=c) for n, c in counts.items() if n not in known
        ]
        return sorted(found, key=lambda item: item.name)

    @cached_property
    def _accounts(self) -> list[Account]:
        groups: dict[str, list[Entry]] = defaultdict(list)
        for entry in self._catalogue.entries:
            groups[entry.card.owner].append(entry)
        found = []
        for owner, entries in groups.items():
            names = Counter(entry.card.author for entry in entries)
            title = names.most_common(1)[0][0]
            title = title if title != owner else ""
            if len(names) > 1:
                title = ", ".join(name for name, _ in names.most_common(3))
            found.append(Account(owner, title, adapters=len(entries)))
        # Who only signed reports has a page, too: the results lead there.
        signers = {item.account for item in self._reports.kept} - groups.keys()
        found += [Account(name) for name in signers]
        return sorted(found, key=lambda a: (-a.adapters, a.name))

    def results(self, type_: str, task: str, subtask: str | None = None) -> Sequence[Result]:
        found = []
        for entry in self._catalogue.entries:
            card = entry.card
            if (card.type, card.task) != (type_, task) or subtask not in (None, card.subtask):
                continue
            adapter = self._adapters[entry.identifier]
            for version in card.versions:
                values = dict(version.metrics)
                if version.score is not None and adapter.metric not in values:
                    values[adapter.metric or "score"] = version.score
                found += [Result(adapter, version.version, k, v) for k, v in values.items()]
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
        return [record for item in self._reports.of(owner, name) for record in measured_in(item)]

    def measured_results(
        self, type_: str, task: str, subtask: str | None = None
    ) -> Sequence[Result]:
        return [
            Result(self._of_card(item.card), record.version, record.metric, record.value, record)
            for item in self._reports.on(task, subtask)
            if item.card.type == type_
            for record in measured_in(item)
        ]

    def _of_card(self, card: AdapterCard) -> Adapter:
        return self._adapters[f"@{card.owner}/{card.stem}"]

    @cached_property
    def _reports(self) -> FolderReports:
        return FolderReports.load(self._hub.path, self._catalogue, self._keys)

    def trial(self, owner: str, name: str) -> Trial | None:
        return None

    def problems(self) -> Sequence[Problem]:
        return [Problem(f.severity, f.code, f.where, f.message) for f in self._findings]

    @cached_property
    def _findings(self) -> list[Any]:
        return self._hub.check(files=False)

    @cached_property
    def _findings_by_card(self) -> dict[str, list[Any]]:
        groups: dict[str, list[Any]] = defaultdict(list)
        for finding in self._findings:
            groups[finding.where].append(finding)
        return groups

    def _adapter(self, entry: Entry) -> Adapter:
        card, version = entry.card, entry.version
        task = self._catalogue.tasks.get((card.type, card.task))
        subtask = self._catalogue.subtasks.get((card.type, card.task, card.subtask))
        dates = [item.published for item in card.versions if item.published]
        status: Status = "checked" if entry.available else "elsewhere"
        if entry.available and any(
            not blob_path(self._hub.path, member.sha256).is_file() for member in version.members
        ):
            status = "problem"
        return Adapter(
            owner=card.owner,
            name=card.stem,
            type=card.type,
            task=card.task,
            subtask=card.subtask,
            task_name=task.displayname if task else card.task,
            subtask_name=subtask.displayname if subtask else card.subtask,
            base_model=card.model_name,
            model_type=card.model_type,
            architecture=card.using,
            method=entry.method,
            settings=entry.summary,
            config_hash=entry.config_hash,
            languages=entry.languages,
            format=_format(entry),
            license=card.license,
            author=card.author,
            summary=plain(card.description),
            parameters=version.parameters,
            size=version.size,
            rank=_rank(entry),
            score=version.score,
            metric=entry.metric,
            higher_is_better=subtask.higher_is_better if subtask else None,
            version=version.version,
            versions=len(card.versions),
            published=max(dates) if dates else None,
            head=card.prediction_head,
            default=card.default,
            status=status,
        )

    def _info(self, members: Mapping[str, Member]) -> Mapping[str, Any] | None:
        """Return the content of ``adapter_config.json``, if it is in this hub."""
        member = members.get(CONFIG_FILE)
        path = blob_path(self._hub.path, member.sha256) if member else None
        if path is None or not path.is_file():
            return None
        try:
            info = strict_json(path.read_bytes())
        except ValueError:
            return None
        return info if isinstance(info, dict) else None

    def _readme(self, members: Mapping[str, Member]) -> str:
        """Return the text of the README among the files, where the card has no description."""
        member = members.get("README.md")
        path = blob_path(self._hub.path, member.sha256) if member else None
        if path is None or not path.is_file() or path.stat().st_size > _MAX_README:
            return ""
        text = path.read_text(encoding="utf-8-sig", errors="replace").replace("\r\n", "\n")
        if text.startswith("---\n"):
            text = text[4:].partition("\n---")[2].partition("\n")[2]
        return text.strip()

    def _checks(self, entry: Entry) -> list[Check]:
        findings = self._findings_by_card.get(entry.card.path, [])
        schema = [f.message for f in findings if f.code == "schema"]
        other = [f for f in findings if f.severity != "note" and f.code != "schema"]
        checks = [
            Check("Card follows its schema", "error" if schema else "ok", "; ".join(schema)),
            Check(
                "Names other cards that exist",
                "warning" if other else "ok",
                "; ".join(f.message for f in other),
            ),
        ]
        repaired = [f.message for f in findings if f.code == "repaired"]
        if repaired:
            checks.append(Check("Mended while reading", "warning", "; ".join(repaired)))
        if entry.available:
            if entry.identifier not in self._file_results:
                self._file_results[entry.identifier] = self._file_checks(entry)
            return checks + self._file_results[entry.identifier]
        message = "the files are not in this hub, only at an address outside"
        return [*checks, Check("Files verified", "skipped", message)]

    def _file_checks(self, entry: Entry) -> list[Check]:
        paths = {m.path: blob_path(self._hub.path, m.sha256) for m in entry.version.members}
        missing = sorted(name for name, path in paths.items() if not path.is_file())
        if missing:
            return [Check("Files are here", "error", f"missing: {', '.join(missing)}")]
        wrong = [m.path for m in entry.version.members if file_sha256(paths[m.path])[0] != m.sha256]
        try:
            problems = _problems(paths)
        except (HubError, OSError) as error:
            problems = [str(error)]
        return [
            Check("Checksums are those of the card", "error" if wrong else "ok", ", ".join(wrong)),
            Check(
                "Files are what they say: types, safetensors headers, finite numbers, configuration",
                "error" if problems else "ok",
                "; ".join(problems),
            ),
        ]

    def _dependency(self, entry: Entry, key: str) -> Dependency:
        try:
            found = resolve(self._catalogue, key, base_model=entry.card.model_name).card
        except HubError:
            return Dependency(key)
        return Dependency(key, adapter=(found.owner, found.stem))

    def _citations(self, entry: Entry) -> dict[str, str]:
        card = entry.card
        architecture = self._catalogue.architectures.get(card.using)
        subtask = self._catalogue.subtasks.get((card.type, card.task, card.subtask))
        every = {
            "This adapter": card.citation,
            "Its architecture": architecture.citation if architecture else None,
            "Its data": subtask.citation if subtask else None,
        }
        return {label: text for label, text in every.items() if text}


def _rank(entry: Entry) -> int | None:
    rank = entry.config.get("r")
    return rank if isinstance(rank, int) and not isinstance(rank, bool) else None


def _format(entry: Entry) -> str:
    if not entry.available:
        return "archive"
    return "peft" if "peft_type" in entry.config else "adapterhub"


def _problems(paths: Mapping[str, Path]) -> list[str]:
    """Return what is wrong with the files of an adapter, one by one and together."""
    results = {name: examine(path, name) for name, path in paths.items()}
    problems = errors(item for found in results.values() for item in found)
    if not problems:
        by_name = {name: {item.name: item for item in found} for name, found in results.items()}
        problems = errors([check_set(by_name)])
    return problems


def blob_of(root: Path, file: File) -> Path:
    """Return where the hub folder *root* keeps a file."""
    return blob_path(root, file.sha256)
