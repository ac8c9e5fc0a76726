"""The pages of something that adapters have in common: a task, a data set, a language, a model."""

from __future__ import annotations

from collections.abc import Sequence

from adapterhub.hub.languages import language_code
from adapterhub.hub.web import links, pages
from adapterhub.hub.web.leaderboards import Params, claimed_boards, measured_boards, order_of
from adapterhub.hub.web.pages import LANGUAGE_TYPE
from adapterhub.hub.web.query import Query
from adapterhub.hub.web.source import Source
from adapterhub.hub.web.text import plain

#: Pages stay below 150 kB: so many adapters and groups on one page, the rest behind a link.
_BUDGET = 80
_GROUPS = 25


def task_page(source: Source, type_: str, id_: str, params: Params) -> pages.TaskPage | None:
    """A task with its data sets; ``None``: there is none of that name, as below."""
    order = order_of(params)
    task = next((t for t in source.tasks() if (t.type, t.id) == (type_, id_)), None)
    if task is None:
        return None
    datasets = source.datasets(type_, id_)
    groups = [
        pages.group(
            source,
            item.name,
            {"type": type_, "dataset": f"{id_}/{item.id}"},
            links.dataset(type_, id_, item.id),
        )
        for item in datasets
        if item.adapters
    ]
    return pages.TaskPage(
        path=links.task(type_, id_),
        title=task.name,
        hub=source.hub(),
        crumbs=(_top(type_),),
        about=plain(task.description),
        template="task.html",
        task=task,
        datasets=datasets,
        groups=[_first(group, max(3, _BUDGET // len(groups)), group.href) for group in groups],
        boards=claimed_boards(source, type_, id_, None, order, limit=10),
        measured=measured_boards(source, type_, id_, None, order, limit=10),
        order=order,
    )


def _first(group: pages.Group, limit: int, more: str | None) -> pages.Group:
    if len(group.adapters) <= limit:
        return group
    return pages.Group(group.title, group.href, group.adapters[:limit], group.total, more)


def _top(type_: str) -> tuple[str, str]:
    if type_ == LANGUAGE_TYPE:
        return ("Languages", links.LANGUAGES)
    return ("Explore", links.EXPLORE)


def dataset_page(
    source: Source, type_: str, task_id: str, id_: str, params: Params
) -> pages.DatasetPage | None:
    """A data set with its adapters by base model."""
    order = order_of(params)
    task = next((t for t in source.tasks() if (t.type, t.id) == (type_, task_id)), None)
    dataset = next((d for d in source.datasets(type_, task_id) if d.id == id_), None)
    if task is None or dataset is None:
        return None
    facet = {"type": type_, "dataset": f"{task_id}/{id_}"}
    chosen = {name: (value,) for name, value in facet.items()}
    models = source.search(Query(chosen=chosen, page_size=1)).counts["model"]
    return pages.DatasetPage(
        path=links.dataset(type_, task_id, id_),
        title=f"{dataset.name} ({task.name})",
        hub=source.hub(),
        crumbs=(_top(type_), (task.name, links.task(type_, task_id))),
        about=plain(dataset.description),
        template="dataset.html",
        task=task,
        dataset=dataset,
        groups=[
            _first(
                pages.group(source, name, {**facet, "model": name}, links.model(name)),
                max(3, _BUDGET // len(models)),
                links.SEARCH + Query(chosen={**chosen, "model": (name,)}).encode(),
            )
            for name in list(models)[:_GROUPS]
        ],
        cut=max(0, len(models) - _GROUPS),
        boards=claimed_boards(source, type_, task_id, id_, order),
        measured=measured_boards(source, type_, task_id, id_, order),
        order=order,
    )


def language_page(source: Source, code: str) -> pages.Grouped | None:
    """Adapters of a language, and for tasks in it."""
    language = next((item for item in pages.languages_of(source) if item.code == code), None)
    if language is None:
        return None
    own = {"type": LANGUAGE_TYPE, "language": code}
    types = sorted({task.type for task in source.tasks()} - {LANGUAGE_TYPE})
    groups = [pages.group(source, f"Adapters of the language {language.name}", own)]
    for type_ in types:
        facet = {"type": type_, "language": code}
        groups.append(pages.group(source, f"For tasks in {language.name}", facet))
    return _grouped(
        source,
        path=links.language(code),
        heading=language.name,
        lead=f"Adapters trained on {language.name} text, and adapters for tasks in it.",
        crumbs=(("Languages", links.LANGUAGES),),
        groups=groups,
        facet=("language", code),
        corpora=[
            pages.Topic(task, source.datasets(LANGUAGE_TYPE, task.id))
            for task in source.tasks()
            if task.type == LANGUAGE_TYPE and language_code(task.id) == code
        ],
    )


def model_page(source: Source, name: str) -> pages.Grouped | None:
    """What fits a base model."""
    return _with_facet(
        source,
        "model",
        name,
        path=links.model(name),
        lead="Adapters that were trained in this model.",
        crumbs=(("Base models", links.MODELS),),
    )


def architecture_page(source: Source, name: str) -> pages.Grouped | None:
    """A configuration and the adapters with it."""
    found = next((item for item in source.architectures() if item.name == name), None)
    if found is None:
        return None
    return _grouped(
        source,
        path=links.architecture(name),
        heading=name,
        lead=found.description,
        crumbs=(("Methods", links.ARCHITECTURES),),
        groups=[pages.group(source, "Adapters with it", {"architecture": name})],
        facet=("architecture", name),
        architecture=found,
    )


def person_page(source: Source, name: str) -> pages.Grouped | None:
    """What somebody has published."""
    account = next((item for item in source.accounts() if item.name == name), None)
    if account is None:
        return None
    return _grouped(
        source,
        path=links.person(name),
        heading=f"@{name}",
        lead=account.title,
        crumbs=(("Publishers", links.PEOPLE),),
        groups=[pages.group(source, "Published", {"owner": name})],
        facet=("owner", name),
        account=account,
    )


def _with_facet(
    source: Source, facet: str, value: str, *, path: str, lead: str, crumbs: pages.Crumbs
) -> pages.Grouped | None:
    if not source.search(Query(chosen={facet: (value,)}, page_size=1)).total:
        return None
    parts = [pages.group(source, "Adapters", {facet: value})]
    return _grouped(
        source,
        path=path,
        heading=value,
        lead=lead,
        crumbs=crumbs,
        groups=parts,
        facet=(facet, value),
    )


def _grouped(
    source: Source,
    *,
    path: str,
    heading: str,
    lead: str,
    crumbs: pages.Crumbs,
    groups: Sequence[pages.Group],
    facet: tuple[str, str],
    **more: object,
) -> pages.Grouped:
    query = Query(chosen={facet[0]: (facet[1],)}, page_size=1)
    found = source.search(query)
    shown = ("task", "language", "model", "architecture")
    counts = {
        name: dict(list(found.counts[name].items())[:12]) for name in shown if name != facet[0]
    }
    return pages.Grouped(
        path=path,
        title=heading,
        hub=source.hub(),
        crumbs=crumbs,
        about=plain(lead),
        template="grouped.html",
        heading=heading,
        lead=lead,
        groups=[group for group in groups if group.total],
        total=found.total,
        search=links.SEARCH + query.encode(),
        counts=counts,
        labels={
            "task": {
                name: found.labels.get("task", {}).get(name, name)
                for name in counts.get("task", ())
            }
        },
        **more,  # type: ignore[arg-type]
    )
