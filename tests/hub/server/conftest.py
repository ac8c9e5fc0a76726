"""A hub server that really runs, in a process of its own, and a small HTTP client to look at answers."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.conftest import ROOT
from tests.hub.conftest import make_adapter
from tests.hub.server.services import BINARIES, S3, Postgres

pytest.importorskip("starlette", reason="the hub server needs the [hub] extra")

#: Folders with other versions of the clients, as ``make clients`` lays them out.
CLIENTS = Path(os.environ.get("ADAPTERHUB_CLIENTS") or ROOT / "build" / "clients")


@dataclass
class Answer:
    """Status, headers (names in lower case) and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hub:
    """A server process, its address, and the token of its administrator."""

    #: Seconds until a request is given up.
    timeout = 60.0

    def __init__(self, data: Path, **environment: str) -> None:
        self.data, self.environment = data, environment
        self.token = ""
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it says that it is ready."""
        # Made-up weights fit no base model; tests of those checks switch them on.
        env = {**os.environ, "ADAPTERHUB_CHECKS": "format", **self.environment}
        env.pop("HF_HUB_OFFLINE", None)
        command = [sys.executable, "-m", "adapterhub.cli", "hub", "serve", "--port", "0", "--data"]
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.log = self.data.parent / f"{self.data.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.data)], stdout=subprocess.PIPE, stderr=log, env=env, text=True
            )
        assert self.process.stdout is not None
        self.said = ""
        with self.process.stdout as stdout:
            for line in stdout:
                self.said += line
                if found := re.search(r"ahub_\S+", line):
                    self.token = found[0]
                if found := re.search(r"Ready at (\S+) after ([0-9.]+) s", line):
                    self.url, self.seconds = found[1], float(found[2])
                    return
        raise AssertionError(f"the server did not start: {self.said}{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End the process as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the process as an operator would."""
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; *token* ``""`` is the administrator's, ``None`` none."""
        parts = urlsplit(self.url)
        sent = dict(headers or {})
        secret = self.token if token == "" else token
        if secret:
            sent["Authorization"] = f"Bearer {secret}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=self.timeout
        )
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def user(self, name: str, scope: str = "write") -> str:
        """Add a user and return a token of his."""
        made = self.ask("POST", "/api/hub/v1/users", {"name": name})
        assert made.status == 201, made
        body = {"user": name, "scope": scope, "name": "test"}
        return self.ask("POST", "/api/hub/v1/tokens", body).json["token"]

    def create(self, repo: str, *, token: str = "", private: bool = False) -> None:
        """Make a repository."""
        owner, name = repo.split("/")
        body = {"name": name, "organization": owner, "private": private}
        made = self.ask("POST", "/api/repos/create", body, token=token)
        assert made.status == 200, made

    def commit(
        self,
        repo: str,
        files: Mapping[str, bytes],
        *,
        branch: str = "main",
        token: str | None = "",
        parent: str | None = None,
        extra: list[dict[str, Any]] | None = None,
    ) -> Answer:
        """Commit files by the protocol, and return the answer."""
        head: dict[str, Any] = {"summary": "a commit", "description": ""}
        if parent:
            head["parentCommit"] = parent
        lines: list[dict[str, Any]] = [{"key": "header", "value": head}]
        lines += [
            {
                "key": "file",
                "value": {
                    "content": base64.b64encode(data).decode(),
                    "path": path,
                    "encoding": "base64",
                },
            }
            for path, data in files.items()
        ]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, *(extra or [])])
        path = f"/api/models/{repo}/commit/{quote(branch, safe='')}"
        return self.ask(
            "POST", path, body, token=token, headers={"Content-Type": "application/x-ndjson"}
        )

    def published(self, repo: str, files: Mapping[str, bytes] | None = None, **options: Any) -> str:
        """Make a repository with an adapter in it; return the id of its commit."""
        self.create(repo, **options)
        made = self.commit(repo, files or adapter_files(), token=options.get("token", ""))
        assert made.status == 200, made
        assert made.json["status"] == "verified"
        return made.json["commitOid"]

    def new_name(self, owner: str = "admin") -> str:
        """Return the id of a repository that nobody else uses."""
        return f"{owner}/r-{uuid.uuid4().hex[:10]}"


def adapter_files(folder: Path | None = None, **options: Any) -> dict[str, bytes]:
    """Return the files of a small adapter."""
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        path = make_adapter(folder or Path(made), **options)
        return {item.name: item.read_bytes() for item in sorted(path.iterdir())}


@pytest.fixture(scope="session")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub") / "data", ADAPTERHUB_REGULAR_LIMIT="64k")
    yield hub
    hub.stop()


@pytest.fixture
def server(shared_hub: Hub) -> Hub:
    """A hub that other tests use as well: take repositories of your own."""
    return shared_hub


@pytest.fixture
def new_hub(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Return ``new_hub(name="data", **environment)``, which starts a hub for this test alone."""
    hubs: list[Hub] = []

    def start(name: str = "data", **environment: str) -> Hub:
        hubs.append(Hub(tmp_path / name, **environment))
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.kill()


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    """PostgreSQL 15 for this test session."""
    if not (BINARIES / "initdb").exists():
        pytest.skip("no PostgreSQL 15 here (Debian: postgresql-15)")
    pytest.importorskip("psycopg", reason="PostgreSQL needs the [hub-scaled] extra")
    with Postgres() as made:
        yield made


@pytest.fixture(scope="session")
def object_store() -> Iterator[S3]:
    """moto's S3 server for this test session, and the variables by which it is found."""
    pytest.importorskip("moto", reason="the S3 tests need moto[server]")
    pytest.importorskip("boto3", reason="S3 needs the [hub-scaled] extra")
    with S3() as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="session")
def postgres(database_server: Postgres) -> str:
    """The address of a PostgreSQL database."""
    return database_server.url


@pytest.fixture(scope="session")
def bucket(object_store: S3) -> str:
    """The address of a folder in a bucket."""
    return object_store.url
