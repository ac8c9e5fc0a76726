"""All cards of a hub folder in memory, kept in step with the folder.

Only files whose size or time changed are read again, so a long-lived reader (later: a server) sees
what others publish without parsing everything for each question. A damaged card never hides the
others: it is reported by :attr:`Catalogue.findings` and left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub import cardfile, cards
from adapterhub.hub.entries import Entry, config_hashes
from adapterhub.hub.findings import Finding
from adapterhub.hub.languages import language_code
from adapterhub.hub.repairs import clean_card
from adapterhub.hub.schema import CardKind, schema_problems

#: Folder, kind of card, and how deep below the folder the cards lie.
LAYOUT: tuple[tuple[str, CardKind, int], ...] = (
    ("adapter_types", "adapter_type", 0),
    ("tasks", "task", 1),
    ("subtasks", "subtask", 1),
    ("architectures", "architecture", 0),
    ("adapters", "adapter", 1),
)
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class CardFile:
    """One card file as last read: the record (``None`` if unusable) and what was noticed."""

    stamp: tuple[int, int, int]
    kind: CardKind
    card: Any
    findings: tuple[Finding, ...]


def card_paths(root: Path) -> Iterator[tuple[CardKind, Path]]:
    """Yield the card files of a hub folder in a fixed order (sorted by path)."""
    for folder, kind, depth in LAYOUT:
        pattern = "*/*" if depth else "*"
        for path in sorted((root / folder).glob(pattern)):
            if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file():
                yield kind, path


def kind_of(path: str) -> CardKind:
    """Return what kind of card lies at a path of a hub folder.

    Raises:
        HubError: If none does.
    """
    for folder, kind, _ in LAYOUT:
        if path.startswith(f"{folder}/"):
            return kind
    raise HubError(f"{path} is not the path of a card")


def read_card(root: Path, kind: CardKind, path: Path) -> tuple[Any, list[Finding]]:
    """Read one card file; return its record (or ``None``) and every finding about it."""
    where = path.relative_to(root).as_posix()
    try:
        raw = cardfile.load(path)
    except (HubError, OSError) as error:
        return None, [Finding("error", "unreadable", where, str(error))]
    return build_card(kind, where, raw)


def build_card(kind: CardKind, where: str, raw: dict[str, Any]) -> tuple[Any, list[Finding]]:
    """Return the record (or ``None``) of the card at the path *where*, and every finding about it."""
    cleaned, repairs = clean_card(raw)
    findings = [Finding("note", "repaired", where, line) for line in repairs]
    parent, stem = PurePosixPath(where).parent.name, PurePosixPath(where).stem
    try:
        if kind == "task":
            card: Any = cards.task_card(cleaned, parent, where)
        elif kind == "subtask":
            card = cards.subtask_card(cleaned, parent, where)
        elif kind == "architecture":
            card = cards.architecture_card(cleaned, where)
        elif kind == "adapter":
            card = cards.adapter_card(cleaned, parent, stem, where)
        else:
            card = None
    except HubError as error:
        return None, [*findings, Finding("error", "unusable", where, str(error))]
    except (AttributeError, KeyError, TypeError, ValueError):
        # The schemas are not checked here, as that would double the time to read a hub.
        problems = schema_problems(kind, cleaned) or ["card has the wrong shape"]
        return None, [*findings, *(Finding("error", "schema", where, p) for p in problems)]
    return card, findings


@dataclass
class Catalogue:
    """The cards of one hub folder, by their keys.

    Attributes:
        root: The hub folder.
        tasks: By ``(type, task)``.
        subtasks: By ``(type, task, subtask)``.
        architectures: By name.
        adapters: By ``(owner, stem)``.
        findings: What was noticed while reading, in order of path.
    """

    root: Path
    tasks: dict[tuple[str, str], cards.TaskCard] = field(default_factory=dict)
    subtasks: dict[tuple[str, str, str], cards.SubtaskCard] = field(default_factory=dict)
    architectures: dict[str, cards.ArchitectureCard] = field(default_factory=dict)
    adapters: dict[tuple[str, str], cards.AdapterCard] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _files: dict[Path, CardFile] = field(default_factory=dict, repr=False)
    _entries: list[Entry] | None = field(default=None, repr=False)

    def refresh(self) -> Catalogue:
        """Read what changed in the folder since the last call; return ``self``."""
        files: dict[Path, CardFile] = {}
        for kind, path in card_paths(self.root):
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._files.get(path)
            if known is None or known.stamp != stamp:
                card, findings = read_card(self.root, kind, path)
                known = CardFile(stamp, kind, card, tuple(findings))
            files[path] = known
        if files != self._files or self._entries is None:
            self._files = files
            self._rebuild()
        return self

    def _rebuild(self) -> None:
        self.findings = []
        tables: dict[str, dict[Any, Any]] = {
            "task": {},
            "subtask": {},
            "architecture": {},
            "adapter": {},
        }
        for item in self._files.values():
            self.findings += item.findings
            if item.card is None:
                continue
            key, card = _key(item.card), item.card
            first = tables[item.kind].setdefault(key, card)
            if first is not card:
                message = f"the same {item.kind} as {first.path}, which is used instead"
                self.findings.append(Finding("error", "duplicate", card.path, message))
        self.tasks, self.subtasks = tables["task"], tables["subtask"]
        self.architectures, self.adapters = tables["architecture"], tables["adapter"]
        self._entries = [self.entry(card) for card in self.adapters.values()]

    @property
    def entries(self) -> list[Entry]:
        """All adapters with their default version, sorted by owner and name."""
        return list(self._entries or ())

    def entry(self, card: cards.AdapterCard, version: str | None = None) -> Entry:
        """Return the entry of *card* with the given (else its default) version.

        Raises:
            HubError: If the card has no such version; the message lists those it has.
        """
        chosen = card.find_version(version if version is not None else card.default_version)
        if chosen is None and version is not None:
            known = ", ".join(repr(item.version) for item in card.versions[:20])
            raise HubError(f"@{card.owner}/{card.stem} has no version {version!r}; it has {known}")
        architecture = self.architectures.get(card.using)
        if card.values is not None:
            config, old = dict(card.values), None
        elif architecture is not None:
            config = {**architecture.config, **card.overrides}
            before = architecture.config_v1
            old = {**before, **card.overrides} if before else None
        else:
            config, old = {}, None
        subtask = self.subtasks.get((card.type, card.task, card.subtask))
        languages = card.languages or (subtask.languages if subtask else ())
        if card.type == "text_lang" and not card.languages:
            languages = (language_code(card.task),)
        return Entry(
            card=card,
            config=config,
            languages=languages,
            version=chosen or card.versions[0],
            metric=subtask.metric if subtask else None,
            hashes=config_hashes(config, old) | frozenset(card.old_hashes),
        )

    def facets(self) -> dict[str, Counter[str]]:
        """Count the adapters by each property that a search can filter on."""
        names = ("task", "subtask", "language", "base_model", "architecture", "owner")
        counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        for entry in self.entries:
            card = entry.card
            counts["task"][card.task] += 1
            counts["subtask"][card.subtask] += 1
            counts["language"].update(entry.languages)
            counts["base_model"][card.model_name] += 1
            counts["architecture"][card.using] += 1
            counts["owner"][card.owner] += 1
        return counts


def catalogue_of(root: Path, contents: Mapping[str, dict[str, Any]]) -> Catalogue:
    """Return the catalogue of cards that are not in a folder.

    Args:
        root: stands for the folder; nothing is read from there.
        contents: the cards by their paths.
    """
    files: dict[Path, CardFile] = {}
    for where, raw in contents.items():
        kind = kind_of(where)
        card, findings = build_card(kind, where, raw)
        files[root / where] = CardFile((0, 0, 0), kind, card, tuple(findings))
    made = Catalogue(root, _files=files)
    made._rebuild()
    return made


def _key(card: Any) -> Any:
    if isinstance(card, cards.TaskCard):
        return (card.type, card.task)
    if isinstance(card, cards.SubtaskCard):
        return (card.type, card.task, card.subtask)
    if isinstance(card, cards.ArchitectureCard):
        return card.name
    return (card.owner, card.stem)
