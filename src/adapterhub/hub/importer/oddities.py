"""What is odd in a card and stays as it is, because only its author could say what was meant."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from adapterhub.hub.importer.records import Record

_ADDRESS = re.compile(r"[^@\s,;]+@[^@\s,;]+")
_WITH_TLD = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
# The address of a host that was a place name, not a domain (…@ukp.informatik.tu-darmstadt), has a
# last label that is no top-level domain; labels with a hyphen never are.
_LINK = re.compile(r"https?://[^\s/$.?#][^\s]*", re.IGNORECASE)


def oddities(kind: str, card: Mapping[str, Any], source: str) -> Iterator[Record]:
    """Yield a record for everything in a mended card that is tolerated."""
    for key in ("url",):
        value = card.get(key)
        if isinstance(value, str) and not _LINK.fullmatch(value):
            yield Record("format", "kept", source, key, value, message="not a web address")
    if kind != "adapter":
        return
    yield from _email(card, source)
    if card.get("license") is None:
        yield Record("no-license", "kept", source, "license")
    if card.get("hidden_size") is None:
        yield Record("no-hidden-size", "kept", source, "hidden_size")
    if isinstance(card.get("model_class"), str) and not card.get("prediction_head"):
        shown = card["model_class"]
        yield Record("head-class", "kept", source, "prediction_head", shown)
    files = card.get("files")
    for index, item in enumerate(files if isinstance(files, list) else ()):
        if isinstance(item, Mapping):
            yield from _version(item, source, f"files[{index}]")


def _email(card: Mapping[str, Any], source: str) -> Iterator[Record]:
    value = card.get("email")
    if not isinstance(value, str):
        return
    several = _ADDRESS.findall(value)
    if len(several) > 1:
        yield Record("email", "kept", source, "email", value, message="several addresses")
    elif not _WITH_TLD.fullmatch(value):
        yield Record("email", "kept", source, "email", value, message="no top-level domain")


def _version(item: Mapping[str, Any], source: str, place: str) -> Iterator[Record]:
    if isinstance(item.get("url"), str) and not item.get("members"):
        url = item["url"]
        yield Record("weights-elsewhere", "kept", source, f"{place}.url", url)
        if url.casefold().startswith("http:"):
            yield Record("plain-http", "kept", source, f"{place}.url", url)
    if item.get("score") is not None:
        yield Record("score-unit", "kept", source, f"{place}.score", item["score"])


def unused(
    cards: Mapping[str, tuple[str, str, Mapping[str, Any]]],
) -> Iterator[Record]:
    """Yield a record for each task, subtask and architecture that no adapter uses, and for subtask
    ids that several tasks share.

    Args:
        cards: source path to kind, type (name of the folder) and mended card.
    """
    tasks, subtasks, architectures = set(), set(), set()
    for kind, _, card in cards.values():
        if kind == "adapter":
            tasks.add((card.get("type"), card.get("task")))
            subtasks.add((card.get("type"), card.get("task"), card.get("subtask")))
            config = card.get("config")
            architectures.add(config.get("using") if isinstance(config, Mapping) else None)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for source, (kind, type_, card) in cards.items():
        if kind == "task" and (type_, card.get("task")) not in tasks:
            yield Record("unused", "kept", source, "task", card.get("task"))
        elif kind == "subtask":
            if (type_, card.get("task"), card.get("subtask")) not in subtasks:
                name = f"{card.get('task')}/{card.get('subtask')}"
                yield Record("unused", "kept", source, "subtask", name)
            shared[type_, str(card.get("subtask"))].append(source)
        elif kind == "architecture" and card.get("name") not in architectures:
            yield Record("unused", "kept", source, "name", card.get("name"))
    for (_, name), sources in shared.items():
        for source in sources if len(sources) > 1 else ():
            message = f"{len(sources)} tasks have a subtask of this id; give the task with it"
            yield Record("shared-id", "kept", source, "subtask", name, message=message)
