"""Killed, out of room, without database or bucket: clean answers, nothing half done, and back by itself."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.hub_faults import fetch, run

from tests.hub.server.conftest import Answer, Hub, adapter_files
from tests.hub.server.services import S3, Postgres


@pytest.mark.slow
def test_killed_on_sqlite_and_a_folder() -> None:
    assert run("sqlite", 6)["acknowledged"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("database_server", "object_store")
def test_killed_on_postgresql_and_s3() -> None:
    assert run("scaled", 3)["acknowledged"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be made by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_disk_without_room(small_disk: Path, new_hub: Callable[..., Hub]) -> None:
    """Pushes into a disk that fills up, until it is refused; with more room all goes on."""
    hub = new_hub("disk/data")
    first = hub.published("admin/x")
    acknowledged: dict[int, str] = {}
    for number in range(20):
        answer = hub.commit("admin/x", {"adapter.safetensors": _weights(number)})
        if answer.status != 200:
            break
        acknowledged[number] = answer.json["commitOid"]
    assert answer.status == 503, answer
    assert answer.headers["retry-after"]
    assert acknowledged, "not even one fits; take a larger disk"
    assert "Traceback" not in answer.body.decode()
    _fill(small_disk)
    # Nothing can be written any more; what is there is served, byte for byte.
    assert hub.commit("admin/x", {"note.md": os.urandom(20_000).hex().encode()}).status == 503
    assert list((hub.data / "staging").iterdir()) == []
    for number, oid in acknowledged.items():
        found = hub.ask("GET", f"/admin/x/resolve/{oid}/adapter.safetensors", token=None)
        assert (found.status, found.body) == (200, _weights(number))
    log = hub.ask("GET", "/api/models/admin/x/commits/main").json
    assert {item["id"] for item in log[:-2]} == set(acknowledged.values())
    assert log[-2]["id"] == first
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    assert hub.commit("admin/x", {"adapter.safetensors": _weights(99)}).json["status"] == "verified"


def _weights(number: int) -> bytes:
    values = tuple(float(number + place) for place in range(250_000))
    return adapter_files(weights=values)["adapter.safetensors"]


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


@pytest.fixture
def scaled(
    database_server: Postgres, object_store: S3, new_hub: Callable[..., Hub]
) -> Iterator[Hub]:
    """A hub on an empty PostgreSQL and a bucket; both run again afterwards, whatever happened."""
    database_server.empty()
    yield new_hub(ADAPTERHUB_DATABASE_URL=database_server.url, ADAPTERHUB_BLOBS=object_store.url)
    database_server.start()
    object_store.gate.open()


class _Traffic:
    """Pushes and reads until told to stop, and remembers every answer."""

    def __init__(self, hub: Hub, repo: str) -> None:
        self.hub, self.repo, self.stopped = hub, repo, threading.Event()
        self.pushed: list[tuple[int, Answer]] = []
        self.read: list[Answer] = []
        self._threads = [threading.Thread(target=act) for act in (self._push, self._read)]

    def __enter__(self) -> _Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join()

    def _push(self) -> None:
        number = 0
        while not self.stopped.is_set():
            number += 1
            files = {f"notes/{number}.md": b"%d\n" % number}
            self.pushed.append((number, self.hub.commit(self.repo, files)))

    def _read(self) -> None:
        while not self.stopped.is_set():
            path = f"/api/models/{self.repo}/tree/main"
            self.read.append(self.hub.ask("GET", path, token=None))
            time.sleep(0.02)


def _check(traffic: _Traffic) -> None:
    """Every answer was a success or a clean 503, and the history is what was acknowledged."""
    answers = [*traffic.read, *(answer for _, answer in traffic.pushed)]
    assert {answer.status for answer in answers} <= {200, 503}
    assert any(answer.status == 503 for answer in answers), "the outage was not noticed"
    for answer in answers:
        if answer.status == 503:
            assert answer.headers["retry-after"]
            assert "Traceback" not in answer.body.decode()
            assert "psycopg" not in answer.body.decode()
    hub, repo = traffic.hub, traffic.repo
    log = hub.ask("GET", f"/api/models/{repo}/commits/main?limit=1000").json
    told = {a.json["commitOid"] for _, a in traffic.pushed if a.status == 200}
    assert told <= {item["id"] for item in log}
    tree = hub.ask("GET", f"/api/models/{repo}/tree/main/notes").json
    present = {int(item["path"][6:-3]) for item in tree}
    assert {number for number, answer in traffic.pushed if answer.status == 200} <= present
    # A push that was cut off may have got through; then it is there as a whole.
    for number in present:
        path = f"/{repo}/resolve/main/notes/{number}.md"
        assert fetch(hub, path) == b"%d\n" % number
    assert len(log) == len(present) + 2
    assert len({item["id"] for item in log}) == len(log)


def _until(said: Callable[[], bool], seconds: float = 75.0) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, "it did not recover"
        time.sleep(0.2)


@pytest.mark.slow
def test_database_gone_for_a_while(scaled: Hub, database_server: Postgres) -> None:
    repo = "admin/outage"
    scaled.published(repo)
    with _Traffic(scaled, repo) as traffic:
        time.sleep(0.8)
        database_server.stop()
        _until(lambda: any(answer.status == 503 for answer in traffic.read))
        assert scaled.ask("GET", "/readyz").status == 503
        assert scaled.ask("GET", "/healthz", token=None).status == 200
        time.sleep(0.5)
        database_server.start()
        seen = len(traffic.pushed)
        _until(lambda: any(answer.status == 200 for _, answer in traffic.pushed[seen:]))
        time.sleep(0.5)
    assert scaled.ask("GET", "/readyz").status == 200
    _check(traffic)
    path = f"/api/hub/v1/repos/{repo}/checks"
    _until(lambda: scaled.ask("GET", path).json["status"] == "verified")


@pytest.mark.slow
def test_bucket_gone_for_a_while(scaled: Hub, object_store: S3) -> None:
    repo = "admin/outage"
    scaled.published(repo)
    with _Traffic(scaled, repo) as traffic:
        time.sleep(0.8)
        object_store.gate.shut()
        _until(lambda: any(answer.status == 503 for _, answer in traffic.pushed))
        assert scaled.ask("GET", "/readyz").status == 503
        time.sleep(0.5)
        object_store.gate.open()
        seen = len(traffic.pushed)
        _until(lambda: any(answer.status == 200 for _, answer in traffic.pushed[seen:]))
    # What needs no contents did not notice.
    assert {answer.status for answer in traffic.read} == {200}
    _check(traffic)
    path = f"/api/hub/v1/repos/{repo}/checks"
    _until(lambda: scaled.ask("GET", path).json["status"] == "verified")
