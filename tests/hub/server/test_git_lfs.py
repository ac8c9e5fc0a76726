"""git's own LFS client against our endpoint: its files arrive, and a commit can name them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hub.server.conftest import Hub, adapter_files


@pytest.fixture
def git_lfs() -> str:
    found = shutil.which("git-lfs")
    if found is None or shutil.which("git") is None:
        pytest.skip("no git-lfs here (apt-get install git-lfs)")
    return found


class Checkout:
    """A git repository on this disk whose large files belong to a repository of the hub."""

    def __init__(self, folder: Path, hub: Hub, repo: str, token: str) -> None:
        self.folder = folder
        # Nothing of the user's own settings, and no question for a password.
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_LFS_FORCE_PROGRESS": "1",
        }
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Ada")
        self.git("config", "user.email", "ada@example.org")
        self.git("lfs", "install", "--local")
        self.git("config", "lfs.transfer.maxretries", "1")
        parts = urlsplit(hub.url)
        address = f"{parts.scheme}://ada:{token}@{parts.netloc}/{repo}.git"
        self.git("remote", "add", "origin", address)
        self.git("lfs", "track", "*.safetensors")

    def git(self, *words: str, fails: bool = False) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def commit(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "an adapter")


def test_files_arrive_by_git_lfs(server: Hub, git_lfs: str, tmp_path: Path) -> None:
    repo = server.new_name()
    server.create(repo)
    files = adapter_files(weights=tuple(float(n) for n in range(20_000)))
    weights = files.pop("adapter.safetensors")
    checkout = Checkout(tmp_path / "work", server, repo, server.token)
    checkout.commit({**files, "adapter.safetensors": weights})
    oid = hashlib.sha256(weights).hexdigest()
    pointer = checkout.git("show", "HEAD:adapter.safetensors")
    assert f"oid sha256:{oid}" in pointer
    said = checkout.git("lfs", "push", "origin", "main")
    assert "100% (1/1)" in said
    # Sent once is enough: the endpoint says that it has the file.
    sent = server.log.read_text().count("PUT /api/hub/v1/blobs")
    checkout.git("lfs", "push", "origin", "main")
    assert server.log.read_text().count("PUT /api/hub/v1/blobs") == sent > 0
    # The commit itself goes by the protocol, and names what has arrived by its hash.
    entry = {"path": "adapter.safetensors", "algo": "sha256", "oid": oid, "size": len(weights)}
    made = server.commit(repo, files, extra=[{"key": "lfsFile", "value": entry}])
    assert made.json["status"] == "verified", made
    got = server.ask("GET", f"/{repo}/resolve/main/adapter.safetensors", token=None)
    assert got.status in (200, 302)
    assert hashlib.sha256(got.body).hexdigest() == oid


def test_nobody_else_pushes_by_git_lfs(server: Hub, git_lfs: str, tmp_path: Path) -> None:
    repo = server.new_name()
    server.create(repo)
    stranger = server.user("git-lfs-stranger")
    weights = adapter_files(weights=(5.0,) * 1000)["adapter.safetensors"]
    oid = hashlib.sha256(weights).hexdigest()
    for number, token in enumerate((stranger, "ahub_wrong")):
        checkout = Checkout(tmp_path / str(number), server, repo, token)
        checkout.commit({"adapter.safetensors": weights})
        said = checkout.git("lfs", "push", "origin", "main", fails=True)
        assert token not in server.log.read_text()
        assert "100% (1/1), " not in said or "error" in said.lower()
    entry = {"path": "adapter.safetensors", "algo": "sha256", "oid": oid, "size": len(weights)}
    made = server.commit(repo, {}, extra=[{"key": "lfsFile", "value": entry}])
    assert made.status == 422


def test_what_is_no_adapter_is_refused(server: Hub, git_lfs: str, tmp_path: Path) -> None:
    """The reason of the hub reaches whoever pushes."""
    repo = server.new_name()
    server.create(repo)
    checkout = Checkout(tmp_path / "work", server, repo, server.token)
    checkout.commit({"adapter.safetensors": b"PK\x03\x04" + b"\0" * 5000})
    said = checkout.git("lfs", "push", "origin", "main", fails=True)
    assert "zip" in said.lower()
