"""What mending one card by itself changed, value by value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from adapterhub.hub.importer.records import Record
from adapterhub.hub.repairs import clean_card

_PROSE = ("description", "citation")
_MISSING = object()


def mend(raw: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[Record]]:
    """Return the mended card and one record for each value that became another."""
    card, _ = clean_card(raw)
    records = []
    for place, before, after in _differences(raw, card, ""):
        code = _code(place, before, after)
        shown = None if after is _MISSING else after
        records.append(Record(code, "repaired", source, place, before, shown))
    return card, records


def _differences(before: Any, after: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key, value in before.items():
            yield from _differences(value, after.get(key, _MISSING), f"{place}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(one, other, f"{place}[{index}]")
    elif type(before) is not type(after) or before != after:
        if before is None and after is _MISSING:
            return  # "key:" without a value says nothing, and never did
        yield place, before, after


def _code(place: str, before: Any, after: Any) -> str:
    last = PurePosixPath(place.replace(".", "/")).name
    if before == "" or (isinstance(before, str) and not before.strip()):
        return "empty-text"
    if place.startswith("language"):
        return "language"
    if last in ("github", "twitter"):
        return "handle"
    if place == "metric.name":
        return "metric-case"
    if last in ("version", "default_version"):
        return "version-name"
    if isinstance(before, float) and isinstance(after, int):
        return "whole-number"
    if isinstance(before, str) and isinstance(after, str) and before.strip() == after:
        return "blanks"
    return "value"


def template_comments(text: str) -> int:
    """Count the lines that the template's TODO comments left in a card."""
    return sum("TODO" in line.partition("#")[2] for line in text.splitlines())
