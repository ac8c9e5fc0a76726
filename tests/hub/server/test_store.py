"""The store on every back end: SQLite and a folder always, PostgreSQL 15 and S3 where they can be started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the hub server needs the [hub] extra")

from sqlalchemy import select, text, update

from adapterhub.errors import HubError
from adapterhub.hub.store import accounts, commits, history, jobs, ledger, repos
from adapterhub.hub.store.blobs import Blobs, BlobsUnreachable, FolderBlobs
from adapterhub.hub.store.commits import Change
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Base, Blob, Commit, Job, Reference, utcnow
from adapterhub.hub.store.refusals import Conflict, Stale
from adapterhub.hub.store.staging import Staging, Writer
from adapterhub.hub.verify.examination import Examiner
from adapterhub.hub.verify.intake import Intake, Received
from adapterhub.hub.verify.worker import work
from tests.hub.server.conftest import Hub, adapter_files


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    else:
        made = Database(request.getfixturevalue("postgres"))
        with made.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    made.upgrade()
    yield made
    made.close()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        return FolderBlobs(tmp_path / "blobs")
    from adapterhub.hub.store.s3 import S3Blobs

    made = S3Blobs(request.getfixturevalue("bucket"))
    for sha256 in list(made.all()):
        made.remove(sha256)
    return made


@pytest.fixture
def intake(database: Database, home: Blobs, tmp_path: Path) -> Intake:
    return Intake(database, home, Staging(tmp_path / "staging"))


def _caller(database: Database, name: str = "ada") -> accounts.Caller:
    with database.write() as session:
        account = accounts.create_account(session, name)
        return accounts.Caller(account.id, name, scope="write")


def _push(
    intake: Intake, caller: accounts.Caller, files: dict[str, bytes], **options: Any
) -> Commit:
    with intake.staging.area() as folder:
        staged = {}
        for number, (path, data) in enumerate(files.items()):
            writer = Writer(folder / str(number), 10**8)
            writer.write(data)
            staged[path] = writer.finish()
        change = Change("title", parent=options.pop("parent", None))
        return intake.commit(caller, "ada", "x", "main", Received(change, staged, {}), **options)


def _new_repo(database: Database) -> accounts.Caller:
    caller = _caller(database)
    with database.write() as session:
        repos.create(session, caller, repos.owner_for(session, caller, None), "x")
    return caller


def test_steps_lead_to_the_models(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.upgrade()  # nothing to do


def test_steps_are_safe_when_several_processes_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'many.db'}"
    code = f"from adapterhub.hub.store.database import Database; Database({url!r}).upgrade()"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()


def test_unknown_databases_are_refused() -> None:
    with pytest.raises(HubError, match="not supported"):
        Database("mysql://x/y")


def test_push_publish_and_reuse(intake: Intake, database: Database, home: Blobs) -> None:
    caller = _new_repo(database)
    files = adapter_files()
    first = _push(intake, caller, files)
    assert first.status == "verified"
    second = _push(intake, caller, {"README.md": b"# x\n"}, parent=first.id)
    assert second.parent_id == first.id
    with pytest.raises(Stale):
        _push(intake, caller, {"README.md": b"# y\n"}, parent=first.id)
    with database.read() as session:
        seen = repos.view(session, accounts.Caller(), "Ada", "X")
        assert history.resolve(session, seen, "main").id == second.id
        for item in history.files(session, second):
            data = files.get(item.path, b"# x\n")
            assert b"".join(home.read(item.sha256)) == data
            assert b"".join(home.read(item.sha256, 1, 3)) == data[1:3]
    assert len(list(home.all())) == 3


def test_worker_finishes_what_was_left(intake: Intake, database: Database) -> None:
    caller = _new_repo(database)
    commit = _push(intake, caller, adapter_files(), check_now=False)
    assert commit.status == "pending"
    with database.read() as session, pytest.raises(HubError):
        repos.view(session, accounts.Caller(), "ada", "x")
    assert work(intake, threading.Event(), until_idle=True) == 1
    with database.read() as session:
        repo = repos.view(session, accounts.Caller(), "ada", "x").repo
        assert repo.published_id == commit.id
    assert work(intake, threading.Event(), until_idle=True) == 0


def test_late_checks_do_not_turn_a_branch_back(intake: Intake, database: Database) -> None:
    caller = _new_repo(database)
    old = _push(intake, caller, adapter_files(), check_now=False)
    new = _push(intake, caller, {"README.md": b"# new\n"})
    assert new.status == "verified"
    assert intake.finish(old.id)
    with database.read() as session:
        reference = session.scalar(select(Reference))
        assert reference is not None
        assert reference.published_id == new.id
        assert session.get_one(Commit, old.id).status == "verified"


def test_lease_of_a_dead_worker_ends(database: Database, intake: Intake) -> None:
    caller = _new_repo(database)
    _push(intake, caller, adapter_files(), check_now=False)
    first = jobs.claim(database, "one")
    assert first is not None
    assert jobs.claim(database, "two") is None
    with database.write() as session:
        session.execute(update(Job).values(ready=utcnow() - timedelta(seconds=1)))
    second = jobs.claim(database, "two")
    assert second is not None
    assert second.id == first.id
    with database.write() as session:
        assert not jobs.done(session, first)  # its result does not count any more
        assert jobs.done(session, second)


def test_work_that_fails_is_tried_again_and_then_left(
    database: Database, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = _new_repo(database)
    commit = _push(intake, caller, adapter_files(), check_now=False)

    def broken(*_: object) -> None:
        raise RuntimeError("the check is broken")

    monkeypatch.setattr(Examiner, "_read", broken)
    for attempt in range(1, jobs.MAX_ATTEMPTS + 1):
        assert intake.finish()
        with database.write() as session:
            job = session.scalar(select(Job))
            assert job is not None
            assert job.attempts == attempt
            assert "the check is broken" in job.error
            job.ready = utcnow()
    assert not intake.finish()
    with database.read() as session:
        assert session.get_one(Commit, commit.id).status == "held"


def test_work_is_not_to_blame_for_a_store_that_does_not_answer(
    database: Database, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried as long as that lasts, and done as soon as it has ended."""
    caller = _new_repo(database)
    commit = _push(intake, caller, adapter_files(), check_now=False)

    def gone(*_: object) -> None:
        raise BlobsUnreachable("the bucket does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Examiner, "_read", gone)
        for _ in range(jobs.MAX_ATTEMPTS + 3):
            assert intake.finish()
            with database.write() as session:
                job = session.scalars(select(Job)).one()
                assert job.state == "queued"
                assert job.ready <= utcnow() + timedelta(seconds=60)
                job.ready = utcnow()
    assert intake.finish()
    with database.read() as session:
        assert session.get_one(Commit, commit.id).status == "verified"


def test_lease_is_renewed_while_the_work_goes_on(
    database: Database, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = _new_repo(database)
    commit = _push(intake, caller, adapter_files(), check_now=False)
    monkeypatch.setattr(jobs, "LEASE", timedelta(seconds=2))
    monkeypatch.setattr(jobs, "RENEW_SECONDS", 0.1)
    examine, stolen = Examiner._read, []

    def slow(*arguments: Any) -> Any:
        time.sleep(2.3)
        stolen.append(jobs.claim(database, "another"))
        return examine(*arguments)

    monkeypatch.setattr(Examiner, "_read", slow)
    assert intake.finish()
    assert stolen
    assert set(stolen) == {None}
    with database.read() as session:
        assert session.get_one(Commit, commit.id).status == "verified"


def test_content_sent_by_several_at_once_is_noted_once(
    intake: Intake, database: Database, home: Blobs
) -> None:
    caller = _new_repo(database)
    content = _send(intake, home, database)
    problems: list[BaseException] = []
    begin = threading.Barrier(6)

    def note() -> None:
        try:
            begin.wait()
            with database.write() as session:
                ledger.note_upload(session, 1, content, caller.account_id or 0)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=note) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def _send(intake: Intake, home: Blobs, database: Database) -> str:
    with intake.staging.area() as folder:
        writer = Writer(folder / "a", 100)
        writer.write(b"sent by many")
        staged = writer.finish()
        ledger.add(database, home, [staged])
    return staged.sha256


def test_many_at_once(intake: Intake, database: Database) -> None:
    caller = _new_repo(database)
    _push(intake, caller, adapter_files())
    done: list[Commit] = []
    problems: list[BaseException] = []

    def push(number: int) -> None:
        try:
            done.append(_push(intake, caller, {f"{number}.md": b"same\n"}))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=push, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len({commit.parent_id for commit in done}) == 6
    with database.read() as session:
        tip = history.resolve(session, repos.view(session, caller, "ada", "x"), "main")
        assert len(history.files(session, tip)) == 8


def test_clean_up_removes_only_what_nothing_names(
    intake: Intake, database: Database, home: Blobs
) -> None:
    caller = _new_repo(database)
    commit = _push(intake, caller, adapter_files())
    with intake.staging.area() as folder:
        writer = Writer(folder / "a", 100)
        writer.write(b"nobody names this")
        staged = writer.finish()
        ledger.add(database, home, [staged])
        writer = Writer(folder / "b", 100)
        writer.write(b"there is not even a row")
        orphan = writer.finish()
        home.put(orphan.path, orphan.sha256)
    assert sorted(ledger.collect(database, home)) == [orphan.sha256]  # the other one is too young
    assert ledger.collect(database, home, grace=timedelta(0)) == [staged.sha256]
    with database.read() as session:
        named = {item.sha256 for item in history.files(session, commit)}
        assert set(session.scalars(select(Blob.sha256))) == named
    assert set(home.all()) == named
    with database.write() as session:
        repos.remove(session, repos.view(session, caller, "ada", "x", need="admin"))
    ledger.collect(database, home, grace=timedelta(0))
    assert list(home.all()) == []


def test_content_that_is_being_removed_is_waited_for(
    intake: Intake, database: Database, home: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again in the very moment of its removal, a content is there afterwards."""
    with intake.staging.area() as folder:

        def staged(name: str) -> Any:
            writer = Writer(folder / name, 100)
            writer.write(b"again and again")
            return writer.finish()

        first = staged("a")
        ledger.add(database, home, [first])
        second, remove, adding = staged("b"), home.remove, []

        def slow(sha256: str) -> None:
            thread = threading.Thread(target=ledger.add, args=(database, home, [second]))
            adding.append(thread)
            thread.start()
            thread.join(0.3)
            assert thread.is_alive(), "it did not wait"
            remove(sha256)

        monkeypatch.setattr(home, "remove", slow)
        ledger.collect(database, home, grace=timedelta(0))
        adding[0].join(10)
        assert home.size(first.sha256) == first.size
    with database.read() as session:
        assert session.get_one(Blob, first.sha256).state == "live"


def test_commit_of_a_content_that_went_away_is_refused(intake: Intake, database: Database) -> None:
    caller = _new_repo(database)
    with database.write() as session:
        seen = repos.view(session, caller, "ada", "x", need="write", lock=True)
        content = commits.Content("0" * 64, 1, "0" * 40, False)
        with pytest.raises(Conflict, match="cleaned up"):
            commits.record(session, seen, "main", Change("t", put={"a.md": content}))


@pytest.mark.slow
def test_server_on_postgresql_and_s3(postgres: str, bucket: str, tmp_path: Path) -> None:
    """The scaled set-up: two web servers and a worker on one database and one bucket."""
    database = Database(postgres)
    with database.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    database.close()
    environment = {"ADAPTERHUB_DATABASE_URL": postgres, "ADAPTERHUB_BLOBS": bucket}
    one = Hub(tmp_path / "one", **environment)
    two = Hub(tmp_path / "two", **environment)
    two.token = one.token
    try:
        files = adapter_files()
        one.published("admin/shared", files)
        redirect = two.ask("GET", "/admin/shared/resolve/main/adapter.safetensors", token=None)
        assert redirect.status == 302
        assert redirect.headers["location"].startswith(os.environ["AWS_ENDPOINT_URL"])
        assert redirect.headers["x-linked-size"] == str(len(files["adapter.safetensors"]))
        assert redirect.headers["x-linked-etag"]
        import urllib.request

        with urllib.request.urlopen(redirect.headers["location"]) as answer:
            assert answer.read() == files["adapter.safetensors"]
        answers: list[int] = []

        def push(hub: Hub, number: int) -> None:
            answers.append(hub.commit("admin/shared", {f"{number}.md": b"x\n"}).status)

        threads = [threading.Thread(target=push, args=((one, two)[n % 2], n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 6
        log = one.ask("GET", "/api/models/admin/shared/commits/main").json
        assert len(log) == 8
        from tests.hub.server.test_clients import run_client

        script = (
            "import sys, pathlib; from huggingface_hub import snapshot_download as s; "
            "print(sorted(p.name for p in pathlib.Path(s(sys.argv[1], token=False)).iterdir()))"
        )
        assert "adapter.safetensors" in run_client(two, tmp_path, script, "admin/shared")
    finally:
        one.kill()
        two.kill()
