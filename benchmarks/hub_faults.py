"""Kills a hub server at random moments while several clients push, and looks at what is left.

python -m benchmarks.hub_faults --store sqlite --rounds 200
python -m benchmarks.hub_faults --store scaled --rounds 200

Each writer has a repository of its own, and all write to one that they share; contents come within
commits, by LFS or by Xet. In each round a server is killed (``SIGKILL``) and started again. Then every commit
that was acknowledged must be in the history once and hold every byte that was sent; of those that were
under way each is there as a whole or not at all; nothing else is there. At the end the clean-up must leave
exactly the contents that commits name. The first thing that is otherwise ends the run with an error.
"""

from __future__ import annotations

import argparse
import http.client
import random
import statistics
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.hub.server.conftest import Answer, Hub

from adapterhub.hub.store import ledger, xorbs
from adapterhub.hub.store.models import Blob, File, StagedXorb
from adapterhub.hub.store.pending import pending_of
from benchmarks.hub_setups import (
    STORES,
    Setup,
    adapter,
    machine,
    push_by_xet,
    push_large,
    setup,
    write,
)

_BROKEN = (OSError, http.client.HTTPException)
_SHARED = "admin/shared"
#: Checks of a server that died wait until its lease has ended.
_LEASE_SECONDS = 90.0


@dataclass
class Ledger:
    """What the writers know: what was acknowledged, what was under way when the server died."""

    acknowledged: dict[str, dict[str, bytes]] = field(default_factory=dict)
    repo_of: dict[str, str] = field(default_factory=dict)
    unanswered: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    whole: int = 0
    absent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, repo: str, files: dict[str, bytes], answer: Answer | None) -> bool:
        """Note an answer (or that there was none); return whether the writer can go on."""
        with self.lock:
            if answer is None:
                self.unanswered.append((repo, files))
                return False
            if answer.status != 200:
                raise AssertionError(f"a push was answered {answer.status}: {answer.body[:500]}")
            self.add(repo, answer.json["commitOid"], files)
            return True

    def add(self, repo: str, oid: str, files: dict[str, bytes]) -> None:
        """Remember a commit that must be there from now on."""
        if oid in self.acknowledged:
            raise AssertionError(f"commit {oid} was given for two pushes")
        self.acknowledged[oid], self.repo_of[oid] = files, repo


class Writer(threading.Thread):
    """Pushes, one after the other, until its server breaks or it is told to stop."""

    def __init__(
        self, number: int, hub: Hub, book: Ledger, turns: list[int], stop: threading.Event
    ):
        super().__init__(daemon=True)
        self.number, self.hub, self.book, self.turns, self.stopped = number, hub, book, turns, stop
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                self.turns[self.number] += 1
                if not self._push(self.turns[self.number]):
                    return
        except BaseException as error:
            self.error = error

    def _push(self, turn: int) -> bool:
        files = adapter(self.number, turn)
        repo, kind = f"admin/w{self.number}", turn % 3
        if kind == 1:  # a folder of one's own in the repository that all share
            repo = _SHARED
            files = {f"w{self.number}/{name}": files[name] for name in ("note.md", "README.md")}
        elif kind == 2:  # only the weights, by LFS and by Xet in turn
            files = {"adapter.safetensors": files["adapter.safetensors"]}
        try:
            if kind == 2:
                send = push_large if turn % 2 else push_by_xet
                answer = send(self.hub, repo, *next(iter(files.items())))
            else:
                answer = self.hub.commit(repo, files)
        except _BROKEN:
            answer = None
        return self.book.note(repo, files, answer)


