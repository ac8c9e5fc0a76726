"""Rule 8: data-parallel and sharded training give the gradients of a single process."""

from __future__ import annotations

import pytest
from benchmarks.matrix.distributed import WAYS, distributed_outcomes

#: One method of each way that parameters hang in a model: in layers, shared by layers, before the input.
METHODS = (
    "lora",
    "double_seq_bn",
    "prefix_tuning",
    "ia3",
    "dora",
    "vera",
    "mtl_lora",
    "compacter",
    "loreft",
    "prompt_tuning",
    "unipelt",
)


@pytest.mark.slow
def test_gradients_equal_a_single_process() -> None:
    cells = [(family, method) for family in ("bert", "llama") for method in METHODS]
    found = distributed_outcomes(cells)
    assert found == {f"{family}/{method}": dict.fromkeys(WAYS, "") for family, method in cells}
