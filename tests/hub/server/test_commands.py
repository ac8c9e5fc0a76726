"""The commands around a server: users, tokens, clean-up, workers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

from adapterhub.hub.server.settings import Settings
from tests.hub.server.conftest import Hub, adapter_files


def run(hub: Hub, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "adapterhub.cli", "hub", *words, "--data", str(hub.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_users_and_tokens_while_the_server_runs(server: Hub) -> None:
    assert run(server, "user", "console-user", "--fullname", "Con Sole").returncode == 0
    twice = run(server, "user", "console-user")
    assert twice.returncode == 1
    assert "exists already" in twice.stderr
    token = run(server, "token", "console-user", "--scope", "read", "--days", "1").stdout.strip()
    me = server.ask("GET", "/api/whoami-v2", token=token).json
    assert (me["name"], me["fullname"]) == ("console-user", "Con Sole")
    assert server.ask("POST", "/api/repos/create", {"name": "x"}, token=token).status == 403
    assert run(server, "token", "nobody-at-all").returncode == 1


def test_first_token_is_told_once(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    assert len(re.findall(r"ahub_\S+", hub.said)) == 1
    hub.stop()
    assert hub.process.returncode == 0
    hub.start()
    assert "ahub_" not in hub.said
    assert hub.ask("GET", "/api/whoami-v2").status == 200


def test_what_was_counted_is_kept_when_the_server_stops(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    hub.published("admin/x")
    for _ in range(3):
        hub.ask("GET", "/admin/x/resolve/main/adapter_config.json", token=None)
    hub.stop()
    hub.start()
    assert hub.ask("GET", "/api/models/admin/x").json["downloads"] == 3


def test_clean_and_worker(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    hub.published("admin/x")
    body = {"name": "x", "organization": "admin"}
    assert hub.ask("DELETE", "/api/repos/delete", body).status == 200
    assert "0 content(s) removed" in run(hub, "clean").stdout  # too young
    hub.stop()
    assert "2 content(s) removed" in run(hub, "clean", "--hours", "0").stdout
    assert "0 piece(s) of work done" in run(hub, "worker", "--until-idle").stdout
    hub.start()
    hub.published("admin/x", adapter_files())


def test_settings_of_the_environment(tmp_path) -> None:
    settings = Settings.from_environment(
        tmp_path,
        {
            "ADAPTERHUB_DATABASE_URL": "postgresql://h/n",
            "ADAPTERHUB_BLOBS": "s3://b/p",
            "ADAPTERHUB_PUBLIC_URL": "https://hub.example.org/",
            "ADAPTERHUB_PORT": "80",
            "ADAPTERHUB_REGULAR_LIMIT": "2 MiB",
        },
    )
    assert (settings.database, settings.blobs_url, settings.port) == (
        "postgresql://h/n",
        "s3://b/p",
        80,
    )
    assert (settings.public_url, settings.regular_limit) == ("https://hub.example.org", 2 << 20)
    assert not settings.embedded
    assert Settings.from_environment(tmp_path, {}).embedded
