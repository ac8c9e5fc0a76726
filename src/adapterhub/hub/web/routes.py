"""Which pages there are, and which record of :mod:`.pages` belongs to an address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from adapterhub.hub.web import links, pages
from adapterhub.hub.web.adapterpages import adapter_page, files_page, versions_page
from adapterhub.hub.web.groups import (
    architecture_page,
    dataset_page,
    language_page,
    model_page,
    person_page,
    task_page,
)
from adapterhub.hub.web.lists import (
    LISTED,
    about_page,
    architectures_page,
    explore_page,
    home_page,
    languages_page,
    listing_page,
    models_page,
    number_of_pages,
    people_page,
    search_page,
)
from adapterhub.hub.web.query import Query
from adapterhub.hub.web.sidebyside import compare_page
from adapterhub.hub.web.source import Detail, Source

Params = Mapping[str, Sequence[str]]
_LISTING = re.compile(r"page-([1-9][0-9]{0,5})")


_SINGLE: Mapping[str, Callable[[Source], pages.Page]] = {
    links.EXPLORE: explore_page,
    links.LANGUAGES: languages_page,
    links.MODELS: models_page,
    links.ARCHITECTURES: architectures_page,
    links.PEOPLE: people_page,
    links.ABOUT: about_page,
}


def page(
    source: Source, path: str, parts: Sequence[str], params: Params, query: str
) -> pages.Page | None:
    """Return the page at *path*, whose decoded parts are *parts*; ``None`` if there is none."""
    if not parts:
        return home_page(source)
    head, rest = parts[0], parts[1:]
    single = _SINGLE.get(path)
    if single is not None:
        return single(source)
    if path == links.SEARCH:
        return search_page(source, Query.parse(query))
    if path == links.COMPARE:
        return compare_page(source, params.get("a", ()))
    if head == "adapters":
        return _adapters(source, rest, params)
    if head == "tasks" and len(rest) == 2:
        return task_page(source, rest[0], rest[1], params)
    if head == "tasks" and len(rest) == 3:
        return dataset_page(source, rest[0], rest[1], rest[2], params)
    if head == "languages" and len(rest) == 1:
        return language_page(source, rest[0])
    if head == "models" and rest:
        return model_page(source, "/".join(rest))
    if head == "architectures" and len(rest) == 1:
        return architecture_page(source, rest[0])
    if head == "people" and len(rest) == 1:
        return person_page(source, rest[0])
    return None


def paths(source: Source) -> Iterator[str]:
    """Yield the address of every page of a hub, each once."""
    yield from (links.HOME, *_SINGLE, links.SEARCH, links.COMPARE)
    counts = source.search(Query(page_size=1))
    for number in range(1, number_of_pages(counts.total, LISTED) + 1):
        yield links.listing(number)
    number = 1
    while True:
        found = source.search(Query(sort="name", page=number, page_size=500)).adapters
        if not found:
            break
        for adapter in found:
            yield links.adapter(adapter.owner, adapter.name)
            yield links.versions(adapter.owner, adapter.name)
            yield links.files(adapter.owner, adapter.name)
        number += 1
    yield from (links.task(task.type, task.id) for task in source.tasks())
    yield from (links.dataset(item.type, item.task, item.id) for item in source.datasets())
    yield from (links.language(item.code) for item in pages.languages_of(source))
    yield from (links.model(name) for name in sorted(counts.counts["model"]))
    yield from (links.architecture(item.name) for item in source.architectures())
    yield from (links.person(account.name) for account in source.accounts())


def missing(source: Source, path: str) -> pages.Missing:
    """Return the page that says that nothing is here."""
    return pages.Missing(path=path, title="Not found", hub=source.hub(), template="missing.html")


def _adapters(source: Source, rest: Sequence[str], params: Params) -> pages.Page | None:
    if not rest:
        return listing_page(source, 1)
    if len(rest) == 1:
        number = _LISTING.fullmatch(rest[0])
        return listing_page(source, int(number[1])) if number and number[1] != "1" else None
    if len(rest) not in (2, 3):
        return None
    detail = source.detail(rest[0], rest[1])
    if detail is None:
        return None
    if len(rest) == 2:
        return adapter_page(source, detail)
    return {"versions": versions_page, "files": files_page}.get(rest[2], _none)(
        source, detail, params
    )


def _none(source: Source, detail: Detail, params: Params) -> None:
    return None
