"""What is odd about the claims of a card: its languages, its links, its evaluation results.

All of this is said and nothing is refused for it, as pages show what they were given in a safe form.
Links are only looked at, never followed: whoever made the hub fetch them could look around in its network.
"""

from __future__ import annotations

import html
import ipaddress
import math
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

_MAX_LINKS, _MAX_WARNINGS = 2000, 20
#: A well-formed language tag: language, script, region, variants, private use.
_BCP47 = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-x(-[A-Za-z0-9]{1,8})+)?"
)
#: What model hubs use instead of one.
_NO_LANGUAGE = ("code", "multilingual")
_LINKS = (
    re.compile(r"\]\(\s{0,10}<?([^\s()<>]{1,2000})"),
    re.compile(r"^ {0,3}\[[^\]\n]{1,200}\]:\s{0,10}<?([^\s<>]{1,2000})", re.MULTILINE),
    re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{0,30}:[^\s<>]{0,2000})>"),
    re.compile(r"(?:href|src)\s{0,10}=\s{0,10}[\"']?([^\s\"'<>]{1,2000})", re.IGNORECASE),
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_INSIDE = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa")


def language_warnings(value: Any) -> list[str]:
    """Return which languages of a card are no tags that programs understand."""
    several = value if isinstance(value, list) else [value]
    found = []
    for item in several:
        text = "no" if item is False else item  # (YAML takes Norwegian for a negation)
        if not isinstance(text, str) or not text or text in _NO_LANGUAGE:
            continue
        if not _BCP47.fullmatch(text):
            found.append(
                f"language {text!r:.60} is not a language tag (BCP 47) such as 'en' or 'pt-BR'"
            )
    return found


def link_warnings(text: str) -> list[str]:
    """Return which links of a README lead nowhere for others, or are no links to pages."""
    found: dict[str, None] = {}
    for target in _targets(text):
        # What hides in entities or control characters counts as a browser would take it.
        plain = re.sub(r"[\x00-\x20\x7f]", "", html.unescape(target))
        match = _SCHEME.match(plain)
        if match is None:
            continue
        scheme = match[1].lower()
        if scheme not in ("http", "https", "mailto"):
            found[f"the link {plain[:60]!r} is left out: only http and https are followed"] = None
        elif scheme != "mailto" and _is_inside(plain):
            found[f"the link {plain[:60]!r} leads into a network that others cannot reach"] = None
        if len(found) >= _MAX_WARNINGS:
            break
    return list(found)


def _targets(text: str) -> Iterator[str]:
    count = 0
    for pattern in _LINKS:
        for match in pattern.finditer(text):
            yield match[1]
            count += 1
            if count >= _MAX_LINKS:
                return


def _is_inside(url: str) -> bool:
    try:
        host = (urlsplit(url).hostname or "").lower().rstrip(".")
    except ValueError:
        return False
    if not host or host == "localhost" or host.endswith(_INSIDE):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def result_warnings(index: Any) -> list[str]:
    """Return what evaluation results (``model-index``) lack: data set, split, metric, and a number."""
    if index is None:
        return []
    found: dict[str, None] = {}
    for entry in _results(index):
        dataset = entry.get("dataset") if isinstance(entry, dict) else None
        metrics = entry.get("metrics") if isinstance(entry, dict) else None
        if not isinstance(dataset, dict) or not isinstance(metrics, list):
            return ["model-index needs, for each model, results with dataset and metrics"]
        name = dataset.get("name") or dataset.get("type")
        if not isinstance(name, str) or not name:
            found["a result of model-index does not name its data set"] = None
        if not isinstance(dataset.get("split"), str):
            found[
                f"the results for {str(name)[:60]!r} name no split, so they compare with nothing"
            ] = None
        for metric in metrics:
            found |= dict.fromkeys(_metric(metric))
    return list(found)[:_MAX_WARNINGS]


def _results(index: Any) -> Iterator[Any]:
    for model in index if isinstance(index, list) else [None]:
        results = model.get("results") if isinstance(model, dict) else None
        yield from results if isinstance(results, list) else [None]


def _metric(metric: Any) -> list[str]:
    value = metric.get("value") if isinstance(metric, dict) else None
    name = (metric.get("type") or metric.get("name")) if isinstance(metric, dict) else None
    found = [] if isinstance(name, str) and name else ["a result of model-index names no metric"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        found.append(f"the result {value!r:.60} is not a number")
    return found
