"""A cell and its outcome: :func:`cells_of`, :func:`run_cell`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import adapterhub
from benchmarks.matrix import blocks, generation, rules
from benchmarks.matrix.generation import Gated
from benchmarks.matrix.reasons import reason_of
from benchmarks.matrix.subject import NotApplicable, Subject, Unbuilt, line

OK, MEANINGLESS, NOT_APPLICABLE, FAILED = "ok", "meaningless", "not applicable", "FAILED"
Check = Callable[[Subject, str], str]

#: Checks of a single adapter.
RULES: dict[str, Check] = {
    "1 base": rules.base_untouched,
    "2 gradients": rules.gradients,
    "3 generation": generation.generates,
    "4 compile": rules.compiled,
    "4 export": rules.exported,
    "5 checkpointing": rules.checkpointed,
    "7 dtype": rules.dtype,
}
#: Checks with several methods at once, one cell a family.
FAMILY_RULES: dict[str, Check] = {"4 rerouting": rules.rerouted, "6 threads": rules.threads}
#: The slow ones of them.
GRAPHS = ("4 compile", "4 export")
BLOCKS = (*blocks.BLOCKS, *blocks.TREES)
SEVERAL = "(several)"


@dataclass(frozen=True)
class Cell:
    """One entry of the matrix: ``check`` is a rule, a block, or a block with ``+generation``."""

    family: str
    method: str
    check: str

    @property
    def key(self) -> str:
        return f"{self.family}/{self.method}/{self.check}"


@dataclass(frozen=True)
class Outcome:
    """What came of a cell; ``why`` is a note, a reason, or the failure."""

    kind: str
    why: str
    seconds: float
    reason: str = ""


def cells_of(
    families: list[str],
    methods: list[str],
    checks: list[str],
    per_cell: int = len(BLOCKS),
    graphs: int | None = None,
) -> Iterator[Cell]:
    """Yield the cells, family by family.

    Args:
        checks: names of rules, of blocks, and ``generation`` for the blocks in generation.
        per_cell: in how many blocks each method generates in each family; fewer than all rotate.
        graphs: how many methods are compiled and exported in each family; ``None``: all, fewer rotate.
    """
    step = max(1, len(methods) // (graphs or 1))
    for row, family in enumerate(families):
        for column, method in enumerate(methods):
            due = graphs is None or ((column + row) % step == 0 and column < step * graphs)
            for check in RULES:
                if check in checks and (due or check not in GRAPHS):
                    yield Cell(family, method, check)
            for block in BLOCKS:
                if block in checks:
                    yield Cell(family, method, block)
            if "generation" in checks:
                for turn in range(per_cell):
                    block = BLOCKS[(row + 3 * column + turn * 4) % len(BLOCKS)]
                    yield Cell(family, method, f"{block} + generation")
        for check in FAMILY_RULES:
            if check in checks:
                yield Cell(family, SEVERAL, check)


def attempt(subject: Subject, cell: Cell) -> str:
    """Run the check of *cell*; return its note or raise."""
    if cell.check in RULES:
        return RULES[cell.check](subject, cell.method)
    if cell.check in FAMILY_RULES:
        return FAMILY_RULES[cell.check](subject, cell.method)
    block, _, generated = cell.check.partition(" + ")
    if generated:
        turn = sum(
            map(ord, cell.key)
        )  # (each cell its own way of decoding, the same one each time)
        return generation.composed_generation(subject, cell.method, block, turn)
    return blocks.composed(subject, cell.method, block)


def run_cell(subject: Subject | Unbuilt, cell: Cell) -> Outcome:
    """Return the outcome of *cell* on its family's *subject* (or why there is none)."""
    started = time.process_time()

    def outcome(kind: str, why: Any = "", reason: str = "") -> Outcome:
        return Outcome(kind, str(why), round(time.process_time() - started, 3), reason)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if isinstance(subject, Unbuilt):
                raise subject.error
            return outcome(OK, attempt(subject, cell))
        except NotApplicable as error:
            return outcome(NOT_APPLICABLE, error)
        except (adapterhub.AdapterHubError, Gated) as error:
            reason = reason_of(str(error))
            if reason is None:
                return outcome(FAILED, f"{type(error).__name__}: {line(error)}")
            return outcome(MEANINGLESS, line(error), reason)
        except Exception as error:
            return outcome(FAILED, line(error))
