"""Runs what the files of ``deploy/`` run, by hand: PostgreSQL, an S3 server, two web servers, two workers.

    python -m benchmarks.hub_deploy

Commands and variables are read from the unit files and the compose file; only folders, ports and the
addresses of database and bucket are other ones. The S3 server is moto's (in memory), so nothing here is a
measure of speed but the times to start. Writes ``benchmarks/results/hub_deploy.json``.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.hub.deployfiles import Running, command, compose, environment, refuses, upload_in_two
from tests.hub.server.conftest import Hub, adapter_files
from tests.hub.server.services import S3, Postgres, free_port

from benchmarks.hub_setups import adapter, machine, write

RESULT = Path(__file__).parent / "results" / "hub_deploy.json"
_PASSWORD = "pw-of-this-run"
_ADAPTERS = 24


def asking(server: Running, token: str) -> Hub:
    """Return the test client for a server that runs already."""
    hub = Hub.__new__(Hub)
    hub.url, hub.token = server.url, token
    return hub


def starts(folder: Path, rounds: int = 5) -> dict[str, Any]:
    """Measure the start of ``adapterhub.service``: an empty folder, then one with a hub in it."""
    new, again, cpu = [], [], []
    for number in range(rounds):
        for name, times in (("new", new), ("again", again)):
            data = str(folder / f"data-{number}")
            place = folder / f"{name}-{number}"
            options = {"ADAPTERHUB_DATA": data, "ADAPTERHUB_PORT": "0"}
            with Running(place, "adapterhub.service", **options) as server:
                times.append(server.seconds)
                cpu.append(server.cpu_seconds)
                assert server.end() == 0
    return {
        "rounds": rounds,
        "cpu_seconds_median": round(statistics.median(cpu), 2),
        "new_hub_seconds_median": round(statistics.median(new), 2),
        "new_hub_seconds_max": round(max(new), 2),
        "again_seconds_median": round(statistics.median(again), 2),
        "again_seconds_max": round(max(again), 2),
    }


def scaled(folder: Path) -> dict[str, Any]:
    """Two web servers and two workers on one database and bucket, as the units start them."""
    with ExitStack() as stack:
        postgres, s3 = stack.enter_context(Postgres()), stack.enter_context(S3())
        url = postgres.url.replace("hub@", f"hub:{_PASSWORD}@")
        given = compose()["services"]["web"]["environment"]
        shared = {
            **s3.environment,
            "ADAPTERHUB_DATABASE_URL": url,
            "ADAPTERHUB_BLOBS": s3.url,
            "ADAPTERHUB_REDIRECT": given["ADAPTERHUB_REDIRECT"],
            "ADAPTERHUB_CHECKS": "format",  # made-up weights fit no base model
        }

        def start(name: str, instance: str) -> Running:
            place = folder / f"{name}{instance}"
            own = {
                "ADAPTERHUB_DATA": str(place / "data"),
                **shared,
            }
            assert "ADAPTERHUB_DATA" in environment(name, instance)
            return stack.enter_context(Running(place, name, instance, **own))

        first = start("adapterhub-web@.service", str(free_port()))
        second = start("adapterhub-web@.service", str(free_port()))
        workers = [start("adapterhub-worker@.service", str(n)) for n in (1, 2)]
        token = first.token or second.token
        one, two = asking(first, token), asking(second, token)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: _push((one, two)[n % 2], n), range(_ADAPTERS)))
        for hub in (one, two):
            _wait_for(hub, _ADAPTERS)
        pushed = time.monotonic() - began
        wrong = sum(not _pulled((one, two)[(n + 1) % 2], n) for n in range(_ADAPTERS))
        record = {
            "web_start_seconds": [round(s.seconds, 2) for s in (first, second)],
            "adapters_pushed": _ADAPTERS,
            "seconds_until_all_were_listed_by_both": round(pushed, 1),
            "pulled_wrong": wrong,
        }
        record |= _worker_dies(workers, one)
        record |= _web_stops(first, one, two)
        metrics = text_string_to_metric_families(
            two.ask("GET", "/metrics", token=None).body.decode()
        )
        record["metric_families_read_by_prometheus_client"] = len(list(metrics))
        record["clean_exit_code"] = _once(
            command("adapterhub-clean.service"),
            {**shared, "ADAPTERHUB_DATA": str(folder / "clean")},
        )
        port = second.url.rpartition(":")[2]
        record["health_exit_code"] = _once(["hub", "health"], {"ADAPTERHUB_PORT": port})
        record["exit_codes"] = [server.end() for server in (second, workers[1])]
        record["health_exit_code_when_stopped"] = _once(
            ["hub", "health"], {"ADAPTERHUB_PORT": port}
        )
        logs = [server.log() for server in (first, second, *workers)]
        text = json.dumps(logs)
        record["log_lines_all_json"] = sum(len(log) for log in logs)
        record["secrets_in_logs"] = sum(secret in text for secret in (token, _PASSWORD))
        return record


def _push(hub: Hub, number: int) -> None:
    hub.create(f"admin/a{number}")
    made = hub.commit(f"admin/a{number}", adapter(1, number))
    assert made.status == 200, made


def _pulled(hub: Hub, number: int) -> bool:
    path = f"/admin/a{number}/resolve/main/adapter.safetensors"
    got = hub.ask("GET", path, token=None)
    return got.status == 200 and got.body == adapter(1, number)["adapter.safetensors"]


def _wait_for(hub: Hub, count: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while len(hub.ask("GET", "/api/models?limit=1000", token=None).json) < count:
        assert time.monotonic() < deadline, "adapters are missing in the list"
        time.sleep(0.2)


def _worker_dies(workers: list[Running], hub: Hub) -> dict[str, Any]:
    """Kill a worker; what is pushed then is checked all the same."""
    workers[0].process.kill()
    workers[0].process.wait()
    _push(hub, 1000)
    _wait_for(hub, _ADAPTERS + 1)
    return {"checked_after_a_worker_was_killed": True}


def _web_stops(server: Running, one: Hub, two: Hub) -> dict[str, Any]:
    """Stop a web server in the middle of an upload, while the other goes on."""
    one.create("admin/slow")
    lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": "s"}}]
    for path, data in adapter_files().items():
        content = base64.b64encode(data).decode()
        value = {"path": path, "content": content, "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    finish = upload_in_two(server, one.token, "admin/slow", lines)
    time.sleep(0.5)
    codes: list[int] = []
    stopper = threading.Thread(target=lambda: codes.append(server.end()))
    stopper.start()
    notice = server.notice()
    deadline = time.monotonic() + 10
    while not refuses(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    refused = refuses(server)
    answered = two.ask("GET", "/healthz").status
    answer = finish()
    stopper.join()
    _wait_for(two, _ADAPTERS + 2)
    return {
        "stopped_in_an_upload": {
            "told_systemd": notice,
            "new_requests_refused": refused,
            "other_web_server_answered": answered,
            "upload_answer": answer.split(b"\r\n", 1)[0].decode(),
            "exit_code": codes[0],
            "seen_by_the_other_web_server": True,
        }
    }


def _once(line: list[str], extra: dict[str, str]) -> int:
    made = subprocess.run(
        [sys.executable, "-m", "adapterhub.cli", *line],
        env={**os.environ, **extra},
        capture_output=True,
    )
    return made.returncode


def main() -> None:
    """Run everything and write the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="Starts that are measured.")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="adapterhub-") as name:
        folder = Path(name)
        record = {
            "command": f"python -m benchmarks.hub_deploy --rounds {rounds}",
            "machine": machine(),
            "start_sqlite": starts(folder / "starts", rounds),
            "scaled": scaled(folder / "scaled"),
        }
    write(RESULT, record)


if __name__ == "__main__":
    main()
