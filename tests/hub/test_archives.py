"""Adapters that are an archive at an address, from a real web server that also misbehaves."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import pickle
import stat
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import adapterhub
from adapterhub.errors import AdapterHubError, HubError
from adapterhub.hub import Hub, cache_folder, cardfile, unpacking
from adapterhub.hub.archives import folder_for
from adapterhub.hub.fetching import Damaged
from adapterhub.hub.signing import SignatureError
from tests import tiny
from tests.hub.conftest import make_adapter, snapshot


@dataclass
class Web:
    """What a server gives by path, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)

    def put(self, name: str, data: bytes) -> str:
        self.files[f"/{name}"] = data
        return f"{self.url}/{name}"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    shown = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in shown.answers:
                status, headers, body = shown.answers[self.path]
            elif self.path not in shown.files:
                status, headers, body = 404, {}, b""
            else:
                body = shown.files[self.path]
                tag = f'"{hashlib.sha1(body).hexdigest()}"'
                status, headers = 200, {"ETag": tag, "Content-Type": "application/zip"}
                if self.headers.get("If-None-Match") == tag:
                    status, body = 304, b""
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                shown.sent.append(self.path)
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    shown.url = f"http://127.0.0.1:{server.server_port}"
    yield shown
    server.shutdown()
    server.server_close()
    thread.join()


def zipped(folder: Path, below: str = "") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as writer:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            writer.write(path, below + path.relative_to(folder).as_posix())
    return data.getvalue()


