"""The index of a server in step with its database, also when others change it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the hub server needs the [hub] extra")
pytest.importorskip("nh3", reason="the pages need the [hub] extra")

from sqlalchemy import delete, select

from adapterhub.hub.live import cardrows
from adapterhub.hub.live.liveindex import LiveIndex
from adapterhub.hub.store import accounts, changes, repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Account, Change, Commit, Reference, Repo, utcnow
from adapterhub.hub.web.index import ALL_GROUPS
from adapterhub.hub.web.query import Query

_numbers = itertools.count(1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgresql":
        made = Database(request.getfixturevalue("postgres"))
    else:
        made = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    made.upgrade()
    yield made
    made.close()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    from tests.hub.server.services import BINARIES, Postgres

    if not BINARIES.is_dir():
        pytest.skip("no PostgreSQL 15 here (Debian: postgresql-15)")
    with Postgres() as server:
        yield server.url


def add(database: Database, name: str, *, owner: str = "ada", **options: Any) -> int:
    """Write a repository with one published commit."""
    number = next(_numbers)
    facts = {
        "tags": [f"adapterhub:{options.pop('task', 'sentiment/sst-2')}"],
        "base_model": "bert-base-uncased",
        "format": "adapterhub",
        "method": "seq_bn",
        "about": options.pop("about", ""),
    }
    commit = f"{number:040x}"
    held = options.pop("held", False)
    with database.write() as session:
        account = session.scalar(select(Account).where(Account.key == owner))
        account = account or accounts.create_account(session, owner)
        repo = Repo(owner=account, name=name, key=name, **options)
        session.add(repo)
        session.flush()
        status = "held" if held else "verified"
        session.add(
            Commit(
                id=commit,
                number=2,
                repo_id=repo.id,
                author=owner,
                title="t",
                status=status,
                facts=facts,
            )
        )
        shown = None if held else commit
        session.add(
            Reference(
                repo_id=repo.id, kind="branch", name="main", commit_id=commit, published_id=shown
            )
        )
        if not held:
            repo.published_id, repo.facts = commit, facts
        return repo.id


def names(live: LiveIndex, query: Query | None = None, groups: Any = frozenset()) -> list[str]:
    live.refresh()
    found = live.index.search(query or Query(sort="name", page_size=100), groups)
    return sorted(adapter.name for adapter in found.adapters)


def test_every_change_reaches_every_process(database: Database) -> None:
    here, there = LiveIndex(database), LiveIndex(database)
    owner = f"u{next(_numbers)}"
    before = set(names(here))
    first = add(database, "one", owner=owner)
    add(database, "two", owner=owner, private=True)
    add(database, "three", owner=owner, held=True)
    admin = Caller(account_id=-1, name="root", admin=True, scope="admin")

    def shown(groups: Any = frozenset()) -> set[str]:
        found = [set(names(live, groups=groups)) - before for live in (here, there)]
        assert found[0] == found[1]
        return found[0]

    assert shown() == {"one"}
    assert shown(ALL_GROUPS) == {"one", "two", "three"}
    with database.write() as session:
        repos.change(session, repos.view(session, admin, owner, "two"), private=False)
    assert shown() == {"one", "two"}
    with database.write() as session:
        seen = repos.view(session, admin, owner, "one", lock=True)
        repos.move(session, seen, seen.repo.owner, "eins")
    assert shown() == {"eins", "two"}
    with database.write() as session:
        repos.count_downloads(session, first, 41)
    assert {live.index.get(first).downloads for live in (here, there) if shown()} == {41}
    with database.write() as session:
        session.scalar(select(Account).where(Account.key == owner)).fullname = "Ada L."
    assert shown()
    assert {live.index.get(first).author for live in (here, there)} == {"Ada L."}
    with database.write() as session:
        repos.remove(session, repos.view(session, admin, owner, "eins", lock=True))
    assert shown() == {"two"}


def test_what_is_undone_changes_nothing(database: Database) -> None:
    live = LiveIndex(database)
    add(database, "kept", owner=f"u{next(_numbers)}")
    before = names(live)

    def fail() -> None:
        with database.write() as session:
            changes.note(session, 12345)
            session.add(Change(repo_id=1, created=utcnow()))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    number = live.number
    assert names(live) == before
    assert live.number == number


def test_who_slept_too_long_reads_everything(database: Database) -> None:
    live = LiveIndex(database)
    owner = f"u{next(_numbers)}"
    names(live)
    gone = add(database, "gone", owner=owner)
    assert "gone" in names(live)
    with database.write() as session:
        session.execute(
            delete(Repo).where(Repo.id == gone)
        )  # past the log, as time would forget it
    add(database, "new", owner=owner)
    with database.write() as session:
        newest = changes.latest(session)
        session.execute(delete(Change).where(Change.id < newest))
        session.add(Change(repo_id=None, created=utcnow()))
    shown = names(live)
    assert "new" in shown
    assert "gone" not in shown


def test_old_lines_are_forgotten_but_the_newest(database: Database) -> None:
    add(database, "x", owner=f"u{next(_numbers)}")
    with database.write() as session:
        newest = changes.latest(session)
        for row in session.scalars(select(Change)):
            row.created = row.created.replace(year=2020)
    with database.write() as session:
        changes.forget(session)
        assert changes.latest(session) == newest
        assert len(session.scalars(select(Change.id)).all()) == 1


def test_cards_name_things_and_step_back_before_repositories(database: Database) -> None:
    live, owner = LiveIndex(database), f"u{next(_numbers)}"
    mine = add(database, "here", owner=owner, task="mood/diary")
    live.refresh()
    assert live.index.get(mine).task_name == "mood"
    cards = {
        "tasks/text_task/mood.yaml": {"task": "mood", "displayname": "Moods", "description": "."},
        f"adapters/{owner}/far.yaml": _card("mood", "diary"),
        f"adapters/{owner}/here.yaml": _card("mood", "diary"),
    }
    with database.write() as session:
        cardrows.replace(session, cards)
    assert {"far", "here"} <= set(names(live, Query(chosen={"owner": (owner,)})))
    assert live.index.get(mine).task_name == "Moods"
    assert live.index.search(Query(chosen={"owner": (owner,)})).total == 2
    with database.write() as session:
        cardrows.merge(session, {}, [f"adapters/{owner}/far.yaml"])
        seen = repos.view(session, _ROOT, owner, "here", lock=True)
        repos.remove(session, seen)
    live.refresh()
    left = live.index.search(Query(chosen={"owner": (owner,)})).adapters
    assert [(a.name, a.status) for a in left] == [("here", "elsewhere")]
    with database.write() as session:
        cardrows.replace(session, {})


_ROOT = Caller(account_id=-1, name="root", admin=True, scope="admin")


def _card(task: str, subtask: str) -> dict[str, Any]:
    return {
        "type": "text_task",
        "task": task,
        "subtask": subtask,
        "model_type": "bert",
        "model_name": "bert-base-uncased",
        "config": {"using": "pfeiffer"},
        "author": "Ann",
        "default_version": "1",
        "files": [{"version": "1", "url": "https://example.org/a.zip", "sha256": "0" * 64}],
    }


@pytest.mark.parametrize(
    ("path", "card", "why"),
    [
        ("../x.yaml", {}, "path of a card"),
        ("tasks/x.yaml", {}, "where a card lies"),
        ("tasks/t/x.json", {}, "where a card lies"),
        ("tasks/t/x.yaml", [], "not a mapping"),
        ("adapters/a/x.yaml", {"type": "text_task"}, "no text for"),
    ],
)
def test_cards_that_cannot_be_taken(path: str, card: Any, why: str) -> None:
    assert why in " ".join(cardrows.problems_of({path: card}))
