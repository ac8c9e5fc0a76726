"""When the hub itself is at fault: a page for people, JSON for programs, and no word about the inside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from tests.hub.server.conftest import Hub

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with a row in its database that nobody can read."""
    hub = Hub(tmp_path_factory.mktemp("broken") / "data", ADAPTERHUB_TITLE="Broken <hub>")
    hub.published("admin/one")
    with sqlite3.connect(hub.data / "hub.db") as database:
        database.execute("UPDATE commits SET facts = '{secret'")
    database.close()
    yield hub
    hub.stop()


def test_a_browser_gets_a_page_and_a_program_json(broken: Hub) -> None:
    place = "/adapters/admin/one/"
    shown = broken.ask("GET", place, token=None, headers=BROWSER)
    assert shown.status == 500
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    number = shown.headers["x-request-id"]
    page = shown.body.decode()
    assert f"<code>{number}</code>" in page
    assert "Something went wrong" in page
    assert "Broken &lt;hub&gt;" in page
    assert shown.headers["cache-control"] == "no-store"
    policy = shown.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    for accept in ("application/json", "*/*"):
        plain = broken.ask("GET", place, token=None, headers={"Accept": accept})
        assert plain.status == 500
        assert plain.headers["content-type"] == "application/json"
        assert plain.json == {"error": plain.headers["x-error-message"]}
        assert plain.headers["x-request-id"] in plain.json["error"]
    # The log knows more, under the same number; the answers nothing of it.
    log = broken.log.read_text()
    assert number in log
    assert "JSONDecodeError" in log
    for answer in (shown, plain):
        said = answer.body.decode() + str(answer.headers)
        assert not any(
            w in said for w in ("Traceback", "JSONDecode", "secret", "sqlalchemy", ".py")
        )


def test_the_api_answers_json_whoever_asks(broken: Hub) -> None:
    answer = broken.ask("GET", "/api/models/admin/one", token=None, headers=BROWSER)
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/json"


def test_odd_addresses_on_the_page(broken: Hub) -> None:
    """The address stands on the page again, and leads nowhere else."""
    place = '/adapters/admin/one/?q="><script>alert(1)</script>&next=//evil.example'
    page = broken.ask("GET", place, token=None, headers=BROWSER).body.decode()
    assert "alert(1)" not in page
    assert "evil" not in page
    assert 'href="../../../adapters/admin/one/"' in page
