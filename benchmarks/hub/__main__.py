"""``python -m benchmarks.hub --adapters 10000``: fill a store, ask a real server, print and record."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.hub.server.conftest import Hub
from tests.hub.server.services import Postgres

from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Account, Repo
from benchmarks.hub.load import Questions, ask
from benchmarks.hub.seed import World, describe, fill

RESULTS = Path(__file__).parents[1] / "results"
#: Milliseconds to the last byte of a search, and to the first byte of a page, for 95 of 100.
SEARCH_GOAL, PAGE_GOAL = 50.0, 100.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hub", description=__doc__)
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--clients", type=int, default=2, help="at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="measure before all other work of a machine that is busy (needs rights)",
    )
    parser.add_argument("--out", type=Path, help="where to write the record; - for nowhere")
    given = parser.parse_args()
    record = measure(given)
    print_table(record)
    out = given.out or RESULTS / f"hub_search_{given.database}.json"
    if str(out) != "-":
        out.write_text(json.dumps(record, indent=2) + "\n")
        print(f"\nWritten to {out}")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Fill a store, start a server on it, and ask."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adapterhub-")))
        data = folder / "data"
        data.mkdir()
        environment = {"ADAPTERHUB_BLOBS": str(data / "blobs")}
        url, postgres = f"sqlite:///{data / 'hub.db'}", None
        if given.database == "postgresql":
            postgres = stack.enter_context(Postgres())
            url = environment["ADAPTERHUB_DATABASE_URL"] = postgres.url
        database = Database(url)
        database.upgrade()
        began = time.monotonic()
        world = fill(database, data / "blobs", given.adapters, given.seed)
        seeding = time.monotonic() - began
        public = _public(database)
        database.close()
        if given.realtime:
            _go_first(0)  # the server inherits it
            if postgres is not None:
                _go_first(postgres.pid)
        load = os.getloadavg()[0]
        hub = Hub(data, **environment)
        stack.callback(hub.stop)
        began = time.monotonic()
        hub.ask("GET", "/search/", token=None)
        warm = time.monotonic() - began
        ask(hub.url, _questions(world, public, argparse.Namespace(requests=1, seed=99)), 1)
        spent = _seconds_of(hub.process.pid)
        questions = _questions(world, public, given)
        times = ask(hub.url, questions, given.clients)
        spent = (_seconds_of(hub.process.pid) - spent) / len(questions)
        memory = _resident(hub.process.pid)
    return {
        "command": f"python -m benchmarks.hub --adapters {given.adapters} --database "
        f"{given.database} --requests {given.requests} --clients {given.clients}"
        + (" --realtime" if given.realtime else ""),
        "adapters": given.adapters,
        "public": len(public),
        "names": dict(describe(world)),
        "database": given.database,
        "clients": given.clients,
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "load_of_the_machine": round(load, 2),
        "server_cpu_ms_per_request": round(1000 * spent, 1),
        "seconds_to_seed": round(seeding, 1),
        "seconds_until_ready": hub.seconds,
        "seconds_to_first_answer": round(warm, 2),
        "server_mb": memory,
        "kinds": {kind: found.figures() for kind, found in times.items()},
    }


def _public(database: Database) -> list[tuple[str, str]]:
    query = select(Account.name, Repo.name).join(Repo, Repo.owner_id == Account.id)
    with database.read() as session:
        rows = session.execute(
            query.where(Repo.private.is_(False), Repo.published_id.is_not(None)).order_by(Repo.id)
        )
        return [(owner, name) for owner, name in rows]


def _questions(world: World, public: list[tuple[str, str]], given: argparse.Namespace) -> list[Any]:
    questions = Questions(world, public, given.seed + 1)
    drawn = [questions.draw(kind) for kind in questions.kinds for _ in range(given.requests)]
    random.Random(given.seed).shuffle(drawn)
    return drawn


def _go_first(pid: int) -> None:
    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


def _seconds_of(pid: int) -> float:
    """Return the CPU seconds that a process has used, 0 where the system does not tell."""
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int | None:
    """Return the memory of a process in MB, where the system tells it."""
    path = Path(f"/proc/{pid}/status")
    if not path.exists():
        return None
    line = next(row for row in path.read_text().splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) // 1000


def print_table(record: dict[str, Any]) -> None:
    """Print the figures, and whether each meets its goal."""
    print(
        f"{record['adapters']} adapters, {record['database']}, {record['clients']} client(s) at a time; "
        f"server ready after {record['seconds_until_ready']} s, first answer "
        f"{record['seconds_to_first_answer']} s, {record['server_mb']} MB; load of the "
        f"machine {record['load_of_the_machine']}; {record['server_cpu_ms_per_request']} ms of CPU of "
        "the server a request"
    )
    print(f"{'':28}{'first byte ms':>24}{'last byte ms':>24}{'kB':>8}")
    print(f"{'':28}" + "     p50     p95     p99" * 2 + "     max")
    for kind, item in sorted(record["kinds"].items()):
        row = [item[f"{w}_p{p}_ms"] for w in ("first_byte", "total") for p in (50, 95, 99)]
        is_page = kind.startswith("page")
        good = (row[1] < PAGE_GOAL) if is_page else (row[4] < SEARCH_GOAL)
        numbers = "".join(f"{value:8.1f}" for value in row)
        print(f"{kind:28}{numbers}{item['largest'] / 1000:8.0f}{'' if good else '  above goal'}")


if __name__ == "__main__":
    main()
