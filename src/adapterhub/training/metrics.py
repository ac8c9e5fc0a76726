"""Metrics with their standard errors: classes, numbers and spans.

A standard error says how far the value could lie from that on endless data of the same kind, because
only so many examples were looked at: that of a share by its formula, all others by the bootstrap
(Efron 1979): the metric of 1,000 samples drawn with replacement from the examples, seed 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adapterhub.errors import AdapterHubError, did_you_mean

RESAMPLES = 1000
_BINOMIAL = "binomial"
_BOOTSTRAP = f"bootstrap, {RESAMPLES} samples"

#: What each kind of head is measured by; the first is the usual one.
METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "micro_f1", "f1", "matthews"),
    "regression": ("pearson", "spearman", "mse"),
    "tagging": ("span_f1", "span_precision", "span_recall", "token_accuracy"),
}
LOWER_IS_BETTER = frozenset({"mse"})


class MetricError(AdapterHubError, ValueError):
    """A metric is unknown, or has no value for these examples."""


@dataclass(frozen=True)
class Measurement:
    """The value of a metric.

    Attributes:
        metric: see ``METRICS``.
        value: as a share of 1 where it is a share.
        standard_error: of the value; ``method`` says how it was found.
        count: of examples (sentences for spans).
    """

    metric: str
    value: float
    standard_error: float
    count: int
    method: str
    higher_is_better: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as plain JSON types."""
        return asdict(self)


