from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from adapterhub.cli.hub import register
from adapterhub.hub import Hub, cardfile
from tests.hub.conftest import make_adapter, snapshot

app = typer.Typer()
register(app)
ARGS = ("--task", "sentiment", "--subtask", "sst-2", "--owner", "ada")


@pytest.fixture
def run(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ADAPTERHUB_HUB", str(hub.path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments: object, code: int = 0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return call


def test_the_whole_way(run, adapter: Path, tmp_path: Path) -> None:
    result = run("publish", adapter, *ARGS, "--license", "mit", "--metric", "accuracy=0.9")
    assert "@ada/bert-base-uncased_sentiment_sst-2_seq_bn version 1" in result.stdout
    result = run("search", "sentimnt")
    assert "@ada/bert-base-uncased_sentiment_sst-2_seq_bn" in result.stdout
    result = run("pull", "sst-2", "--to", tmp_path / "out", "--config", "pfeiffer")
    assert result.stdout.strip() == str(tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(adapter)
    result = run("hub", "check")
    assert "0 error(s)" in result.stdout
    result = run("hub", "list")
    assert "sentiment/sst-2" in result.stdout


def test_json(run, adapter: Path) -> None:
    published = json.loads(run("publish", adapter, *ARGS, "--json").stdout)
    assert published["id"].startswith("@ada/")
    assert json.loads(run("search", "--task", "sentiment", "--json").stdout) == [published]
    pulled = json.loads(run("pull", published["id"], "--json").stdout)
    assert Path(pulled.pop("path")).is_dir()
    assert pulled == published
    assert json.loads(run("hub", "list", "--json").stdout) == [published]
    (task,) = json.loads(run("hub", "list", "tasks", "--json").stdout)
    assert task == {"id": "sentiment", "type": "text_task", "name": "sentiment", "adapters": 1}
    assert len(json.loads(run("hub", "list", "subtask", "--json").stdout)) == 1
    assert json.loads(run("search", "nothing", "--json", code=1).stdout) == []
    (note,) = json.loads(run("hub", "check", "--json").stdout)
    assert note["code"] == "no-license"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "--task", "sentimnt"), "--task sentimnt. Did you mean 'sentiment'?"),
        (("search", "xyzzy"), "Nothing in test fits"),
        (("pull", "sentimnt/sst-2"), "Did you mean 'sentiment/sst-2"),
        (("pull", "a/b/c"), "write '@owner/name'"),
        (("pull", "sst-2", "--config", "houlsby"), "there is: seq_bn"),
        (("search", "--hub", "/nowhere/at/all"), "hub init"),
        (("publish", "/nowhere", *ARGS), "not a folder"),
    ],
)
def test_not_found_and_refused_is_1(run, adapter: Path, arguments, message: str) -> None:
    run("publish", adapter, *ARGS)
    assert message in run(*arguments, code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish",),
        ("publish", "x", *ARGS, "--metric", "accuracy"),
        ("search", "--limit", "0"),
        ("hub", "list", "things"),
        ("hub", "nothing"),
    ],
)
def test_wrong_usage_is_2(run, arguments: tuple[str, ...]) -> None:
    run(*arguments, code=2)


def test_problems_are_listed(run, adapter: Path) -> None:
    (adapter / "x.py").write_text("1")
    (adapter / "y.bin").write_bytes(b"PK\x03\x04")
    text = run("publish", adapter, *ARGS, code=1).stderr
    assert text.count("\n  - ") == 2
    assert "Traceback" not in text


def test_check_fails_on_errors_and_shows_notes_on_demand(run, hub: Hub, adapter: Path) -> None:
    run("publish", adapter, *ARGS)
    assert "no licence" not in run("hub", "check").stdout
    assert "no licence" in run("hub", "check", "--verbose").stdout
    next((hub.path / "blobs").rglob("?" * 64)).write_bytes(b"x")
    assert "is damaged" in run("hub", "check", code=1).stdout
    assert run("hub", "check", "--no-files", code=1)


def test_init_in_the_default_place_and_in_a_full_folder(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("hub", "init", tmp_path / "new", "--name", "Mine")
    assert Hub(tmp_path / "new").name == "Mine"
    monkeypatch.delenv("ADAPTERHUB_HUB")
    run("hub", "init")
    assert (tmp_path / "data" / "adapterhub" / "hub" / "hub.yaml").is_file()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert "not empty" in run("hub", "init", tmp_path / "full", code=1).stderr


def test_tables_fit_80_columns(run, tmp_path: Path) -> None:
    for number, name in enumerate(("a" * 90, "b" * 30)):
        folder = make_adapter(tmp_path / str(number), weights=(float(number),))
        args = ("--task", "task" * 10, "--subtask", f"{number}" * 30, "--owner", f"own{number}")
        run("publish", folder, *args, "--name", name, "--metric", "f1=0.123456", "--new-task")
    for command in (("search",), ("hub", "list"), ("hub", "list", "subtask")):
        lines = run(*command).stdout.splitlines()
        assert max(len(line) for line in lines) <= 80


def test_text_of_strangers_cannot_steer_the_terminal(run, hub: Hub, adapter: Path) -> None:
    run("publish", adapter, *ARGS)
    path = next((hub.path / "tasks").rglob("*.yaml"))
    card = {**cardfile.load(path), "displayname": "[bold]x[/bold]\x1b[2J\u202e"}
    path.write_bytes(cardfile.dumps(card))
    out = run("hub", "list", "task").stdout
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[bold]x[/bold]" in out


def test_imports_stay_light() -> None:
    code = (
        "import sys, adapterhub.cli.hub as cli; early = set(sys.modules);"
        "import adapterhub.hub; late = set(sys.modules);"
        "heavy = {'torch', 'transformers', 'numpy', 'adapterhub.training', 'adapterhub.model',"
        "'adapterhub.engine'};"
        "print(sorted(late & heavy), sorted(early & {'yaml', 'jsonschema', 'rich.table'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[] []", result
