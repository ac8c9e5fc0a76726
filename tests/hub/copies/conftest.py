"""A published site behind a small web server that can be told to misbehave."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from adapterhub.hub import Hub
from tests.hub.conftest import make_adapter

pytest.importorskip("jinja2", reason="pages need the [hub] extra")


@dataclass
class WebServer:
    """Files of a folder over HTTP, with ranges; *trick* may answer in its place.

    Attributes:
        asked: every request: path, and headers with names in lower case.
        trick: called with handler and path; returns whether it has answered.
        cut: break off after so many bytes of a body, once a path.
    """

    root: Path
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    trick: Callable[[Any, str], bool] | None = None
    cut: int = 0
    url: str = ""
    _cut_once: set[str] = field(default_factory=set)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def start(self) -> ThreadingHTTPServer:
        """Begin to answer at :attr:`url`."""
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path).lstrip("/")
                site.asked.append((path, {k.lower(): v for k, v in self.headers.items()}))
                if site.trick is None or not site.trick(self, path):
                    site.answer(self, path)

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that go away are part of these tests."""

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"
        return server

    def answer(self, handler: Any, path: str) -> None:
        file = self.root / path
        if not file.is_file():
            send(handler, 404, b"no")
            return
        data, first = file.read_bytes(), 0
        etag = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"'}
        wanted = handler.headers.get("Range")
        headers = etag
        if wanted:
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
            if first >= len(data):
                send(handler, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            headers = {**etag, "Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}
        body = data[first:]
        if self.cut and len(body) > self.cut and path not in self._cut_once:
            self._cut_once.add(path)
            send(handler, 206 if wanted else 200, body[: self.cut], headers, length=len(body))
            handler.close_connection = True
            handler.connection.close()
            return
        send(handler, 206 if wanted else 200, body, headers)


def send(
    handler: Any,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> None:
    """Answer a request; a *length* that is not that of the body is a lie."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command == "HEAD":
        return
    handler.wfile.write(body)
    handler.wfile.flush()


def fill(hub: Hub, folder: Path) -> None:
    """Publish three adapters, one of them in two versions."""
    for name, task, subtask, owner, weights in (
        ("a", "sentiment", "sst-2", "ada", (0.5, -1.0)),
        ("b", "nli", "mnli", "ada", (0.25,) * 4000),
        ("c", "nli", "mnli", "bob", (1.0, 2.0, 3.0)),
    ):
        made = make_adapter(folder / name, weights=weights)
        hub.publish(
            made, task=task, subtask=subtask, owner=owner, name=f"{task}-{name}", license="MIT"
        )
    newer = make_adapter(folder / "a2", weights=(0.75, -1.0))
    hub.publish(
        newer, task="sentiment", subtask="sst-2", owner="ada", name="sentiment-a", version="2"
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub and its pages, made once."""
    from adapterhub.hub.static import build_site

    folder = tmp_path_factory.mktemp("copies")
    hub = Hub.init(folder / "hub", name="test")
    fill(hub, folder)
    build_site(hub, folder / "site")
    return folder


@pytest.fixture
def filled(built: Path, tmp_path: Path) -> Hub:
    """A hub of three adapters."""
    shutil.copytree(built / "hub", tmp_path / "origin")
    return Hub(tmp_path / "origin")


@pytest.fixture
def site(built: Path, tmp_path: Path) -> Iterator[WebServer]:
    """Its published pages."""
    shutil.copytree(built / "site", tmp_path / "site")
    server = WebServer(tmp_path / "site")
    running = server.start()
    yield server
    running.shutdown()
    running.server_close()
