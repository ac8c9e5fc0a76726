"""``adapterhub inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from adapterhub.architectures import TABLE
from adapterhub.cli.inspect import register
from tests.architectures.tiny import tiny_model


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "80")
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)  # with one command only, Typer would drop its name
    return lambda *arguments: CliRunner().invoke(app, ["inspect", *arguments])


def test_a_family_of_the_table(inspect: Any) -> None:
    result = inspect("bert")
    assert result.exit_code == 0, result.output
    assert "from the table" in result.output
    assert "confirmed every block" in result.output
    assert "attention.output.dropout" in result.output
    assert "post" in result.output
    assert max(len(line) for line in result.output.splitlines()) <= 80


def test_a_detected_family_says_what_is_missing(inspect: Any) -> None:
    result = inspect("fnet")
    assert result.exit_code == 0, result.output
    assert "written by the detector" in " ".join(result.output.split())
    assert "no attention" in " ".join(result.output.split())


def test_row_prints_source_only(inspect: Any) -> None:
    result = inspect("mistral", "--row")
    space: dict[str, Any] = {}
    exec(result.output, space)
    assert space["ROW"].model_type == "mistral"
    assert space["ROW"].stacks[0].sublayers == TABLE["llama"].stacks[0].sublayers


def test_json_for_scripts(inspect: Any) -> None:
    data = json.loads(inspect("gpt2", "--json").output)
    assert (data["model_type"], data["source"], data["confirmed"]) == ("gpt2", "table", True)
    (stack,) = data["stacks"]
    assert stack["topology"] == {"self": "pre", "ffn": "pre"}
    sites = {site["site"]: site for site in stack["sites"]}
    assert sites["decoder.1.self.k"]["path"] == "h.1.attn.c_attn"
    start, stop = sites["decoder.1.self.k"]["slice"]
    assert start == sites["decoder.1.self.k"]["out_features"] == stop - start
    assert sites["decoder.0.ffn.out"]["confirmed"] is True


def test_without_the_probe(inspect: Any) -> None:
    result = inspect("mistral", "--no-probe")
    assert result.exit_code == 0
    assert "Not run" in result.output
    data = json.loads(inspect("mistral", "--no-probe", "--json").output)
    assert (data["probed"], data["confirmed"]) == (False, False)


@pytest.mark.parametrize("weights", [True, False])
def test_a_folder(inspect: Any, tmp_path: Path, weights: bool) -> None:
    model: Any = tiny_model("mistral")
    if weights:
        model.save_pretrained(tmp_path)
    else:
        model.config.save_pretrained(tmp_path)
    data = json.loads(inspect(str(tmp_path), "--json").output)
    assert data["confirmed"]
    assert ("random ones" in str(data["findings"])) is not weights


def test_a_big_model_is_not_loaded(
    inspect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterhub.cli.inspect.MAX_PARAMETERS", 100)
    tiny_model("mistral").config.save_pretrained(tmp_path)  # type: ignore[union-attr]
    result = inspect(str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "not run" in result.output
    assert "self_attn.q_proj" in result.output


def test_unknown_names_answer_with_the_nearest(inspect: Any) -> None:
    result = inspect("lama")
    assert result.exit_code == 1
    assert "Did you mean 'llama'" in " ".join(result.output.split())


def test_what_cannot_be_inspected_is_an_error(inspect: Any, tmp_path: Path) -> None:
    result = inspect(str(tmp_path))
    assert result.exit_code == 1
    assert "no config.json" in " ".join(result.output.split())
    (tmp_path / "config.json").write_text("{}")
    assert inspect(str(tmp_path)).exit_code == 1
    result = inspect("xlm")
    assert result.exit_code == 1
    assert "list of blocks" in " ".join(result.output.split())
