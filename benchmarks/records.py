"""What a suite hands on: :class:`Record`, one measured figure, and :class:`Options`, what was asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.models import SPECS, Spec
from benchmarks.timing import Timing


@dataclass(frozen=True)
class Record:
    """One figure.

    Attributes:
        suite, model, case: what was measured, and on what.
        value: the median, or an exact count.
        unit: ``ratio`` (to the bare base model), ``speed ratio`` (tokens/s over the base's), ``ms``, or what
            is counted.
        low, high: smallest and largest over the rounds; equal to *value* for counts.
        ms: median CPU milliseconds behind a ratio; ``rounds``: how many rounds, 1 for counts.
        note: anything to say beside it.
    """

    suite: str
    model: str
    case: str
    value: float
    unit: str
    low: float = math.nan
    high: float = math.nan
    ms: float = math.nan
    rounds: int = 1
    note: str = ""


@dataclass(frozen=True)
class Options:
    """What to run: the models, the rounds, and whether a rough answer will do."""

    models: tuple[str, ...]
    rounds: int
    quick: bool = False

    def specs(self, *allowed: str) -> list[Spec]:
        """Return the chosen models among *allowed*."""
        return [SPECS[name] for name in self.models if name in allowed]

    def rounds_for(self, spec: Spec) -> int:
        """Return the rounds for a model: the heavy one gets few, they take seconds each."""
        return min(self.rounds, 3) if spec.name == "bert" else self.rounds


def from_timing(suite: str, model: str, case: str, timing: Timing, note: str = "") -> Record:
    """Make a record of a ratio to the base."""
    return Record(
        suite,
        model,
        case,
        timing.ratio,
        "ratio",
        timing.low,
        timing.high,
        timing.ms,
        timing.rounds,
        note,
    )


def exact(suite: str, model: str, case: str, value: float, unit: str, note: str = "") -> Record:
    """Make a record of a count."""
    return Record(suite, model, case, value, unit, value, value, note=note)
