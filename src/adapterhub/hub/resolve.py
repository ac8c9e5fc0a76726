"""From an identifier to exactly one adapter, the same one on every machine and every day.

A part of the question that does not fit is never ignored: an unknown owner, base model,
configuration or version is an error that says what there is instead. If several adapters remain for
one and the same task, subtask and base model, the one marked ``default: true`` is meant, else the
oldest by date of publication. If neither decides, or if they are for different things, the error
lists the identifiers that pick each one.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from adapterhub.configs import parse_config_string
from adapterhub.errors import ConfigError, HubError, did_you_mean
from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.confighash import HASH_PATTERN, all_hashes, library_hash
from adapterhub.hub.entries import Entry
from adapterhub.hub.identifier import AdapterKey, TaskQuery, parse_identifier
from adapterhub.hub.search import is_architecture, is_model

_SHOWN = 12


class Ambiguous(HubError):
    """Several adapters fit; each is named."""

    final = True


def resolve(
    catalogue: Catalogue,
    identifier: str,
    *,
    base_model: str | None = None,
    config: Any = None,
    version: str | None = None,
) -> Entry:
    """Return the one adapter that *identifier* and the further conditions mean.

    See :meth:`adapterhub.hub.Hub.resolve` for the arguments.

    Raises:
        HubError: If none or several fit.
    """
    parsed = parse_identifier(identifier)
    matches = _named(catalogue, parsed, identifier)
    if base_model is not None:
        have = sorted({entry.card.model_name for entry in matches})
        matches = _keep(
            matches,
            lambda entry: is_model(base_model, entry.card.model_name),
            f"{identifier!r} is not here for the base model {base_model!r}",
            have,
            base_model,
        )
    if config is not None:
        matches = _with_config(catalogue, matches, identifier, config)
    if version is not None and len(matches) > 1:
        versions = sorted({item.version for entry in matches for item in entry.card.versions})
        matches = _keep(
            matches,
            lambda entry: entry.card.find_version(version) is not None,
            f"{identifier!r} has no version {version!r}",
            versions,
            version,
        )
    chosen, reason = _choose(matches, identifier)
    # entry() raises if the one match lacks the version, and says which versions there are.
    return dataclasses.replace(catalogue.entry(chosen.card, version), reason=reason)


def _keep(
    entries: Sequence[Entry],
    test: Callable[[Entry], bool],
    complaint: str,
    have: Sequence[str],
    wanted: str,
) -> list[Entry]:
    kept = [entry for entry in entries if test(entry)]
    if not kept:
        shown = ", ".join(have[:_SHOWN]) + (", ..." if len(have) > _SHOWN else "")
        raise HubError(f"{complaint}; there is: {shown}.{did_you_mean(wanted, have)}")
    return kept


def _named(catalogue: Catalogue, parsed: AdapterKey | TaskQuery, text: str) -> list[Entry]:
    if isinstance(parsed, TaskQuery):
        found = [entry for entry in catalogue.entries if _fits(parsed, entry)]
        if found:
            return found
    key = parsed if isinstance(parsed, AdapterKey) else parsed.as_key()
    card = catalogue.adapters.get((key.owner, key.stem)) if key else None
    if card is not None:
        return [catalogue.entry(card)]
    raise HubError(f"no adapter is called {text.strip()!r}.{_why_not(catalogue, parsed, text)}")


def _fits(query: TaskQuery, entry: Entry) -> bool:
    card = entry.card
    if query.owner is not None and card.owner != query.owner:
        return False
    if query.subtask is not None:
        return card.subtask == query.subtask and query.first in (None, card.task)
    return query.first in (None, card.task, card.subtask)


def _why_not(catalogue: Catalogue, parsed: AdapterKey | TaskQuery, text: str) -> str:
    """Return what a person needs next: a broken card, other owners, or the nearest names."""
    if isinstance(parsed, AdapterKey):
        path = f"adapters/{parsed.owner}/{parsed.stem}."
        broken = [
            f for f in catalogue.findings if f.where.startswith(path) and f.severity == "error"
        ]
        if broken:
            return f" Its card is there but cannot be used: {broken[0].message}"
    elif parsed.owner is not None:
        anyone = TaskQuery(parsed.first, parsed.subtask)
        owners = sorted({e.card.owner for e in catalogue.entries if _fits(anyone, e)})
        if parsed.first and owners:
            return f" Owner {parsed.owner!r} has none for {str(anyone)!r}; there is one by: " + (
                ", ".join(owners)
            )
    close = nearest(catalogue, text)
    if close:
        return " Did you mean " + " or ".join(f"'{name}'" for name in close) + "?"
    return " See what there is with hub.search()." if catalogue.adapters else " The hub is empty."


def nearest(catalogue: Catalogue, text: str, limit: int = 3) -> list[str]:
    """Return the identifiers of this hub that look most like *text*."""
    known: set[str] = set()
    for entry in catalogue.entries:
        card = entry.card
        known |= {entry.identifier, entry.task_identifier, card.task, card.subtask}
        known.add(f"{card.task}/{card.subtask}")
    by_fold = {name.casefold(): name for name in sorted(known)}
    close = difflib.get_close_matches(text.strip().casefold(), by_fold, n=limit, cutoff=0.6)
    return [by_fold[name] for name in close]


def _with_config(
    catalogue: Catalogue, entries: Sequence[Entry], identifier: str, config: Any
) -> list[Entry]:
    tests, label = config_tests(catalogue, config)
    for test in tests:
        kept = [entry for entry in entries if test(entry)]
        if kept:
            return kept
    have = sorted({f"{e.card.using} ({e.summary}; {e.config_hash})" for e in entries})
    complaint = f"{identifier!r} is not here with the config {label}"
    return _keep(entries, lambda entry: False, complaint, have, label)


def config_tests(catalogue: Catalogue, config: Any) -> tuple[list[Callable[[Entry], bool]], str]:
    """Return tests for adapters with this configuration, strict ones first, and what to call it.

    *config* is a full configuration (a mapping, or an object with ``to_dict``), its hash, a name,
    or a name with settings (``lora[r=8]``). A bare name means the configuration of that name as it
    is; only if no adapter has just that, the name with any settings.
    """
    to_dict = getattr(config, "to_dict", None)
    if callable(to_dict):
        config = to_dict()
    if isinstance(config, Mapping):
        wanted = all_hashes(config)
        return [lambda entry: not wanted.isdisjoint(entry.hashes)], library_hash(config)
    if not isinstance(config, str) or not config.strip():
        raise HubError(
            f"config must be a mapping, a name or a hash of 16 hex digits, not {config!r}"
        )
    text = config.strip()
    if HASH_PATTERN.fullmatch(text):
        return [lambda entry: text in entry.hashes], text
    tests: list[Callable[[Entry], bool]] = []
    full = _named_config(catalogue, text)
    if full is not None:
        exact = all_hashes(full)
        tests.append(lambda entry: not exact.isdisjoint(entry.hashes))
    if "[" not in text:
        tests.append(lambda entry: is_architecture(text, entry))
    if not tests:
        raise HubError(f"config {text!r} is not a configuration that this library or hub knows")
    return tests, repr(text)


def _named_config(catalogue: Catalogue, text: str) -> Mapping[str, Any] | None:
    """Return the full configuration of a name: from a card of this hub, else from the library."""
    card = catalogue.architectures.get(text)
    if card is not None:
        return card.config
    try:
        return parse_config_string(text).to_dict()
    except ConfigError:
        return None


def _choose(entries: Sequence[Entry], identifier: str) -> tuple[Entry, str]:
    if len(entries) == 1:
        return entries[0], ""
    places = {entry.place for entry in entries}
    if len(places) == 1:
        marked = [entry for entry in entries if entry.card.default]
        if len(marked) == 1:
            return marked[0], f"marked as default among {len(entries)}"
        dated = _by_date(entries)
        if dated and dated[0][0] < dated[1][0]:
            return dated[0][1], f"the oldest of {len(entries)}"
    raise Ambiguous(_ambiguous(entries, identifier))


def _first_date(entry: Entry) -> str | None:
    dates = [item.published for item in entry.card.versions if item.published]
    return min(dates) if dates else None


def _by_date(entries: Iterable[Entry]) -> list[tuple[str, Entry]]:
    """Sort by date of first publication; nothing if one has no date, as it may be the oldest."""
    dated = [(_first_date(entry), entry) for entry in entries]
    known = [(date, entry) for date, entry in dated if date is not None]
    return sorted(known, key=lambda pair: pair[0]) if len(known) == len(dated) else []


def _ambiguous(entries: Sequence[Entry], identifier: str) -> str:
    tell_apart = []
    if len({entry.card.model_name for entry in entries}) > 1:
        tell_apart.append("base_model")
    if len({entry.hashes for entry in entries}) > 1:
        tell_apart.append("config")
    advice = f" Give {' or '.join(tell_apart)}, or one of:" if tell_apart else " Take one of:"
    ordered = sorted(entries, key=lambda entry: (entry.place, entry.identifier))
    lines = [
        f"  {entry.identifier}  ({entry.card.task}/{entry.card.subtask}, {entry.card.model_name}, "
        f"{entry.card.using}{': ' + entry.summary if entry.summary else ''})"
        for entry in ordered[:_SHOWN]
    ]
    if len(ordered) > _SHOWN:
        lines.append(f"  ... and {len(ordered) - _SHOWN} more")
    return f"{identifier!r} fits {len(entries)} adapters.{advice}\n" + "\n".join(lines)
