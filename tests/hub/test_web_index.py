"""The index of adapters against plain counting, sorting and filtering."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from adapterhub.hub.web.index import ALL_GROUPS, EVERYBODY, AdapterIndex, Groups
from adapterhub.hub.web.query import FACETS, ORDERS, Query, facet_values
from adapterhub.hub.web.source import Adapter

GROUPS = (EVERYBODY, EVERYBODY, 7, 8)
QUERIES = (
    Query(page_size=1000),
    Query(chosen={"task": ("nli", "qa")}, page_size=1000),
    Query(chosen={"language": ("de",), "method": ("lora",)}, page_size=1000),
    Query(chosen={"rank": ("8",), "model": ("bert",), "language": ("en", "sw")}, page_size=1000),
    Query(chosen={"license": ("not stated",), "size": ("unknown",)}, page_size=1000),
    Query(chosen={"task": ("never",)}, page_size=1000),
)


def made(chance: random.Random, number: int) -> Adapter:
    task = chance.choice(("nli", "qa", "ner"))
    return Adapter(
        owner=chance.choice(("ada", "bob", "eve")),
        name=f"a{number}",
        type="text_task",
        task=task,
        subtask=f"{task}-data",
        task_name=task.upper(),
        subtask_name=f"{task}-data",
        base_model=chance.choice(("bert", "gpt2")),
        model_type="bert",
        architecture="x",
        method=chance.choice(("lora", "seq_bn")),
        languages=tuple(chance.sample(("en", "de", "sw"), chance.randint(0, 3))),
        license=chance.choice((None, "MIT")),
        size=chance.choice((None, 10, 2_000_000)),
        rank=chance.choice((None, 8, 16)),
        score=chance.choice((None, 0.5, 0.9)),
        published=chance.choice((None, "2026-01-02", "2026-03-04")),
        downloads=chance.randint(0, 3),
        status=chance.choice(("checked", "elsewhere")),
    )


@pytest.fixture(scope="module")
def filled() -> tuple[AdapterIndex, dict[int, tuple[Adapter, int]]]:
    """An index after many changes, and what is in it."""
    chance, index = random.Random(1), AdapterIndex()
    known: dict[int, tuple[Adapter, int]] = {}
    for step in range(600):
        key = chance.randrange(150)
        if chance.random() < 0.2:
            index.drop(key)
            known.pop(key, None)
        else:
            adapter, group = made(chance, key), chance.choice(GROUPS)
            index.put(key, adapter, [(1.0, f"{adapter.task} {adapter.base_model}")], group)
            known[key] = (adapter, group)
        if step % 50 == 0:
            index.search(Query(sort="score"), ALL_GROUPS)
    return index, known


@pytest.mark.parametrize("groups", [frozenset(), frozenset({7}), ALL_GROUPS])
@pytest.mark.parametrize("query", QUERIES)
def test_filters_counts_and_orders(filled, query: Query, groups: Groups) -> None:
    index, known = filled
    allowed = [
        adapter
        for adapter, group in known.values()
        if groups is None or group == EVERYBODY or group in groups
    ]

    def fits(adapter: Adapter, but: str = "") -> bool:
        values = facet_values(adapter)
        return all(
            name == but or set(wanted) & set(values[name]) for name, wanted in query.chosen.items()
        )

    for order in ORDERS:
        found = index.search(replace(query, sort=order), groups)
        expected = sorted(filter(fits, allowed), key=lambda a: (*ORDERS[order](a), a.identifier))
        assert [a.identifier for a in found.adapters] == [a.identifier for a in expected]
        assert found.total == len(expected)
    for name in FACETS:
        counts = Counter(v for a in allowed if fits(a, name) for v in facet_values(a)[name])
        assert found.counts[name] == counts
        assert list(found.counts[name].values()) == sorted(counts.values(), reverse=True)


def test_pages_follow_each_other(filled) -> None:
    index, _ = filled
    everything = [a.identifier for a in index.search(Query(sort="name", page_size=1000)).adapters]
    pages = [index.search(Query(sort="name", page=n, page_size=7)).adapters for n in range(1, 40)]
    assert [a.identifier for page in pages for a in page] == everything


def test_nothing_depends_on_what_one_may_not_see() -> None:
    chance, index = random.Random(2), AdapterIndex()
    index.put(1, replace(made(chance, 1), task="nli"), [(10.0, "sentiment")])
    index.put(2, replace(made(chance, 2), task="zebra"), [(10.0, "sentimant")], group=7)
    # The hidden one has the word as it was typed; for a stranger it is a misspelling.
    assert [a.name for a in index.search(Query("sentimant")).adapters] == ["a1"]
    assert [a.name for a in index.search(Query("sentimant"), frozenset({7})).adapters] == ["a2"]
    hidden = index.search(Query("zebrra"))
    assert hidden.total == 0
    assert hidden.suggestions == []
    assert "zebra" not in str(hidden)
    assert index.search(Query("zebbra"), frozenset({7})).suggestions == ["zebra"]


def test_what_is_kept_is_not_kept_too_long() -> None:
    chance, index = random.Random(3), AdapterIndex()
    index.put(1, replace(made(chance, 1), downloads=1), [(1.0, "one")])
    assert index.search(Query("two")).total == 0
    assert index.kept("n", frozenset(), lambda: len(index)) == 1
    index.put(2, replace(made(chance, 2), downloads=5), [(1.0, "two")])
    assert index.search(Query("two")).total == 1
    assert index.kept("n", frozenset(), lambda: len(index)) == 2
    first = index.search(Query(sort="downloads")).adapters[0]
    assert first.name == "a2"
    index.replace(1, replace(made(chance, 1), downloads=9))
    assert index.search(Query(sort="downloads")).adapters[0].downloads == 9
    index.drop(2)
    assert index.search(Query("two")).total == 0
