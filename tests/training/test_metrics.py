"""Metrics against values worked out by hand, and against scikit-learn and SciPy where they are there."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from adapterhub.training.metrics import (
    MetricError,
    of_classes,
    of_numbers,
    of_tags,
    require_metrics,
    spans,
)

CLASSES = ("accuracy", "macro_f1", "micro_f1", "matthews")


def _values(found: list) -> dict[str, float]:
    return {item.metric: item.value for item in found}


def test_classes_by_hand() -> None:
    gold, said = [0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 0, 1]
    found = _values(of_classes((*CLASSES, "f1"), gold, said, 2))
    assert found["accuracy"] == pytest.approx(6 / 8)
    assert found["f1"] == pytest.approx(8 / 10)
    assert found["macro_f1"] == pytest.approx((4 / 6 + 8 / 10) / 2)
    assert found["matthews"] == pytest.approx((2 * 4 - 1 * 1) / math.sqrt(3 * 3 * 5 * 5))


def test_the_error_of_a_share_is_binomial_and_that_of_f1_like_it() -> None:
    random.seed(1)
    gold = [random.randrange(2) for _ in range(900)]
    said = [label if random.random() < 0.8 else 1 - label for label in gold]
    found = {m.metric: m for m in of_classes(CLASSES, gold, said, 2)}
    share = found["accuracy"]
    assert share.standard_error == pytest.approx(math.sqrt(share.value * (1 - share.value) / 900))
    # Of two classes of one size, macro F1 is nearly the accuracy, so its error must be, too.
    assert found["macro_f1"].standard_error == pytest.approx(share.standard_error, rel=0.15)
    assert of_classes(CLASSES, gold, said, 2) == of_classes(CLASSES, gold, said, 2)


def test_against_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    random.seed(2)
    gold = [random.randrange(4) for _ in range(300)]
    said = [g if random.random() < 0.6 else random.randrange(3) for g in gold]
    found = _values(of_classes(CLASSES, gold, said, 5))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(gold, said, average="macro"))
    assert found["micro_f1"] == pytest.approx(sklearn.f1_score(gold, said, average="micro"))
    assert found["matthews"] == pytest.approx(sklearn.matthews_corrcoef(gold, said))


def test_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random.seed(3)
    gold = [random.randrange(6) for _ in range(200)]  # with ties
    said = [g + random.gauss(0, 2) for g in gold]
    found = _values(of_numbers(("pearson", "spearman", "mse"), gold, said))
    assert found["pearson"] == pytest.approx(stats.pearsonr(gold, said)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(gold, said)[0])
    assert found["mse"] == pytest.approx(float(np.mean((np.array(gold) - said) ** 2)))


def test_direction() -> None:
    found = {
        m.metric: m.higher_is_better for m in of_numbers(("pearson", "mse"), [1, 2, 4], [1, 3, 3])
    }
    assert found == {"pearson": True, "mse": False}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X I-X O B-Y", [(0, 1, "X"), (3, 3, "Y")]),
        ("B-X B-X", [(0, 0, "X"), (1, 1, "X")]),
        ("I-X I-X", [(0, 1, "X")]),  # an I- begins a span where none is
        ("B-X I-Y I-Y", [(0, 0, "X"), (1, 2, "Y")]),
        ("O O", []),
        ("B-a-b I-a-b", [(0, 1, "a-b")]),
        ("NOUN VERB", []),
    ],
)
def test_spans(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert list(spans(tags.split())) == expected


def test_spans_must_be_right_at_both_ends() -> None:
    gold = [["B-X", "I-X", "O"], ["O", "B-Y"], ["O"]]
    said = [["B-X", "O", "O"], ["O", "B-Y"], ["B-X"]]
    found = _values(
        of_tags(("span_f1", "span_precision", "span_recall", "token_accuracy"), gold, said)
    )
    assert found["span_precision"] == pytest.approx(1 / 3)
    assert found["span_recall"] == pytest.approx(1 / 2)
    assert found["span_f1"] == pytest.approx(2 / 5)
    assert found["token_accuracy"] == pytest.approx(4 / 6)


def test_what_has_no_value_is_refused() -> None:
    with pytest.raises(MetricError, match="all numbers are the same"):
        of_numbers(("pearson",), [1, 1, 1], [1, 2, 3])
    with pytest.raises(MetricError, match="no examples"):
        of_classes(("accuracy",), [], [], 2)
    with pytest.raises(MetricError, match="two classes"):
        of_classes(("f1",), [0, 1], [0, 1], 3)
    with pytest.raises(MetricError, match="not one span"):
        of_tags(("span_f1",), [["NOUN"]], [["VERB"]])
    with pytest.raises(MetricError, match="Did you mean 'macro_f1'"):
        require_metrics("classification", ["macro-f1"])
    assert "f1" not in require_metrics("classification", [])
