"""Leaderboards: results on one data set by one metric, claimed ones apart from measured ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapterhub.hub.web import links
from adapterhub.hub.web.pages import Board
from adapterhub.hub.web.source import Result, Source
from adapterhub.hub.web.text import number

#: By what the lines can be sorted: name of the column, and the key.
ORDERS: Mapping[str, tuple[str, Callable[[Result], Any]]] = {
    "value": ("value", lambda result: 0),
    "adapter": ("adapter", lambda result: result.adapter.identifier.casefold()),
    "model": ("base model", lambda result: result.adapter.base_model.casefold()),
    "method": ("method", lambda result: (result.adapter.architecture, result.adapter.settings)),
    "size": ("parameters", lambda result: result.adapter.parameters or float("inf")),
}
Params = Mapping[str, Sequence[str]]


def claimed_boards(
    source: Source, type_: str, task: str, subtask: str | None, order: str, limit: int = 25
) -> list[Board]:
    """Return what cards claim about a task or data set, a board for each data set and metric."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in source.results(type_, task, subtask):
        groups.setdefault((result.adapter.subtask, result.metric), []).append(result)
    boards = []
    for (dataset, metric), results in groups.items():
        first = results[0].adapter
        higher = first.higher_is_better if metric == first.metric else None
        href = links.dataset(type_, task, dataset)
        boards.append(_board(first.subtask_name, href, metric, higher, results, order, limit))
    return boards


def measured_boards(
    source: Source, type_: str, task: str, subtask: str | None, order: str, limit: int = 25
) -> list[Board]:
    """Return what was measured on a task or data set.

    A board is for one metric on the very same data: results on other examples are not comparable.
    """
    names = {item.id: item.name for item in source.datasets(type_, task)}
    groups: dict[tuple[str, str, str, str], list[Result]] = {}
    for result in source.measured_results(type_, task, subtask):
        found = result.measured
        if found is not None:
            key = (found.dataset, found.split, found.data_sha256, found.metric)
            groups.setdefault(key, []).append(result)
    boards = []
    # The data that most have used first, and the usual metrics in the order of their reports.
    for (dataset, split, sha256, metric), results in sorted(
        groups.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1:3])
    ):
        found = results[0].measured
        assert found is not None
        id_ = dataset.partition("/")[2]
        data = f"{split}, {number(found.examples)} examples, data {sha256[:10]}"
        boards.append(
            _board(
                names.get(id_, id_),
                links.dataset(type_, task, id_),
                metric,
                found.higher_is_better,
                results,
                order,
                limit,
                data=data,
            )
        )
    return boards


def _board(
    title: str,
    href: str,
    metric: str,
    higher: bool | None,
    results: Sequence[Result],
    order: str,
    limit: int,
    data: str = "",
) -> Board:
    """Rank the results by value, then put them into the order asked for."""
    sign = 1 if higher is False else -1
    best = sorted(results, key=lambda result: (sign * result.value, result.adapter.identifier))
    ranks = _ranks(best)
    lines = sorted(zip(ranks, best, strict=True), key=lambda line: ORDERS[order][1](line[1]))
    shown = lines[:limit]
    return Board(
        title=title,
        href=href,
        metric=metric,
        higher_is_better=higher,
        results=[result for _, result in shown],
        ranks=[rank for rank, _ in shown],
        total=len(results),
        data=data,
    )


def _ranks(best: Sequence[Result]) -> list[int]:
    """Return the rank of each; equal values share one."""
    ranks: list[int] = []
    for index, result in enumerate(best):
        same = index > 0 and result.value == best[index - 1].value
        ranks.append(ranks[-1] if same else index + 1)
    return ranks


def order_of(params: Params) -> str:
    """Return the order that an address asks for; an unknown one is that by value."""
    asked = (params.get("sort") or [""])[-1]
    return asked if asked in ORDERS else "value"
