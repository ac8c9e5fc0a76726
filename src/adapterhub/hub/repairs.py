"""Mends what is harmlessly wrong in card files, and says what was mended.

The published cards were written by hand over years: blanks around values, empty strings for "not
given", ``2.0`` for ``2``, handles with and without ``@``. A reader that refused them would lose the
collection; one that mended silently would hide it. So every change to a value that carries meaning
is reported as a note; blank space at the ends of prose is not worth one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapterhub.hub.confighash import integral
from adapterhub.hub.languages import split_languages

_PROSE = frozenset({"description", "citation"})
_TEXT_VALUES = ("version", "default_version")


def clean_card(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a mended copy of *raw* and one line for each mended value."""
    repairs: list[str] = []
    card = _clean_mapping(raw, "", repairs)
    _clean_versions(card)
    config = card.get("config")
    if isinstance(config, dict) and "using" in config and "values" not in config:
        whole = integral(config)
        for key in whole:
            if repr(whole[key]) != repr(config[key]):
                repairs.append(f"config.{key}: {config[key]!r} read as {whole[key]!r}")
        card["config"] = whole
    for key in ("github", "twitter"):
        if isinstance(card.get(key), str):
            handle = re.sub(
                r"(?i)^(?:https?://)?(?:www\.)?(?:github|twitter|x)\.com/", "", card[key]
            )
            handle = handle.strip("/").removeprefix("@")
            if handle != card[key].removeprefix("@"):
                repairs.append(f"{key}: {card[key]!r} read as {handle!r}")
            card[key] = handle
            if not handle:
                del card[key]
    if "language" in card:
        codes = list(split_languages(card["language"]))
        if codes != card["language"] and [card["language"]] != codes:
            repairs.append(f"language: {card['language']!r} read as {', '.join(codes)}")
        card["language"] = codes
    metric = card.get("metric")
    if isinstance(metric, dict) and isinstance(metric.get("name"), str):
        metric["name"] = metric["name"].casefold()
    return card, repairs


def _clean_mapping(raw: Mapping[str, Any], place: str, repairs: list[str]) -> dict[str, Any]:
    result = {}
    for key, value in raw.items():
        where = f"{place}{key}"
        # A configuration is hashed, so nothing in it may be dropped or trimmed.
        full = key == "config" and isinstance(value, Mapping) and "using" not in value
        if full or key in ("values", "config_v1"):
            result[key] = value
            continue
        cleaned = _clean_value(value, where, repairs, prose=key in _PROSE)
        if cleaned is None or cleaned == "":
            if value == "":
                repairs.append(f"{where}: empty text read as not given")
            continue
        result[key] = cleaned
    return result


def _clean_value(value: Any, where: str, repairs: list[str], *, prose: bool) -> Any:
    if isinstance(value, str):
        stripped = value.strip()
        if stripped and stripped != value and not prose:
            repairs.append(f"{where}: blanks around {stripped[:60]!r} removed")
        return stripped
    if isinstance(value, Mapping):
        return _clean_mapping(value, f"{where}.", repairs)
    if isinstance(value, list):
        return [
            _clean_value(item, f"{where}[{index}]", repairs, prose=prose)
            for index, item in enumerate(value)
        ]
    return value


def _clean_versions(card: dict[str, Any]) -> None:
    """A version is a name; ``version: 1`` without quotes means the name ``1``."""
    files = card.get("files")
    versions = files if isinstance(files, list) else []
    for holder in [card, *(item for item in versions if isinstance(item, dict))]:
        for key in _TEXT_VALUES:
            if isinstance(holder.get(key), int | float) and not isinstance(holder[key], bool):
                holder[key] = str(holder[key])
