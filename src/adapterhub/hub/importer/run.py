"""The import itself: read all, mend, decide what takes several cards, write, index, log."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.catalogue import LAYOUT, Catalogue, card_paths
from adapterhub.hub.hub import Hub
from adapterhub.hub.importer import across, oddities
from adapterhub.hub.importer.changes import mend, template_comments
from adapterhub.hub.importer.indexes import index_files
from adapterhub.hub.importer.records import ImportLog, Record
from adapterhub.hub.storage import Transaction, replace_file

LOG_FILE = "import-log.json"
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")


def import_cards(
    source: str | os.PathLike[str], target: str | os.PathLike[str] | None = None
) -> tuple[Hub, ImportLog]:
    """Take every card of a collection into a hub folder; nothing is dropped.

    Importing again brings what is new; a card that was edited in the hub since is left alone, and the
    log says so. Weights are not fetched: versions keep their addresses.

    Args:
        source: a folder of cards, such as a checkout of the AdapterHub ``Hub`` repository.
        target: the hub folder; it is made if it is new or empty. By default the user's hub.

    Returns:
        The hub, and the log that is also in its ``import-log.json``.

    Raises:
        HubError: no cards in *source*, or *target* is neither a hub nor empty.
    """
    origin = Path(source).expanduser()
    if not any((origin / folder).is_dir() for folder, _, _ in LAYOUT):
        names = ", ".join(f"{folder}/" for folder, _, _ in LAYOUT)
        raise HubError(f"{origin} holds no cards; expected a folder with {names}")
    hub = Hub.init(target)
    if hub.path.resolve() == origin.resolve():
        raise HubError(f"{origin} is the hub to import into; give another folder with --to")
    log = ImportLog(origin.resolve().name)
    drafts = _read(origin, log)
    log.add(*across.mend_ids(drafts), *across.place(drafts))
    with Transaction(hub.path):  # nobody publishes meanwhile
        with tempfile.TemporaryDirectory() as folder:
            _mend_together(Path(folder), origin, drafts, log)
        _write(hub.path, origin, drafts, log)
        _finish(hub, origin, drafts, log)
    return hub, log


def _mend_together(folder: Path, origin: Path, drafts: list[across.Draft], log: ImportLog) -> None:
    """Mend what takes a readable hub to decide, in a hub of these cards alone."""
    by_target = {draft.target: draft for draft in drafts}
    sources = {draft.target: draft.source for draft in drafts}
    published = across.published_defaults(origin)

    def catalogue() -> Catalogue:
        for draft in drafts:
            _place(folder / draft.target, _content(origin, draft))
        return Catalogue(folder).refresh()

    first = catalogue()
    for draft in drafts:
        across.keep_hashes(draft, first)
    for entry, record in across.choose_defaults(first, published, sources):
        by_target[entry.card.path].card["default"] = True
        log.add(record)
    second = catalogue()
    for entry in second.entries:
        log.add(*across.mend_dependencies(by_target[entry.card.path], entry, second))
    log.add(*across.compare_answers(second, published, sources))


def _content(origin: Path, draft: across.Draft) -> bytes:
    if draft.raw is None:
        return (origin / draft.source).read_bytes()
    return cardfile.dumps(draft.card)


def _place(path: Path, data: bytes) -> None:
    """Write a file in one step, if it is not that already."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _read(origin: Path, log: ImportLog) -> list[across.Draft]:
    drafts = []
    for kind, path in card_paths(origin):
        where = path.relative_to(origin).as_posix()
        folder = path.parent.name
        log.counts[kind] = log.counts.get(kind, 0) + 1
        try:
            raw = cardfile.load(path)
        except (HubError, OSError) as error:
            log.add(Record("unusable", "failed", where, message=str(error)))
            drafts.append(across.Draft(where, kind, folder, where, None, {}))
            continue
        card, records = mend(raw, where)
        log.add(*records, *oddities.oddities(kind, card, where))
        left = template_comments(path.read_text(encoding="utf-8-sig"))
        if left:
            log.add(Record("template-comments", "repaired", where, before=left))
        drafts.append(across.Draft(where, kind, folder, where, raw, card))
        if kind == "adapter" and isinstance(card.get("files"), list):
            log.counts["version"] = log.counts.get("version", 0) + len(card["files"])
    log.add(*oddities.unused({d.source: (d.kind, d.folder, d.card) for d in drafts}))
    return drafts


def _write(root: Path, origin: Path, drafts: list[across.Draft], log: ImportLog) -> None:
    """Write what differs from what is there, unless somebody else wrote what is there."""
    earlier = _earlier(root)
    for draft in drafts:
        log.cards[draft.source] = draft.target
        data, path = _content(origin, draft), root / draft.target
        digest = hashlib.sha256(data).hexdigest()
        if path.is_file():
            have = hashlib.sha256(path.read_bytes()).hexdigest()
            if have not in (digest, earlier.get(draft.target)):
                log.add(Record("conflict", "kept", draft.source, message=f"see {draft.target}"))
                continue
        _place(path, data)
        log.hashes[draft.target] = digest


def _earlier(root: Path) -> dict[str, str]:
    try:
        return dict(json.loads((root / LOG_FILE).read_bytes())["sha256"])
    except (OSError, KeyError, TypeError, ValueError):
        return {}


def _finish(hub: Hub, origin: Path, drafts: list[across.Draft], log: ImportLog) -> None:
    catalogue = hub.catalogue
    have = {card.path for table in _tables(catalogue) for card in table.values()}
    for draft in drafts:
        usable = draft.raw is None or draft.kind == "adapter_type" or draft.target in have
        if not usable:
            wrong = [f.message for f in catalogue.findings if f.where == draft.target]
            log.add(Record("unusable", "failed", draft.source, message="; ".join(wrong[-1:])))
    for name in _LICENCES:
        if (origin / name).is_file() and not (hub.path / name).exists():
            shutil.copyfile(origin / name, hub.path / name)
    files = index_files(catalogue)
    for path, data in files.items():
        _place(hub.path / "dist" / path, data)
    log.indexes = len(files)
    replace_file(hub.path / LOG_FILE, log.dumps())


def _tables(catalogue: Catalogue) -> list[dict]:
    return [catalogue.tasks, catalogue.subtasks, catalogue.architectures, catalogue.adapters]
