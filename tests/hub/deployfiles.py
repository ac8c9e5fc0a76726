"""Reads the files of ``deploy/``, and runs what a unit runs, in its environment, without systemd."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
PROGRAM = "/opt/adapterhub/bin/adapterhub"


def unit(name: str, instance: str = "") -> dict[str, list[str]]:
    """Return the settings of the section ``[Service]`` with all their values, ``%i`` filled in."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (UNITS / name).read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value.replace("%i", instance))
    return found


def command(name: str, instance: str = "") -> list[str]:
    """Return what a unit runs, without the program itself."""
    (line,) = unit(name, instance)["ExecStart"]
    program, *rest = shlex.split(line)
    assert program == PROGRAM
    return rest


def environment(name: str, instance: str = "") -> dict[str, str]:
    """Return the variables that a unit sets itself."""
    pairs = [item for line in unit(name, instance)["Environment"] for item in shlex.split(line)]
    return dict(pair.split("=", 1) for pair in pairs)


def compose() -> dict[str, Any]:
    """Return the compose file with its anchors resolved."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def dockerfile(instruction: str) -> list[str]:
    """Return what follows an instruction, each time it occurs, on one line."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction}\s+(.*)$", text, re.MULTILINE)


def all_commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every command line of ours in the files, with where it stands."""
    for path in sorted(UNITS.glob("*.service")):
        yield path.name, command(path.name, "7788" if "web" in path.name else "1")
    for name, service in compose()["services"].items():
        if service.get("image") == "adapterhub" and "entrypoint" not in service:
            yield f"compose: {name}", service["command"]
    (start,) = dockerfile("CMD")
    yield "Dockerfile: CMD", yaml.safe_load(start)
    (health,) = re.findall(r"CMD (\[.*\])", dockerfile("HEALTHCHECK")[0])
    yield "Dockerfile: HEALTHCHECK", yaml.safe_load(health)[1:]


class Running:
    """The process of a unit: its command and variables; only folders and the port are other ones.

    Attributes:
        seconds, cpu_seconds: from the start to ``READY=1``, by the clock and of processor (0 for units that
            do not tell).
        url, token: of a server, once it is ready; the token only of a new hub.
    """

    def __init__(self, folder: Path, name: str, instance: str = "", **extra: str) -> None:
        folder.mkdir(parents=True)
        self.folder, self.name = folder, name
        self.url, self.token, self.seconds, self.cpu_seconds = "", "", 0.0, 0.0
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(folder / "notify"))
        self._notices.settimeout(0.5)
        own = {**environment(name, instance), "HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
        if own.get("ADAPTERHUB_DATA", "").startswith("/var/lib/"):
            own["ADAPTERHUB_DATA"] = str(folder / "data")
        env = {**os.environ, **own, "NOTIFY_SOCKET": str(folder / "notify"), **extra}
        env.pop("HF_HUB_OFFLINE", None)
        self._log = (folder / "log").open("wb")
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adapterhub.cli", *command(name, instance)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=env,
            text=True,
        )
        if unit(name, instance)["Type"] == ["notify"]:
            assert self.notice() == "READY=1"
            self.seconds = time.monotonic() - began
            self.cpu_seconds = _cpu_seconds(self.process.pid)
            self._listen()

    def _listen(self) -> None:
        said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said += line
            if found := re.search(r"Ready at (\S+)", line):
                self.url = found[1]
                break
        if found := re.search(r"ahub_\S+", said):
            self.token = found[0]
        # Nobody may fill the pipe and wait.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def notice(self) -> str:
        """Return what the process told the service manager next.

        Raises:
            RuntimeError: If it ends, or says nothing for a minute.
        """
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            try:
                return self._notices.recv(100).decode()
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        log = (self.folder / "log").read_text()[-2000:]
        self.__exit__(None, None, None)
        raise RuntimeError(f"{self.name} told nothing: {log}")

    def end(self) -> int:
        """Stop it as systemd does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def log(self) -> list[dict[str, Any]]:
        """Return its log; a line that is not JSON is an error."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()
        self._notices.close()


def _cpu_seconds(pid: int) -> float:
    """Return how much processor time a process has had, on Linux."""
    place = Path(f"/proc/{pid}/stat")
    if not place.exists():
        return 0.0
    fields = place.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def upload_in_two(server: Running, token: str, repo: str, lines: list[dict[str, Any]]) -> Any:
    """Begin a commit: send half of it; return a function that sends the rest and returns the answer."""
    host, port = server.url.removeprefix("http://").split(":")
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    head = (
        f"POST /api/models/{repo}/commit/main HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    upload = socket.create_connection((host, int(port)), timeout=60)
    upload.sendall(head.encode() + body[: len(body) // 2])

    def rest() -> bytes:
        with upload:
            upload.sendall(body[len(body) // 2 :])
            answer = b""
            while piece := upload.recv(65536):
                answer += piece
        return answer

    return rest


def refuses(server: Running) -> bool:
    """Tell whether a server takes no new requests."""
    host, port = server.url.removeprefix("http://").split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2) as late:
            late.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return not late.recv(100)
    except OSError:
        return True
