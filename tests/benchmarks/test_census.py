"""The census tells what works from what does not, with reasons, and reports both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adapterhub
from benchmarks import census, census_report, census_trial


def test_a_type_that_works_and_one_that_has_no_places() -> None:
    good = census_trial.try_type("distilbert", census.METHODS)
    assert good["built"]
    assert good["row"] == "table"
    assert {name: found["ok"] for name, found in good["methods"].items()} == dict.fromkeys(
        census.METHODS, True
    )
    mixer = census_trial.try_type("mamba", census.METHODS)
    assert mixer["methods"]["double_seq_bn"]["ok"]
    assert "asks for attn_matrices" in mixer["methods"]["lora"]["why"]
    conv = census_trial.try_type("convnext", census.METHODS)
    assert conv["built"]
    assert "no module in it owns q, k and v" in conv["why"]


def test_an_adapter_without_effect_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapterhub.AdapterHandle, "train_adapter", lambda self, name: None)
    found = census_trial.try_type("distilbert", {"lora": "lora"})["methods"]["lora"]
    assert (found["ok"], found["why"]) == (False, "the output does not change")


def test_traces_left_behind_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    original = adapterhub.AdapterHandle.detach

    def sloppy(self: Any) -> None:
        original(self)
        self.model.register_parameter("left", nn.Parameter(torch.zeros(1)))

    monkeypatch.setattr(adapterhub.AdapterHandle, "detach", sloppy)
    found = census_trial.try_type("distilbert", {"lora": "lora"})["methods"]["lora"]
    assert (found["ok"], found["why"]) == (False, "state_dict keys are not restored")


def test_results_are_resumed_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "census.jsonl", tmp_path / "coverage.md"
    ok, bad = {"ok": True}, {"ok": False, "why": "a | b"}
    records = [
        {"model_type": "one", "built": True, "cls": "One", "methods": {"lora": bad}},
        {"model_type": "one", "built": True, "cls": "One", "row": "table", "methods": {"lora": ok}},
        {"model_type": "two", "built": True, "cls": "Two", "methods": {"lora": bad}},
        {"model_type": "three", "built": False, "why": "needs timm"},
    ]
    out.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert census.read(out)["one"]["methods"]["lora"]["ok"]
    census.main(["--no-run", "--out", str(out), "--report", str(report)])
    assert "3 model types tried, 2 built" in capsys.readouterr().out
    text = report.read_text()
    assert "| two | Two |  | – | – | – | – | a \\| b; not tried |" in text
    assert "| three | needs timm |" in text
    known = [name for name in census.model_types() if name != "bert"]
    arguments = census.argparse.Namespace(types=None, fresh=False, out=out)
    done = "".join(json.dumps({"model_type": n, "built": False}) + "\n" for n in known)
    out.write_text(done)
    assert list(census.chosen(arguments)) == ["bert"]


def test_unknown_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="Unknown model type 'nobody'"):
        census.main(["--types", "nobody", "--out", str(tmp_path / "x.jsonl")])


def test_the_report_names_every_type_once() -> None:
    records = {"a": {"built": True, "methods": {}}, "b": {"built": False, "why": "x"}}
    text = census_report.markdown(records, ["lora"])
    assert text.count("| a |") == 1
    assert text.count("| b |") == 1
