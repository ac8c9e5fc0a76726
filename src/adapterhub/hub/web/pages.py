"""What is on each page, as a record that a template shows and that is also the page's JSON twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from adapterhub.hub.languages import language_code, language_name
from adapterhub.hub.web import links
from adapterhub.hub.web.compare import Change
from adapterhub.hub.web.query import PAGE_SIZE, Found, Query
from adapterhub.hub.web.snippets import Snippet
from adapterhub.hub.web.source import (
    Account,
    Adapter,
    Architecture,
    Dataset,
    Detail,
    File,
    HubInfo,
    Measured,
    Problem,
    Result,
    Source,
    Task,
    Tensor,
    Trial,
)

LANGUAGE_TYPE = "text_lang"
ROWS = 40

Crumbs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What every page has.

    Attributes:
        path: its address below the root.
        title: for the tab and search engines.
        crumbs: label and address of the pages above it.
        about: one sentence for search engines and previews.
        template: name of the template file.
        has_twin: whether programs get the same as JSON.
    """

    has_twin: ClassVar[bool] = True
    path: str
    title: str
    hub: HubInfo
    crumbs: Crumbs = ()
    about: str = ""
    template: str = ""


@dataclass(frozen=True)
class Language:
    """A language with the number of its own adapters and of task adapters for it."""

    code: str
    name: str
    adapters: int = 0
    tasks: int = 0


@dataclass(frozen=True)
class Group:
    """A heading with adapters below it; *more* leads to the rest."""

    title: str
    href: str | None
    adapters: Sequence[Adapter]
    total: int
    more: str | None = None


@dataclass(frozen=True)
class Board:
    """A leaderboard: the results on one data set by one metric.

    Attributes:
        results: some of the *total*; ``ranks`` are their places by value.
        data: which examples, for measured results.
    """

    title: str
    href: str
    metric: str
    higher_is_better: bool | None
    results: Sequence[Result]
    ranks: Sequence[int]
    total: int
    data: str = ""


@dataclass(frozen=True, kw_only=True)
class Home(Page):
    """The front page."""

    counts: Mapping[str, int]
    tasks: Sequence[Task]
    languages: Sequence[Language]
    models: Mapping[str, int]
    recent: Sequence[Adapter]
    example: Adapter | None


@dataclass(frozen=True)
class Topic:
    """A task with its data sets, as the page to explore lists it."""

    task: Task
    datasets: Sequence[Dataset]


@dataclass(frozen=True, kw_only=True)
class Explore(Page):
    """Tasks and their data sets; ``waiting`` have no adapter yet."""

    topics: Sequence[Topic]
    waiting: Sequence[Topic]


@dataclass(frozen=True, kw_only=True)
class TaskPage(Page):
    """A task or, for language adapters, a language of the old collection."""

    task: Task
    datasets: Sequence[Dataset]
    groups: Sequence[Group]
    boards: Sequence[Board]
    measured: Sequence[Board]
    order: str


@dataclass(frozen=True, kw_only=True)
class DatasetPage(Page):
    """A data set: adapters by base model (without the last *cut* models), results, citation."""

    task: Task
    dataset: Dataset
    groups: Sequence[Group]
    boards: Sequence[Board]
    measured: Sequence[Board]
    order: str
    cut: int = 0


@dataclass(frozen=True, kw_only=True)
class Languages(Page):
    """All languages."""

    languages: Sequence[Language]


@dataclass(frozen=True, kw_only=True)
class Grouped(Page):
    """Something that adapters have in common: a language, base model, architecture or publisher."""

    heading: str
    lead: str
    groups: Sequence[Group]
    total: int
    search: str
    account: Account | None = None
    architecture: Architecture | None = None
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    corpora: Sequence[Topic] = ()


@dataclass(frozen=True)
class Tile:
    """One thing in a list of things."""

    title: str
    href: str
    text: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Tiles(Page):
    """A list of base models, architectures or publishers, without the last *cut* of them."""

    heading: str
    lead: str
    tiles: Sequence[Tile]
    cut: int = 0


