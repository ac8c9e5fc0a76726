"""Recorded cases reproduce to 1e-5: a sample that the repository carries, and all where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GenerationMixin

from adapterhub.errors import AdapterHubError
from tests.conftest import shared_folder
from tests.golden.replay import in_scope, replay

TOLERANCE = 1e-5
HERE = Path(__file__).parent
DEVIATIONS = json.loads((HERE / "deviations.json").read_text())
SAMPLE = HERE / "sample"
#: Whether this transformers numbers generated tokens on from the first one, as early releases of 5 do not.
COUNTS_ON = hasattr(GenerationMixin, "_prepare_position_ids_for_generation")
#: Deviations that come from just that.
COUNTED = {"gpt2__n__generate_prefix_tuning", "gptj__n__generate_double_seq_bn"}

pytestmark = pytest.mark.filterwarnings("ignore:The folder holds a head:UserWarning")


@pytest.mark.parametrize("case", sorted(path.name for path in (SAMPLE / "cases").iterdir()))
def test_sample(case: str) -> None:
    assert replay(SAMPLE, case) <= TOLERANCE


def _all_cases() -> list[str]:
    folder = shared_folder()
    if folder is None or not (folder / "golden" / "index.json").is_file():
        return []
    index = json.loads((folder / "golden" / "index.json").read_text())["cases"]
    return [entry["id"] for entry in index if in_scope(entry)]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(8))
def test_all_recorded_cases(shared: Path, chunk: int) -> None:
    cases = _all_cases()[chunk::8]
    differences = {
        case: replay(shared / "golden", case) for case in cases if case not in DEVIATIONS
    }
    wrong = {case: value for case, value in differences.items() if not value <= TOLERANCE}
    assert not wrong
    assert len(differences) > 20


def _difference(root: Path, case: str) -> float:
    """Replay a case that may be refused."""
    try:
        return replay(root, case)
    except AdapterHubError:
        return float("inf")


@pytest.mark.slow
def test_deviations_still_deviate(shared: Path) -> None:
    """A deviation that has come to reproduce must leave the list."""
    expected = DEVIATIONS.keys() - (set() if COUNTS_ON else COUNTED)
    values = {case: _difference(shared / "golden", case) for case in expected}
    assert all(value > TOLERANCE for value in values.values()), values
