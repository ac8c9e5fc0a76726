"""The pages that list: the first page, tasks, languages, models, publishers, searches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from adapterhub.hub.web import links, pages
from adapterhub.hub.web.pages import LANGUAGE_TYPE
from adapterhub.hub.web.query import Query
from adapterhub.hub.web.source import Source
from adapterhub.hub.web.text import plain

LISTED = 50
_VALUES = 120
_TILES = 240
SHOWN_PROBLEMS = 200


def number_of_pages(total: int, size: int) -> int:
    """Return how many pages *total* things fill, at least one."""
    return max(1, math.ceil(total / size))


def home_page(source: Source) -> pages.Home:
    """The first page."""
    everything = source.search(Query(page_size=1))
    counts = everything.counts
    tasks = [task for task in source.tasks() if task.type != LANGUAGE_TYPE and task.adapters]
    languages = [item for item in pages.languages_of(source) if item.adapters or item.tasks]
    recent = [a for a in source.search(Query(sort="recent", page_size=6)).adapters if a.published]
    best = source.search(Query(sort="score", page_size=6)).adapters
    shown = recent or [adapter for adapter in best if adapter.score is not None]
    hub = source.hub()
    total = everything.total
    return pages.Home(
        path=links.HOME,
        title=hub.name,
        hub=hub,
        about=plain(hub.description) or f"{total} adapters to find, check and load.",
        template="home.html",
        counts={
            "adapters": total,
            "tasks": len(counts["task"]),
            "datasets": len(counts["dataset"]),
            "languages": len(counts["language"]),
            "base models": len(counts["model"]),
        },
        tasks=sorted(tasks, key=lambda task: (-task.adapters, task.name))[:9],
        languages=sorted(languages, key=lambda item: (-item.adapters - item.tasks, item.name))[:24],
        models=dict(list(counts["model"].items())[:8]),
        recent=shown,
        example=(shown or list(best) or [None])[0],
    )


def explore_page(source: Source) -> pages.Explore:
    """Tasks with their data sets."""
    topics = []
    for task in source.tasks():
        if task.type == LANGUAGE_TYPE:
            continue
        datasets = source.datasets(task.type, task.id)
        topics.append(pages.Topic(task, datasets))
    return pages.Explore(
        path=links.EXPLORE,
        title="Explore tasks",
        hub=source.hub(),
        about="Tasks and data sets with adapters for them.",
        template="explore.html",
        topics=[topic for topic in topics if topic.task.adapters],
        waiting=[topic for topic in topics if not topic.task.adapters],
    )


def languages_page(source: Source) -> pages.Languages:
    """All languages."""
    return pages.Languages(
        path=links.LANGUAGES,
        title="Languages",
        hub=source.hub(),
        about="Languages with adapters.",
        template="languages.html",
        languages=pages.languages_of(source),
    )


def models_page(source: Source) -> pages.Tiles:
    """All base models."""
    counts = source.search(Query(page_size=1)).counts["model"]
    return pages.Tiles(
        path=links.MODELS,
        title="Base models",
        hub=source.hub(),
        template="tiles.html",
        heading="Base models",
        lead="An adapter fits the model that it was trained in. Start from the one you have.",
        tiles=[pages.Tile(name, links.model(name), "", n) for name, n in counts.items()][:_TILES],
        cut=max(0, len(counts) - _TILES),
    )


def architectures_page(source: Source) -> pages.Tiles:
    """All architectures."""
    return pages.Tiles(
        path=links.ARCHITECTURES,
        title="Methods and architectures",
        hub=source.hub(),
        template="tiles.html",
        heading="Methods and architectures",
        lead="What adapters are made of: named configurations, each with a hash that finds it again.",
        tiles=[
            pages.Tile(
                item.name, links.architecture(item.name), plain(item.description), item.adapters
            )
            for item in source.architectures()
        ],
    )


def people_page(source: Source) -> pages.Tiles:
    """Everybody who has published."""
    return pages.Tiles(
        path=links.PEOPLE,
        title="Publishers",
        hub=source.hub(),
        template="tiles.html",
        heading="Publishers",
        lead="People and organisations whose adapters are here.",
        tiles=[
            pages.Tile(account.name, links.person(account.name), account.title, account.adapters)
            for account in source.accounts()[:_TILES]
        ],
        cut=max(0, len(source.accounts()) - _TILES),
    )


def about_page(source: Source) -> pages.About:
    """About the hub."""
    problems = source.problems()
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.severity] = counts.get(problem.severity, 0) + 1
    return pages.About(
        path=links.ABOUT,
        title="About this hub",
        hub=source.hub(),
        template="about.html",
        problems=[p for p in problems if p.severity != "note"][:SHOWN_PROBLEMS],
        counts=counts,
    )


def search_page(source: Source, query: Query) -> pages.SearchPage:
    """What a search gives."""
    found = source.search(query)
    counts = {
        name: _trimmed(values, query.chosen.get(name, ())) for name, values in found.counts.items()
    }
    return pages.SearchPage(
        path=links.SEARCH,
        title=f"{query.words} – search" if query.words else "Search adapters",
        hub=source.hub(),
        template="search.html",
        query=query,
        found=replace(found, counts=counts),
        pages=number_of_pages(found.total, query.page_size),
    )


def _trimmed(counts: Mapping[str, int], chosen: Sequence[str]) -> dict[str, int]:
    """Return the most frequent values, and those that are chosen: a large hub has thousands."""
    shown = dict(islice(counts.items(), _VALUES))
    return shown | {value: counts[value] for value in chosen if value in counts}


def listing_page(source: Source, number: int) -> pages.Listing | None:
    """A page of the list of all adapters; ``None`` behind its end."""
    found = source.search(Query(sort="name", page=number, page_size=LISTED))
    if number > 1 and not found.adapters:
        return None
    return pages.Listing(
        path=links.listing(number),
        title="All adapters" + (f", page {number}" if number > 1 else ""),
        hub=source.hub(),
        template="listing.html",
        adapters=found.adapters,
        total=found.total,
        number=number,
        pages=number_of_pages(found.total, LISTED),
    )