@dataclass(frozen=True, kw_only=True)
class SearchPage(Page):
    """A search and what it gave."""

    query: Query
    found: Found
    pages: int


@dataclass(frozen=True, kw_only=True)
class Listing(Page):
    """One page of the list of all adapters."""

    adapters: Sequence[Adapter]
    total: int
    number: int
    pages: int


@dataclass(frozen=True, kw_only=True)
class AdapterPage(Page):
    """An adapter.

    Attributes:
        figures: what a comparison with others puts side by side.
        measured: results that somebody measured and signed.
        trial: how it can be tried here.
    """

    detail: Detail
    snippets: Sequence[Snippet]
    figures: Sequence[tuple[str, str]] = ()
    measured: Sequence[Measured] = ()
    trial: Trial | None = None


@dataclass(frozen=True)
class Step:
    """What changed from one version to another."""

    old: str
    new: str
    changes: Sequence[Change]


@dataclass(frozen=True, kw_only=True)
class VersionsPage(Page):
    """The versions of an adapter; ``chosen`` compares the two that were asked for."""

    detail: Detail
    steps: Sequence[Step]
    chosen: Step | None = None
    tensors: Mapping[str, Mapping[str, Sequence[Tensor]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """A weight file with its tensors; ``cut`` counts those that the page leaves out."""

    file: File
    tensors: Sequence[Tensor]
    parameters: int
    cut: int = 0


@dataclass(frozen=True, kw_only=True)
class FilesPage(Page):
    """The files of the default version."""

    detail: Detail
    files: Sequence[File]
    weights: Sequence[Weights]


@dataclass(frozen=True)
class Row:
    """A line of a comparison: one value an adapter, ``None`` where it has none."""

    label: str
    values: Sequence[str | None]

    @property
    def same(self) -> bool:
        """Whether all adapters have the same value."""
        return len(set(self.values)) == 1


@dataclass(frozen=True, kw_only=True)
class ComparePage(Page):
    """Adapters side by side.

    Attributes:
        measured: what was measured of several of them, or one.
        norms: the norms of the tensors in which they differ most, of *tensors* in all.
        trial: how those that can be tried here can be tried together; ``tried`` names them.
    """

    adapters: Sequence[Adapter]
    rows: Sequence[Row]
    asked: Sequence[str]
    measured: Sequence[Row] = ()
    norms: Sequence[Row] = ()
    tensors: int = 0
    trial: Trial | None = None
    tried: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class About(Page):
    """What the hub is, how it checks, and what is wrong with its cards."""

    problems: Sequence[Problem]
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Missing(Page):
    """Nothing is at this address."""

    has_twin: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Fault(Page):
    """The hub itself is at fault: what to tell, and the number of the request in the log."""

    has_twin: ClassVar[bool] = False
    text: str
    number: str


def group(source: Source, title: str, facet: Mapping[str, str], href: str | None = None) -> Group:
    """Return the adapters with the given facet values, the first ``ROWS`` of them."""
    query = Query(chosen={name: (value,) for name, value in facet.items()}, page_size=ROWS)
    found = source.search(replace(query, counted=False))
    more = (
        links.SEARCH + replace(query, page_size=PAGE_SIZE).encode()
        if found.total > len(found.adapters)
        else None
    )
    return Group(title, href, found.adapters, found.total, more)


def languages_of(source: Source) -> list[Language]:
    """Return every language that an adapter is for, or that has a card, by name."""
    total = source.search(Query(page_size=1)).counts["language"]
    own = source.search(Query(chosen={"type": (LANGUAGE_TYPE,)}, page_size=1)).counts["language"]
    # The id of a card may be another spelling of the tag (zh_yue for yue).
    names = {language_code(t.id): t.name for t in source.tasks() if t.type == LANGUAGE_TYPE}
    found = [
        Language(code, _title(code, names), own.get(code, 0), total.get(code, 0) - own.get(code, 0))
        for code in {*names, *total}
    ]
    return sorted(found, key=lambda item: (item.name.casefold(), item.code))


def _title(code: str, names: Mapping[str, str]) -> str:
    name = language_name(code)
    return names.get(code, name) if name == code else name
