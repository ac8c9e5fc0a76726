"""Killed at any moment, with many writing at once: what was acknowledged is whole, the rest is absent."""

from __future__ import annotations

import http.client
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.server.conftest import Answer, Hub, adapter_files

#: More rounds by hand: ADAPTERHUB_KILL_ROUNDS=200 pytest tests/hub/server/test_faults.py -k killed
ROUNDS = int(os.environ.get("ADAPTERHUB_KILL_ROUNDS", "12"))
_BROKEN = (OSError, http.client.HTTPException)


def _files(number: int) -> dict[str, bytes]:
    """Return an adapter that says in three files which one it is, so that a mixture would show."""
    files = adapter_files(weights=tuple(float(number) for _ in range(4000)))
    return {**files, "README.md": f"# {number}\n".encode(), "note.md": f"{number}\n".encode()}


def _state(hub: Hub, repo: str, revision: str = "main") -> int | None:
    """Return which adapter a revision holds, after checking that it is that one in every byte."""
    note = hub.ask("GET", f"/{repo}/resolve/{revision}/note.md", token=None)
    if note.status == 404:
        return None
    number = int(note.body)
    for name, data in _files(number).items():
        answer = hub.ask("GET", f"/{repo}/resolve/{revision}/{name}", token=None)
        assert (answer.status, answer.body) == (200, data), (name, number)
    return number


@pytest.mark.slow
def test_killed_while_pushing(new_hub: Callable[..., Hub]) -> None:
    chance = random.Random(20)
    hub = new_hub()
    repo = "admin/killed"
    hub.create(repo)
    acknowledged: dict[int, str] = {}
    last, number, survived = None, 0, 0
    for _ in range(ROUNDS):
        stop = time.monotonic() + chance.uniform(0.0, 0.35)
        killer = threading.Timer(stop - time.monotonic(), hub.kill)
        killer.start()
        sent = None
        while True:
            number += 1
            sent = number
            try:
                answer = hub.commit(repo, _files(number))
            except _BROKEN:
                break
            assert answer.status == 200, answer
            acknowledged[number], last = answer.json["commitOid"], number
        killer.join()
        hub.start()
        # The one that was under way may have got through without its answer; nothing else may differ.
        deadline = time.monotonic() + 20
        while _pending(hub, repo):
            assert time.monotonic() < deadline, "checks were not taken up again"
            time.sleep(0.1)
        state = _state(hub, repo)
        assert state in (last, sent), (state, last, sent)
        survived += state == sent
        last = state
    for old, oid in list(acknowledged.items())[-40:]:
        assert _state(hub, repo, oid) == old
    assert acknowledged, "no push was ever acknowledged; the rounds are too short"
    _nothing_left_over(hub)


def _pending(hub: Hub, repo: str) -> bool:
    return hub.ask("GET", f"/api/hub/v1/repos/{repo}/checks").json["status"] == "pending"


def _nothing_left_over(hub: Hub) -> None:
    """After a clean-up, exactly the contents that commits name are stored, and nothing is staged."""
    from datetime import timedelta

    from sqlalchemy import select

    from adapterhub.hub.store import ledger
    from adapterhub.hub.store.blobs import FolderBlobs
    from adapterhub.hub.store.database import Database
    from adapterhub.hub.store.models import Blob, File

    hub.stop()
    home, database = FolderBlobs(hub.data / "blobs"), Database(f"sqlite:///{hub.data / 'hub.db'}")
    ledger.collect(database, home, grace=timedelta(0))
    with database.read() as session:
        named = set(session.scalars(select(File.sha256)))
        assert set(session.scalars(select(Blob.sha256))) == named
    assert set(home.all()) == named
    database.close()
    hub.start()
    assert list((hub.data / "staging").iterdir()) == []