def require_metrics(kind: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics to compute: *names*, or all of the *kind* where there are none.

    Raises:
        MetricError: If one is not known for this kind.
    """
    known = METRICS[kind]
    for name in names:
        if name not in known:
            raise MetricError(
                f"No metric '{name}' for {kind}; there are: {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
    # F1 of the second class means something for two classes only, so it is left to those who ask.
    return tuple(dict.fromkeys(names)) or tuple(name for name in known if name != "f1")


def of_classes(
    names: Sequence[str], gold: Sequence[int], predicted: Sequence[int], classes: int
) -> list[Measurement]:
    """Measure a classification.

    Args:
        names: metrics. ``f1`` is of class 1 of two; ``macro_f1`` the mean over the classes that occur.
        gold, predicted: numbers of classes, equally many.
        classes: how many there are.

    Raises:
        MetricError: If there are no examples, or ``f1`` is asked of other than two classes.
    """
    if "f1" in names and classes != 2:
        raise MetricError(f"'f1' is for two classes, and here are {classes}; take macro_f1.")
    cells = np.asarray(gold, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)

    def table(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(cells[chosen], minlength=classes**2).reshape(classes, classes)

    return [
        _measure(name, len(gold), lambda chosen, name=name: _OF_TABLE[name](table(chosen)))
        for name in names
    ]


def _accuracy(table: np.ndarray) -> float:
    return float(np.trace(table) / table.sum())


def _class_f1(table: np.ndarray) -> np.ndarray:
    """Return F1 of each class that occurs in either; (classes that occur,)."""
    right, both = np.diag(table), table.sum(0) + table.sum(1)
    return 2 * right[both > 0] / both[both > 0]


def _matthews(table: np.ndarray) -> float:
    """The correlation of two classifications (Gorodkin 2004); 0 where one of them is constant."""
    total, right = float(table.sum()), float(np.trace(table))
    said, true = table.sum(0).astype(float), table.sum(1).astype(float)
    spread = (total**2 - said @ said) * (total**2 - true @ true)
    return float((right * total - said @ true) / math.sqrt(spread)) if spread > 0 else 0.0


def _binary_f1(table: np.ndarray) -> float:
    both = table[1].sum() + table[:, 1].sum()
    return float(2 * table[1, 1] / both) if both else 0.0


_OF_TABLE: Mapping[str, Callable[[np.ndarray], float]] = {
    "accuracy": _accuracy,
    # Every example has one class, so precision and recall over all of them are the accuracy.
    "micro_f1": _accuracy,
    "macro_f1": lambda table: float(_class_f1(table).mean()),
    "f1": _binary_f1,
    "matthews": _matthews,
}


def of_numbers(
    names: Sequence[str], gold: Sequence[float], predicted: Sequence[float]
) -> list[Measurement]:
    """Measure a regression.

    Raises:
        MetricError: If there are fewer than two examples, or all numbers are the same.
    """
    true, said = np.asarray(gold, dtype=float), np.asarray(predicted, dtype=float)
    return [
        _measure(name, len(true), lambda chosen, f=_OF_NUMBERS[name]: f(true[chosen], said[chosen]))
        for name in names
    ]


def _pearson(true: np.ndarray, said: np.ndarray) -> float:
    true, said = true - true.mean(), said - said.mean()
    spread = math.sqrt(float(true @ true) * float(said @ said))
    return float(true @ said) / spread if spread > 0 else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[place]


_OF_NUMBERS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pearson": _pearson,
    "spearman": lambda true, said: _pearson(_ranks(true), _ranks(said)),
    "mse": lambda true, said: float(((true - said) ** 2).mean()),
}


def of_tags(
    names: Sequence[str], gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> list[Measurement]:
    """Measure tags of words.

    Args:
        gold, predicted: the tags of each sentence, equally many. Spans are read from ``B-X``, ``I-X`` and
            ``O`` as ``conlleval`` does: an ``I-`` after another type begins a span. Both ends and the
            type must be right. Tags without ``B-`` and ``I-`` have no spans.

    Raises:
        MetricError: If there are no sentences, or spans are asked of tags without any.
    """
    rows = []
    for true, said in zip(gold, predicted, strict=True):
        one, two = set(spans(true)), set(spans(said))
        hits = sum(a == b for a, b in zip(true, said, strict=True))
        rows.append((len(one & two), len(two), len(one), hits, len(true)))
    counts = np.asarray(rows, dtype=float).reshape(-1, 5)
    if not counts[:, 2].sum() and any(name.startswith("span") for name in names):
        raise MetricError(
            "There is not one span in the data (B-X and I-X mark them); take token_accuracy."
        )
    return [
        _measure(name, len(rows), lambda chosen, f=_OF_COUNTS[name]: f(*counts[chosen].sum(0)))
        for name in names
    ]


def spans(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield (first word, last word, type) of each span."""
    start, kind = 0, ""
    for index, tag in enumerate((*tags, "O")):
        mark, _, name = tag.partition("-")
        inside = mark in ("B", "I")
        if kind and (not inside or mark == "B" or name != kind):
            yield start, index - 1, kind
            kind = ""
        if inside and not kind:
            start, kind = index, name or "_"


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


_OF_COUNTS: Mapping[str, Callable[..., float]] = {
    "span_f1": lambda hit, said, true, right, words: _share(2 * hit, said + true),
    "span_precision": lambda hit, said, true, right, words: _share(hit, said),
    "span_recall": lambda hit, said, true, right, words: _share(hit, true),
    "token_accuracy": lambda hit, said, true, right, words: _share(right, words),
}


def _measure(name: str, count: int, value_of: Callable[[np.ndarray], float]) -> Measurement:
    """Compute a metric on all examples and its standard error; *value_of* takes numbers of examples."""
    if not count:
        raise MetricError("There are no examples to measure on.")
    value = value_of(np.arange(count))
    if not math.isfinite(value):
        raise MetricError(f"'{name}' has no value here: all numbers are the same.")
    if name in ("accuracy", "micro_f1"):
        error, method = math.sqrt(value * (1 - value) / count), _BINOMIAL
    else:
        random = np.random.default_rng(0)
        drawn = [value_of(random.integers(0, count, count)) for _ in range(RESAMPLES)]
        # A sample may be constant, and then has no correlation.
        finite = [item for item in drawn if math.isfinite(item)]
        error, method = float(np.std(finite, ddof=1)) if len(finite) > 1 else 0.0, _BOOTSTRAP
    return Measurement(name, value, error, count, method, name not in LOWER_IS_BETTER)
