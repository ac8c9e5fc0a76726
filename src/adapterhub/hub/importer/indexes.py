"""The index files of AdapterHub.ml, as released versions of the ``adapters`` library read them.

Two layouts lie side by side under ``dist/``, that of version 1 of the library
(``index_<type>/<model>.json``, one tree a type, with hashes of the old configurations) and that of
version 2 (``v2/index/<model>.json``, both types in one, entries with an ``info`` part). The contents are
those that the original generator writes, except for "default", which there depended on the order of
files on a disk: here it is the adapter that the hub itself would choose.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.confighash import card_hash
from adapterhub.hub.entries import Entry
from adapterhub.hub.names import model_id_problems

_PREFERRED = "pfeiffer"


def index_files(catalogue: Catalogue) -> dict[str, bytes]:
    """Return every file of both layouts by its path under ``dist/``.

    Adapters whose files have no address (they lie in the hub itself) are left out: the old libraries
    can only fetch archives.
    """
    entries = [entry for entry in catalogue.entries if _reachable(entry)]
    files: dict[str, bytes] = {}
    for version in (1, 2):
        prefix = "" if version == 1 else "v2/"
        trees: dict[str, dict[str, dict[str, list[Entry]]]] = defaultdict(dict)
        for entry in entries:
            card = entry.card
            tree = f"index_{card.type}" if version == 1 else "v2/index"
            subtasks = trees[f"{tree}/{card.model_name}.json"].setdefault(card.task, {})
            subtasks.setdefault(card.subtask, []).append(entry)
            path = f"{prefix}{_entry_path(entry)}"
            files[path] = json.dumps(_entry(catalogue, entry, version), sort_keys=True).encode()
        for path, tasks in trees.items():
            index = {
                task: {name: _group(catalogue, group, version) for name, group in subtasks.items()}
                for task, subtasks in tasks.items()
            }
            files[path] = _pretty(index)
        architectures = {
            name: _config_of(catalogue, name, {}, version) for name in catalogue.architectures
        }
        files[f"{prefix}architectures.json"] = _pretty(architectures)
    infos = [_entry(catalogue, entry, 2)["info"] for entry in entries]
    files["v2/all.json"] = json.dumps(infos).encode()
    files["aliases.json"] = _pretty(aliases(entries))
    return dict(sorted(files.items()))


def aliases(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return which adapter each of its older names means.

    ``repositories`` has the ids under which the adapters were moved to the Hugging Face Hub
    (``AdapterHub/<stem>``); a stem that several owners use means nobody there. ``identifiers`` has
    ``task/subtask@owner``, below it the base model, below it each configuration hash.
    """
    repositories: dict[str, list[str]] = defaultdict(list)
    identifiers: dict[str, dict[str, dict[str, str]]] = {}
    for entry in entries:
        repositories[f"AdapterHub/{entry.card.stem}"].append(entry.identifier)
        by_model = identifiers.setdefault(entry.task_identifier, {})
        by_hash = by_model.setdefault(entry.card.model_name, {})
        by_hash.update(dict.fromkeys(sorted(entry.hashes), entry.identifier))
    single = {name: ids[0] for name, ids in repositories.items() if len(ids) == 1}
    return {"repositories": single, "identifiers": identifiers}


def choose_default(entries: Iterable[Entry]) -> Entry:
    """Return the entry to take where nothing tells those for one task and base model apart.

    The one marked, else the oldest where all have dates, else the first with the configuration
    ``pfeiffer``, else the first, in order of path.
    """
    ordered = sorted(entries, key=lambda entry: entry.card.path)
    marked = [entry for entry in ordered if entry.card.default]
    if marked:
        return marked[0]
    dates = [
        min((v.published for v in e.card.versions if v.published), default="") for e in ordered
    ]
    if all(dates):
        return ordered[dates.index(min(dates))]
    return next((entry for entry in ordered if entry.card.using == _PREFERRED), ordered[0])


def _reachable(entry: Entry) -> bool:
    return bool(
        entry.config
        and any(version.url for version in entry.card.versions)
        and not model_id_problems(entry.card.model_name)
    )


def _entry_path(entry: Entry) -> str:
    return f"adapters/{entry.card.owner}/{entry.card.stem}.json"


def _config_of(
    catalogue: Catalogue, using: str, overrides: Mapping[str, Any], version: int
) -> dict[str, Any]:
    architecture = catalogue.architectures[using]
    before = architecture.config_v1 if version == 1 else None
    return {**(before or architecture.config), **overrides}


def _full(catalogue: Catalogue, entry: Entry, version: int) -> dict[str, Any]:
    if entry.card.values is not None or entry.card.using not in catalogue.architectures:
        return dict(entry.config)
    return _config_of(catalogue, entry.card.using, entry.card.overrides, version)


def _group(catalogue: Catalogue, entries: list[Entry], version: int) -> dict[str, Any]:
    group: dict[str, Any] = {"default": _entry_path(choose_default(entries))}
    for entry in entries:
        # Under its hash, and under those that its card had before it was mended.
        for name in (card_hash(_full(catalogue, entry, version)), *entry.card.old_hashes):
            owners = group.setdefault(name, {"versions": {}})["versions"]
            owners.setdefault(entry.card.owner, _entry_path(entry))
    return group


def _entry(catalogue: Catalogue, entry: Entry, version: int) -> dict[str, Any]:
    card, config = entry.card, _full(catalogue, entry, version)
    files: dict[str, dict[str, Any]] = {}
    for item in card.versions:
        if item.url:
            every = {
                "sha1": item.sha1,
                "sha256": item.sha256,
                "url": item.url,
                "score": item.score,
            }
            files[item.version] = {key: value for key, value in every.items() if value is not None}
    result: dict[str, Any] = {
        "config_id": card_hash(config),
        "default_version": card.default_version,
        "files": files,
    }
    if version == 2:
        result["info"] = {
            "source": "ah",
            "adapter_id": entry.identifier,
            "model_name": card.model_name,
            "task": card.task,
            "subtask": card.subtask,
            "username": card.owner,
            "adapter_config": config,
            "sha1_checksum": files.get(card.default_version, {}).get("sha1"),
        }
    return result


def _pretty(data: Any) -> bytes:
    return json.dumps(data, indent=4, sort_keys=True).encode()