def test_killed_before_the_checks_ended(new_hub: Callable[..., Hub]) -> None:
    """A commit whose checks never ran is invisible to others until the next start, then published."""
    hub = new_hub(ADAPTERHUB_REGULAR_LIMIT="1M")
    hub.published("admin/first")
    hub.kill()
    _forget_the_checks(hub)
    hub.start()
    deadline = time.monotonic() + 20
    while hub.ask("GET", "/admin/first/resolve/main/adapter_config.json", token=None).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _forget_the_checks(hub: Hub) -> None:
    """Put the database into the state that a kill right after the commit leaves."""
    import sqlite3

    with sqlite3.connect(hub.data / "hub.db") as database:
        database.execute("UPDATE commits SET status = 'pending' WHERE number = 2")
        database.execute("UPDATE refs SET published_id = NULL")
        database.execute("UPDATE repos SET published_id = NULL")
        database.execute("DELETE FROM checks")
        database.execute(
            "UPDATE jobs SET state = 'running', worker = 'dead', ready = '2999-01-01 00:00:00.000000'"
        )
    database.close()


def test_writers_at_once_lose_nothing(server: Hub) -> None:
    repo = server.new_name()
    first = server.published(repo)
    answers: dict[int, Answer] = {}

    def push(number: int) -> None:
        answers[number] = server.commit(repo, {f"notes/{number}.md": b"%d\n" % number})

    threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number].status for number in range(8)] == [200] * 8
    assert len({answer.json["commitOid"] for answer in answers.values()}) == 8
    paths = [
        item["path"]
        for item in server.ask("GET", f"/api/models/{repo}/tree/main/notes", token=None).json
    ]
    assert paths == [f"notes/{number}.md" for number in range(8)]
    log = server.ask("GET", f"/api/models/{repo}/commits/main").json
    assert len({item["id"] for item in log}) == 10
    assert log[-2]["id"] == first


def test_of_writers_with_the_same_parent_one_wins(server: Hub) -> None:
    repo = server.new_name()
    parent = server.published(repo)
    answers: list[Answer] = []

    def push(number: int) -> None:
        answers.append(server.commit(repo, {"note.md": b"%d\n" % number}, parent=parent))

    threads = [threading.Thread(target=push, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412, 412, 412]
    winner = next(answer for answer in answers if answer.status == 200)
    assert server.ask("GET", f"/api/models/{repo}").json["sha"] == winner.json["commitOid"]


def test_same_name_created_at_once(server: Hub) -> None:
    name = server.new_name().split("/")[1]
    statuses: list[int] = []

    def create() -> None:
        statuses.append(server.ask("POST", "/api/repos/create", {"name": name}).status)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 409, 409, 409, 409, 409]


def test_client_that_goes_away(server: Hub) -> None:
    """A body that never ends stores nothing, and the server goes on."""
    import socket
    from urllib.parse import urlsplit

    repo = server.new_name()
    server.published(repo)
    parts = urlsplit(server.url)
    head = (
        f"POST /api/models/{repo}/commit/main HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: 1000000\r\n\r\n"
    )
    for body in (
        b"",
        b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"content":"QUJD',
    ):
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
            connection.sendall(head.encode() + body)
    before = server.ask("GET", f"/api/models/{repo}").json["sha"]
    time.sleep(0.5)
    deadline = time.monotonic() + 30
    while list((server.data / "staging").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.ask("GET", f"/api/models/{repo}").json["sha"] == before


def test_second_server_on_the_same_folder_is_refused(server: Hub, tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [
        sys.executable,
        "-m",
        "adapterhub.cli",
        "hub",
        "serve",
        "--port",
        "0",
        "--data",
        str(server.data),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "another hub server runs on" in result.stderr


def test_full_disk(new_hub: Callable[..., Hub]) -> None:
    """While nothing more can be written, answers say so; nothing is half stored; then all goes on."""
    resource = pytest.importorskip("resource", reason="limits of another process need Linux")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of another process need Linux")
    hub = new_hub()
    hub.published("admin/x")
    before = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
    large = {
        "adapter.safetensors": adapter_files(weights=(1.0,) * 1_000_000)["adapter.safetensors"]
    }
    resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (2 << 20, before[1]))
    refused = hub.commit("admin/x", large)
    assert refused.status == 503
    assert "storage" in refused.headers["x-error-message"]
    assert list((hub.data / "staging").iterdir()) == []
    assert hub.ask("GET", "/admin/x/resolve/main/adapter_config.json").status == 200
    assert hub.commit("admin/x", {"small.md": b"fits\n"}).status == 200
    resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, before)
    assert hub.commit("admin/x", large).json["status"] == "verified"
