"""The norms of tensors are there before anybody looks, and a page does without them if they are not."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.hub.server.conftest import Hub, adapter_files


def kept(hub: Hub) -> list[Any]:
    with sqlite3.connect(f"file:{hub.data / 'hub.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT data FROM tensor_norms").fetchall()
    database.close()
    return [json.loads(row[0])["tensors"] for row in rows]


def jobs(hub: Hub) -> list[tuple[str, str]]:
    with sqlite3.connect(f"file:{hub.data / 'hub.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT kind, state FROM jobs ORDER BY id").fetchall()
    database.close()
    return rows


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_worker_measures_what_was_pushed(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub()
    files = adapter_files(weights=(3.0, 4.0), head=True)
    hub.published("admin/one", files)
    until(lambda: len(kept(hub)) == 2)
    norms = {name: norm for tensors in kept(hub) for name, _, _, norm in tensors}
    assert norms["bert.encoder.layer.0.output.adapters.a.w"] == 5.0
    until(lambda: jobs(hub) == [("verify", "done"), ("norms", "done")])
    # What is no adapter has no page with tensors, and an upgrade finds files without norms.
    hub.create("admin/notes")
    hub.commit("admin/notes", {"notes.md": b"# nothing\n"})
    assert jobs(hub)[-1][0] == "verify"
    hub.stop()
    with sqlite3.connect(hub.data / "hub.db") as database:
        database.execute("DELETE FROM tensor_norms")
    database.close()
    hub.start()
    assert kept(hub) == []
    page = hub.ask("GET", "/adapters/admin/one/files/index.json", token=None).json
    shown = {t["name"]: t["norm"] for part in page["weights"] for t in part["tensors"]}
    assert shown == norms
    assert len(kept(hub)) == 2
