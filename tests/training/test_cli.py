"""The commands train, evaluate, predict, and the resumable stages of the demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from adapterhub.cli import demo, evaluate, predict, train
from adapterhub.cli._adapters import adapter_folder
from adapterhub.cli._stages import Stages
from adapterhub.errors import AdapterHubError, CheckpointError, HubError
from adapterhub.training.base_models import BaseModelError, base_model_path


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer()
    for module in (demo, train, evaluate, predict):
        module.register(made)
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "toy.csv"
    rows = [
        f"the film was {'very ' * (i // 6)}{w},{label}"
        for i in range(36)
        for w, label in PAIRS[i % 6 :][:1]
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


PAIRS = [
    ("good", "up"),
    ("bad", "down"),
    ("great", "up"),
    ("awful", "down"),
    ("lovely", "up"),
    ("dull", "down"),
]


@pytest.fixture(scope="module")
def trained(
    app: typer.Typer, base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("out")
    command = [
        "train",
        "--model",
        str(base),
        "--task",
        str(data),
        "--output",
        str(output),
        "--json",
    ]
    command += ["--steps", "6", "--evaluations", "2", "--config", "seq_bn[reduction_factor=2]"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["adapter"] == str(output / "toy")
    assert (output / "results.json").is_file()
    return output


def run(app: typer.Typer, *command: str) -> Any:
    return CliRunner().invoke(app, list(command))


def test_train_resumes(app: typer.Typer, base: Path, data: Path, trained: Path) -> None:
    assert (trained / "checkpoints" / "checkpoint-6").is_dir()
    command = [
        "train",
        "--model",
        str(base),
        "--task",
        str(data),
        "--output",
        str(trained),
        "--resume",
    ]
    command += ["--steps", "9", "--evaluations", "3", "--config", "seq_bn[reduction_factor=2]"]
    result = run(app, *command)
    assert result.exit_code == 0, result.output
    assert (trained / "checkpoints" / "checkpoint-9").is_dir()


def test_evaluate_and_predict(app: typer.Typer, base: Path, data: Path, trained: Path) -> None:
    common = ("--model", str(base), "--adapter", str(trained))
    result = run(app, "evaluate", *common, "--task", str(data), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["count"] == 7
    result = run(app, "predict", *common, "the film was good", "dull plot", "--json")
    rows = json.loads(result.stdout)
    assert [row["text"] for row in rows] == ["the film was good", "dull plot"]
    assert {row["label"] for row in rows} <= {"up", "down"}
    lines = trained / "lines.txt"
    lines.write_text("the film was good\n\ndull plot\n")
    assert json.loads(run(app, "predict", *common, "--file", str(lines), "--json").stdout) == rows
    plain = run(app, "predict", *common, "a [bold] film")
    assert "a [bold] film" in plain.stdout


def test_evaluate_refuses_other_labels(
    app: typer.Typer, base: Path, trained: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"film {i},{i % 3}\n" for i in range(20)))
    result = run(
        app, "evaluate", "--model", str(base), "--adapter", str(trained), "--task", str(other)
    )
    assert isinstance(result.exception, AdapterHubError)
    assert "labels down, up" in str(result.exception)
    result = run(
        app,
        "evaluate",
        "--model",
        str(base),
        "--adapter",
        str(trained),
        "--task",
        str(other),
        "--split",
        "tset",
    )
    assert "Did you mean 'test'" in str(result.exception)


def test_predict_without_texts(app: typer.Typer, base: Path, trained: Path) -> None:
    result = run(app, "predict", "--model", str(base), "--adapter", str(trained))
    assert "No texts" in str(result.exception)


def test_unknown_names_are_answered(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="Did you mean 'minilm'"):
        base_model_path("minilmm")
    with pytest.raises(BaseModelError, match=r"has no config\.json"):
        base_model_path(tmp_path)
    with pytest.raises(CheckpointError, match="adapters below it: none"):
        adapter_folder(str(tmp_path))
    with pytest.raises(HubError, match="is no folder"):
        adapter_folder("sentiment/nothing@nobody", tmp_path / "hub")


def test_help_names_the_options(app: typer.Typer) -> None:
    result = run(app, "demo", "--help")
    assert result.exit_code == 0
    assert "--quick" in result.stdout


class TestStages:
    def test_finished_stages_are_not_run_again(self, tmp_path: Path) -> None:
        calls = []

        def stage() -> dict[str, Any]:
            calls.append(1)
            return {"n": len(calls)}

        assert Stages(tmp_path, {"a": 1}, ()).run("one", stage) == {"n": 1}
        again = Stages(tmp_path, {"a": 1}, ())
        assert again.run("one", stage) == {"n": 1}
        assert again.resumed == ["one"]
        assert Stages(tmp_path, {"a": 2}, ()).run("one", stage) == {"n": 2}
        assert Stages(tmp_path, {"a": 2}, (), restart=True).run("one", stage) == {"n": 3}

    def test_an_interrupted_stage_is_run_again(self, tmp_path: Path) -> None:
        def interrupted() -> dict[str, Any]:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Stages(tmp_path, {}, ()).run("one", interrupted)
        assert Stages(tmp_path, {}, ()).run("one", lambda: {"done": True}) == {"done": True}

    def test_foreign_files_stay(self, tmp_path: Path) -> None:
        (tmp_path / "hub").mkdir()
        Stages(tmp_path, {"a": 1}, ("hub",))
        assert (tmp_path / "hub").is_dir(), "this folder was no demo's before"
        (tmp_path / "mine.txt").write_text("x")
        Stages(tmp_path, {"a": 2}, ("hub",))
        assert not (tmp_path / "hub").exists()
        assert (tmp_path / "mine.txt").exists()
