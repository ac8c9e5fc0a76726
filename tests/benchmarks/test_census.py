"""The census tells what works from what does not, with reasons, and reports both."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adapterhub
from adapterhub.configs import ADAPTER_CONFIG_MAP, resolve_config
from adapterhub.methods import METHODS, members, method_for
from benchmarks import census, census_report, census_trial

LORA = {"lora": "lora"}


def test_every_family_of_methods_is_tried() -> None:
    tried = {method_for(part) for text in census.METHODS.values() for part in _parts(text)}
    known = {method_for(part) for name in ADAPTER_CONFIG_MAP for part in _parts(name)}
    assert tried >= known & set(METHODS)


def _parts(text: str) -> tuple[Any, ...]:
    return members(resolve_config(text))


def test_a_type_that_works_and_one_that_has_no_places() -> None:
    good = census_trial.try_type("distilbert", census.METHODS)
    assert good["built"]
    assert good["row"] == "table"
    assert {name: found["ok"] for name, found in good["methods"].items()} == dict.fromkeys(
        census.METHODS, True
    )
    mixer = census_trial.try_type("mamba", census.METHODS)
    assert mixer["methods"]["double_seq_bn"]["ok"]
    assert "PrefixTuningConfig finds no place" in mixer["methods"]["prefix_tuning"]["why"]
    conv = census_trial.try_type("convnext", census.METHODS)
    assert conv["built"]
    assert "no module in it owns q, k and v" in conv["why"]


def test_an_adapter_without_effect_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapterhub.AdapterHandle, "train_adapter", lambda self, name: None)
    found = census_trial.try_type("distilbert", LORA)["methods"]["lora"]
    assert (found["ok"], found["why"]) == (False, "the output does not change")


def test_traces_left_behind_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    original = adapterhub.AdapterHandle.detach

    def sloppy(self: Any) -> None:
        original(self)
        self.model.register_parameter("left", nn.Parameter(torch.zeros(1)))

    monkeypatch.setattr(adapterhub.AdapterHandle, "detach", sloppy)
    found = census_trial.try_type("distilbert", LORA)["methods"]["lora"]
    assert (found["ok"], found["why"]) == (False, "state_dict keys are not restored")


def test_what_was_found_before_the_end_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    original = census_trial.Trial.of

    def fragile(self: Any, config: str) -> Any:
        return original(self, config) if config == "lora" else os._exit(1)

    monkeypatch.setattr(census_trial.Trial, "of", fragile)
    record = census.try_in_process("distilbert", {**LORA, "ia3": "ia3"}, 60.0)
    assert record["why"] == "the process died"
    assert record["built"]
    assert record["methods"]["lora"]["ok"]
    assert "ia3" not in record["methods"]
    late = census.try_in_process("distilbert", LORA, 0.0)
    assert (late["built"], late["why"]) == (False, "took longer than 0 s")


def test_a_run_goes_on_and_keeps_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "census.jsonl"
    options = ["--out", str(out), "--types", "distilbert", "--methods"]
    census.main([*options, "lora"])
    census.main([*options, "ia3"])
    record = census.read(out)["distilbert"]
    assert set(record["methods"]) == {"lora", "ia3"}
    assert census.versions().items() <= record.items()
    left = census.missing(record, census.METHODS)
    assert left.keys() == census.METHODS.keys() - {"lora", "ia3"}
    assert census.missing(None, LORA) == LORA
    assert census.missing({**record, "why": "does not run"}, census.METHODS) == {}
    done = {name: {"model_type": name, "built": False, "methods": {}} for name in types_but("bert")}
    out.write_text("".join(json.dumps({**entry, "why": "x"}) + "\n" for entry in done.values()))
    arguments = census.argparse.Namespace(types=None, methods=None, fresh=False, out=out)
    assert list(census.chosen(arguments)) == [("bert", census.METHODS)]


def types_but(name: str) -> list[str]:
    return [known for known in census.model_types() if known != name]


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "x.jsonl")]
    with pytest.raises(SystemExit, match="Unknown model type 'nobody'"):
        census.main(["--types", "nobody", *out])
    with pytest.raises(SystemExit, match="Unknown method 'nothing'; there are: lora"):
        census.main(["--methods", "nothing", *out])


def record(name: str, **found: Any) -> dict[str, Any]:
    """Return a record of transformers 5.2.0 with results by method: True, or a reason."""
    methods = {
        method: {"ok": True} if result is True else {"ok": False, "why": result}
        for method, result in found.items()
    }
    version = {"transformers": "5.2.0", "torch": "2.13.0"}
    return {"model_type": name, "built": True, "cls": name.title(), "methods": methods, **version}


def test_the_report_has_a_line_a_version_and_numbers_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = [
        record("one", lora="a | b", ia3=True),
        record(
            "one", lora=True, ia3="IA3Config finds no place in 'one'; `adapterhub inspect` lists…"
        ),
        record(
            "two",
            lora="a | b",
            ia3="IA3Config finds no place in 'two'; `adapterhub inspect` lists…",
        ),
        {**record("three", lora=True), "built": False, "why": "ImportError: needs timm"},
        {**record("four", lora=True), "built": False, "why": "ValueError: 3 is no 4"},
    ]
    old = [{**record("one", lora=True), "transformers": "5.0.0"}]
    files = [tmp_path / "old.jsonl", tmp_path / "new.jsonl"]
    for file, records in zip(files, (old, new), strict=True):
        file.write_text("".join(json.dumps(entry) + "\n" for entry in records))
    report = tmp_path / "coverage.md"
    where = ["--out", str(files[1]), "--records", *map(str, files), "--report", str(report)]
    census.main(["--no-run", *where])
    assert "4 model types tried, 2 built" in capsys.readouterr().out
    text = report.read_text()
    assert "| 5.2.0 | 2.13.0 | 4 | 2 | 1 | 0 |" in text
    assert "| 5.0.0 | 2.13.0 | 1 | 1 | 1 | not tried |" in text
    assert text.index("| 5.2.0 |") < text.index("| 5.0.0 |")
    assert "## Every model type of transformers 5.2.0" in text
    assert "| one | One |  | ✓ | – 1 | – 2 |" in text
    assert "| two | Two |  | – 3 | – 1 | – 2 |" in text
    assert "1. It finds no place in this model" in text
    assert "2. not tried\n3. a \\| b\n" in text
    assert text.index("not installed (1)") < text.index("| three | ImportError: needs timm |")
    assert text.index("does not build (1)") < text.index("| four | ValueError: 3 is no 4 |")
    assert "| one |" in text
    assert text.count("| two |") == 1


def test_a_report_without_records_is_empty() -> None:
    assert "## Reasons" in census_report.markdown([], ["lora"])
