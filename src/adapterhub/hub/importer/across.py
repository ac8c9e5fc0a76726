"""Mending what no card can tell by itself: ids, file names, defaults and dependencies."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.confighash import card_hash, integral
from adapterhub.hub.entries import Entry
from adapterhub.hub.identifier import AdapterKey, parse_identifier
from adapterhub.hub.importer.indexes import choose_default
from adapterhub.hub.importer.records import Record
from adapterhub.hub.names import slug_problems
from adapterhub.hub.resolve import resolve

_STRAY = "\"'`“”‘’ \t"


@dataclass
class Draft:
    """One card on its way: where it came from, where it goes, what it says.

    ``raw`` is ``None`` for a file that cannot be read; its bytes are copied.
    """

    source: str
    kind: str
    folder: str
    target: str
    raw: Mapping[str, Any] | None
    card: dict[str, Any]


def mend_ids(drafts: list[Draft]) -> Iterator[Record]:
    """Take stray quotes and blanks off task ids, and carry the change to all who name the task."""
    known = {(d.folder, d.card.get("task")) for d in drafts if d.kind == "task"}
    renamed: dict[tuple[str, str], str] = {}
    for draft in drafts:
        name = draft.card.get("task")
        if draft.kind != "task" or not isinstance(name, str) or not slug_problems("task", name):
            continue
        better = name.strip(_STRAY)
        if slug_problems("task", better) or (draft.folder, better) in known:
            yield Record("odd-identifier", "kept", draft.source, "task", name)
            continue
        renamed[draft.folder, name] = better
        yield Record("odd-identifier", "repaired", draft.source, "task", name, better)
    for draft in drafts:
        type_ = draft.card.get("type") if draft.kind == "adapter" else draft.folder
        name = (str(type_), str(draft.card.get("task")))
        if draft.kind in ("task", "subtask", "adapter") and name in renamed:
            draft.card["task"] = renamed[name]


def place(drafts: list[Draft]) -> Iterator[Record]:
    """Choose the path of every card: named after its id, ``.yaml``, and each path only once."""
    taken: set[str] = set()
    for draft in drafts:
        if draft.raw is None:
            taken.add(draft.target.casefold())
            continue
        path = Path(draft.source)
        stem = path.stem
        if draft.kind != "adapter":  # the stem of an adapter is its id
            keys = {"task": ("task",), "subtask": ("task", "subtask")}.get(draft.kind, ("name",))
            parts = [draft.card.get(key) for key in keys]
            wanted = "_".join(parts) if all(isinstance(part, str) for part in parts) else stem  # type: ignore[arg-type]
            if draft.kind != "adapter_type" and wanted != stem and not slug_problems("id", wanted):
                yield Record("file-name", "repaired", draft.source, "", stem, wanted)
                stem = wanted
        if path.suffix != ".yaml":
            yield Record("file-suffix", "repaired", draft.source, "", path.suffix, ".yaml")
        free, number = stem, 2
        while f"{path.parent.as_posix()}/{free}.yaml".casefold() in taken:
            free, number = f"{stem}-{number}", number + 1
        if free != stem:
            yield Record("duplicate", "repaired", draft.source, "", stem, free)
        draft.target = f"{path.parent.as_posix()}/{free}.yaml"
        taken.add(draft.target.casefold())


def keep_hashes(draft: Draft, catalogue: Catalogue) -> None:
    """Note the hashes that an adapter had before ``2.0`` became ``2``, so that both still find it."""
    raw = draft.raw.get("config") if draft.raw is not None else None
    if draft.kind != "adapter" or not isinstance(raw, Mapping) or "values" in raw:
        return
    overrides = {key: value for key, value in raw.items() if key != "using"}
    if repr(integral(overrides)) == repr(overrides):
        return
    architecture = catalogue.architectures.get(str(raw.get("using")))
    if architecture is None:
        return
    configs = [architecture.config, architecture.config_v1 or architecture.config]
    hashes = [card_hash({**config, **overrides}) for config in configs]
    draft.card["x-config-hashes"] = list(dict.fromkeys(hashes))


def published_defaults(source: Path) -> dict[tuple[str, str, str], str]:
    """Return what the index that lies beside the cards gives for model, task and subtask."""
    found: dict[tuple[str, str, str], str] = {}
    root = source / "dist" / "v2" / "index"
    for path in sorted(root.rglob("*.json")):
        try:
            index = json.loads(path.read_bytes())
            model = path.relative_to(root).as_posix().removesuffix(".json")
            for task, subtasks in index.items():
                for subtask, group in subtasks.items():
                    stem = str(group["default"]).removeprefix("adapters/").removesuffix(".json")
                    found[model, task, subtask] = f"@{stem}"
        except (AttributeError, KeyError, TypeError, ValueError, OSError):
            continue  # a damaged index decides nothing
    return found


def choose_defaults(
    catalogue: Catalogue, published: Mapping[tuple[str, str, str], str], sources: Mapping[str, str]
) -> Iterator[tuple[Entry, Record]]:
    """Yield the entries to mark as defaults: those that the published index gives.

    Args:
        catalogue: the mended cards.
        published: see :func:`published_defaults`.
        sources: path in the hub to path in the collection, for the records.
    """
    for place_, group in _places(catalogue).items():
        if len(group) < 2 or any(entry.card.default for entry in group):
            continue
        _, task, subtask, model = place_
        ours = choose_default(group)
        by_name = {entry.identifier: entry for entry in group}
        theirs = by_name.get(published.get((model, task, subtask), ""))
        chosen = theirs or ours
        where = sources[chosen.card.path]
        what = f"{task}/{subtask} for {model}"
        reason = "the published index gives it" if theirs else "pfeiffer first, then by path"
        message = f"one of {len(group)} for {what}: {reason}"
        yield chosen, Record("default-chosen", "repaired", where, "default", None, True, message)
        if theirs is not None and theirs is not ours:
            message = f"for {what} an index made in order of path would give {ours.identifier}"
            yield chosen, Record("default-order", "kept", where, "default", message=message)


def _places(catalogue: Catalogue) -> dict[tuple[str, str, str, str], list[Entry]]:
    groups: dict[tuple[str, str, str, str], list[Entry]] = defaultdict(list)
    for entry in catalogue.entries:
        groups[entry.place].append(entry)
    return groups


def compare_answers(
    catalogue: Catalogue, published: Mapping[tuple[str, str, str], str], sources: Mapping[str, str]
) -> Iterator[Record]:
    """Yield where ``task/subtask@owner`` alone now gives another adapter than the old index did."""
    for (_, task, subtask, model), group in _places(catalogue).items():
        before = published.get((model, task, subtask))
        if before is None:
            continue
        seen = set()
        for entry in group:
            if entry.card.owner in seen:
                continue
            seen.add(entry.card.owner)
            where, name = sources[entry.card.path], f"{task}/{subtask}@{entry.card.owner}"
            try:
                now = resolve(catalogue, name, base_model=model).identifier
            except HubError:
                message = f"{name} for {model} gave {before}; now it asks for a configuration"
                yield Record("ambiguous-before", "kept", where, message=message)
                continue
            if now != before:
                message = f"{name} for {model} gave {before}, of another owner"
                yield Record("owner-respected", "repaired", where, "", before, now, message)


def mend_dependencies(draft: Draft, entry: Entry, catalogue: Catalogue) -> Iterator[Record]:
    """Write each dependency as ``@owner/stem``, if exactly one adapter for the same base fits."""
    items = draft.card.get("dependencies")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, dict) or not isinstance(item.get("key"), str):
            continue
        key, where = item["key"], f"dependencies[{index}].key"
        try:
            found = resolve(catalogue, key, base_model=entry.card.model_name).identifier
        except HubError as error:
            message = str(error).partition("\n")[0]
            yield Record("dependency", "kept", draft.source, where, key, message=message)
            continue
        if isinstance(parse_identifier(key), AdapterKey):
            continue
        item["key"] = found
        yield Record("dependency", "repaired", draft.source, where, key, found)
