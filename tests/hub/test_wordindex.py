"""The word index against the plain definition of what it computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub.hub.wordindex import (
    MAX_WORDS,
    WordIndex,
    likeness,
    misspelt,
    question_words,
    weighted_words,
    words,
)

#: Words that are near each other, parts of each other, and short ones.
WORDS = (
    "bert",
    "bart",
    "roberta",
    "robert",
    "sst-2",
    "sst-5",
    "sentiment",
    "sentimant",
    "ab",
    "a",
    "für",
)
documents = st.dictionaries(st.sampled_from(WORDS), st.sampled_from((1.0, 3.0, 10.0)), max_size=4)
questions = st.lists(
    st.sampled_from((*WORDS, "sentimnet", "ber", "ob", "xyz", "sst", "r", "senti")), max_size=3
)


def plain(known: dict[int, dict[str, float]], query: str) -> dict[int, float]:
    """What the index is to give: slot to score, of the documents that have every word."""
    scores = dict.fromkeys(known, 0.0)
    for word in question_words(query):
        best: dict[int, float] = {}
        for measure in (likeness, misspelt):
            for slot, found in known.items():
                quality = max((measure(word, w) * weight for w, weight in found.items()), default=0)
                if quality:
                    best[slot] = quality
            if best:
                break
        scores = {slot: score + best[slot] for slot, score in scores.items() if slot in best}
    return scores


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.none() | documents), max_size=14),
    questions,
    st.sets(st.integers(0, 5)),
)
def test_it_gives_what_is_defined(
    steps: list[tuple[int, dict[str, float] | None]], asked: list[str], hidden: set[int]
) -> None:
    """Whatever came and went before, and as if hidden documents did not exist."""
    index, known = WordIndex(), {}
    for slot, found in steps:
        if found is None:
            index.drop(slot)
            known.pop(slot, None)
        else:
            index.put(slot, found)
            known[slot] = found
        # Asked in between as well, so that what is kept for the next question gets old.
        index.scores("sentimnet bert", np.ones(8, np.bool_))
    visible = np.zeros(8, np.bool_)
    visible[[slot for slot in known if slot not in hidden]] = True
    scores, alive = index.scores(" ".join(asked), visible)
    found_ = {int(slot): float(scores[slot]) for slot in np.flatnonzero(alive)}
    expected = plain({s: w for s, w in known.items() if s not in hidden}, " ".join(asked))
    assert found_ == pytest.approx(expected)


def test_words_of_names_and_their_parts() -> None:
    assert words("A (sst-2) test_case!") >= {"a", "sst-2", "sst", "2", "test", "case"}
    assert weighted_words([(1.0, "bert base"), (5.0, "Bert")]) == {"bert": 5.0, "base": 1.0}


def test_a_long_question_is_cut() -> None:
    assert len(question_words(" ".join(f"w{i}" for i in range(500)))) == MAX_WORDS
    assert len(question_words("x" * 5000)[0]) < 100
