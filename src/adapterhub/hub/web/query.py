"""What somebody looks for: words, facets, order, page; and what is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from adapterhub.hub.web.source import Adapter

PAGE_SIZE = 25
MOST_PER_PAGE = 100
MAX_WORDS = 300

#: Upper limits in bytes, by the name in the address.
SIZES: Mapping[str, float] = {
    "1MB": 1e6,
    "10MB": 1e7,
    "100MB": 1e8,
    "larger": float("inf"),
}
#: Name in the address, and label.
FACETS: Mapping[str, str] = {
    "type": "Kind",
    "task": "Task",
    "dataset": "Dataset",
    "language": "Language",
    "model": "Base model",
    "architecture": "Architecture",
    "method": "Method",
    "format": "Format",
    "license": "Licence",
    "size": "Size",
    "rank": "Rank",
    "status": "Verified",
    "owner": "Published by",
}
SORTS: Mapping[str, str] = {
    "best": "Best match",
    "recent": "Most recent",
    "score": "Score",
    "downloads": "Downloads",
    "small": "Smallest",
    "large": "Largest",
    "name": "Name",
}


def size_bucket(size: int | None) -> str:
    """Return the name of the bucket for a size in bytes; ``unknown`` for none."""
    if size is None:
        return "unknown"
    return next(name for name, limit in SIZES.items() if size <= limit)


def facet_values(adapter: Adapter) -> dict[str, tuple[str, ...]]:
    """Return the values by which each facet finds an adapter."""
    return {
        "type": (adapter.type,),
        "task": (adapter.task,) if adapter.type != "text_lang" else (),
        "dataset": (f"{adapter.task}/{adapter.subtask}",),
        "language": adapter.languages,
        "model": (adapter.base_model,),
        "architecture": (adapter.architecture,),
        "method": (adapter.method,),
        "format": (adapter.format,),
        "license": (adapter.license or "not stated",),
        "size": (size_bucket(adapter.size),),
        "rank": (str(adapter.rank),) if adapter.rank is not None else (),
        "status": (adapter.status,),
        "owner": (adapter.owner,),
    }


@dataclass(frozen=True)
class Query:
    """A search, as the address states it: ``?q=words&task=nli&task=qa&sort=score&page=2&per_page=50``.

    Values of one facet are alternatives; facets narrow each other.
    """

    words: str = ""
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = ""
    page: int = 1
    page_size: int = PAGE_SIZE
    #: Whether the counts beside facets are wanted; a list on a page shows none.
    counted: bool = True

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read a query string; what is not understood is ignored."""
        chosen: dict[str, tuple[str, ...]] = {}
        words, sort, page, size = "", "", 1, PAGE_SIZE
        for key, value in parse_qsl(text.removeprefix("?"), max_num_fields=200):
            if key == "q":
                words = " ".join(value[:MAX_WORDS].split())
            elif key == "sort" and value in SORTS:
                sort = value
            elif key == "page" and value.isascii() and value.isdigit():
                page = max(1, min(int(value[:6]), 100_000))
            elif key == "per_page" and value.isascii() and value.isdigit():
                size = max(1, min(int(value[:6]), MOST_PER_PAGE))
            elif key in FACETS and value not in chosen.get(key, ()):
                chosen[key] = (*chosen.get(key, ()), value)
        return cls(words, chosen, sort, page, size)

    @property
    def order(self) -> str:
        """The order that is meant: as chosen, else by match, or by name without words."""
        return self.sort or ("best" if self.words else "name")

    def encode(self, **changes: object) -> str:
        """Return the query string, with *changes* to ``page`` or ``sort``."""
        pairs: list[tuple[str, object]] = [("q", self.words)] if self.words else []
        pairs += [(name, value) for name in FACETS for value in self.chosen.get(name, ())]
        state = {"sort": self.sort, "page": self.page, **changes}
        pairs += [("sort", state["sort"])] if state["sort"] else []
        pairs += [("per_page", self.page_size)] if self.page_size != PAGE_SIZE else []
        pairs += [("page", state["page"])] if state["page"] not in (1, None) else []
        return f"?{urlencode(pairs)}" if pairs else "?"

    def without(self, facet: str, value: str) -> Query:
        """Return the query without one facet value, from page 1."""
        rest = tuple(item for item in self.chosen.get(facet, ()) if item != value)
        chosen = {k: v for k, v in {**self.chosen, facet: rest}.items() if v}
        return replace(self, chosen=chosen, page=1)


@dataclass(frozen=True)
class Found:
    """What a search gave.

    Attributes:
        adapters: this page of it.
        total: of all pages.
        counts: facet to value to number of adapters, were that value (also) chosen.
        labels: facet to value to what people call it, where that is not the value.
        suggestions: identifiers or words to try where nothing fits.
    """

    adapters: Sequence[Adapter]
    total: int
    counts: Mapping[str, Mapping[str, int]]
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    suggestions: Sequence[str] = ()


def labels_of(adapters: Iterable[Adapter]) -> dict[str, dict[str, str]]:
    """Return what people call the tasks and data sets of some adapters."""
    tasks: dict[str, str] = {}
    datasets: dict[str, str] = {}
    for adapter in adapters:
        tasks[adapter.task] = adapter.task_name
        title = adapter.subtask_name
        if adapter.type == "text_lang":
            title = f"{adapter.task_name}: {title}"
        datasets[f"{adapter.task}/{adapter.subtask}"] = title
    return {"task": tasks, "dataset": datasets}


#: How the orders of ``SORTS`` compare adapters; ties are broken by the identifier. ``best`` is what
#: stays when no word decides: those whose files are here, then the default one of its place.
ORDERS: Mapping[str, Callable[[Adapter], tuple[Any, ...]]] = {
    "best": lambda a: (a.status == "elsewhere", not a.default),
    "recent": lambda a: (a.published is None, _reversed(a.published or "")),
    "score": lambda a: (a.score is None, -(a.score or 0.0)),
    "downloads": lambda a: (-(a.downloads or 0),),
    "small": lambda a: (a.size is None, a.size or 0),
    "large": lambda a: (a.size is None, -(a.size or 0)),
    "name": lambda a: (a.task_name.casefold(), a.subtask_name.casefold(), a.base_model.casefold()),
}


def _reversed(text: str) -> tuple[int, ...]:
    return tuple(-ord(char) for char in text)
