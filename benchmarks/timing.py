"""Timing on a machine that others use too.

Cases are never timed on their own. Each round visits all of them in a new order, with the base model
before and after every one, and a case's figure of the round is its time over the mean of these two
neighbours. The clock is the CPU time of this process, which does not run while somebody else has
the core.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """A case's result.

    Attributes:
        ratio: median over the rounds of case / base; ``low``, ``high``: smallest and largest.
        ms: median CPU milliseconds of one call; ``rounds``: how many rounds there were.
    """

    ratio: float
    low: float
    high: float
    ms: float
    rounds: int


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def seconds(call: Callable[[], Any], times: int = 1) -> float:
    """Return the CPU seconds of one call, averaged over *times* calls in a row."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def compare(
    base: Callable[[], Any],
    cases: Mapping[str, Callable[[], Any]],
    rounds: int,
    sample: float = 0.04,
) -> dict[str, Timing]:
    """Time *cases* against *base*, interleaved; the result's ``"base"`` is the base itself.

    Args:
        sample: a measurement repeats a fast call until this many seconds are full.
    """
    calls = {"base": base, **cases}
    times = {}
    for name, call in calls.items():
        call()
        once = min(seconds(call), seconds(call)) if sample else 0.0
        times[name] = max(1, int(sample / max(once, 1e-7)))
    ratios: dict[str, list[float]] = {name: [] for name in cases}
    absolute: dict[str, list[float]] = {name: [] for name in calls}
    order, shuffle = list(cases), random.Random(0).shuffle
    with _no_collection():
        for _ in range(rounds):
            shuffle(order)
            before = seconds(base, times["base"])
            absolute["base"].append(before)
            for name in order:
                own = seconds(calls[name], times[name])
                after = seconds(base, times["base"])
                ratios[name].append(2 * own / (before + after))
                absolute[name].append(own)
                absolute["base"].append(after)
                before = after
            gc.collect()
    ratios["base"] = [value / statistics.median(absolute["base"]) for value in absolute["base"]]
    return {
        name: Timing(
            1.0 if name == "base" else statistics.median(values),
            min(values),
            max(values),
            statistics.median(absolute[name]) * 1e3,
            rounds,
        )
        for name, values in ratios.items()
    }


def milliseconds(
    call: Callable[[], Any], rounds: int, times: int = 1
) -> tuple[float, float, float]:
    """Return median, smallest and largest CPU milliseconds of one call."""
    with _no_collection():
        values = [seconds(call, times) * 1e3 for _ in range(rounds)]
    return statistics.median(values), min(values), max(values)
