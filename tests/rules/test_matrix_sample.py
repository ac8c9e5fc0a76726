"""A sample of ``python -m benchmarks.matrix``: every family, method, rule and block at least once.

The sample is the same in every run and moves with the table: the cells of a family take methods and checks
in turn. The whole matrix is in ``docs/matrix.md``.
"""

from __future__ import annotations

import pytest
from benchmarks.matrix.cells import (
    BLOCKS,
    FAILED,
    FAMILY_RULES,
    GRAPHS,
    RULES,
    SEVERAL,
    Cell,
    run_cell,
)
from benchmarks.matrix.subject import Subject

from adapterhub.architectures import TABLE
from tests.architectures.tiny import CONFIGS
from tests.rules.families import METHODS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
FAMILIES = sorted(name for name in TABLE if name in CONFIGS)
CHECKS = [*(name for name in RULES if name not in GRAPHS), *BLOCKS]
CHECKS += [f"{block} + generation" for block in BLOCKS]
#: Cells a family; and of the slow checks, compiling and the like, one in so many families.
EACH, SLOW_EVERY = 3, 10
#: Cells in which the whole matrix found mistakes.
FOUND = [
    Cell("idefics3", "prompt_tuning", "4 compile"),
    Cell("mllama", "prefix_tuning", "5 checkpointing"),
    Cell("opt", "prompt_tuning", "Route"),
    Cell("swin", "lora_gated", "Route"),
    Cell("swin", "unipelt", "Average"),
    Cell("wav2vec2", "prompt_tuning", "4 export"),
    Cell("wavlm", "mtl_lora", "4 compile"),
    Cell("xlnet", "prompt_tuning", "3 generation"),
]


def sample(families: list[str], methods: list[str]) -> list[Cell]:
    """Return the cells to try."""
    cells = []
    for row, family in enumerate(families):
        for turn in range(EACH):
            method = methods[(row + turn * (len(methods) // EACH + 1)) % len(methods)]
            check = CHECKS[(EACH * row + turn + row // len(CHECKS)) % len(CHECKS)]
            cells.append(Cell(family, method, check))
        if row % SLOW_EVERY == 0:
            number = row // SLOW_EVERY
            slow = [*GRAPHS, *FAMILY_RULES]
            check = slow[number % len(slow)]
            method = SEVERAL if check in FAMILY_RULES else methods[(number * 4) % len(methods)]
            cells.append(Cell(family, method, check))
    return cells


CELLS = sample(FAMILIES, list(METHODS))


def test_the_sample_has_everything() -> None:
    assert {cell.family for cell in CELLS} == set(FAMILIES)
    assert {cell.method for cell in CELLS} == {*METHODS, SEVERAL}
    assert {cell.check for cell in CELLS} == {*CHECKS, *GRAPHS, *FAMILY_RULES}


@pytest.mark.parametrize("family", FAMILIES)
def test_cells_of(family: str) -> None:
    subject = Subject(family)
    cells = [*CELLS, *FOUND]
    found = {c.key: run_cell(subject, c) for c in cells if c.family == family}
    wrong = {key: outcome.why for key, outcome in found.items() if outcome.kind == FAILED}
    assert not wrong
