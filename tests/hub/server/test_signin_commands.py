"""Passwords and invitations from the console, beside a running server; settings of all this."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterhub.cli.app import build_app
from adapterhub.errors import HubError
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.store.quotas import Allowance
from tests.hub.server.conftest import Hub
from tests.hub.server.person import PASSWORD, Person, text_of
from tests.hub.server.test_account import _sign_in


def _run(hub: Hub, *words: str, typed: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(build_app(), ["hub", *words, "--data", str(hub.data)], input=typed)
    return result.exit_code, result.output


def test_passwords_are_set_from_the_console(server: Hub) -> None:
    code, said = _run(server, "user", "con-pass", "--password", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert (code, PASSWORD in said) == (0, False)
    person = Person(server)
    assert "My adapters" in text_of(_sign_in(person, "con-pass", PASSWORD))
    new = "another long one"
    assert _run(server, "user", "con-pass", "--password", typed=f"{new}\n{new}\n")[0] == 0
    person.get("/settings/")
    assert person.path.startswith("/login/")
    assert "My adapters" in text_of(_sign_in(person, "con-pass", new))
    assert _run(server, "user", "con-weak", "--password", typed="1234567890\n1234567890\n")[0] != 0
    assert server.ask("GET", "/api/users/con-weak/overview").status == 404


def test_invitations_are_made_at_the_console(server: Hub) -> None:
    code, said = _run(server, "invite", "con-guest", "--days", "1")
    assert code == 0
    guest = Person(server)
    path = said.strip().partition("/join/")[2]
    assert path.startswith("#")
    form = guest.send("/join/", guest.get("/join/"), step="code", code=path[1:])
    guest.send("/join/", form, code=path[1:], password=PASSWORD)
    assert guest.status == 200
    assert "con-guest" in guest.get("/settings/")
    assert _run(server, "invite", "a b")[0] != 0


def test_settings(tmp_path: Path) -> None:
    plain = Settings.from_environment(tmp_path, {})
    assert not plain.sign_up
    assert plain.quota == Allowance()
    made = Settings.from_environment(
        tmp_path,
        {
            "ADAPTERHUB_SIGN_UP": "1",
            "ADAPTERHUB_QUOTA_BYTES": "2G",
            "ADAPTERHUB_QUOTA_REPOS": "10",
            "ADAPTERHUB_RATE_READS": "0",
            "ADAPTERHUB_LOGIN_DAYS": "3",
        },
    )
    assert made.sign_up
    assert made.quota == Allowance(2 << 30, 10)
    assert (made.rates["read"], made.login_time.days) == (0, 3)
    for name, value in (("SIGN_UP", "maybe"), ("RATE_READS", "-1"), ("LOGIN_DAYS", "0")):
        with pytest.raises(HubError, match=name):
            Settings.from_environment(tmp_path, {f"ADAPTERHUB_{name}": value})