def tarred(folder: Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as writer:
        writer.add(folder, "./some/adapter")
    return data.getvalue()


def nothing_left() -> bool:
    store = cache_folder() / "archives"
    return not store.exists() or not list(store.iterdir())


@pytest.mark.parametrize("kind", ["zip", "zip below a folder", "tar.gz"])
def test_loads_what_was_saved(web: Web, tmp_path: Path, kind: str) -> None:
    one = adapterhub.init(tiny.bert())
    one.add_adapter("a", config="lora")
    tiny.randomize(one)
    one.set_active_adapters("a")
    one.save_adapter(tmp_path / "saved", "a")
    folder = tmp_path / "saved"
    data = {
        "zip": zipped(folder),
        "zip below a folder": zipped(folder, "mine/"),
        "tar.gz": tarred(folder),
    }[kind]
    other = adapterhub.init(tiny.bert())
    other.set_active_adapters(other.load_adapter(web.put("some.adapter", data)))
    ids = torch.arange(5, 11)[None]
    assert torch.equal(one(input_ids=ids)[0], other(input_ids=ids)[0])


def test_litter_is_left_out(web: Web, adapter: Path) -> None:
    before = snapshot(adapter)
    for name in ("__MACOSX/adapter_config.json", ".DS_Store", "._adapter_config.json"):
        (adapter / name).parent.mkdir(exist_ok=True)
        (adapter / name).write_text("x")
    assert snapshot(folder_for(web.put("a.zip", zipped(adapter)))) == before


def test_is_sent_once_and_again_when_it_changed(web: Web, adapter: Path) -> None:
    url = web.put("a.zip", zipped(adapter))
    first = folder_for(url)
    assert folder_for(url) == first
    assert web.sent == ["/a.zip"]
    (adapter / "notes.txt").write_text("new")
    web.put("a.zip", zipped(adapter))
    second = folder_for(url)
    assert second != first
    assert (second / "notes.txt").exists()
    assert len(web.sent) == 2


def test_without_a_network(web: Web, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = web.put("a.zip", zipped(adapter))
    first = folder_for(url)
    web.answers["/a.zip"] = (503, {}, b"")
    assert folder_for(url) == first
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert folder_for(url) == first
    with pytest.raises(HubError, match="was not fetched before"):
        folder_for(web.put("b.zip", zipped(adapter)))
    assert web.sent == ["/a.zip"]


def test_a_damaged_cache_is_fetched_again(web: Web, adapter: Path) -> None:
    url = web.put("a.zip", zipped(adapter))
    folder = folder_for(url)
    (folder / "adapter.safetensors").write_bytes(b"edited")
    assert snapshot(folder_for(url)) == snapshot(adapter)
    assert len(web.sent) == 2


def test_a_checksum_is_held_to(web: Web, adapter: Path) -> None:
    data = zipped(adapter)
    url = web.put("a.zip", data)
    with pytest.raises(Damaged, match=r"sha256 is .* and not 0000"):
        folder_for(f"{url}#sha256={'0' * 64}")
    assert nothing_left()
    folder = folder_for(f"{url}#sha256={hashlib.sha256(data).hexdigest()}")
    assert folder_for(f"{url}#sha1={hashlib.sha1(data).hexdigest()}") == folder
    assert len(web.sent) == 2  # with a checksum the server need not be asked again
    with pytest.raises(HubError, match="64 hex digits"):
        folder_for(f"{url}#md5=12")


def _link(name: str) -> bytes:
    data, info = io.BytesIO(), zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(data, "w") as writer:
        writer.writestr("adapter_config.json", "{}")
        writer.writestr(info, "/etc/passwd")
    return data.getvalue()


def _tar(name: str, **changes: object) -> bytes:
    data, info = io.BytesIO(), tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    with tarfile.open(fileobj=data, mode="w") as writer:
        writer.addfile(info)
    return data.getvalue()


def _zip(*names: str, size: int = 2) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as writer:
        for name in names:
            writer.writestr(name, b"{}" + b" " * (size - 2))
    return data.getvalue()


def _twice() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _zip("adapter_config.json", "x", "x")


def _encrypted() -> bytes:
    data = bytearray(_zip("adapter_config.json"))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _weights() -> bytes:
    data = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, data)
    return data.getvalue()


HOSTILE = {
    "above": (_zip("../adapter_config.json"), "must not hold '.', '..'"),
    "absolute": (_zip("/etc/adapter_config.json"), "must be relative"),
    "drive": (_zip("C:\\adapter_config.json"), "must be relative"),
    "device": (_zip("adapter_config.json", "nul.txt"), "reserved device name"),
    "case": (_zip("adapter_config.json", "A/x", "a/y"), "differ only in case"),
    "twice": (_twice(), "holds 'x' twice"),
    "link": (_link("x"), "no regular file"),
    "tar link": (
        _tar("adapter_config.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "no reg",
    ),
    "tar hard link": (_tar("x", type=tarfile.LNKTYPE, linkname="../x"), "no regular file"),
    "tar device": (_tar("x", type=tarfile.CHRTYPE), "no regular file"),
    "tar above": (_tar("../../x"), "must not hold '.', '..'"),
    "bomb": (_zip("adapter_config.json", size=1 << 22), "holds more than"),
    "many": (_zip("adapter_config.json", *map(str, range(60))), "more than 50 files"),
    "encrypted": (_encrypted(), "is encrypted"),
    "cut off": (_zip("adapter_config.json", size=1 << 16)[:-40], "no zip and no tar"),
    "weights": (_weights(), "no adapter_config.json"),
    "several": (
        _zip("a/adapter_config.json", "b/adapter_config.json"),
        r"several adapters \(a, b\)",
    ),
    "page": (b"<!doctype html><p>Not here", r"\(text/html\): it is no zip"),
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_hostile_archives_are_refused_and_leave_nothing(
    web: Web, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", 1 << 20)
    monkeypatch.setattr(unpacking, "MAX_FILES", 50)
    data, message = HOSTILE[what]
    headers = {"Content-Type": "text/html" if what == "page" else "application/zip"}
    web.answers["/a.zip"] = (200, headers, data)
    with pytest.raises(HubError, match=message) as caught:
        folder_for(f"{web.url}/a.zip")
    assert f"{web.url}/a.zip" in str(caught.value)
    assert nothing_left()


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_in_an_archive_is_not_run(
    web: Web, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (adapter / "adapter.safetensors").unlink()
    (adapter / "pytorch_adapter.bin").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(AdapterHubError):
        adapterhub.init(tiny.bert()).load_adapter(web.put("a.zip", zipped(adapter)))
    assert not (tmp_path / "exploded").exists()


def test_answers_that_are_no_archive(web: Web, adapter: Path) -> None:
    with pytest.raises(HubError, match=r"/none\.zip answered 404"):
        folder_for(f"{web.url}/none.zip")
    web.answers["/away"] = (302, {"Location": "ftp://127.0.0.1/x.zip"}, b"")
    with pytest.raises(HubError, match=r"leads to ftp://127.0.0.1/x\.zip, which is not followed"):
        folder_for(f"{web.url}/away")
    web.answers["/to"] = (302, {"Location": web.put("a.zip", zipped(adapter))}, b"")
    assert snapshot(folder_for(f"{web.url}/to")) == snapshot(adapter)
    data = zipped(adapter)
    web.answers["/short"] = (200, {"Content-Length": str(len(data) + 9)}, data)
    with pytest.raises(HubError, match="broke off"):
        folder_for(f"{web.url}/short")
    web.answers["/large"] = (200, {"Content-Length": str(5 << 30)}, b"x")
    with pytest.raises(HubError, match="larger than 4 GiB"):
        folder_for(f"{web.url}/large")
    with pytest.raises(HubError, match="cannot be reached"):
        folder_for("https://127.0.0.1:1/a.zip")
    with pytest.raises(HubError, match="changed on its way; use https, or add the"):
        folder_for("http://example.org/a.zip")


def test_a_signature_can_be_required(web: Web, adapter: Path) -> None:
    with pytest.raises(SignatureError, match="is not signed"):
        folder_for(web.put("a.zip", zipped(adapter)), require_signature=True)


def _fetch(url: str) -> str:
    return str(folder_for(url))


def test_processes_at_once(web: Web, adapter: Path) -> None:
    url = web.put("a.zip", zipped(adapter))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(_fetch, [url] * 8)
    assert len(set(found)) == 1
    assert snapshot(Path(found[0])) == snapshot(adapter)


def test_the_archive_that_a_card_names(hub: Hub, web: Web, adapter: Path, tmp_path: Path) -> None:
    entry = hub.publish(adapter, task="sentiment", subtask="sst-2", owner="ada")
    other = make_adapter(tmp_path / "old", weights=(7.0,))
    data = zipped(other)
    path = hub.path / entry.card.path
    card = cardfile.load(path)
    url = web.put("a.zip", data)
    old = {"version": "old", "url": url, "sha1": hashlib.sha1(data).hexdigest()}
    card["files"] += [old, {**old, "version": "wrong", "sha1": "0" * 40}]
    path.write_bytes(cardfile.dumps(card))
    assert snapshot(hub.pull(entry.identifier, version="old")) == snapshot(other)
    target = tmp_path / "target"
    assert hub.pull(entry.identifier, target, version="old") == target
    assert snapshot(target) == snapshot(other)
    assert hub.pull(entry.identifier, target, version="old") == target
    with pytest.raises(HubError, match="holds something else"):
        hub.pull(entry.identifier, adapter, version="old")
    with pytest.raises(Damaged, match=r"sha1 is .* and not 0000"):
        hub.pull(entry.identifier, version="wrong")
