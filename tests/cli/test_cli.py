"""The command line as a person and a script meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import adapterhub
from tests import tiny


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "adapterhub", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "a"
    model = adapterhub.init(tiny.bert())
    model.add_adapter("mine", config="mam")
    model.save_adapter(folder, "mine")
    return folder


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in (
        "demo",
        "train",
        "evaluate",
        "predict",
        "inspect",
        "info",
        "search",
        "publish",
        "pull",
    ):
        assert command in done.stdout


@pytest.mark.parametrize(
    "command", ["demo", "train", "evaluate", "predict", "inspect", "info", "search"]
)
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_unknown_command_is_a_usage_error_with_a_hint() -> None:
    done = run("serch")
    assert done.returncode == 2
    assert "search" in done.stderr


def test_version() -> None:
    assert run("--version").stdout.strip() == f"adapterhub {adapterhub.__version__}"


def test_info(saved: Path) -> None:
    facts = json.loads(run("info", str(saved), "--json").stdout)
    assert facts["name"] == "mine"
    assert [c["architecture"] for c in facts["config"]["configs"] if "architecture" in c] == [
        "prefix_tuning"
    ]
    assert facts["parameters"] > 0
    shown = run("info", str(saved), "--tensors").stdout
    assert "prefix_length=30" in shown.replace("\n", " ")


def test_expected_errors_are_one_message(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    done = run("info", str(tmp_path))
    assert done.returncode == 1
    assert "not valid JSON" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom adapterhub.cli.app import build_app\nbuild_app()\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
