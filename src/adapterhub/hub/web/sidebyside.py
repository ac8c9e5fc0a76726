"""Two to four adapters side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from adapterhub.errors import HubError
from adapterhub.hub.identifier import AdapterKey, parse_identifier
from adapterhub.hub.languages import language_name
from adapterhub.hub.web import links, pages
from adapterhub.hub.web.normtable import norm_rows
from adapterhub.hub.web.source import ONE_TEXT, Detail, Source, Trial
from adapterhub.hub.web.text import file_size, number

MOST = 4
_STATUS = {
    "checked": "verified",
    "problem": "check failed",
    "elsewhere": "files elsewhere",
    "held": "not published",
}


def figures(detail: Detail) -> tuple[tuple[str, str], ...]:
    """Return what is worth comparing of an adapter, as label and text; unknown values are left out."""
    adapter = detail.adapter
    pairs = [
        ("Task", adapter.task_name),
        ("Dataset", adapter.subtask_name),
        ("Base model", adapter.base_model),
        ("Architecture", adapter.architecture),
        (adapter.metric or "Score", None if adapter.score is None else number(adapter.score)),
        ("Parameters", None if adapter.parameters is None else number(adapter.parameters)),
        ("Size", None if adapter.size is None else file_size(adapter.size)),
        ("Languages", ", ".join(language_name(code) for code in adapter.languages)),
        ("Licence", adapter.license),
        ("Prediction head", "yes" if adapter.head else "no"),
        ("Format", _STATUS[adapter.status]),
        ("Published", (adapter.published or "")[:10]),
    ]
    pairs += [(f"config.{key}", json.dumps(value)) for key, value in detail.config.items()]
    return tuple((label, value) for label, value in pairs if value)


def compare_page(source: Source, asked: Sequence[str]) -> pages.ComparePage:
    """Put the adapters with these identifiers side by side; unknown ones are left out."""
    details: list[Detail] = []
    for text in list(dict.fromkeys(asked))[:MOST]:
        try:
            key = parse_identifier(text)
        except HubError:
            continue
        found = source.detail(key.owner, key.stem) if isinstance(key, AdapterKey) else None
        if found is not None:
            details.append(found)
    tables = [dict(figures(detail)) for detail in details]
    labels = dict.fromkeys(label for table in tables for label in table)
    rows = [pages.Row(label, tuple(table.get(label) for table in tables)) for label in labels]
    norms, tensors = norm_rows(source, details)
    trials = _trials(source, details)
    return pages.ComparePage(
        path=links.COMPARE,
        title="Compare adapters",
        hub=source.hub(),
        template="compare.html",
        adapters=[detail.adapter for detail in details],
        # Settings that are the same everywhere say nothing here.
        rows=[row for row in rows if not (row.same and row.label.startswith("config."))],
        asked=[text[:200] for text in asked[:MOST]],
        measured=_measured(source, details),
        norms=norms,
        tensors=tensors,
        trial=together(trials.values()),
        tried=list(trials),
    )


def together(trials: Iterable[Trial]) -> Trial | None:
    """Return the one form for several adapters that take the same; ``None`` for none."""
    several = list(trials)
    if len({trial.form for trial in several}) < 2:
        return several[0] if several else None
    return replace(several[0], form="text", generates=any(trial.generates for trial in several))


def _trials(source: Source, details: Sequence[Detail]) -> dict[str, Trial]:
    """Return how those of the adapters can be tried that take the same as the first of them."""
    found: dict[str, Trial] = {}
    for adapter in (detail.adapter for detail in details):
        trial = source.trial(adapter.owner, adapter.name)
        if trial is not None and trial.form:
            found[adapter.identifier] = trial
    forms = {
        name: "text" if trial.form in ONE_TEXT else trial.form for name, trial in found.items()
    }
    first = next(iter(forms.values()), None)
    return {name: trial for name, trial in found.items() if forms[name] == first != "image"}


def _measured(source: Source, details: Sequence[Detail]) -> list[pages.Row]:
    """Return the newest measured value of each metric on the same data."""
    columns: list[dict[str, str]] = []
    for adapter in (detail.adapter for detail in details):
        column: dict[str, str] = {}
        for item in source.measured(adapter.owner, adapter.name):
            if not item.current:
                continue
            data = f"{item.dataset or item.data}, {item.split} ({item.data_sha256[:10]})"
            error = "" if item.standard_error is None else f" ± {item.standard_error:.4f}"
            column.setdefault(f"{item.metric} on {data}", f"{item.value:.4f}{error}")
        columns.append(column)
    labels = sorted({label for column in columns for label in column})
    return [pages.Row(label, tuple(column.get(label) for column in columns)) for label in labels]
