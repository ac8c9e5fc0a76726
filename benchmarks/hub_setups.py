"""Hub servers that really run, in their two set-ups, for the benchmarks that work on them.

``sqlite``: one server, SQLite and a folder. ``scaled``: any number of servers on PostgreSQL 15 and moto's
S3 server (in memory and one process, so it says nothing about the speed of a real store).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.hub.server.conftest import Answer, Hub, adapter_files
from tests.hub.server.services import S3, Postgres

from adapterhub.hub.store.blobs import Blobs, FolderBlobs
from adapterhub.hub.store.database import Database
from benchmarks.hub_forked import ForkedHub

STORES = ("sqlite", "scaled")


@dataclass
class Setup:
    """Servers of one hub, with the stores below them."""

    store: str
    folder: Path
    hubs: list[Hub] = field(default_factory=list)
    postgres: Postgres | None = None
    s3: S3 | None = None

    @property
    def token(self) -> str:
        """The token of the administrator."""
        return self.hubs[0].token

    def database(self) -> Database:
        """Open the database beside the servers."""
        if self.postgres is not None:
            return Database(self.postgres.url)
        return Database(f"sqlite:///{self.hubs[0].data / 'hub.db'}")

    def home(self) -> Blobs:
        """Open the home of blobs beside the servers."""
        if self.s3 is None:
            return FolderBlobs(self.hubs[0].data / "blobs")
        from adapterhub.hub.store.s3 import S3Blobs

        with patch.dict(os.environ, self.s3.environment):
            return S3Blobs(self.s3.url)

    def start(self, **environment: str) -> Hub:
        """Start one more server."""
        if self.postgres is not None and self.s3 is not None:
            environment |= self.s3.environment
            environment |= {
                "ADAPTERHUB_DATABASE_URL": self.postgres.url,
                "ADAPTERHUB_BLOBS": self.s3.url,
            }
        hub = ForkedHub(self.folder / f"hub-{len(self.hubs)}", **environment)
        hub.token = hub.token or self.token
        self.hubs.append(hub)
        return hub


@contextmanager
def setup(store: str, servers: int = 1, **environment: str) -> Iterator[Setup]:
    """Start a hub; stop it and remove all it kept at the end of the block.

    Raises:
        ValueError: If SQLite is to have several servers.
    """
    if store == "sqlite" and servers != 1:
        raise ValueError("SQLite takes one server")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adapterhub-")))
        made = Setup(store, folder)
        if store == "scaled":
            made.postgres = stack.enter_context(Postgres())
            made.s3 = stack.enter_context(S3())
        stack.callback(lambda: [hub.kill() for hub in made.hubs])
        for _ in range(servers):
            made.start(**environment)
        yield made


def adapter(writer: int, number: int, seed: int = 0) -> dict[str, bytes]:
    """Return an adapter whose every file says whose it is, so that a mixture of two would show.

    Its size is drawn between 1 kB and 400 kB.
    """
    chance = random.Random(f"{seed}/{writer}/{number}")
    count = int(10 ** chance.uniform(2.4, 5.0))
    data = struct.pack("<2f", float(writer), float(number)) * (count // 2)
    name = "bert.encoder.layer.0.output.adapters.a.w"
    entry = {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}
    header = json.dumps({name: entry}).encode()
    return {
        **_PLAIN,
        "adapter.safetensors": struct.pack("<Q", len(header)) + header + data,
        "README.md": f"# Adapter {number} of {writer}\n".encode(),
        "note.md": f"{writer} {number} {seed}\n".encode(),
    }


_PLAIN = {
    name: data
    for name, data in adapter_files().items()
    if not name.endswith((".md", ".safetensors"))
}


def push_large(hub: Hub, repo: str, path: str, data: bytes) -> Answer:
    """Send one file by LFS and commit it.

    Raises:
        RuntimeError: If the content is refused.
    """
    oid = hashlib.sha256(data).hexdigest()
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(data)}]}
    answer = hub.ask("POST", f"/{repo}.git/info/lfs/objects/batch", batch)
    if answer.status != 200:
        return answer
    (item,) = answer.json["objects"]
    if "actions" in item:
        _, _, target = item["actions"]["upload"]["href"].partition(hub.url)
        sent = hub.ask("PUT", target, data, token=None)
        if sent.status != 200:
            return sent
    line = {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid}}
    return hub.commit(repo, {}, extra=[line])


def push_by_xet(hub: Hub, repo: str, path: str, data: bytes) -> Answer:
    """Send one file in Xet's format, as ``hf_xet`` does, and commit it."""
    from tests.hub.xet.formats import chunk, file_of, shard, xorb_of

    given = hub.ask("GET", f"/api/models/{repo}/xet-write-token/main")
    if given.status != 200:
        return given
    _, _, place = given.json["casUrl"].partition(hub.url)
    token = given.json["accessToken"]
    oid, xorb = hashlib.sha256(data).hexdigest(), "1" * 64
    pieces = [data[start : start + (64 << 10)] for start in range(0, len(data), 64 << 10)]
    chunks = [chunk(piece, number % 3) for number, piece in enumerate(pieces)]
    text = shard([file_of(oid, [(xorb, len(data), 0, len(chunks))])], [xorb_of(xorb, len(chunks))])
    for address, body in ((f"v1/xorbs/default/{xorb}", b"".join(chunks)), ("v1/shards", text)):
        sent = hub.ask("POST", f"{place}/{address}", body, token=token)
        if sent.status != 200:
            return sent
    line = {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid}}
    return hub.commit(repo, {}, extra=[line])


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record where it is kept, and print it."""
    text = json.dumps(record, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)
