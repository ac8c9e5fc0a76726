"""Many clients at once: 32 pushes, 200 pulls, on every set-up; nothing may fail, be lost or be there twice.

python -m benchmarks.hub_load --store sqlite
python -m benchmarks.hub_load --store scaled --servers 2

Clients are threads of this process that begin together, so the figures hold the client's own work as well;
with its servers on the same cores they say what does not break, not how fast a hub can be.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from tests.hub.server.conftest import Hub

from adapterhub.hub.store.models import Blob, Commit, File
from benchmarks.hub_faults import fetch
from benchmarks.hub_setups import STORES, Setup, adapter, machine, push_large, setup, write


class Failed(AssertionError):
    """Something failed, is lost, or is there twice."""


class Load:
    """The phases, one after the other, on one hub."""

    def __init__(self, made: Setup, pushes: int, pulls: int) -> None:
        self.made, self.pushes, self.pulls = made, pushes, pulls
        self.phases: dict[str, Any] = {}
        self._turn = itertools.count()
        #: Repository and files of every commit that was acknowledged.
        self.told: dict[str, tuple[str, dict[str, bytes]]] = {}
        self._lock = threading.Lock()
        self.repos: list[str] = []

    def hub(self) -> Hub:
        """Return the next of the servers."""
        return self.made.hubs[next(self._turn) % len(self.made.hubs)]

    def repo(self, name: str) -> str:
        """Make a repository."""
        self.hub().create(f"admin/{name}")
        self.repos.append(f"admin/{name}")
        return self.repos[-1]

    def together(self, phase: str, number: int, act: Callable[[int], int | None]) -> None:
        """Call *act* with 0 .. *number* - 1 in as many threads at once, and note times and tries.

        Raises:
            Failed: If one of them failed.
        """
        begin = threading.Barrier(number + 1)
        times: list[float] = []
        tries: list[int] = []
        errors: list[BaseException] = []

        def run(index: int) -> None:
            begin.wait()
            began = time.monotonic()
            try:
                tries.append(act(index) or 1)
                times.append(time.monotonic() - began)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(index,)) for index in range(number)]
        for thread in threads:
            thread.start()
        begin.wait()
        began = time.monotonic()
        for thread in threads:
            thread.join()
        if errors:
            raise Failed(f"{phase}: {len(errors)} of {number} failed, first: {errors[0]!r}")
        self.phases[phase] = {
            "clients": number,
            "errors": 0,
            "seconds": round(time.monotonic() - began, 2),
            "median_seconds": round(statistics.median(times), 2),
            "p95_seconds": round(statistics.quantiles(times, n=20)[-1], 2),
            "tries": sum(tries),
        }

    def commit(self, repo: str, files: dict[str, bytes], parent: str | None = None) -> bool:
        """Commit; return ``False`` if somebody else was faster (412).

        Raises:
            Failed: At any other answer than 200.
        """
        answer = self.hub().commit(repo, files, parent=parent)
        if answer.status == 412 and parent is not None:
            return False
        if answer.status != 200:
            raise Failed(f"{repo}: {answer.status} {answer.body[:300]!r}")
        self._tell(repo, answer.json["commitOid"], files)
        return True

    def _tell(self, repo: str, oid: str, files: dict[str, bytes]) -> None:
        with self._lock:
            if oid in self.told:
                raise Failed(f"commit {oid} was given twice")
            self.told[oid] = (repo, files)

    def run(self) -> None:
        """All phases."""
        own = [self.repo(f"own-{index}") for index in range(self.pushes)]
        self.together(
            "pushes to as many repositories",
            self.pushes,
            lambda index: self.commit(own[index], adapter(index, 1)),
        )
        one = self.repo("one")
        self.together(
            "pushes to one repository",
            self.pushes,
            lambda index: self.commit(one, {f"{index}/note.md": b"%d\n" % index}),
        )
        retried = self.repo("retried")
        self.together(
            "pushes to one repository on top of its tip, again after 412",
            self.pushes,
            lambda index: self._until_first(retried, {f"{index}/note.md": b"%d\n" % index}),
        )
        same = [self.repo(f"same-{index}") for index in range(self.pushes)]
        self.together(
            "pushes of the same files to as many repositories",
            self.pushes,
            lambda index: self.commit(same[index], adapter(99, 99)),
        )
        large = self.repo("large")
        blob = adapter(98, 98)["adapter.safetensors"]
        self.together(
            "uploads of one file by LFS to one repository",
            self.pushes,
            lambda index: self._large(large, f"{index}/adapter.safetensors", blob),
        )
        self.together("pulls", self.pulls, lambda index: self._pull(own[index % len(own)]))
        busy = self.repo("busy")
        both = self.pushes + self.pulls // 2
        self.together(
            "pulls while others push",
            both,
            lambda index: (
                self.commit(busy, {f"{index}/note.md": b"%d\n" % index})
                if index < self.pushes
                else self._pull(own[index % len(own)])
            ),
        )

    def _until_first(self, repo: str, files: dict[str, bytes]) -> int:
        """Commit as careful clients do: on top of what they saw, and again if that is not the tip."""
        for tries in range(1, 1000):
            tip = self.hub().ask("GET", f"/api/models/{repo}").json["sha"]
            if self.commit(repo, files, tip):
                return tries
        raise Failed(f"{repo}: never first")

    def _large(self, repo: str, path: str, data: bytes) -> None:
        answer = push_large(self.hub(), repo, path, data)
        if answer.status != 200:
            raise Failed(f"{repo}: {answer.status} {answer.body[:300]!r}")
        self._tell(repo, answer.json["commitOid"], {path: data})

    def _pull(self, repo: str) -> None:
        """Fetch an adapter as a client does: the revision first, then every file of it."""
        hub = self.hub()
        info = hub.ask("GET", f"/api/models/{repo}")
        if info.status != 200:
            raise Failed(f"{repo}: {info.status}")
        _, files = self.told[info.json["sha"]]
        for name, data in files.items():
            if fetch(hub, f"/{repo}/resolve/{info.json['sha']}/{name}") != data:
                raise Failed(f"{repo}: {name} is not what was sent")

    def check(self) -> dict[str, int]:
        """Compare histories, rows and contents with what was acknowledged.

        Raises:
            Failed: If anything is lost or there twice.
        """
        hub = self.made.hubs[0]
        for repo in self.repos:
            log = [item["id"] for item in hub.ask("GET", f"/api/models/{repo}/commits/main").json]
            mine = [oid for oid, (owner, _) in self.told.items() if owner == repo]
            if sorted(log[:-1]) != sorted(mine):  # the last is the empty one with which it begins
                raise Failed(
                    f"{repo}: {len(mine)} commits were acknowledged, {len(log) - 1} are there"
                )
            tip = {item["path"] for item in hub.ask("GET", _tree(repo)).json}
            if missing := {name for oid in mine for name in self.told[oid][1]} - tip:
                raise Failed(f"{repo}: {sorted(missing)} were overwritten by a commit beside")
        for oid, (repo, files) in self.told.items():
            for name, data in files.items():
                if fetch(hub, f"/{repo}/resolve/{oid}/{name}") != data:
                    raise Failed(f"{repo}: {name} of {oid} is not what was sent")
        database, home = self.made.database(), self.made.home()
        with database.read() as session:
            counted = session.scalar(select(func.count()).select_from(Commit)) or 0
            named = set(session.scalars(select(File.sha256)))
            rows = list(session.scalars(select(Blob.sha256)))
        database.close()
        if counted != len(self.told) + len(self.repos) or not set(rows) == named == set(home.all()):
            raise Failed("the database holds other commits or contents than were acknowledged")
        return {"commits": len(self.told), "lost": 0, "double": 0, "contents": len(rows)}


def _tree(repo: str) -> str:
    return f"/api/models/{repo}/tree/main?recursive=true"


def run(store: str, servers: int = 1, pushes: int = 32, pulls: int = 200) -> dict[str, Any]:
    """Put load on a hub and return the record.

    Raises:
        Failed: If a request failed, or something is lost or there twice.
    """
    with setup(store, servers=servers) as made:
        load = Load(made, pushes, pulls)
        load.run()
        found = load.check()
    return {
        "command": f"python -m benchmarks.hub_load --store {store} --servers {servers}",
        "servers": servers,
        **found,
        "phases": load.phases,
        **machine(),
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Push and pull with many clients at once.")
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--pushes", type=int, default=32)
    parser.add_argument("--pulls", type=int, default=200)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    record = run(given.store, given.servers, given.pushes, given.pulls)
    name = f"hub_load_{given.store}_{given.servers}.json"
    write(given.output or Path("benchmarks/results") / name, record)


if __name__ == "__main__":
    main()
