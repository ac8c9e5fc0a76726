from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.hub import Hub
from adapterhub.hub.wordindex import edit_distance, likeness, misspelt, words
from tests.hub.conftest import LORA, make_adapter


def fill(hub: Hub, folder: Path) -> None:
    def add(number: int, config=None, model="bert-base-uncased", **options) -> None:
        hub.publish(make_adapter(folder / f"f{number}", config=config, model=model), **options)

    add(1, task="sentiment", subtask="sst-2", owner="ada", language="en")
    add(2, LORA, "gpt2", task="sentiment", subtask="imdb", owner="bob", language="en")
    add(3, task="sw", subtask="wiki", owner="ada", type="text_lang")
    add(
        4,
        model="facebook/bart-base",
        task="nli",
        subtask="rte",
        owner="eve",
        description="Helps with sentiment, too.",
        language=["de", "en"],
    )


@pytest.fixture
def full(prepared, tmp_path: Path) -> Hub:
    return prepared(tmp_path / "full", "search", fill)


def found(hub: Hub, query: str = "", **filters: str) -> list[str]:
    return [f"{entry.card.task}/{entry.card.subtask}" for entry in hub.search(query, **filters)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sentiment", ["sentiment/sst-2", "sentiment/imdb", "nli/rte"]),
        ("SENTIMENT imdb", ["sentiment/imdb"]),
        ("sentimnet gpt2", ["sentiment/imdb"]),
        ("sentimen", ["sentiment/sst-2", "sentiment/imdb", "nli/rte"]),
        ("sst-2", ["sentiment/sst-2"]),
        ("sst-5", []),
        ("sentiment/sst-2", ["sentiment/sst-2"]),
        ("swahili", ["sw/wiki"]),
        ("german", ["nli/rte"]),
        ("bart", ["nli/rte"]),
        ("lora", ["sentiment/imdb"]),
        ("eve", ["nli/rte"]),
        ("sentiment nothinglikeit", []),
    ],
)
def test_words(full: Hub, query: str, expected: list[str]) -> None:
    assert sorted(found(full, query)) == sorted(expected)
    assert found(full, query)[-1:] == expected[-1:]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"task": "Sentiment"}, {"sentiment/sst-2", "sentiment/imdb"}),
        ({"task": "sentiment/imdb"}, {"sentiment/imdb"}),
        ({"task": "rte"}, {"nli/rte"}),
        ({"language": "English"}, {"sentiment/sst-2", "sentiment/imdb", "nli/rte"}),
        ({"language": "sw"}, {"sw/wiki"}),
        ({"base_model": "bart-base"}, {"nli/rte"}),
        ({"base_model": "facebook/bart-base"}, {"nli/rte"}),
        ({"base_model": "bart"}, set()),
        ({"architecture": "lora"}, {"sentiment/imdb"}),
        ({"architecture": "pfeiffer"}, {"sentiment/sst-2", "sw/wiki", "nli/rte"}),
        ({"architecture": "9076f36a74755ac4", "owner": "@ada"}, {"sentiment/sst-2", "sw/wiki"}),
        ({"owner": "ADA", "task": "sw"}, {"sw/wiki"}),
        ({"task": "sentimen"}, set()),
    ],
)
def test_properties(full: Hub, filters: dict[str, str], expected: set[str]) -> None:
    assert set(found(full, **filters)) == expected


def test_all_without_a_question_in_a_fixed_order(full: Hub) -> None:
    assert len(found(full)) == 4
    assert found(full) == found(Hub(full.path))


def test_facets_count_what_can_be_filtered(full: Hub) -> None:
    facets = full.catalogue.facets()
    assert facets["task"] == {"sentiment": 2, "sw": 1, "nli": 1}
    assert facets["language"] == {"en": 3, "de": 1, "sw": 1}
    for name, counts in facets.items():
        for value, count in counts.items():
            assert len(full.search(**{name: value})) == count if name != "subtask" else True


def test_reader_sees_what_others_publish(full: Hub, tmp_path: Path) -> None:
    reader = Hub(full.path)
    assert len(reader.search()) == 4
    full.publish(make_adapter(tmp_path / "n"), task="pos", subtask="ewt", owner="ada")
    assert len(reader.search()) == 5


def test_damaged_card_hides_only_itself(full: Hub) -> None:
    path = full.path / full.search("imdb")[0].card.path
    path.write_text("{")
    assert "sentiment/imdb" not in found(full)
    assert len(found(full)) == 3


def test_likeness() -> None:
    assert likeness("abcd", "abcd") > likeness("abc", "abcd") > likeness("bcd", "abcd")
    assert likeness("sentimnet", "sentiment") == 0
    assert misspelt("sentimnet", "sentiment") == 0.5
    assert misspelt("cat", "car") == 0
    assert misspelt("squad1", "squad2") == 0
    assert words("A (sst-2) test_case!") >= {"a", "sst-2", "sst", "2", "test", "case"}


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("ab", "ba", 1), ("abc", "abd", 1), ("abc", "xabc", 1), ("kitten", "sitting", 3)],
)
def test_edit_distance(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other, 5) == distance
    assert edit_distance(one, other, 0) == min(distance, 1)


short = st.text("abc", max_size=6)


@given(short, short, st.integers(0, 6))
def test_edit_distance_properties(one: str, other: str, limit: int) -> None:
    exact = edit_distance(one, other, 20)
    assert edit_distance(other, one, 20) == exact
    assert (exact == 0) == (one == other)
    assert edit_distance(one, other, limit) == min(exact, limit + 1)
