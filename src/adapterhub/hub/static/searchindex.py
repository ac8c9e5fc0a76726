"""What the search in the browser reads: every adapter, as columns of numbers into lists of values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from adapterhub.hub.languages import language_name
from adapterhub.hub.web import links
from adapterhub.hub.web.query import FACETS, Query, facet_values, labels_of
from adapterhub.hub.web.site import facet_label
from adapterhub.hub.web.source import Adapter, Source
from adapterhub.hub.web.text import file_size, number, short_number

_ALL = 1_000_000


def search_index(source: Source) -> bytes:
    """Return the index as JSON; adapters are in the order that breaks ties."""
    adapters = adapters_in_order(source)
    by_name = source.search(Query(sort="name", page_size=_ALL)).adapters
    place = {adapter.identifier: number for number, adapter in enumerate(by_name)}
    rows = [{**row_of(adapter), "order": place[adapter.identifier]} for adapter in adapters]
    facets = [facet_values(adapter) for adapter in adapters]
    columns = {name: _column(row[name] for row in rows) for name in (rows[0] if rows else ())}
    for name in FACETS:
        columns[f"facets.{name}"] = _column(list(values[name]) for values in facets)
    about = _descriptions(source)
    for place_, weight in enumerate(_WEIGHTS):
        texts = ([weight, _texts(adapter, about)[place_]] for adapter in adapters)
        columns[f"texts.{place_}"] = _column(texts)
    data = {
        "format": 1,
        "hub": source.hub().name,
        "count": len(adapters),
        "facets": dict(FACETS),
        "labels": facet_labels(facets, adapters),
        "columns": columns,
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def adapters_in_order(source: Source) -> Sequence[Adapter]:
    """Return all adapters in the order that breaks ties; their places are their numbers."""
    return source.search(Query(sort="best", page_size=_ALL)).adapters


def row_of(adapter: Adapter) -> dict[str, Any]:
    """Return what a line of the results shows, and what it is sorted by."""
    language = adapter.type == "text_lang"
    other = (
        adapter.task_name if adapter.task_name.casefold() != adapter.subtask_name.casefold() else ""
    )
    chips = [language_name(code) for code in adapter.languages[:3]]
    if len(adapter.languages) > 3:
        chips.append(f"+{len(adapter.languages) - 3} languages")
    if adapter.parameters is not None:
        chips.append(f"{short_number(adapter.parameters)} parameters")
    if adapter.size is not None:
        chips.append(file_size(adapter.size))
    chips += ["head"] if adapter.head else []
    chips += [adapter.license] if adapter.license else []
    chips += [f"{adapter.versions} versions"] if adapter.versions > 1 else []
    return {
        "id": adapter.identifier,
        "href": links.adapter(adapter.owner, adapter.name),
        "title": f"{adapter.task_name} · {adapter.subtask_name}"
        if language
        else adapter.subtask_name,
        "subtitle": "" if language else other,
        "summary": adapter.summary,
        "settings": adapter.settings,
        "chips": chips,
        "score": adapter.score,
        "score_text": number(adapter.score),
        "metric": adapter.metric,
        "published": adapter.published,
        "size": adapter.size,
        "downloads": adapter.downloads,
    }


#: The weights of the server's search, in the order of ``_texts``.
_WEIGHTS = (10, 8, 6, 6, 5, 3, 1)


def _descriptions(source: Source) -> dict[tuple[str, ...], str]:
    """Return what tasks (by type and id) and data sets (by type, task and id) are about."""
    found: dict[tuple[str, ...], str] = {(t.type, t.id): t.description for t in source.tasks()}
    found |= {(d.type, d.task, d.id): d.description for d in source.datasets()}
    return found


def _texts(adapter: Adapter, about: Mapping[tuple[str, ...], str]) -> tuple[str, ...]:
    task = (adapter.type, adapter.task)
    return (
        f"{adapter.task} {adapter.subtask}",
        f"{adapter.task_name} {adapter.subtask_name}",
        " ".join(f"{code} {language_name(code)}" for code in adapter.languages),
        f"{adapter.name} {adapter.base_model}",
        f"{adapter.architecture} {adapter.method} {adapter.owner}",
        f"{adapter.summary} {adapter.author} {adapter.model_type}",
        f"{about.get(task, '')} {about.get((*task, adapter.subtask), '')}",
    )


def weighted_texts(
    adapters: Sequence[Adapter], source: Source
) -> Iterator[list[tuple[float, str]]]:
    """Yield the texts by which each adapter is found, with their weights."""
    about = _descriptions(source)
    for adapter in adapters:
        yield list(zip(_WEIGHTS, _texts(adapter, about), strict=True))


def _column(values: Iterable[Any]) -> dict[str, list[Any]]:
    known: dict[str, int] = {}
    distinct: list[Any] = []
    at = []
    for value in values:
        key = json.dumps(value, ensure_ascii=False)
        if key not in known:
            known[key] = len(distinct)
            distinct.append(value)
        at.append(known[key])
    return {"values": distinct, "at": at}


def facet_labels(
    facets: Sequence[Mapping[str, Sequence[str]]], adapters: Sequence[Adapter]
) -> dict[str, dict[str, str]]:
    """Return, by facet, what people call the values that they do not call by their value."""
    names = labels_of(adapters)
    labels: dict[str, dict[str, str]] = {}
    for name in FACETS:
        values = sorted({value for item in facets for value in item[name]})
        known = names.get(name, {})
        shown = {value: known.get(value) or facet_label(value, name) for value in values}
        labels[name] = {value: label for value, label in shown.items() if label != value}
    return {name: values for name, values in labels.items() if values}
