"""The matrix tells a library that keeps the rules from one that does not, and a refusal from a failure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.matrix import __main__ as command
from benchmarks.matrix import report
from benchmarks.matrix.cells import BLOCKS, RULES, Cell, Outcome, cells_of, run_cell
from benchmarks.matrix.generation import generator_of
from benchmarks.matrix.reasons import REASONS, reason_of
from benchmarks.matrix.subject import Subject, Unbuilt

from adapterhub.engine.evaluate import AverageNode, RouteNode
from adapterhub.engine.prompted import Prompted
from adapterhub.errors import CompositionError
from adapterhub.methods.linear import LinearAdapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def llama() -> Subject:
    return Subject("llama")


def tried(subject: Any, method: str, check: str) -> Outcome:
    return run_cell(subject, Cell("llama", method, check))


def test_what_works_is_ok(llama: Subject) -> None:
    for check in ("1 base", "2 gradients", "3 generation", "5 checkpointing", "7 dtype", *BLOCKS):
        found = tried(llama, "seq_bn", check)
        assert (check, found.kind, found.why) == (check, "ok", "")
    assert tried(llama, "seq_bn", "Route + generation").kind == "ok"
    assert tried(llama, "(several)", "6 threads").why == "4 threads"


def test_a_refusal_in_the_list_has_no_meaning_and_any_other_fails(
    llama: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tried(llama, "prompt_tuning", "Fuse")
    assert (found.kind, found.reason) == ("meaningless", "nothing-to-fuse")

    def refuse(*arguments: Any) -> Any:
        raise CompositionError("Not today.")

    monkeypatch.setattr(AverageNode, "run", refuse)
    found = tried(llama, "seq_bn", "Average")
    assert (found.kind, found.why) == ("FAILED", "CompositionError: Not today.")
    assert reason_of("BatchSplit over [1, 1] = 2 rows met an input of 3 rows at x") is None
    assert (
        reason_of("Split over [1, 7] = 8 positions met an input of 1 positions at x")
        == "split-step"
    )
    assert all(reason.why.endswith(".") for reason in REASONS.values())


def test_broken_rules_are_found(llama: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:  # an Average that takes the first
        broken.setattr(
            AverageNode, "run", lambda self, state, slot: self.children[0].run(state, slot)
        )
        assert "only the first" in tried(llama, "loreft", "Average").why
    with monkeypatch.context() as broken:  # a Route that gives all rows to one adapter
        broken.setattr(
            RouteNode,
            "run",
            lambda self, state, slot: self.children[0].run(
                self.family.enter(state, self.children[0].modules[0], slot), slot
            ),
        )
        assert tried(llama, "seq_bn", "Route").kind == "FAILED"
    with monkeypatch.context() as broken:  # a mask that does not see the prompt
        whole = Prompted.widen
        broken.setattr(
            Prompted,
            "widen",
            lambda self, mask: torch.cat([whole(self, mask)[:, :-1], mask[:, :1]], 1),
        )
        found = tried(llama, "prompt_tuning", "3 generation")
        assert found.kind == "FAILED", found
    with monkeypatch.context() as broken:  # a parameter cut off from the result
        original = LinearAdapter.scaled
        broken.setattr(
            LinearAdapter, "scaled", lambda self, change, x: original(self, change.detach(), x)
        )
        assert tried(llama, "lora_gated", "2 gradients").kind == "FAILED"


def test_a_bare_model_that_fails_is_no_failure_of_ours(llama: Subject) -> None:
    found = run_cell(
        Subject("clip_vision_model"), Cell("clip_vision_model", "lora", "3 generation")
    )
    assert (found.kind, found.why) == (
        "not applicable",
        "bare model: no class of this family generates",
    )
    assert {side for _, side in generator_of(llama).ways} == {"left", "right"}
    assert {way for way, _ in generator_of(llama).ways} == {"greedy", "static", "beams", "sampling"}
    assert tried(Unbuilt("llama", ValueError("no config")), "lora", "1 base").kind == "FAILED"


def test_rotations_reach_everything() -> None:
    families, methods = [f"f{i}" for i in range(44)], [f"m{i}" for i in range(21)]
    cells = list(cells_of(families, methods, [*RULES, *BLOCKS, "generation"], 4, 3))
    assert len(cells) == len({cell.key for cell in cells})
    for check in (*RULES, *BLOCKS, *(f"{block} + generation" for block in BLOCKS)):
        some = [cell for cell in cells if cell.check == check]
        assert {cell.family for cell in some} == set(families)
        assert {cell.method for cell in some} == set(methods)
    assert sum(cell.check == "4 compile" for cell in cells) == 3 * len(families)


def test_the_command_goes_on_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "cells.jsonl", tmp_path / "matrix.md"
    asked = [
        "--families",
        "llama",
        "--methods",
        "lora,prefix_tuning",
        "--rules",
        "2",
        "--out",
        str(out),
    ]
    asked += ["--blocks", "Stack,Average", "--generate", "0", "--report", str(text)]
    command.main(asked)
    assert len(out.read_text().splitlines()) == 6
    command.main(asked)
    assert len(out.read_text().splitlines()) == 6
    failure = json.loads(out.read_text().splitlines()[0]) | {"outcome": "FAILED", "why": "a | b"}
    out.write_text(out.read_text() + json.dumps(failure) + "\n")
    command.main([*asked, "--no-run"])
    written = text.read_text()
    assert "1 failed, so 80.00 % of those" in written
    assert "a \\| b" in written
    assert "| llama | ✗1 | ✓ |" in written or "| llama | 1 | ✗1 |" in written
    command.main([*asked, "--again", "failed"])
    assert "6 cells: 5 ok, 0 failed, so 100.00 %" in text.read_text()
    assert "**chain.**" in text.read_text()
    assert "6 cells" in capsys.readouterr().out
    assert report.summary({}) == "0 cells: \n0.0 minutes of processor time"
