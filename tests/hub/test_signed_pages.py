"""What the pages of a folder say about signatures, and whose keys the folder lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the pages need adapterhub[hub]")
pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.hub import Hub
from adapterhub.hub.folderkeys import FolderKey, FolderKeys, dumps
from adapterhub.hub.signing import ADAPTER, SIGNATURE_FILE, SigningKey, now, sign
from adapterhub.hub.storage import blob_path, file_sha256
from adapterhub.hub.web import FolderSource, Site
from tests.hub.conftest import make_adapter


def publish(hub: Hub, folder: Path, key: SigningKey | None, subject: str = "ada/mood") -> None:
    made = make_adapter(folder)
    if key is not None:
        files = {path.name: file_sha256(path)[0] for path in made.iterdir()}
        (made / SIGNATURE_FILE).write_bytes(sign(key, ADAPTER, subject, files).dumps())
    hub.publish(made, task="mood", subtask="diary", owner="ada", name="mood")


def list_key(hub: Hub, account: str, *keys: FolderKey) -> None:
    (hub.path / "keys").mkdir(exist_ok=True)
    (hub.path / "keys" / f"{account}.yaml").write_bytes(dumps(keys))


def shown(hub: Hub) -> tuple[Any, str]:
    site = Site(FolderSource(hub))
    twin = json.loads(site.answer("adapters/ada/mood/index.json").body)
    return twin["detail"]["signed"], site.answer("adapters/ada/mood/").body.decode()


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


def test_not_signed(hub: Hub, tmp_path: Path) -> None:
    publish(hub, tmp_path / "a", None)
    signed, page = shown(hub)
    assert signed is None
    assert "Not signed." in page


def test_signed_by_a_key_that_the_folder_lists(hub: Hub, tmp_path: Path, key: SigningKey) -> None:
    publish(hub, tmp_path / "a", key)
    signed, page = shown(hub)
    assert (signed["outcome"], signed["key"], signed["by"]) == ("unknown", key.public.id, "")
    assert "key not known here" in page
    list_key(hub, "ada", FolderKey(key.public, "ada", "laptop"))
    signed, page = shown(hub)
    assert (signed["outcome"], signed["by"], signed["message"]) == ("ok", "ada", "")
    assert "Signed by @ada" in page
    assert key.public.id[:16] in page
    versions = Site(FolderSource(hub)).answer("adapters/ada/mood/versions/").body.decode()
    assert f'title="{key.public.id}">signed</span>' in versions


def test_keys_of_others_and_revoked_ones(hub: Hub, tmp_path: Path, key: SigningKey) -> None:
    publish(hub, tmp_path / "a", key)
    list_key(hub, "bob", FolderKey(key.public, "bob"))
    signed, page = shown(hub)
    assert (signed["outcome"], signed["by"]) == ("unknown", "bob")
    assert "bob is not ada" in page
    (hub.path / "keys" / "bob.yaml").unlink()
    list_key(hub, "ada", FolderKey(key.public, "ada", revoked=now()))
    signed, page = shown(hub)
    assert signed["outcome"] == "wrong"
    assert "was revoked" in page
    list_key(hub, "ada", FolderKey(key.public, "ada", expires=key.created.replace(year=2020)))
    assert "expired" in shown(hub)[0]["message"]


def test_a_signature_of_something_else(hub: Hub, tmp_path: Path, key: SigningKey) -> None:
    publish(hub, tmp_path / "a", key, subject="ada/other")
    list_key(hub, "ada", FolderKey(key.public, "ada"))
    signed, page = shown(hub)
    assert signed["outcome"] == "wrong"
    assert "Signature not valid" in page
    entry = hub.resolve("@ada/mood")
    [sha256] = [m.sha256 for m in entry.version.members if m.path == SIGNATURE_FILE]
    blob_path(hub.path, sha256).unlink()
    assert "missing" in shown(hub)[0]["message"]


@pytest.mark.parametrize(
    "text",
    ["keys: 3\n", "keys: [ed25519:AAAA]\n", "keys:\n- key: ed25519:AAAA\n", "- a\n", "a: [\n"],
)
def test_files_of_keys_that_are_none(hub: Hub, text: str) -> None:
    (hub.path / "keys").mkdir()
    (hub.path / "keys" / "ada.yaml").write_text(text)
    found = FolderKeys.load(hub.path)
    assert not found.keys
    assert [finding.where for finding in found.findings] == ["keys/ada.yaml"]


def test_a_key_belongs_to_one_account(hub: Hub, key: SigningKey) -> None:
    for name in ("ada", "bob"):
        list_key(hub, name, FolderKey(key.public, name))
    found = FolderKeys.load(hub.path)
    assert [item.account for item in found.keys.values()] == ["ada"]
    assert "listed for ada" in found.findings[0].message
