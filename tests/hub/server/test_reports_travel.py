"""Reports and keys go along: from a server into a folder, to published pages, and into another server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.hub import Hub as Folder
from adapterhub.hub.copies.choose import export, mirror
from adapterhub.hub.copies.upload import upload
from adapterhub.hub.signing import SigningKey
from adapterhub.hub.web import FolderSource
from tests.hub.conftest import LORA
from tests.hub.server.conftest import Hub, adapter_files
from tests.hub.server.test_reports import Reporter

README = b"---\ntags:\n- adapterhub:sentiment/films\n---\n# One\n"


def measured(hub: Hub, repo: str) -> list[tuple[Any, ...]]:
    page = hub.ask("GET", f"/adapters/{repo}/index.json", token=None).json
    return [
        (m["metric"], m["value"], m["signed_by"], m["key"], m["current"]) for m in page["measured"]
    ]


@pytest.mark.slow
def test_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # read at its import
    hub, other = Hub(tmp_path / "data"), Hub(tmp_path / "other")
    try:
        files = {**adapter_files(), "README.md": README}
        more = {**adapter_files(config=LORA), "README.md": README}
        hub.published("admin/one", files)
        hub.published("admin/secret", adapter_files(weights=(5.0, 5.0)), private=True)
        eva, eve = Reporter(hub, "eva"), Reporter(hub, "eve")
        hub.published("eva/own", more, token=eva.token)
        for reporter, repo, content in ((eva, "eva/own", more), (eve, "admin/one", files)):
            assert reporter.send(repo, reporter.sign(repo, content)).status == 201
        first = eva.send("admin/one", eva.sign("admin/one", files, 0.7)).json["id"]
        assert eva.send("admin/one", eva.sign("admin/one", files, 0.8)).status == 201
        secret = adapter_files(weights=(5.0, 5.0))
        admin = SigningKey.generate()
        assert hub.ask("POST", "/api/hub/v1/keys", {"key": str(admin.public)}).status == 201
        eva.key, kept = admin, eva.key
        hidden = eva.sign("admin/secret", secret)
        eva.key = kept
        assert hub.ask("POST", "/api/hub/v1/repos/admin/secret/reports", hidden).status == 201

        # What everybody sees goes into the copy, by the index as by the database.
        report, _ = mirror(hub.url, tmp_path / "mirror")
        assert not report.refused
        export(str(hub.data), tmp_path / "folder")
        folders = [Folder(tmp_path / name) for name in ("mirror", "folder")]
        for folder in folders:
            paths = sorted(folder.path.glob("reports/*/*/*.json"))
            assert [p.parent.name for p in paths] == ["one", "one", "one", "own"]
            assert sorted(p.stem for p in folder.path.glob("keys/*")) == ["admin", "eva", "eve"]
            bad = [f for f in folder.check() if f.severity != "note"]
            assert bad == []
            assert len(FolderSource(folder).measured("admin", "one")) == 6

        # A report that is taken back and a key that is revoked are known with the next run.
        place = f"/api/hub/v1/repos/admin/one/reports/{first}"
        assert hub.ask("DELETE", place, token=eva.token).status == 200
        key = f"/api/hub/v1/users/eve/keys/{eve.key.public.id}"
        assert hub.ask("DELETE", key, token=eve.token).status == 200
        report, _ = mirror(hub.url, tmp_path / "mirror", prune=True)
        assert len(report.removed) == 2
        assert "revoked" in (tmp_path / "mirror/keys/eve.yaml").read_text()
        assert len(FolderSource(Folder(tmp_path / "mirror")).measured("admin", "one")) == 2

        # Into another server: accounts, keys, adapters, reports; with the token of an administrator.
        folder = Folder(tmp_path / "mirror")
        done = upload(folder, other.url, token=other.token, create_owners=True)
        assert (done.refused, done.unsigned) == ({}, {})
        assert (done.keys, done.reports) == (3, 2)
        assert measured(other, "admin/one") == measured(hub, "admin/one")
        assert measured(other, "eva/own") == measured(hub, "eva/own")
        assert len(measured(other, "eva/own")) == 2
        [row] = other.ask("GET", "/api/hub/v1/users/eve/keys").json
        assert row["revoked"]
        again = upload(folder, other.url, token=other.token, create_owners=True)
        assert (again.keys, again.reports, again.unsigned) == (0, 0, {})

        # Nobody else may bring what others have signed, or give them keys.
        mallory = other.user("mallory")
        body = {"key": str(SigningKey.generate().public), "user": "eva"}
        assert other.ask("POST", "/api/hub/v1/keys", body, token=mallory).status == 403
        mine = upload(folder, other.url, token=mallory)
        assert mine.reports == 0
        assert any("not registered as one of yours" in text for text in mine.unsigned.values())
    finally:
        hub.stop()
        other.stop()