class Faults:
    """The run; see the module."""

    def __init__(self, made: Setup, writers: int, longest: float, seed: int) -> None:
        self.made, self.writers, self.longest = made, writers, longest
        self.chance = random.Random(seed)
        self.book = Ledger()
        self.turns = [0] * writers
        self.known: dict[str, set[str]] = {}
        self.restarts: list[float] = []
        self.bytes = 0
        hub = made.hubs[0]
        for repo in self.repos:
            hub.create(repo)
            self.known[repo] = set(self._history(repo))

    @property
    def repos(self) -> list[str]:
        return [_SHARED, *(f"admin/w{number}" for number in range(self.writers))]

    def round(self) -> None:
        """Push, kill, start, look."""
        hubs, stop = self.made.hubs, threading.Event()
        victim = self.chance.choice(hubs)
        writers = [
            Writer(number, hubs[number % len(hubs)], self.book, self.turns, stop)
            for number in range(self.writers)
        ]
        for writer in writers:
            writer.start()
        self._wait_for(self.chance.randrange(2 * self.writers))
        time.sleep(self.chance.uniform(0.0, self.longest))
        victim.kill()
        stop.set()
        for writer in writers:
            writer.join(120)
            if writer.error is not None:
                raise writer.error
        token, began = victim.token, time.monotonic()
        victim.start()
        victim.token = token
        self.restarts.append(time.monotonic() - began)
        self._look()

    def _wait_for(self, answers: int) -> None:
        """Wait until so many pushes of this round were acknowledged, on a slow machine as on a fast one."""
        before, deadline = len(self.book.acknowledged), time.monotonic() + 60
        while len(self.book.acknowledged) < before + answers and time.monotonic() < deadline:
            time.sleep(0.005)

    def _history(self, repo: str) -> list[str]:
        answer = self.made.hubs[-1].ask("GET", f"/api/models/{repo}/commits/main?limit=1000")
        found = [item["id"] for item in answer.json]
        if len(found) == 1000:
            raise AssertionError("more commits than one page of the history: take fewer rounds")
        return found

    def _look(self) -> None:
        """Compare the histories with what the writers know."""
        unanswered, self.book.unanswered = self.book.unanswered, []
        for repo in self.repos:
            found = self._history(repo)
            mine = {oid for oid, owner in self.book.repo_of.items() if owner == repo}
            if len(set(found)) != len(found):
                raise AssertionError(f"{repo}: a commit is in the history twice")
            if lost := (self.known[repo] | mine) - set(found):
                raise AssertionError(f"{repo}: acknowledged commits are gone: {sorted(lost)}")
            # Nobody was told of these: each must be one of those under way, as a whole. The oldest first,
            # because the next holds its files, too.
            for oid in [o for o in reversed(found) if o not in self.known[repo] and o not in mine]:
                fits = [it for it in unanswered if it[0] == repo and self._holds(repo, oid, it[1])]
                if not fits:
                    names = [(name, sorted(files)) for name, files in unanswered]
                    tree = self.made.hubs[-1].ask("GET", f"/api/models/{repo}/tree/{oid}")
                    raise AssertionError(
                        f"{repo}: commit {oid} is none that anybody sent; it holds {tree.body!r}, "
                        f"unanswered are {names}"
                    )
                unanswered.remove(fits[0])
                self.book.add(repo, oid, fits[0][1])
                self.book.whole += 1
            fresh = set(found) - self.known[repo]
            for oid in fresh & mine:
                if not self._holds(repo, oid, self.book.acknowledged[oid]):
                    raise AssertionError(f"{repo}: commit {oid} is not what was sent")
            self.known[repo] = set(found)
        self.book.absent += len(unanswered)

    def _holds(self, repo: str, oid: str, files: dict[str, bytes]) -> bool:
        """Whether a commit holds these files, byte for byte."""
        for name, data in files.items():
            found = fetch(self.made.hubs[-1], f"/{repo}/resolve/{oid}/{name}")
            if found != data:
                return False
            self.bytes += len(data)
        return True

    def finish(self) -> dict[str, Any]:
        """Look at every commit once more, clean up, and return the record."""
        self._wait_for_checks()
        for oid, files in self.book.acknowledged.items():
            if not self._holds(self.book.repo_of[oid], oid, files):
                raise AssertionError(f"commit {oid} is not what was sent")
        removed = self._clean()
        return {
            "acknowledged": len(self.book.acknowledged) - self.book.whole,
            "unanswered_but_whole": self.book.whole,
            "unanswered_and_absent": self.book.absent,
            "bytes_compared": self.bytes,
            "leftovers_removed": removed,
            "restart_seconds_median": round(statistics.median(self.restarts), 2),
            "restart_seconds_max": round(max(self.restarts), 2),
        }

    def _wait_for_checks(self) -> None:
        deadline = time.monotonic() + _LEASE_SECONDS
        for repo in self.repos:
            path = f"/api/hub/v1/repos/{repo}/checks"
            while self.made.hubs[-1].ask("GET", path).json["status"] == "pending":
                if time.monotonic() > deadline:
                    raise AssertionError(f"{repo}: checks were not taken up again")
                time.sleep(1)

    def _clean(self) -> int:
        """Collect garbage; afterwards contents, rows and names must be the same set."""
        for hub in self.made.hubs:
            hub.stop()
        database, home = self.made.database(), self.made.home()
        removed = ledger.collect(database, home, grace=timedelta(0))
        pending = pending_of(home)
        pieces = xorbs.expire(database, pending, timedelta(0)) + pending.clean(timedelta(0))
        with database.read() as session:
            named = set(session.scalars(select(File.sha256)))
            rows = set(session.scalars(select(Blob.sha256)))
            staged = session.scalars(select(StagedXorb.folder)).all()
        database.close()
        if staged or pending.clean(timedelta(0)):
            raise AssertionError("after the clean-up there are pieces of pushes")
        if not named == rows == set(home.all()):
            raise AssertionError("after the clean-up there is more, or less, than commits name")
        for hub in self.made.hubs:
            token = hub.token
            hub.start()
            hub.token = token
            left = list((hub.data / "staging").iterdir()) if self.made.store == "sqlite" else []
            if left:
                raise AssertionError(f"{len(left)} folders are left over in the staging area")
        return len(removed) + pieces


