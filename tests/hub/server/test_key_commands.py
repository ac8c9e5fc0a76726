"""``adapterhub hub key ...`` and ``adapterhub hub check --data``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.cli.app import build_app
from adapterhub.errors import AdapterHubError
from adapterhub.hub.signing import SIGNATURE_FILE, PublicKey
from adapterhub.hub.trust import TrustedKeys
from tests.hub.conftest import make_adapter
from tests.hub.server.conftest import Hub

Run = Callable[..., Result]


@pytest.fixture
def command(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return ``command(*words)``, which runs ``adapterhub`` in this process."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("ADAPTERHUB_HUB", server.url)
    monkeypatch.setenv("HF_TOKEN", server.token)
    for name in ("KEY", "TRUSTED_KEYS", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)

    def run(*words: str, **options: Any) -> Result:
        return CliRunner().invoke(build_app(), list(words), **options)

    return run


def _revoke_all(server: Hub, user: str) -> None:
    place = f"/api/hub/v1/users/{user}/keys"
    for known in server.ask("GET", place).json:
        if not known["revoked"]:
            assert server.ask("DELETE", f"{place}/{known['id']}").status == 200


def test_life_of_a_key(server: Hub, command: Run, tmp_path: Path) -> None:
    _revoke_all(server, "admin")  # those of other tests
    made = command("hub", "key", "new", "--name", "laptop", "--days", "30")
    assert made.exit_code == 0, made.output
    key = made.stdout.split()[0]
    assert "PRIVATE" not in made.output
    again = command("hub", "key", "new")
    assert isinstance(again.exception, AdapterHubError)
    assert command("hub", "key", "register").exit_code == 0
    shown = command("hub", "key", "show", "--user", "admin").output
    assert key in shown
    assert "expires 20" in shown
    folder, repo = make_adapter(tmp_path / "a"), server.new_name()
    pushed = command("push", str(folder), repo, "--sign")
    assert pushed.exit_code == 0, pushed.output
    content = server.ask("GET", f"/{repo}/raw/main/{SIGNATURE_FILE}").json
    assert content["key"] == key
    # Nothing is trusted before somebody says so.
    signed = tmp_path / "signed"
    signed.mkdir()
    for name in ("adapter.safetensors", "adapter_config.json", "README.md", SIGNATURE_FILE):
        (signed / name).write_bytes(server.ask("GET", f"/{repo}/raw/main/{name}").body)
    words = ("hub", "key", "verify", str(signed), "--name", repo)
    assert "does not list" in str(command(*words).exception)
    declined = command("hub", "key", "trust", "admin", input="n\n" * 20)
    assert declined.exit_code == 0, (declined.output, declined.exception)
    assert all(known.revoked for known in TrustedKeys.load().keys)
    assert "is trusted for admin" in command("hub", "key", "trust", "admin", "--yes").output
    assert f"{repo}: signed by key" in command(*words).output
    assert key in command("hub", "key", "show").output
    (fingerprint,) = (known.key.id for known in TrustedKeys.load().keys if not known.revoked)
    assert fingerprint == PublicKey.parse(key).id
    gone = command("hub", "key", "revoke", fingerprint, "--user", "admin")
    assert gone.exit_code == 0, gone.output
    assert "was revoked" in str(command(*words).exception)
    assert "REVOKED" in command("hub", "key", "show", "--user", "admin").output
    assert "no key in the profile" in str(command("hub", "key", "trust", "admin").exception)
    assert "listed as revoked" in str(
        command("hub", "key", "trust", key, "--for", "admin", "--yes").exception
    )


def test_unknown_things_are_named(command: Run) -> None:
    for words, message in (
        (("hub", "key", "register"), "there is no key"),
        (("hub", "key", "show", "--user", "nobody-here"), "there is no user"),
        (("hub", "key", "trust", "ed25519:AAAA", "--for", "ada"), "not a public key"),
        (("hub", "key", "trust", "ed25519:AAAA"), "--for"),
        (("hub", "key", "revoke", "abcdef"), "none of your trusted keys"),
    ):
        result = command(*words)
        assert message in str(result.exception), words


def test_checks_of_a_server_are_run_again(
    new_hub: Callable[..., Hub], command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapterhub.hub.verify import adapter, rechecks

    hub = new_hub()
    repo = hub.new_name()
    hub.published(repo)
    words = ("hub", "check", "--data", str(hub.data))
    monkeypatch.setenv("ADAPTERHUB_CHECKS", "format")
    assert "the running server does it" in command(*words, "--all").output
    hub.stop()
    assert "0 of 1 commits were checked again: 1 verified" in command(*words).output
    assert "1 of 1 commits were checked again" in command(*words, "--all").output
    # Another version of a check, which comes to another conclusion.
    monkeypatch.setattr(adapter, "VERSION", 99)
    monkeypatch.setitem(rechecks.CURRENT, "adapter", 99)
    assert "1 of 1 commits were checked again" in command(*words).output
    assert "0 of 1 commits were checked again" in command(*words).output
    # Now with base models known: what was published by its format alone does not fit.
    monkeypatch.setenv("ADAPTERHUB_CHECKS", "full")
    result = command(*words, "--all", "--json")
    assert result.exit_code == 1, result.output
    (row,) = json.loads(result.stdout)
    assert (row["repo"], row["status"]) == (repo, "rejected")
    assert "bert-base-uncased" in row["reason"]
    missing = command("hub", "check", "--data", str(tmp_path / "nothing"))
    assert missing.exit_code == 1
    assert "holds no hub server's data" in missing.output
