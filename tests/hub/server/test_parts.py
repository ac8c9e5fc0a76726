"""Large files in parts: as real clients send them, broken off and gone on with, as attackers would."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from adapterhub.errors import HubError
from adapterhub.hub.server import parts, signed
from adapterhub.hub.server.parts import Assembling
from adapterhub.hub.server.signed import Announced
from adapterhub.hub.store.blobs import FolderBlobs
from adapterhub.hub.store.pending import Pending, pending_of
from tests.hub.conftest import make_adapter
from tests.hub.server.conftest import Hub, adapter_files
from tests.hub.server.services import S3
from tests.hub.server.test_clients import _LFS, need, run_client, seen_by

_PART = 50_000
_ITEM = Announced(1, 2, "a" * 64, 100)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    environment = {"ADAPTERHUB_REGULAR_LIMIT": "64k", "ADAPTERHUB_PART_SIZE": str(_PART)}
    made = Hub(tmp_path_factory.mktemp("parts") / "data", **environment)
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.parametrize("client", ["", "huggingface_hub-1", "huggingface_hub-0.36"])
def test_real_clients_send_in_parts(hub: Hub, tmp_path: Path, client: str) -> None:
    need(client)
    repo = hub.new_name()
    hub.published(repo)
    folder = make_adapter(tmp_path / "large", weights=tuple(float(n) for n in range(40_000)))
    file = str(folder / "adapter.safetensors")
    before = hub.log.read_text().count('"path": "/api/hub/v1/blobs/part"')
    output = run_client(
        hub, tmp_path, _LFS, repo, file, hub.token, client=client, HF_HUB_DISABLE_XET="1"
    )
    assert seen_by(output) is True
    assert hub.log.read_text().count('"path": "/api/hub/v1/blobs/part"') - before == 4


class _Upload:
    """An upload by hand."""

    def __init__(self, hub: Hub, data: bytes, token: str = "") -> None:
        self.hub, self.data = hub, data
        self.repo = hub.new_name()
        hub.published(self.repo)
        self.oid = hashlib.sha256(data).hexdigest()
        self.batch = {
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": [{"oid": self.oid, "size": len(data)}],
        }
        answer = self.ask_again()
        assert answer["transfer"] == "multipart"
        (item,) = answer["objects"]
        header = item["actions"]["upload"]["header"]
        self.length = int(header.pop("chunk_size"))
        self.addresses = {int(number): _local(url) for number, url in header.items()}
        self.end = _local(item["actions"]["upload"]["href"])
        self.tags: dict[int, str] = {}

    def ask_again(self) -> Any:
        path = f"/{self.repo}.git/info/lfs/objects/batch"
        return self.hub.ask("POST", path, self.batch).json

    def piece(self, number: int) -> bytes:
        return self.data[(number - 1) * self.length : number * self.length]

    def send(self, number: int, data: bytes | None = None) -> int:
        sent = self.piece(number) if data is None else data
        answer = self.hub.ask("PUT", self.addresses[number], sent, token=None)
        if answer.status == 200:
            self.tags[number] = answer.headers["etag"]
        return answer.status

    def finish(self, tags: dict[int, str] | None = None, **more: Any) -> Any:
        rows = [{"partNumber": number, "etag": tag} for number, tag in (tags or self.tags).items()]
        body = {"oid": self.oid, "parts": rows, **more}
        return self.hub.ask("POST", self.end, body, token=None)

    def commit(self) -> int:
        value = {"path": "adapter.safetensors", "algo": "sha256", "oid": self.oid}
        return self.hub.commit(self.repo, {}, extra=[{"key": "lfsFile", "value": value}]).status


def _local(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _weights(number: int) -> bytes:
    values = tuple(float(number + place) for place in range(40_000))
    return adapter_files(weights=values)["adapter.safetensors"]


def test_broken_off_and_gone_on_with(hub: Hub) -> None:
    upload = _Upload(hub, _weights(1))
    assert sorted(upload.addresses) == [1, 2, 3, 4]
    for number in (3, 1):
        assert upload.send(number) == 200
    early = upload.finish({**upload.tags, 2: "0" * 64, 4: "0" * 64})
    assert early.status == 422
    assert "part(s) 2, 4 have not arrived" in early.json["error"]
    # Another day, another address: what has arrived is known by its ETag.
    header = upload.ask_again()["objects"][0]["actions"]["upload"]["header"]
    found = {
        number: hub.ask("HEAD", _local(header[f"{number:05d}"]), token=None).status
        for number in upload.addresses
    }
    assert found == {1: 200, 2: 404, 3: 200, 4: 404}
    for number in (2, 4):
        assert upload.send(number) == 200
    assert upload.finish().status == 200
    assert upload.finish().status == 200  # a client that did not hear the first answer
    assert "actions" not in upload.ask_again()["objects"][0]
    assert upload.commit() == 200
    served = hub.ask("GET", f"/{upload.repo}/resolve/main/adapter.safetensors", token=None)
    assert served.body == upload.data
    assert list((hub.data / "blobs" / "pending").glob("*")) == []
    assert list((hub.data / "staging").iterdir()) == []


def test_what_is_put_together_must_be_what_was_announced(hub: Hub) -> None:
    upload = _Upload(hub, _weights(2))
    for number in upload.addresses:
        assert upload.send(number, bytes(len(upload.piece(number)))) == 200
    refused = upload.finish()
    assert refused.status == 422
    assert "not what was announced" in refused.json["error"]
    assert upload.commit() == 422
    # A part sent again takes the place of the one before: its ETag chooses.
    for number in upload.addresses:
        assert upload.send(number) == 200
    assert upload.finish().status == 200


def test_parts_of_another_length_are_refused(hub: Hub) -> None:
    upload = _Upload(hub, _weights(3))
    assert upload.send(1, upload.piece(1)[:-1]) == 400
    assert upload.send(1, upload.piece(1) + b"x") == 413
    assert upload.send(4, upload.piece(1)) == 413
    folder = hub.data / "blobs" / "pending"
    assert [path for path in folder.glob("*/*") if upload.oid in path.parent.name] == []


@pytest.mark.parametrize(
    "change",
    [
        {"part": "2"},
        {"part": "-1"},
        {"part": "0"},
        {"size": "1"},
        {"repo": "999"},
        {"account": "999"},
        {"oid": "0" * 64},
        {"expires": "99999999999"},
        {"signature": "0" * 64},
        {"signature": ""},
        {"signature": "\u00e4"},
    ],
    ids=str,
)
def test_altered_addresses(hub: Hub, change: dict[str, str]) -> None:
    upload = _Upload(hub, _weights(4))
    path, _, query = upload.addresses[1].partition("?")
    altered = f"{path}?{urlencode({**dict(parse_qsl(query)), **change})}"
    assert hub.ask("PUT", altered, upload.piece(1), token=None).status == 403
    assert hub.ask("GET", altered, token=None).status == 403
    assert hub.ask("POST", f"/api/hub/v1/blobs/end?{altered.partition('?')[2]}", {}).status == 403


def test_an_address_is_good_for_one_thing(hub: Hub) -> None:
    upload = _Upload(hub, _weights(5))
    part, end = upload.addresses[1].partition("?")[2], upload.end.partition("?")[2]
    blobs = "/api/hub/v1/blobs"
    for method, path in (
        ("PUT", f"{blobs}?{part}"),
        ("PUT", f"{blobs}?{end}"),
        ("PUT", f"{blobs}/part?{end}"),
        ("POST", f"{blobs}/end?{part}"),
    ):
        assert hub.ask(method, path, upload.piece(1), token=None).status == 400, path


@pytest.mark.parametrize(
    "rows",
    [
        None,
        [],
        "x",
        [{"partNumber": 1, "etag": "a" * 64}],
        [{"partNumber": 1, "etag": "a" * 64}] * 4,
        [{"partNumber": n, "etag": "../../x"} for n in range(1, 5)],
        [{"partNumber": n, "etag": "a" * 64} for n in range(4)],
        [{"partNumber": True, "etag": "a" * 64}, *({"partNumber": n} for n in (2, 3, 4))],
        [[], {}, 1, None],
    ],
    ids=lambda rows: str(rows)[:40],
)
def test_ends_that_make_no_sense(hub: Hub, rows: Any) -> None:
    upload = _Upload(hub, _weights(6))
    assert hub.ask("POST", upload.end, {"parts": rows}, token=None).status == 400


def test_signature_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "ab" * 32
    query = dict(parse_qsl(signed.sign(key, replace(_ITEM, part=3))))
    assert signed.check(key, query) == replace(_ITEM, part=3)
    later = time.time() + signed.LIFETIME + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(HubError, match="expired"):
        signed.check(key, query)


def test_enormous_files_have_larger_parts() -> None:
    assert parts.part_size(64, 100) == 64
    assert parts.part_size(64, 640_000) == 640
    for size in (1, 63, 64, 65, 64_000, 64_001, 10**12):
        item = replace(_ITEM, size=size)
        count = parts.number_of_parts(64, size)
        assert count <= parts.MAX_PARTS
        sizes = [parts.size_of(64, replace(item, part=number)) for number in range(1, count + 1)]
        assert sum(sizes) == size
        assert min(sizes) > 0
        header = parts.addresses("ab" * 32, "http://h", item, parts.part_size(64, size))
        assert len(header) == count + 1


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def pending(request: pytest.FixtureRequest, tmp_path: Path) -> Pending:
    if request.param == "folder":
        return pending_of(FolderBlobs(tmp_path / "blobs"))
    from adapterhub.hub.store.s3 import S3Blobs

    store: S3 = request.getfixturevalue("object_store")
    return pending_of(S3Blobs(f"{store.url}/{tmp_path.name}"))


def test_pieces(pending: Pending, tmp_path: Path) -> None:
    def write(text: str) -> Path:
        path = tmp_path / "piece"
        path.write_text(text)
        return path

    assert pending.names("a") == []
    pending.remove("a")
    pending.put("a", "2", write("two"))
    pending.put("a", "1", write("one"))
    pending.put("a", "1", write("once more"))
    pending.put("b", "1", write("another"))
    assert pending.names("a") == ["1", "2"]
    assert b"".join(pending.read("a", "1")) == b"once more"
    pending.remove("a")
    assert pending.names("a") == []
    assert pending.clean() == 0
    assert pending.names("b") == ["1"]
    assert pending.clean(timedelta(seconds=-5)) == 1
    assert pending.names("b") == []
    with pytest.raises(OSError):
        list(pending.read("b", "1"))
    for bad in ("", "..", "a/b", "../x", "A", ".x", "a..b"):
        with pytest.raises(ValueError):
            pending.names(bad)
        with pytest.raises(ValueError):
            pending.put("a", bad, write("x"))


def test_one_at_a_time() -> None:
    import threading

    assembling, inside, most = Assembling(), [0], [0]

    def work(name: str) -> None:
        with assembling.alone(name):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    threads = [threading.Thread(target=work, args=("same",)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert assembling._locks == {}


def test_clean_up_of_what_was_never_ended(hub: Hub) -> None:
    """``adapterhub hub clean`` removes pieces that nobody will end any more."""
    import subprocess
    import sys

    upload = _Upload(hub, _weights(7))
    assert upload.send(1) == 200
    command = [sys.executable, "-m", "adapterhub.cli", "hub", "clean", "--data", str(hub.data)]
    subprocess.run(command, check=True, capture_output=True)
    assert hub.ask("HEAD", upload.addresses[1], token=None).status == 200  # too young
    subprocess.run([*command, "--hours", "0"], check=True, capture_output=True)
    assert hub.ask("HEAD", upload.addresses[1], token=None).status == 404