def fetch(hub: Hub, path: str) -> bytes | None:
    """Return a file, from wherever the hub sends its clients for it."""
    import urllib.request

    answer = hub.ask("GET", path)
    if answer.status == 302:
        with urllib.request.urlopen(answer.headers["location"], timeout=60) as response:
            return response.read()
    return answer.body if answer.status == 200 else None


def run(
    store: str,
    rounds: int,
    *,
    writers: int = 4,
    longest: float = 0.5,
    seed: int = 20,
    minutes: float = 600.0,
) -> dict[str, Any]:
    """Do *rounds* rounds, but begin none after *minutes*, and return the record.

    Args:
        store: ``"sqlite"`` or ``"scaled"`` (then two servers, either of which may be killed).
        longest: a server is killed after a number of acknowledged pushes that is drawn (from 0 to twice
            the number of writers), and up to so many seconds more.

    Raises:
        AssertionError: With what is lost, doubled, broken or left over.
    """
    began = time.monotonic()
    with setup(store, servers=2 if store == "scaled" else 1) as made:
        faults = Faults(made, writers, longest, seed)
        for number in range(rounds):
            if time.monotonic() - began > minutes * 60:
                rounds = number
                break
            faults.round()
            if number % 10 == 9:
                print(f"round {number + 1}: {len(faults.book.acknowledged)} commits", flush=True)
        found = faults.finish()
    return {
        "command": f"python -m benchmarks.hub_faults --store {store} --rounds {rounds}",
        "rounds": rounds,
        "servers": len(made.hubs),
        "writers": writers,
        "kill_after_pushes": [0, 2 * writers - 1],
        "and_seconds": [0, longest],
        "seed": seed,
        **found,
        "lost": 0,
        "broken": 0,
        "seconds": round(time.monotonic() - began),
        **machine(),
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Kill a hub server while clients push.")
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--longest", type=float, default=0.5)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    record = run(
        given.store,
        given.rounds,
        writers=given.writers,
        longest=given.longest,
        seed=given.seed,
        minutes=given.minutes,
    )
    write(given.output or Path(f"benchmarks/results/hub_faults_{given.store}.json"), record)


if __name__ == "__main__":
    main()
