"""Our client against a hub whose index is signed, with somebody in between who changes answers."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.hub.copies import index as indexes
from adapterhub.hub.fetching import fetch
from adapterhub.hub.listing import get_adapter_info, list_adapters
from adapterhub.hub.remote import RemoteHub
from adapterhub.hub.signing import PublicKey, SignatureError, SigningKey, now
from adapterhub.hub.trust import TrustedKeys
from adapterhub.model.sources import find_adapter
from tests.hub.conftest import LORA, make_adapter
from tests.hub.server.conftest import Hub, adapter_files

README = b"---\ntags:\n- adapterhub:sentiment/sst-2\n---\n# One\n"
Trick = Callable[[str, int, bytes], tuple[int, bytes]]


@dataclass
class Between:
    """A proxy: *way* says where a path leads, *trick* (path, status, body) what comes back."""

    target: str
    trick: Trick | None = None
    way: Callable[[str], str] = str
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def start(self) -> ThreadingHTTPServer:
        between = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                between.asked.append(self.path)
                parts = urlsplit(between.target)
                connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
                kept = {k: v for k, v in self.headers.items() if k.lower() != "accept-encoding"}
                length = int(self.headers.get("Content-Length") or 0)
                sent = self.rfile.read(length) if length else None
                connection.request(self.command, between.way(self.path), sent, kept)
                answer = connection.getresponse()
                status, body = answer.status, answer.read()
                if between.trick is not None and self.command == "GET":
                    status, body = between.trick(self.path, status, body)
                self.send_response(status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                        self.send_header(name, value)
                stated = answer.getheader("content-length") if self.command == "HEAD" else None
                self.send_header("Content-Length", stated or str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                connection.close()

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        return server


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, SigningKey]]:
    folder = tmp_path_factory.mktemp("keyed")
    key = SigningKey.generate("hub")
    key.save(folder / "key.json")
    hub = Hub(folder / "data", ADAPTERHUB_INDEX_KEY=str(folder / "key.json"))
    hub.published("admin/one", {**adapter_files(), "README.md": README})
    assert hub.ask("POST", "/api/models/admin/one/tag/main", {"tag": "v1"}).status == 201
    hub.published("admin/two", {**adapter_files(config=LORA), "README.md": README})
    hub.published("admin/secret", adapter_files(weights=(3.0, 4.0, 5.0)), private=True)
    yield hub, key
    hub.stop()


@pytest.fixture
def between(keyed: tuple[Hub, SigningKey]) -> Iterator[Between]:
    made = Between(keyed[0].url)
    running = made.start()
    yield made
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("HUB", "KEY", "TRUSTED_KEYS", "REQUIRE_SIGNATURE"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)


def trust(key: PublicKey, who: str, **options: Any) -> None:
    trusted = TrustedKeys.load()
    trusted.add(key, who, **options)
    trusted.save()


def changed(place: str, change: Callable[[bytes], bytes | None]) -> Trick:
    """Return a trick on the body of one address; ``None``: not found."""

    def trick(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if path.partition("?")[0] != place:
            return status, body
        made = change(body)
        return (404, b"no") if made is None else (status, made)

    return trick


def without(path: str) -> Callable[[bytes], bytes]:
    def change(body: bytes) -> bytes:
        index = json.loads(body)
        del index["cards"][path]
        return json.dumps(index).encode()

    return change


def test_nothing_changes_where_no_key_is_trusted(between: Between) -> None:
    assert fetch(between.url, "admin/one")
    assert not [path for path in between.asked if path.startswith("/dist/")]
    with pytest.raises(SignatureError, match=r"lists no key of .*hub key trust http"):
        fetch(between.url, "admin/one", require_signature="hub")


def test_everything_with_the_right_key(
    between: Between, keyed: tuple[Hub, SigningKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(keyed[1].public, between.url + "/")
    folder = fetch(between.url, "admin/one", require_signature="hub")
    assert (folder / "adapter.safetensors").is_file()
    assert fetch(between.url, "@Admin/ONE", version="v1").samefile(folder)
    assert fetch(between.url, "admin/one", version=folder.name).samefile(folder)
    assert fetch(between.url, "sentiment/sst-2", config="lora") == fetch(between.url, "admin/two")
    # The index has not changed since, so only its signature was asked for again.
    assert between.asked.count("/dist/index.json") == 1
    monkeypatch.setenv("ADAPTERHUB_HUB", between.url)
    assert [info.adapter_id for info in list_adapters()] == ["@admin/one", "@admin/two"]
    assert list_adapters(model_name="bert-base-uncased")[0].task == "sentiment"
    info = get_adapter_info("admin/two")
    assert info is not None
    assert info.adapter_config["architecture"] == "lora"
    assert len(info.sha256 or "") == 64
    hits = RemoteHub(between.url, keyed[0].token).search("", owner="admin")
    assert (len(hits.adapters), hits.left_out) == (2, 1)  # the private one is not in the index


def test_a_wrong_signature_is_one_error_and_nothing_is_loaded(
    between: Between, keyed: tuple[Hub, SigningKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(keyed[1].public, between.url)
    monkeypatch.setenv("ADAPTERHUB_HUB", f"{between.url},hf")
    tricks = {
        "changed after it was signed": changed(
            "/dist/index.json", without("adapters/admin/two.yaml")
        ),
        "is not signed, but must be": changed("/dist/index.sig", lambda body: None),
        "publishes no index": changed("/dist/index.json", lambda body: None),
        "not JSON": changed("/dist/index.sig", lambda body: b"nonsense"),
    }
    stranger = SigningKey.generate()

    def signed_by_another(body: bytes) -> bytes:
        index = indexes.loads(keyed[0].ask("GET", "/dist/index.json").body)
        return indexes.sign_index(stranger, index).dumps()

    tricks["not one of those to believe"] = changed("/dist/index.sig", signed_by_another)
    for words, trick in tricks.items():
        between.trick = trick
        with pytest.raises(SignatureError, match=words):
            find_adapter("admin/one")
        with pytest.raises(SignatureError, match=words):
            list_adapters()
        with pytest.raises(SignatureError, match=words):
            get_adapter_info("admin/one")
        with pytest.raises(SignatureError, match=words):
            RemoteHub(between.url).search("one")
    assert not [path for path in between.asked if "/resolve/" in path or "/search/" in path]


def test_other_files_other_cards_other_choices(
    between: Between, keyed: tuple[Hub, SigningKey], tmp_path: Path
) -> None:
    _, key = keyed
    trust(key.public, between.url)
    between.trick = changed("/dist/cards/adapters/admin/one.yaml", lambda body: body + b"# x\n")
    with pytest.raises(SignatureError, match="not the card"):
        fetch(between.url, "admin/one")
    # Of two that fit, the one in between shows just one: by the index it is not clear which is meant.
    between.trick = changed(
        "/api/models",
        lambda body: json.dumps([m for m in json.loads(body) if m["id"] != "admin/one"]).encode(),
    )
    with pytest.raises(Exception, match="fits 2 adapters"):
        fetch(between.url, "sentiment/sst-2")

    # All that the protocol says fits together, but it is another adapter.
    between.way = lambda path: (
        path
        if path.startswith("/dist/")
        else path.replace("/admin/one", "/admin/two").replace("/v1", "/main")
    )
    between.trick = None
    with pytest.raises(SignatureError, match="signed index"):
        fetch(between.url, "admin/one", version="main")


def test_what_the_index_does_not_list_needs_a_signature_of_its_own(
    between: Between, keyed: tuple[Hub, SigningKey], tmp_path: Path
) -> None:
    from adapterhub.hub import pushing
    from adapterhub.hub.client import prepare

    hub, key = keyed
    trust(key.public, between.url)
    with pytest.raises(SignatureError, match="does not list admin/secret"):
        fetch(between.url, "admin/secret", token=hub.token)
    own = SigningKey.generate()
    trust(own.public, "admin")
    folder = make_adapter(tmp_path / "a", weights=(9.0, 9.0))
    body = {"key": str(own.public)}
    assert hub.ask("POST", "/api/hub/v1/keys", body).status == 201
    pushing.publish(
        prepare(folder), "admin/mine", url=hub.url, token=hub.token, private=True, key=own
    )
    assert fetch(between.url, "admin/mine", token=hub.token)


def test_the_past_does_not_come_back(between: Between, keyed: tuple[Hub, SigningKey]) -> None:
    hub, key = keyed
    trust(key.public, between.url)
    repo = hub.new_name()
    hub.published(repo)
    fetch(between.url, repo)
    index = indexes.loads(hub.ask("GET", "/dist/index.json").body)
    older = indexes.sign_index(key, index, signed=now() - timedelta(days=1))
    between.trick = changed("/dist/index.sig", lambda body: older.dumps())
    with pytest.raises(SignatureError, match="rollback"):
        fetch(between.url, repo)
    expired = indexes.sign_index(key, index, days=-1)
    between.trick = changed("/dist/index.sig", lambda body: expired.dumps())
    with pytest.raises(SignatureError, match="expired"):
        fetch(between.url, repo)


def test_the_cached_index_is_verified_again(
    between: Between,
    keyed: tuple[Hub, SigningKey],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trust(keyed[1].public, between.url)
    folder = fetch(between.url, "admin/one")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(between.url, "admin/one").samefile(folder)
    trust(keyed[1].public, "http://127.0.0.1:9")
    with pytest.raises(SignatureError, match="not fetched before"):
        fetch("http://127.0.0.1:9", "admin/one")
    [kept] = (tmp_path / "cache").glob("servers/*/signed/*.json")
    text = kept.read_text()
    kept.write_text(text.replace("admin/one", "admin/own"))
    with pytest.raises(SignatureError, match="changed after it was signed"):
        fetch(between.url, "admin/one")
    kept.write_text(text)
    trusted = TrustedKeys.load()
    trusted.revoke(keyed[1].public)
    trusted.save()
    # A key that is believed no longer does not mean that everything is believed.
    with pytest.raises(SignatureError, match="was revoked"):
        fetch(between.url, "admin/one")


def test_two_processes_sign_the_same_state_alike(keyed: tuple[Hub, SigningKey]) -> None:
    """What one process signs must not look like the past of another (see ``Board.signature``)."""
    from adapterhub.hub.server.published import Board
    from adapterhub.hub.server.settings import Settings
    from adapterhub.hub.signing import Signature
    from adapterhub.hub.store.database import Database

    hub, key = keyed
    settings = Settings.from_environment(hub.data)
    first = Signature.loads(hub.ask("GET", "/dist/index.sig").body).statement
    hub.published(hub.new_name())
    service: Any = SimpleNamespace(settings=settings, database=Database(settings.database))
    other = Signature.loads(Board(service, key, 14).signature() or b"").statement
    time.sleep(1.1)  # the times are in whole seconds
    again = Signature.loads(hub.ask("GET", "/dist/index.sig").body).statement
    assert other.signed == again.signed >= first.signed


def test_trusting_a_hub_by_its_address(keyed: tuple[Hub, SigningKey], tmp_path: Path) -> None:
    hub, key = keyed

    def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "adapterhub.cli", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "ADAPTERHUB_HUB": hub.url},
            timeout=120,
        )

    made = cli("hub", "key", "trust", hub.url, "--yes")
    assert made.returncode == 0, made.stderr
    assert key.public.id in made.stdout
    assert TrustedKeys.load().of_hub(hub.url)[0].key == key.public
    found = cli("search", "one", "--require-signature", "hub")
    assert found.returncode == 0, found.stderr
    assert "@admin/one" in found.stdout
    pulled = cli("pull", "admin/one", "--to", str(tmp_path / "got"))
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "got" / "adapter.safetensors").is_file()
    assert not (tmp_path / "got" / "adapter.safetensors").is_symlink()
    trusted = TrustedKeys.load()
    trusted.revoke(key.public)
    trusted.save()
    refused = cli("search", "one")
    assert refused.returncode == 1
    assert "revoked" in refused.stderr
    assert "@admin/one" not in refused.stdout


@pytest.mark.slow
def test_two_servers_of_one_hub(postgres: str, bucket: str, tmp_path: Path) -> None:
    """On PostgreSQL and S3: whichever is asked, the index is the same, and so is the time it was signed."""
    from adapterhub.hub.signing import Signature
    from adapterhub.hub.store.database import Database

    database = Database(postgres)
    with database.engine.begin() as connection:  # other tests have used it
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    database.close()
    key = SigningKey.generate()
    key.save(tmp_path / "key.json")
    shared = {
        "ADAPTERHUB_DATABASE_URL": postgres,
        "ADAPTERHUB_BLOBS": bucket,
        "ADAPTERHUB_INDEX_KEY": str(tmp_path / "key.json"),
    }
    hubs = [Hub(tmp_path / name, **shared) for name in ("a", "b")]
    try:
        hubs[1].token = hubs[0].token

        def state(hub: Hub) -> tuple[bytes, Any]:
            index = hub.ask("GET", "/dist/index.json", token=None).body
            signature = Signature.loads(hub.ask("GET", "/dist/index.sig", token=None).body)
            indexes.believe(indexes.loads(index), index, signature, {key.public: ""})
            return index, signature.statement.signed

        repo = hubs[0].new_name()
        hubs[0].published(repo)
        first = state(hubs[1])
        time.sleep(1.1)
        assert state(hubs[0]) == first
        own = SigningKey.generate()
        body = {"key": str(own.public), "name": "laptop"}
        assert hubs[1].ask("POST", "/api/hub/v1/keys", body).status == 201
        assert b"keys/admin.yaml" in state(hubs[0])[0]
        assert state(hubs[1]) == state(hubs[0])
        hubs[1].published(hubs[1].new_name())
        assert state(hubs[0]) == state(hubs[1])
    finally:
        for hub in hubs:
            hub.stop()
