"""``adapterhub hub check --data``: the adapters of a server are checked again."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import typer

from adapterhub.errors import HubError


def check_data(data: Path, *, everything: bool, as_json: bool) -> None:
    """Check again what older versions of the checks saw (or everything), and show what came of it.

    While a server runs on the data, its workers do it.
    """
    from adapterhub.hub.live import norms
    from adapterhub.hub.server.service import deep_checks, open_blobs
    from adapterhub.hub.server.settings import Settings
    from adapterhub.hub.store.database import Database
    from adapterhub.hub.store.staging import Staging
    from adapterhub.hub.verify import rechecks
    from adapterhub.hub.verify.intake import Intake
    from adapterhub.hub.verify.worker import work

    settings = Settings.from_environment(data)
    if settings.embedded and not (data / "hub.db").exists() and not settings.database_url:
        raise HubError(f"{data} holds no hub server's data; give the folder of 'hub serve --data'")
    database = Database(settings.database)
    database.upgrade()
    with database.write() as session:
        shown = rechecks.shown_commits(session)
        ids = [commit.id for commit in shown]
        wanted = ids if everything else rechecks.outdated(session, shown)
        asked = rechecks.enqueue(session, wanted)
    if _served(data):
        typer.echo(f"{asked} of {len(ids)} commits are to be checked; the running server does it")
        return
    intake = Intake(database, open_blobs(settings), Staging(data / "staging"))
    intake.deep = deep_checks(settings)
    norms.attach(intake)
    work(intake, threading.Event(), until_idle=True)
    _report(database, ids, asked, as_json)


def _served(data: Path) -> bool:
    from filelock import FileLock, Timeout

    lock = FileLock(data / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _report(database: Any, ids: list[str], asked: int, as_json: bool) -> None:
    import json

    from adapterhub.cli.push import _printable
    from adapterhub.hub.store.models import Commit, Repo

    rows = []
    with database.read() as session:
        for commit_id in ids:
            commit = session.get(Commit, commit_id)
            if commit is None:
                continue
            repo = session.get_one(Repo, commit.repo_id).full_name
            rows.append(
                {
                    "repo": repo,
                    "commit": commit.id,
                    "status": commit.status,
                    "reason": commit.reason,
                }
            )
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for row in rows:
            if row["status"] == "rejected":
                typer.secho(f"{row['repo']} at {row['commit'][:8]}: rejected", fg="red")
                typer.echo(_printable(f"  {row['reason']}"))
        counts = Counter(row["status"] for row in rows)
        total = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        typer.echo(f"{asked} of {len(rows)} commits were checked again: {total or 'none'}")
    if any(row["status"] == "rejected" for row in rows):
        raise typer.Exit(1)
