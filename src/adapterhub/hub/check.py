"""Going over a whole hub: every card, every reference between cards, every stored byte."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.cards import AdapterCard, AdapterVersion, manifest_sha256
from adapterhub.hub.catalogue import Catalogue, card_paths
from adapterhub.hub.findings import Finding
from adapterhub.hub.folderkeys import FolderKeys
from adapterhub.hub.folderreports import FolderReports
from adapterhub.hub.identifier import AdapterKey, TaskQuery, parse_identifier
from adapterhub.hub.licenses import normalize_license
from adapterhub.hub.names import member_path_problems
from adapterhub.hub.repairs import clean_card
from adapterhub.hub.schema import schema_problems
from adapterhub.hub.storage import STAGING, file_sha256

HUB_FILE = "hub.yaml"
FORMAT = 1


def check(catalogue: Catalogue, *, files: bool = True) -> list[Finding]:
    """Return everything noticed about the hub, worst first, then by path.

    Args:
        catalogue: The hub, freshly read.
        files: Also read every stored file and compare its hash (the dear part).
    """
    findings = list(catalogue.findings)
    findings += _schemas(catalogue.root)
    findings += _hub_file(catalogue.root)
    findings += _reports(catalogue)
    findings += _file_names(catalogue)
    for card in catalogue.adapters.values():
        findings += _adapter(catalogue, card)
    findings += _twins(catalogue)
    findings += _blobs(catalogue, read=files)
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(dict.fromkeys(findings), key=lambda f: (order[f.severity], f.where, f.message))


def _schemas(root: Path) -> Iterator[Finding]:
    for kind, path in card_paths(root):
        try:
            card, _ = clean_card(cardfile.load(path))
        except (HubError, OSError):
            continue  # reported when the catalogue was read
        for problem in schema_problems(kind, card):
            yield Finding("error", "schema", path.relative_to(root).as_posix(), problem)


def _hub_file(root: Path) -> Iterator[Finding]:
    path = root / HUB_FILE
    if not path.is_file():
        message = "not there, so this hub can be read but not published to; 'adapterhub hub init'"
        yield Finding("note", "no-hub-file", HUB_FILE, message)
        return
    try:
        head = cardfile.load(path)
    except HubError as error:
        yield Finding("error", "unreadable", HUB_FILE, str(error))
        return
    for problem in schema_problems("hub", head):
        yield Finding("error", "schema", HUB_FILE, problem)
    if (root / STAGING).exists():
        message = "left behind by an interrupted publication; the next one clears it"
        yield Finding("note", "staging", STAGING, message)


def _reports(catalogue: Catalogue) -> Iterator[Finding]:
    """Whose keys are listed, and the reports: signature, adapter, version and key."""
    keys = FolderKeys.load(catalogue.root)
    yield from keys.findings
    yield from FolderReports.load(catalogue.root, catalogue, keys).findings


def _file_names(catalogue: Catalogue) -> Iterator[Finding]:
    """File names are for people; the ids inside count. They should still agree."""
    for task in catalogue.tasks.values():
        yield from _name_differs(task.path, task.task)
    for subtask in catalogue.subtasks.values():
        yield from _name_differs(subtask.path, f"{subtask.task}_{subtask.subtask}")
        if (subtask.type, subtask.task) not in catalogue.tasks:
            message = f"no card for its task {subtask.task!r} of type {subtask.type!r}"
            yield Finding("warning", "unknown-task", subtask.path, message)
    for architecture in catalogue.architectures.values():
        yield from _name_differs(architecture.path, architecture.name)


def _name_differs(path: str, name: str) -> Iterator[Finding]:
    if Path(path).stem != name:
        message = f"is about {name!r}, so it should be called {name}.yaml"
        yield Finding("warning", "file-name", path, message)
    if re.search(r"[\s\"'/\\]", name):
        message = f"the identifier {name!r} holds a quote, blank or slash"
        yield Finding("warning", "odd-identifier", path, message)


def _adapter(catalogue: Catalogue, card: AdapterCard) -> Iterator[Finding]:
    where = card.path
    if (card.type, card.task, card.subtask) not in catalogue.subtasks:
        message = f"no card for its subtask {card.task}/{card.subtask} of type {card.type}"
        yield Finding("warning", "unknown-subtask", where, message)
    if (card.type, card.task) not in catalogue.tasks:
        message = f"no card for its task {card.task!r} of type {card.type!r}"
        yield Finding("warning", "unknown-task", where, message)
    if card.values is None and card.using not in catalogue.architectures:
        message = f"no card for its architecture {card.using!r}, and no config.values"
        yield Finding("error", "unknown-architecture", where, message)
    if card.find_version(card.default_version) is None:
        message = f"default_version {card.default_version!r} is not among its files"
        yield Finding("error", "unknown-version", where, message)
    names = [item.version for item in card.versions]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Finding("error", "duplicate-version", where, f"version {name!r} occurs twice")
    for version in card.versions:
        yield from _version(where, version)
    for key in card.dependencies:
        yield from _dependency(catalogue, where, key)
    if card.license is None:
        yield Finding("note", "no-license", where, "states no licence, so nobody may rely on it")
    else:
        for problem in normalize_license(card.license)[1]:
            yield Finding("warning", "license", where, problem)


def _version(where: str, version: AdapterVersion) -> Iterator[Finding]:
    if not version.members:
        message = f"version {version.version!r}: files not in this hub, only at {version.url}"
        yield Finding("note", "not-stored", where, message)
        return
    for member in version.members:
        for problem in member_path_problems(member.path):
            yield Finding("error", "member-name", where, problem)
    if manifest_sha256(version.members) != version.sha256:
        message = f"version {version.version!r}: sha256 does not match its list of files"
        yield Finding("error", "manifest", where, message)


def _dependency(catalogue: Catalogue, where: str, key: str) -> Iterator[Finding]:
    """Accept all spellings in use: ``@owner/stem``, ``owner/stem``, ``task/subtask@owner``."""
    try:
        parsed = parse_identifier(key)
    except HubError as error:
        yield Finding("warning", "dependency", where, str(error))
        return
    exact = parsed if isinstance(parsed, AdapterKey) else parsed.as_key()
    found = exact is not None and (exact.owner, exact.stem) in catalogue.adapters
    if isinstance(parsed, TaskQuery):
        if found is False:
            found = any(
                entry.card.subtask == (parsed.subtask or parsed.first)
                and (parsed.owner in (None, entry.card.owner))
                for entry in catalogue.entries
            )
        if exact is None:
            message = f"dependency {key!r} is better written @owner/name, which names one adapter"
            yield Finding("note", "dependency", where, message)
    if not found:
        yield Finding("warning", "dependency", where, f"dependency {key!r} is not in this hub")


def _twins(catalogue: Catalogue) -> Iterator[Finding]:
    """Two adapters that no identifier but ``@owner/stem`` can tell apart."""
    groups: dict[tuple[str, ...], list[AdapterCard]] = defaultdict(list)
    for entry in catalogue.entries:
        if entry.config:
            groups[(*entry.place, entry.card.owner, entry.config_hash)].append(entry.card)
    for twins in groups.values():
        for card in twins[1:]:
            message = f"same owner, task, base model and config as {twins[0].path}"
            yield Finding("warning", "twin", card.path, message)


def _blobs(catalogue: Catalogue, *, read: bool) -> Iterator[Finding]:
    store = catalogue.root / "blobs" / "sha256"
    wanted: dict[str, tuple[int, str]] = {}
    for card in catalogue.adapters.values():
        for version in card.versions:
            for member in version.members:
                wanted.setdefault(member.sha256, (member.size, card.path))
    present = {path.name: path for path in sorted(store.glob("*/*")) if path.is_file()}
    for sha256, (size, where) in wanted.items():
        path = present.get(sha256)
        if path is None or path.parent.name != sha256[:2]:
            yield Finding(
                "error", "missing-file", where, f"the file with SHA-256 {sha256} is missing"
            )
            continue
        place = path.relative_to(catalogue.root).as_posix()
        if path.stat().st_size != size or (read and file_sha256(path)[0] != sha256):
            message = f"is damaged: its content does not have the hash or size that {where} states"
            yield Finding("error", "checksum", place, message)
    spare = sorted(present.keys() - wanted.keys())
    if spare:
        message = (
            f"{len(spare)} file(s) that no card names; harmless, may be removed: {spare[0]}..."
        )
        yield Finding("note", "unused-file", "blobs/sha256", message)
