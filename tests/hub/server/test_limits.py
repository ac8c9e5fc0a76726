"""How often, and how much: rates of requests, guesses at passwords, and what a namespace may hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

pytest.importorskip("sqlalchemy", reason="the hub server needs the [hub] extra")

from adapterhub.hub.server.limits import Limits, kind_of
from adapterhub.hub.store import accounts, attempts, quotas, repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import Attempt
from adapterhub.hub.store.quotas import Allowance
from adapterhub.hub.store.refusals import Forbidden, TooLarge, TooMany
from adapterhub.hub.verify.intake import Intake
from tests.hub.server.conftest import Hub, adapter_files
from tests.hub.server.person import Person, invited, text_of
from tests.hub.server.test_store import _new_repo, _push, database, home, intake

__all__ = ["database", "home", "intake"]  # fixtures


def test_a_bucket_empties_and_fills() -> None:
    now = [100.0]
    limits = Limits({"read": 60, "write": 2}, clock=lambda: now[0])
    somebody = Caller(address="203.0.113.1")
    for _ in range(60):
        limits.take("GET", "/x", somebody)
    with pytest.raises(TooMany) as caught:
        limits.take("GET", "/x", somebody)
    assert caught.value.headers["Retry-After"] == "2"
    assert "r=0" in caught.value.headers["RateLimit"]
    limits.take("POST", "/x", somebody)  # another kind, another bucket
    limits.take("GET", "/healthz", somebody)
    limits.take("GET", "/x", Caller(address="203.0.113.2"))
    limits.take("GET", "/x", Caller(7, "ada", address="203.0.113.1"))  # a user has his own
    now[0] += 1.01
    limits.take("GET", "/x", somebody)
    with pytest.raises(TooMany):
        limits.take("GET", "/x", somebody)
    now[0] += 1e6
    for _ in range(60):  # never more than a minute's worth
        limits.take("GET", "/x", somebody)
    with pytest.raises(TooMany):
        limits.take("GET", "/x", somebody)


def test_the_machine_itself_and_no_limit() -> None:
    limits = Limits({"read": 1, "write": 0})
    for _ in range(5):
        limits.take("GET", "/x", Caller(address="127.0.0.1"))
        limits.take("GET", "/x", Caller(address="::1"))
        limits.take("POST", "/x", Caller(address="203.0.113.1"))


def test_a_bucket_is_exact_with_many_threads() -> None:
    limits = Limits({"read": 500}, clock=lambda: 1.0)
    taken: list[int] = []

    def ask() -> None:
        count = 0
        for _ in range(100):
            try:
                limits.take("GET", "/x", Caller(1, "ada", address="203.0.113.1"))
            except TooMany:
                continue
            count += 1
        taken.append(count)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 500


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/a/b/resolve/main/x", "read"),
        ("HEAD", "/a/b/resolve/main/x", "read"),
        ("GET", "/api/models", "search"),
        ("GET", "/search/", "search"),
        ("POST", "/api/models/a/b/paths-info/main", "read"),
        ("POST", "/api/models/a/b/commit/main", "write"),
        ("PUT", "/api/hub/v1/blobs", "write"),
        ("POST", "/login/", "write"),
        ("DELETE", "/api/repos/delete", "write"),
        ("GET", "/assets/site.css", ""),
        ("GET", "/metrics", ""),
        ("POST", "/api/hub/v1/repos/a/b/try", "try"),
        ("POST", "/api/hub/v1/repos/a/b/try/image", "try"),
        ("POST", "/adapters/a/b/try/", "try"),
        ("GET", "/adapters/a/b/try/", "read"),
    ],
)
def test_what_a_request_counts_as(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind


def test_the_server_says_when_to_come_back(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(
        ADAPTERHUB_RATE_READS="5", ADAPTERHUB_RATE_WRITES="3", ADAPTERHUB_RATE_SEARCHES="2"
    )
    away = {"X-Forwarded-For": "203.0.113.4"}
    statuses = [hub.ask("GET", "/api/models", token=None, headers=away).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    wrong = [hub.ask("POST", "/api/repos/create", {}, token=None, headers=away) for _ in range(4)]
    assert [answer.status for answer in wrong][-1] == 429
    assert 1 <= int(wrong[-1].headers["retry-after"]) <= 20
    assert wrong[-1].headers["ratelimit"].startswith('"write";r=0')
    person = Person(hub, "203.0.113.4")
    for _ in range(6):
        page = person.get("/login/")
    assert person.status == 429
    assert "Not so fast" in text_of(page)
    assert person.headers["retry-after"]
    # The administrator's token has a bucket of its own, and this machine none.
    assert hub.ask("GET", "/api/whoami-v2", headers=away).status == 200
    for _ in range(8):
        assert hub.ask("GET", "/api/models", token=None).status == 200


def test_guesses_are_counted_three_ways(database: Database) -> None:
    waits: list[int] = []

    def guess(name: str, address: str) -> bool:
        try:
            with database.write() as session:
                attempts.take(session, name, address)
        except TooMany as error:
            waits.append(int(error.headers["Retry-After"]))
            return False
        return True

    assert [guess("Ada", "203.0.113.1") for _ in range(7)] == [True] * 5 + [False] * 2
    assert not guess("aDA", "203.0.113.1")
    assert guess("bob", "203.0.113.1")
    assert guess("ada", "203.0.113.2")
    # Many names from one address; of IPv6, from one network.
    tried = [guess(f"name-{n}", f"2001:db8::{n + 1:x}") for n in range(attempts.PER_ADDRESS + 3)]
    assert tried == [True] * attempts.PER_ADDRESS + [False] * 3
    assert guess("name-x", "2001:db8:0:1::1")
    # One name from many addresses.
    tried = [guess("eve", f"198.51.{n // 200}.{n % 200}") for n in range(attempts.PER_ACCOUNT + 3)]
    assert tried == [True] * attempts.PER_ACCOUNT + [False] * 3
    assert all(0 < wait <= 900 for wait in waits)
    # What succeeds does not count, and what is old neither.
    for _ in range(20):
        assert guess("zoe", "192.0.2.9")
        with database.write() as session:
            attempts.give_back(session, "zoe", "192.0.2.9")
    with database.write() as session:
        for row in session.query(Attempt):
            row.since -= attempts.WINDOW + timedelta(seconds=1)
    assert guess("ada", "203.0.113.1")


def test_many_guesses_at_once_are_no_way_around(database: Database) -> None:
    allowed: list[bool] = []
    problems: list[Exception] = []

    def guess() -> None:
        try:
            with database.write() as session:
                attempts.take(session, "ada", "203.0.113.1")
            allowed.append(True)
        except TooMany:
            allowed.append(False)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=guess) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sum(allowed) == attempts.PER_PAIR


def test_bytes_of_a_namespace(database: Database, intake: Intake) -> None:
    caller = _new_repo(database)
    intake.allowance = Allowance(bytes=4000)
    _push(intake, caller, {"a.txt": b"a" * 1500})
    with pytest.raises(
        TooLarge, match=r"1\.5 kB of 4\.0 kB: 2\.5 kB are left, and this needs 3\.0 kB"
    ):
        _push(intake, caller, {"b.txt": b"b" * 3000})
    _push(intake, caller, {"c.txt": b"a" * 1500})  # the same content is there already
    _push(intake, caller, {"d.txt": b"d" * 2500})
    with pytest.raises(TooLarge):
        _push(intake, caller, {"e.txt": b"e"})
    with database.read() as session:
        owner = accounts.find_account(session, "ada")
        assert quotas.usage(session, owner.id) == quotas.Usage(4000, 1)
    with database.write() as session:
        quotas.set_allowance(session, owner.id, 4001, None)
    _push(intake, caller, {"e.txt": b"e"})
    with database.write() as session:
        quotas.set_allowance(session, owner.id, 0, None)  # no limit at all
    _push(intake, caller, {"f.txt": b"f" * 9000})
    with database.write() as session:
        quotas.set_allowance(session, owner.id, None, None)  # as for all again
    with pytest.raises(TooLarge, match=r"0 B are left"):
        _push(intake, caller, {"g.txt": b"g"})
    _push(intake, caller, {"f.txt": b"a" * 1500})  # nothing new: allowed even so


def test_pushes_at_once_do_not_pass_together(database: Database, intake: Intake) -> None:
    caller = _new_repo(database)
    with database.write() as session:
        owner = repos.owner_for(session, caller, None)
        for number in range(6):
            repos.create(session, caller, owner, f"r{number}")
    intake.allowance = Allowance(bytes=2500)
    done: list[bool] = []
    problems: list[Exception] = []

    def push(number: int) -> None:
        from adapterhub.hub.store.commits import Change
        from adapterhub.hub.store.staging import Writer
        from adapterhub.hub.verify.intake import Received

        try:
            with intake.staging.area() as folder:
                writer = Writer(folder / "x", 10**6)
                writer.write(bytes([65 + number]) * 1000)
                received = Received(Change("t"), {"x.txt": writer.finish()}, {})
                intake.commit(caller, "ada", f"r{number}", "main", received)
            done.append(True)
        except TooLarge:
            done.append(False)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=push, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sum(done) == 2


def test_number_of_repositories(database: Database) -> None:
    caller = _new_repo(database)
    limit = Allowance(repos=2)
    with database.write() as session:
        owner = repos.owner_for(session, caller, None)
        repos.create(session, caller, owner, "second")
        quotas.require_repo(session, owner, limit)

    def add_third() -> None:
        with database.write() as session:
            owner = repos.owner_for(session, caller, None)
            repos.create(session, caller, owner, "third")
            quotas.require_repo(session, owner, limit)

    with pytest.raises(Forbidden, match="2 of 2"):
        add_third()
    with database.read() as session:
        assert quotas.usage(session, accounts.find_account(session, "ada").id).repos == 2


@pytest.mark.slow
def test_quotas_hold_by_every_way_in(new_hub: Callable[..., Hub]) -> None:
    import hashlib

    files = adapter_files()
    size = sum(map(len, files.values()))
    hub = new_hub(
        ADAPTERHUB_QUOTA_BYTES=str(size + 2000),
        ADAPTERHUB_QUOTA_REPOS="2",
        ADAPTERHUB_REGULAR_LIMIT="100",
    )
    token = hub.user("ada")
    hub.published("ada/one", files, token=token)
    refused = hub.commit("ada/one", {"big.txt": b"x" * 3000}, token=token)
    assert refused.status == 413
    assert "2.0 kB are left" in refused.headers["x-error-message"]
    # By LFS: told before it is sent, and refused if it is sent all the same.
    content = b"y" * 3000
    oid = hashlib.sha256(content).hexdigest()
    ask = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}]}
    batch = hub.ask("POST", "/ada/one.git/info/lfs/objects/batch", ask, token=token).json
    assert batch["objects"][0]["error"]["code"] == 413
    assert "left" in batch["objects"][0]["error"]["message"]
    # Repositories: a name that is taken is told first.
    hub.create("ada/two", token=token)
    body = {"name": "two", "organization": "ada"}
    assert hub.ask("POST", "/api/repos/create", body, token=token).status == 409
    body["name"] = "three"
    full = hub.ask("POST", "/api/repos/create", body, token=token)
    assert full.status == 403
    assert "2 of 2" in full.headers["x-error-message"]
    # An administrator gives one namespace more.
    boss = invited(hub, "boss", admin=True)
    place = "/settings/hub/users/ada/"
    page = boss.send(f"{place}quota/", boss.get(place), bytes="1M", repos="3")
    assert "limits are changed" in text_of(page)
    assert "of 1.0 MB" in text_of(page)
    assert hub.ask("POST", "/api/repos/create", body, token=token).status == 200
    assert hub.commit("ada/one", {"big.txt": b"x" * 3000}, token=token).status == 200
    for wrong in ({"bytes": "much"}, {"repos": "-1"}):
        boss.send(f"{place}quota/", boss.get(place), **wrong)
        assert boss.status == 400
    batch = hub.ask("POST", "/ada/one.git/info/lfs/objects/batch", ask, token=token).json
    assert "actions" in batch["objects"][0]
    # What has no room elsewhere cannot be moved there.
    assert hub.ask("POST", "/api/hub/v1/organizations", {"name": "lab"}).status == 201
    move = {"fromRepo": "ada/one", "toRepo": "lab/one"}
    moved = hub.ask("POST", "/api/repos/move", move)
    assert moved.status == 413
    assert hub.ask("GET", "/api/models/ada/one").json["id"] == "ada/one"
