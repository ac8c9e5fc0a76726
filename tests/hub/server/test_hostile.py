"""Attacks on the server itself: each gets the right answer, leaves nothing behind, and tells nothing."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from sqlalchemy import event

from adapterhub.errors import HubError
from adapterhub.hub.server import signed
from adapterhub.hub.server.app import _TABLE
from adapterhub.hub.server.signed import Announced
from adapterhub.hub.store import accounts, commits, repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.database import Database
from tests.hub.server.conftest import Answer, Hub, adapter_files

_SCRIPT = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
_LINK = "javascript:alert(1)"


def _raw(hub: Hub, data: bytes, seconds: float = 10.0) -> bytes:
    """Send bytes as they are; return all that comes back until the server closes or is silent."""
    parts = urlsplit(hub.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=seconds) as wire:
        wire.sendall(data)
        wire.settimeout(seconds)
        found = b""
        try:
            while piece := wire.recv(65536):
                found += piece
                if b"\r\n\r\n" in found and not data.endswith(b"MORE"):
                    wire.settimeout(0.5)
        except (TimeoutError, ConnectionError):
            pass
        return found


def _statuses(answer: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"HTTP/1\.1 ([0-9]{3})", answer)]


# ---------------------------------------------------------------- what stands on pages


class _Page(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "srcdoc", "formaction"):
                self.bad.append(f"<{tag} {name}={value}>")
            if name in ("href", "src", "action") and re.match(
                r"(?i)[\s\x00-\x20]*(javascript|data|vbscript)\s*:", value or ""
            ):
                self.bad.append(f"<{tag} {name}={value}>")
        source = values.get("src") or ""
        if tag in ("script", "img", "iframe", "object", "embed", "video", "audio", "base"):
            outside = re.match(r"(?i)(https?:)?//", source)
            if outside or (tag == "script" and not source) or tag in ("iframe", "object", "base"):
                self.bad.append(f"<{tag} {attrs}>")


def _looked_at(text: str) -> list[str]:
    page = _Page()
    page.feed(text)
    return page.bad


def test_the_page_test_can_fail() -> None:
    assert len(_looked_at("<a href=' JavaScript:x'><p onclick=x><script>1</script>")) == 3
    assert _looked_at("<img src='//evil/x'><iframe src=x>")
    assert not _looked_at("<a href='https://x'>x</a><script src='a.js'></script>")


_FIELDS: dict[str, Any] = {
    "license": _SCRIPT,
    "license_name": _SCRIPT,
    "license_link": _LINK,
    "language": [_SCRIPT],
    "tags": [_SCRIPT, "good"],
    "datasets": [_SCRIPT],
    "metrics": [_SCRIPT],
    "base_model": _SCRIPT,
    "base_model_relation": _SCRIPT,
    "library_name": _SCRIPT,
    "pipeline_tag": _SCRIPT,
    "widget": [{"text": _SCRIPT}],
    "thumbnail": _LINK,
    "model_name": _SCRIPT,
    "task": _SCRIPT,
    "description": _SCRIPT,
    "citation": _SCRIPT,
    "author": _SCRIPT,
    "url": _LINK,
    "model-index": [
        {
            "name": _SCRIPT,
            "results": [
                {
                    "task": {"type": _SCRIPT, "name": _SCRIPT},
                    "dataset": {"type": _SCRIPT, "name": _SCRIPT, "split": _SCRIPT},
                    "metrics": [{"type": _SCRIPT, "name": _SCRIPT, "value": 1.0}],
                    "source": {"name": _SCRIPT, "url": _LINK},
                }
            ],
        }
    ],
}
_BODIES = [
    _SCRIPT,
    f"# {_SCRIPT}\n\n[x]({_LINK}) [y](<{_LINK}>) ![z]({_LINK}) ![w](data:text/html,<script>)",
    "[a][1]\n\n[1]: javascript:alert(1) \"x' onmouseover='alert(1)\"",
    '<a href="jav\tascript:alert(1)">x</a> <svg/onload=alert(1)> <details ontoggle=alert(1) open>',
    "&#106;avascript:alert(1) [x](&#106;avascript:alert(1)) [y](JaVaScRiPt:alert%281%29)",
    "```<script>\n</code></pre><script>alert(1)</script>\n```",
    "| <script>alert(1)</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | 1 |",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    'http://x.example/"onmouseover=alert(1) <javascript:alert(1)> //evil.example/x.js',
]


def _pages_of(hub: Hub, repo: str) -> Iterator[tuple[str, Answer]]:
    words = quote("<script>alert(1)</script>")
    for path in (
        f"/adapters/{repo}/",
        f"/adapters/{repo}/versions/",
        f"/adapters/{repo}/files/",
        f"/people/{repo.partition('/')[0]}/",
        f"/search/?q={words}&sort={words}&language={words}&page={words}",
        f"/compare/?a=@{repo}&a={words}",
        f"/{words}",
        f"/{words}/{words}",
        "/",
    ):
        answer = hub.ask("GET", path, token=None, headers={"Accept": "text/html"})
        while answer.status in (301, 302, 303, 307, 308):
            target = urlsplit(answer.headers["location"])
            assert target.netloc in ("", urlsplit(hub.url).netloc), answer.headers["location"]
            target_path = target.path + (f"?{target.query}" if target.query else "")
            answer = hub.ask("GET", target_path, token=None, headers={"Accept": "text/html"})
        yield path, answer


def _assert_harmless(hub: Hub, repo: str) -> None:
    for path, answer in _pages_of(hub, repo):
        assert answer.status in (200, 400, 404), (path, answer.status)
        if answer.headers["content-type"].startswith("text/html"):
            assert _looked_at(answer.body.decode()) == [], path
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy, path
            assert "default-src 'none'" in policy or "default-src 'self'" in policy, path


@pytest.mark.parametrize("field", _FIELDS)
def test_script_in_a_field_of_the_card(server: Hub, field: str) -> None:
    """Refused, or shown as the text that it is – on every page that could show it."""
    repo = server.new_name()
    server.create(repo)
    front = json.dumps({field: _FIELDS[field]})
    files = {**adapter_files(), "README.md": f"---\n{front}\n---\n# x\n".encode()}
    made = server.commit(repo, files)
    assert made.status in (200, 422), made
    if made.status == 200:
        _assert_harmless(server, repo)


@pytest.mark.parametrize("number", range(len(_BODIES)))
def test_script_in_the_text_of_the_card(server: Hub, number: int) -> None:
    repo = server.new_name()
    server.published(repo, {**adapter_files(), "README.md": _BODIES[number].encode()})
    _assert_harmless(server, repo)


def test_script_in_names_and_configurations(server: Hub) -> None:
    repo = server.new_name()
    server.create(repo)
    info = json.loads(adapter_files()["adapter_config.json"])
    for change in (
        {"name": _SCRIPT},
        {"model_class": _SCRIPT},
        {"model_type": _SCRIPT},
        {"model_name": _SCRIPT},
        {"version": _SCRIPT},
        {"config": {**info["config"], "non_linearity": _SCRIPT}},
        {"config": {**info["config"], _SCRIPT: 1}},
        {_SCRIPT: _SCRIPT},
    ):
        data = json.dumps({**info, **change}).encode()
        made = server.commit(repo, {**adapter_files(), "adapter_config.json": data})
        assert made.status in (200, 422), made
    files = {"notes/<img src=x onerror=alert(1)>.md": b"x\n", "a'b;c.md": b"y\n"}
    for name, content in files.items():
        assert server.commit(repo, {name: content}).status in (200, 422), name
    _assert_harmless(server, repo)


def test_nothing_is_fetched_that_a_card_names(server: Hub) -> None:
    """A hub never follows a link of a stranger, neither at once nor when pages are made."""
    met: list[Any] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as trap:
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/latest/meta-data/"
        trap.settimeout(0.2)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    met.append(trap.accept())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            front = {
                **dict.fromkeys(("license_link", "url", "thumbnail", "homepage"), url),
                "license": "other",
                "datasets": [url],
                "model-index": [{"name": "x", "results": [{"source": {"url": url, "name": url}}]}],
            }
            text = (
                f"---\n{json.dumps(front)}\n---\n![x]({url}) [x]({url}) <{url}> <img src={url}>\n"
            )
            repo = server.new_name()
            server.create(repo)
            answer = server.commit(repo, {**adapter_files(), "README.md": text.encode()})
            assert answer.status in (200, 422)
            if answer.status == 422:
                plain = f"![x]({url}) [x]({url}) <img src={url}>\n".encode()
                assert server.commit(repo, {**adapter_files(), "README.md": plain}).status == 200
            server.ask("POST", "/api/validate-yaml", {"content": text})
            _assert_harmless(server, repo)
            time.sleep(0.5)
        finally:
            stop.set()
            thread.join()
    assert met == []


# ---------------------------------------------------------------- bodies


def _bomb() -> str:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for last, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{','.join([f'*{last}'] * 10)}]")
    return "\n".join(lines)


YAML_BOMBS = {
    "billion laughs": _bomb(),
    "merge keys": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}",
    "deep lists": "a: " + "[" * 20_000,
    "deep maps": "a: " + "{a: " * 20_000,
    "deep blocks": "\n".join(" " * depth + "a:" for depth in range(2_000)),
    "many keys": "\n".join(f"k{number}: 1" for number in range(30_000)),
    "long number": "a: " + "9" * 100_000,
    "sexagesimal": "a: " + "1:" * 50_000 + "1",
    "own type": "a: !!python/object/apply:os.system ['true']",
    "binary": "a: !!binary " + "A" * 10_000,
    "many documents": "a: 1\n" + "--- 1\n" * 10_000,
    "timestamp": "a: 9999-99-99T99:99:99Z",
    "recursion": "a: &a [*a]",
}


@pytest.mark.parametrize("case", YAML_BOMBS)
def test_yaml_bombs(server: Hub, case: str) -> None:
    text = YAML_BOMBS[case]
    repo = server.new_name()
    server.create(repo)
    before = server.ask("GET", f"/api/models/{repo}").json["sha"]
    for name, data in (
        ("README.md", f"---\n{text}\n---\n# x\n".encode()),
        ("card.yaml", text.encode()),
    ):
        began = time.monotonic()
        answer = server.commit(repo, {name: data})
        assert answer.status in (200, 413, 422), (name, answer)
        assert time.monotonic() - began < 20
        assert "Traceback" not in answer.body.decode()
        if answer.status != 200:
            assert server.ask("GET", f"/api/models/{repo}").json["sha"] == before
            before = server.ask("GET", f"/api/models/{repo}").json["sha"]
        else:
            before = answer.json["commitOid"]
    valid = server.ask("POST", "/api/validate-yaml", {"content": f"---\n{text}\n---\n"})
    assert valid.status in (200, 400)
    assert isinstance(valid.json, dict)


def _json_routes() -> list[tuple[str, str]]:
    """Every operation that reads JSON, with a path to it."""
    found = []
    for route in _TABLE.routes:
        method = route.methods[0]
        if route.visited or method == "GET" or "/commit/" in route.pattern:
            continue
        path = re.sub(r"\{(\w+)\*?\}", lambda match: _EXAMPLES.get(match[1], "x"), route.pattern)
        found.append((method, path))
    return found


_EXAMPLES = {"owner": "admin", "name": "json", "rev": "main", "ref": "x", "token": "99999"}
JSON_BOMBS = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"name":' * 100_000,
    "deep inside": b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long number": b'{"size":' + b"9" * 100_000 + b"}",
    "not text": b'{"name":"\xff\xfe"}',
    "half a pair": b'{"name":"\\ud800","user":"\\ud800","files":[{"path":"\\udfff","size":1}]}',
    "NUL": b'{"name":"a\\u0000b","tag":"a\\u0000b","key":"\\u0000"}',
    "wrong types": b'{"name":[],"files":{},"objects":{},"user":{},"tag":1,"paths":1,"parts":{}}',
    "infinity": b'{"size":1e999,"files":[{"path":"a","size":Infinity}]}',
    "a list": b"[]",
    "a text": b'"x"',
    "nothing": b"null",
}


@pytest.fixture(scope="module")
def json_repo(shared_hub: Hub) -> None:
    if shared_hub.ask("GET", "/api/models/admin/json").status == 404:
        shared_hub.published("admin/json")


@pytest.mark.parametrize("case", JSON_BOMBS)
@pytest.mark.usefixtures("json_repo")
def test_json_bombs(server: Hub, case: str) -> None:
    """Sent to every operation that reads JSON: a refusal, quickly, and nothing in the log but it."""
    before = len(server.log.read_text())
    for method, path in _json_routes():
        if path == "/api/repos/delete" or path.endswith("/branch/x"):
            continue  # they may well do what they are asked for
        answer = server.ask(method, path, JSON_BOMBS[case])
        assert answer.status < 500, (method, path, answer)
        assert "Traceback" not in answer.body.decode("utf-8", "replace")
    loud = [
        line for line in server.log.read_text()[before:].splitlines() if '"level": "error"' in line
    ]
    assert loud == []


@pytest.mark.usefixtures("json_repo")
def test_bodies_that_are_too_large(server: Hub) -> None:
    big = b'{"name":"' + b"x" * (9 << 20) + b'"}'
    for path in ("/api/repos/create", "/api/models/admin/json/preupload/main"):
        answer = server.ask("POST", path, big)
        assert answer.status == 413, path
    # A length that is only claimed is refused before anything is read.
    head = (
        f"POST /api/repos/create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        "Content-Length: 99999999999\r\n\r\n"
    )
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=40) as wire:
        wire.sendall(head.encode() + b"{")
        wire.shutdown(socket.SHUT_WR)
        assert _statuses(wire.recv(4096))[:1] in ([413], [400], [])


@pytest.mark.usefixtures("json_repo")
def test_packed_bodies_are_not_unpacked(server: Hub) -> None:
    bomb = gzip.compress(bytes(50 << 20))
    for path in ("/api/repos/create", "/api/models/admin/json/commit/main", "/api/validate-yaml"):
        for encoding in ("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"):
            answer = server.ask("POST", path, bomb, headers={"Content-Encoding": encoding})
            assert answer.status == 415, (path, encoding)
        assert server.ask("POST", path, bomb).status == 400
    plain = server.ask(
        "POST", "/api/validate-yaml", {"content": "x"}, headers={"Content-Encoding": "identity"}
    )
    assert plain.status == 200


# ---------------------------------------------------------------- HTTP itself

_HOST = b"Host: hub\r\n"
SMUGGLED: dict[str, bytes] = {
    "length and chunks": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n"
    + _HOST
    + b"\r\n",
    "two lengths": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}GET /healthz HTTP/1.1\r\n"
    + _HOST
    + b"\r\n",
    "length with a sign": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: +2\r\n\r\n{}",
    "length that is none": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: 0x2\r\n\r\n{}",
    "negative length": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Content-Length: -1\r\n\r\n{}",
    "unknown coding": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "hidden coding": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "blank before the colon": b"GET /healthz HTTP/1.1\r\n"
    + _HOST
    + b"Transfer-Encoding : chunked\r\n\r\n",
    "folded header": b"GET /healthz HTTP/1.1\r\n"
    + _HOST
    + b" X: y\r\n\x0bTransfer-Encoding: chunked\r\n\r\n",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\n" + _HOST + b"X: a\0b\r\n\r\n",
    "return in a header": b"GET /healthz HTTP/1.1\r\n" + _HOST + b"X: a\rb\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bad chunk": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n",
    "huge chunk": b"POST /api/validate-yaml HTTP/1.1\r\n"
    + _HOST
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"F" * 40
    + b"\r\n{}\r\n0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
    "other version": b"GET /healthz HTTP/9.9\r\n" + _HOST + b"\r\n",
    "odd method": b"G\xc3\x8bT /healthz HTTP/1.1\r\n" + _HOST + b"\r\n",
    "blank in the path": b"GET /healthz x HTTP/1.1\r\n" + _HOST + b"\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\n" + _HOST + b"\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\n"
    + _HOST
    + b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    + b"\r\n",
    "long header": b"GET /healthz HTTP/1.1\r\n" + _HOST + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    "long path": b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
}


@pytest.mark.parametrize("case", SMUGGLED)
def test_requests_that_could_be_read_in_two_ways(server: Hub, case: str) -> None:
    """One refusal, or the connection is closed; what follows is never taken for another request."""
    answer = _raw(server, SMUGGLED[case])
    statuses = _statuses(answer)
    assert len(statuses) <= 1, answer
    assert not statuses or 400 <= statuses[0] < 500, answer
    assert b'"alive"' not in answer
    assert server.ask("GET", "/healthz", token=None).status == 200


def test_host_header_cannot_steer_links(server: Hub) -> None:
    evil = ("evil.example/x?", "evil.example\\@hub", "a b", "<script>", "hub:99999999", "[::1", "")
    for host in evil:
        request = f"GET /api/models?limit=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        answer = _raw(server, request.encode())
        assert b"<script>" not in answer
        for line in answer.split(b"\r\n"):
            if line.lower().startswith((b"link:", b"location:")):
                assert b"evil.example/x" not in line


@pytest.mark.slow
def test_connections_that_only_wait_are_closed(server: Hub) -> None:
    """Nothing, half a head, a head letter by letter, a body that stops: none is held for ever."""
    from adapterhub.hub.server.patience import HEAD_SECONDS, PIECE_SECONDS

    parts = urlsplit(server.url)
    repo = server.new_name()
    server.published(repo)
    key = f"Authorization: Bearer {server.token}\r\n".encode()
    commit = f"POST /api/models/{repo}/commit/main HTTP/1.1\r\n".encode() + _HOST + key
    starts = {
        "nothing": b"",
        "half a head": b"GET /healthz HTTP/1.1\r\nHost:",
        "after a request": b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\nGET /hea",
        "small body": b"POST /api/repos/create HTTP/1.1\r\n"
        + _HOST
        + key
        + b"Content-Length: 90\r\n\r\n{",
        "commit": commit + b'Content-Length: 900\r\n\r\n{"key":"header",',
        "chunks": commit + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"key\r\n',
    }
    wires = {
        name: socket.create_connection((parts.hostname or "", parts.port or 0)) for name in starts
    }
    drip = socket.create_connection((parts.hostname or "", parts.port or 0))
    began, ended = time.monotonic(), {}
    for name, wire in wires.items():
        wire.sendall(starts[name])
        wire.settimeout(0.05)
    said = dict.fromkeys(wires, b"")
    dripped = 0.0
    while len(ended) < len(wires) + 1 and time.monotonic() - began < PIECE_SECONDS + 40:
        if "drip" not in ended:
            try:
                drip.sendall(
                    b"GET /healthz HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[
                        int(dripped) :
                    ][:1]
                )
                drip.settimeout(0.05)
                if drip.recv(10) == b"":
                    ended["drip"] = time.monotonic() - began
            except TimeoutError:
                pass
            except OSError:
                ended["drip"] = time.monotonic() - began
            dripped += 1
        for name, wire in wires.items():
            if name in ended:
                continue
            try:
                piece = wire.recv(65536)
                said[name] += piece
                if not piece:
                    ended[name] = time.monotonic() - began
            except TimeoutError:
                continue
            except OSError:
                ended[name] = time.monotonic() - began
        time.sleep(0.4)
    assert set(ended) == {*wires, "drip"}, ended
    for name in ("nothing", "half a head", "after a request", "drip"):
        assert ended[name] < HEAD_SECONDS + 15, ended
    for name in ("small body", "commit", "chunks"):
        assert _statuses(said[name]) == [408], (name, said[name])
    assert list((server.data / "staging").iterdir()) == []
    for wire in (*wires.values(), drip):
        wire.close()


# ---------------------------------------------------------------- addresses

TRICKS = [
    "..",
    "%2e%2e",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..%5cwindows",
    "%252e%252e%252fetc%252fpasswd",
    "%00",
    "a%00b",
    "%c0%ae%c0%ae%c0%afetc",
    "%ff",
    "%u002e",
    "%",
    "%zz",
    "%0d%0aSet-Cookie:%20a=b",
    "%E2%80%AE",
    "%EF%BC%8E%EF%BC%8E%EF%BC%8Fetc",
    "~root",
    "a;b=c",
    "a%23b",
    "a%3Fb",
    "'%20OR%201=1--",
    "%25s%25n",
    "$%7B7*7%7D",
    "%7B%7B7*7%7D%7D",
    "x" * 3000,
    "%F0%9F%98%80" * 100,
]


@pytest.mark.parametrize("trick", TRICKS, ids=lambda text: text[:30])
@pytest.mark.usefixtures("json_repo")
def test_tricks_in_every_position_of_every_address(server: Hub, trick: str) -> None:
    before = len(server.log.read_text())
    for route in _TABLE.routes:
        parts = re.findall(r"\{(\w+)\*?\}", route.pattern)
        for chosen in parts:
            path = re.sub(
                r"\{(\w+)\*?\}",
                lambda match, chosen=chosen: (
                    trick if match[1] == chosen else _EXAMPLES.get(match[1], "x")
                ),
                route.pattern,
            )
            method = "HEAD" if "GET" in route.methods and len(parts) > 3 else route.methods[0]
            if method not in ("GET", "HEAD"):
                continue
            answer = server.ask(method, path)
            assert answer.status < 500, (path, answer)
            assert "set-cookie" not in answer.headers or "a=b" not in answer.headers["set-cookie"]
            assert b"root:" not in answer.body
    loud = [
        line for line in server.log.read_text()[before:].splitlines() if '"level": "error"' in line
    ]
    assert loud == []


def test_names_of_files_in_headers(server: Hub) -> None:
    """A name that is legal in a repository is one file name in ``Content-Disposition``, and no more."""
    repo = server.new_name()
    names = [
        "a;filename=evil.html.md",
        "a' b.md",
        "caf\u00e9 \u4f60.md",
        "a,b=c.md",
        "%0d%0a.md",
        "{x}.md",
        "a&b#c.md",
    ]
    accepted = []
    server.published(repo)
    for name in names:
        answer = server.commit(repo, {name: b"text\n"})
        assert answer.status in (200, 422), (name, answer)
        accepted += [name] if answer.status == 200 else []
    assert accepted
    for name in accepted:
        answer = server.ask("GET", f"/{repo}/resolve/main/{quote(name)}", token=None)
        assert (answer.status, answer.body) == (200, b"text\n"), name
        disposition = answer.headers["content-disposition"]
        from email.message import Message

        message = Message()
        message["Content-Disposition"] = re.sub(r'; filename="[^"]*";?$', "", disposition)
        assert message.get_filename() == name
        assert re.fullmatch(
            r"inline; filename\*=UTF-8''[A-Za-z0-9%._~/-]+; filename=\"[^\"\\\r\n]*\";", disposition
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "names",
    [
        ("Twin", "twin"),
        ("a.b", "A.B"),
    ],
)
def test_repositories_that_differ_only_in_case(server: Hub, names: tuple[str, str]) -> None:
    first, second = (f"{server.new_name()[-6:]}-{name}" for name in names)
    second = first[:7] + second[7:]
    assert server.ask("POST", "/api/repos/create", {"name": first}).status == 200
    assert server.ask("POST", "/api/repos/create", {"name": second}).status == 409
    assert server.ask("GET", f"/api/models/admin/{second}").json["id"] == f"admin/{first}"


@pytest.mark.parametrize(
    "name", ["\u017fet", "\u212aey", "\uff41bc", "a\u0301", "a\u200b", "\u0430da"], ids=ascii
)
def test_names_that_only_look_like_others(server: Hub, name: str) -> None:
    assert server.ask("POST", "/api/repos/create", {"name": name}).status == 400
    assert server.ask("POST", "/api/hub/v1/users", {"name": name}).status == 400
    assert server.ask("POST", "/api/hub/v1/organizations", {"name": name}).status == 400


# ---------------------------------------------------------------- secrets


def test_upload_addresses_that_were_forged_or_have_expired(server: Hub) -> None:
    repo = server.new_name()
    server.published(repo)
    with sqlite3.connect(server.data / "hub.db") as database:
        (key,) = database.execute(
            "SELECT value FROM settings WHERE name = 'signing-key'"
        ).fetchone()
        (number,) = database.execute(
            "SELECT id FROM repos WHERE key = ?", (repo.split("/")[1],)
        ).fetchone()
    database.close()
    import hashlib

    data = adapter_files(weights=(4.5,))["adapter.safetensors"]
    item = Announced(number, 1, hashlib.sha256(data).hexdigest(), len(data))

    def put(query: str) -> int:
        return server.ask("PUT", f"/api/hub/v1/blobs?{query}", data, token=None).status

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signed, "LIFETIME", -1)
        assert put(signed.sign(key, item)) == 403
    assert put(signed.sign("00" * 32, item)) == 403
    good = signed.sign(key, item)
    assert put(good.replace("signature=", "signature=0")) == 403
    assert put(good.replace("expires=", "expires=9")) == 403
    assert put(f"{good}&size=1") == 403
    assert put(f"size=1&{good}") == 200  # the last one counts, and it is the one that was signed
    gone = signed.sign(key, Announced(999_999, 1, item.oid, item.size))
    assert put(gone) == 404


def test_hidden_and_missing_repositories_ask_the_same_of_the_database(tmp_path: Any) -> None:
    """So the time that an answer takes tells nothing of whether there is one."""
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    database.upgrade()
    with database.write() as session:
        owner = accounts.create_account(session, "ada")
        other = accounts.create_account(session, "eve")
        caller = Caller(owner.id, "ada", scope="admin")
        repo = repos.create(session, caller, owner, "hidden", private=True)
        assert repo.published_id is None
        stranger = Caller(other.id, "eve", scope="write")
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *args: asked.append(str(args[2])))

    def look(who: Caller, name: str) -> list[str]:
        asked.clear()
        with database.read() as session, pytest.raises(HubError, match="not found"):
            repos.view(session, who, "ada", name)
        return list(asked)

    for who in (Caller(), stranger):
        assert look(who, "hidden") == look(who, "missing")
    assert commits.MAX_FILES  # the module is imported for its tables
    database.close()


def test_a_private_repository_shows_nowhere(server: Hub) -> None:
    """Not in any list, page, search, index, comparison, redirect, condition or error."""
    word = f"zyxw{time.time_ns()}"
    stranger = server.user(f"s{time.time_ns() % 10**9}")
    hidden, gone = f"admin/{word}", f"admin/{word}-no"
    card = f"---\ntags: [{word}]\nlicense: mit\n---\n# {word}\n".encode()
    server.published(hidden, {**adapter_files(), "README.md": card}, private=True)
    etag = server.ask("HEAD", f"/{hidden}/resolve/main/README.md").headers["etag"]
    server.ask("POST", "/api/repos/move", {"fromRepo": hidden, "toRepo": f"{hidden}-2"})
    lists = [
        "/",
        f"/search/?q={word}",
        f"/search/index.json?q={word}",
        f"/api/models?search={word}",
        f"/api/models?filter={word}",
        "/api/models?author=admin&full=true",
        "/api/models-tags-by-type",
        "/api/hub/v1/cards",
        "/dist/index.json",
        "/people/admin/",
        "/people/admin/index.json",
        f"/compare/?a=@{hidden}-2&a=@{hidden}-2",
        "/api/hub/v1/reports?dataset=x",
    ]
    for token in (None, stranger):
        for path in lists:
            answer = server.ask("GET", path, token=token)
            # What was asked for may come back in a title or field, but nothing that was found.
            text = answer.body.decode()
            assert f"# {word}" not in text, path
            if word not in path:
                assert word not in text, path
            else:
                assert f"admin/{word}-2/" not in text.replace(f"@{hidden}-2", ""), path
        for name in (hidden, f"{hidden}-2"):
            for method, path, headers in (
                ("GET", "/{}/resolve/main/README.md", {"If-None-Match": etag}),
                ("HEAD", "/{}/resolve/main/README.md", {}),
                ("GET", "/{}/resolve/main/README.md", {"Range": "bytes=0-0"}),
                ("GET", "/{}", {"Accept": "text/html"}),
                ("GET", "/adapters/{}/", {"Accept": "text/html"}),
                ("GET", "/adapters/{}/index.json", {}),
                ("GET", "/adapters/{}/files/", {"Accept": "text/html"}),
                ("GET", "/api/hub/v1/repos/{}/reports", {}),
                ("POST", "/api/hub/v1/repos/{}/try", {}),
            ):
                body = b'{"text":"x"}' if method == "POST" else None

                def look(
                    repo: str,
                    method: str = method,
                    path: str = path,
                    headers: Any = headers,
                    body: Any = body,
                    token: str | None = token,
                ) -> tuple[Any, ...]:
                    found = server.ask(
                        method, path.format(repo), body, token=token, headers=headers
                    )
                    kept = [(k, v) for k, v in found.headers.items() if k in _TELLING]
                    text = f"{kept} {found.body.decode()}".replace(repo, "REPO")
                    text = text.replace(repo.split("/")[1], "NAME")
                    return found.status, re.sub(r"[0-9a-f]{16}", "ID", text)

                assert look(name) == look(gone), (method, path)
                # A browser is led from the short address to that of the page, where there is nothing;
                # on a hub without base models nothing can be tried, whatever it is called.
                expected = {"/{}": 302, "/api/hub/v1/repos/{}/try": 422}.get(path, 404)
                assert look(name)[0] == expected, (method, path)


_TELLING = {"etag", "x-repo-commit", "x-error-code", "location", "x-linked-etag", "content-range"}


def test_wrong_tokens_are_told_apart_by_nothing(new_hub: Callable[..., Hub]) -> None:
    """Unknown, revoked, cut, in another case, of a user who was shut out: one and the same answer."""
    hub = new_hub()
    good = hub.user("ada", scope="admin")
    hub.user("bob")
    made = hub.ask("POST", "/api/hub/v1/tokens", {"scope": "read", "name": "x"}, token=good).json
    hub.ask("DELETE", f"/api/hub/v1/tokens/{made['id']}", token=good)
    shut = hub.ask("POST", "/api/hub/v1/tokens", {"user": "bob", "scope": "read"}).json["token"]
    hub.ask("PUT", "/api/hub/v1/users/bob", {"disabled": True})
    wrong = [made["token"], shut, good[:-1], good.swapcase(), "ahub_" + "x" * 43, "x", "a" * 600]
    seen = set()
    for secret in wrong:
        answer = hub.ask("GET", "/api/whoami-v2", token=secret)
        seen.add((answer.status, answer.body, answer.headers["x-error-message"]))
        assert secret.encode() not in answer.body or len(secret) == 1
    assert len(seen) == 1
    assert seen.pop()[0] == 401
    log = hub.log.read_text()
    assert all(secret not in log for secret in wrong if len(secret) > 20)


def test_a_client_that_speaks_too_early(server: Hub) -> None:
    """Requests one after the other without waiting: each gets its answer, in order."""
    one = b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n"
    answer = _raw(
        server, one * 20 + b"GET /nothing HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n"
    )
    assert _statuses(answer) == [200] * 20 + [404]


def test_odd_methods(server: Hub) -> None:
    parts = urlsplit(server.url)
    for method in ("TRACE", "CONNECT", "PATCH", "OPTIONS", "PROPFIND", "X" * 300):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        connection.request(method, "/api/models")
        assert connection.getresponse().status in (400, 405), method
        connection.close()
