"""Requests to hosts that send us elsewhere, are busy, or lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapterhub.hub.copies.wire import NotThere, Wire, WireError
from tests.hub.copies.conftest import WebServer, send


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/file").write_bytes(b"0123456789" * 1000)
    site = WebServer(tmp_path / "www")
    running = site.start()
    yield site
    running.shutdown()
    running.server_close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_bytes(b"from elsewhere")
    site = WebServer(tmp_path / "other")
    running = site.start()
    yield site
    running.shutdown()
    running.server_close()


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between attempts."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def redirect(to: str, path: str = "file") -> Any:
    def trick(handler: Any, asked: str) -> bool:
        if asked != path:
            return False
        send(handler, 302, b"", {"Location": to, "X-Xet-Hash": "ab", "X-Linked-Size": "1"})
        return True

    return trick


def test_another_host_is_followed_only_when_named_and_gets_no_token(
    server: WebServer, other: WebServer, tmp_path: Path
) -> None:
    place = other.url.replace("127.0.0.1", "localhost") + "file"
    server.trick = redirect(place)
    with pytest.raises(WireError, match="--allow-host localhost"):
        Wire(server.url, token="secret").get("file", limit=10**6)
    assert other.asked == []
    body, _ = Wire(server.url, token="secret", hosts=("localhost",)).get("file", limit=10**6)
    assert body == b"from elsewhere"
    assert server.asked[-1][1]["authorization"] == "Bearer secret"
    assert "authorization" not in other.asked[-1][1]


def test_another_port_is_another_host(server: WebServer, other: WebServer) -> None:
    server.trick = redirect(other.url + "file")
    with pytest.raises(WireError, match="another host"):
        Wire(server.url).get("file", limit=10**6)
    assert other.asked == []


def test_a_redirect_on_the_same_host_is_followed(server: WebServer) -> None:
    server.trick = redirect("/file", "old")
    assert len(Wire(server.url).get("old", limit=10**6)[0]) == 10_000


@pytest.mark.parametrize(
    "place",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user@127.0.0.1/x", "gopher://x", "//"],
)
def test_addresses_that_are_never_followed(server: WebServer, place: str) -> None:
    server.trick = redirect(place)
    with pytest.raises(WireError):
        Wire(server.url, hosts=("127.0.0.1", "x")).get("file", limit=10**6)


def test_circles_end(server: WebServer) -> None:
    server.trick = redirect("/file")
    with pytest.raises(WireError, match="circles"):
        Wire(server.url).get("file", limit=10**6)


@pytest.mark.parametrize("place", ["../up", "//other.org/x", "http://other.org/x", "/../x"])
def test_places_outside_of_the_hub(server: WebServer, place: str) -> None:
    wire = Wire(server.url + "hub/")
    with pytest.raises(WireError, match="below"):
        wire.get(place, limit=10)
    assert server.asked == []


@pytest.mark.parametrize(
    "base", ["", "example.org", "file:///tmp", "http://", "http://u:p@x/", "http://x/?q", "ftp://x"]
)
def test_what_is_no_address_of_a_hub(base: str) -> None:
    with pytest.raises(WireError):
        Wire(base)


def test_a_busy_server_is_asked_again_as_it_says(server: WebServer, naps: list[float]) -> None:
    answers = iter([(429, {"Retry-After": "7"}), (503, {})])

    def busy(handler: Any, path: str) -> bool:
        status, headers = next(answers, (0, {}))
        if status:
            send(handler, status, b"", headers)
        return bool(status)

    server.trick = busy
    Wire(server.url).get("file", limit=10**6)
    assert naps == [7.0, 2.0]


def test_what_is_refused_is_not_asked_again(server: WebServer, naps: list[float]) -> None:
    with pytest.raises(NotThere):
        Wire(server.url).get("nothing", limit=10)
    server.trick = lambda handler, path: send(handler, 403, b"") is None
    with pytest.raises(WireError, match="403"):
        Wire(server.url).get("file", limit=10**6)
    assert (len(server.asked), naps) == (2, [])


def test_a_download_goes_on(server: WebServer, tmp_path: Path) -> None:
    target = tmp_path / "part"
    target.write_bytes((b"0123456789" * 1000)[:1234])
    noted: list[int] = []
    sha256, size = Wire(server.url).download("file", target, limit=10**5, note=noted.append)
    assert target.read_bytes() == b"0123456789" * 1000
    assert (size, sum(noted)) == (10_000, 10_000)
    assert server.asked[-1][1]["range"] == "bytes=1234-"
    again, _ = Wire(server.url).download("file", target, limit=10**5)  # 416: it is all here
    assert again == sha256


def test_a_server_without_ranges_sends_all_again(server: WebServer, tmp_path: Path) -> None:
    def whole(handler: Any, path: str) -> bool:
        send(handler, 200, b"abc")
        return True

    server.trick = whole
    (tmp_path / "part").write_bytes(b"old beginning")
    Wire(server.url).download("file", tmp_path / "part", limit=100)
    assert (tmp_path / "part").read_bytes() == b"abc"


def test_another_part_than_was_asked_for(server: WebServer, tmp_path: Path) -> None:
    def shifted(handler: Any, path: str) -> bool:
        send(handler, 206, b"abc", {"Content-Range": "bytes 0-2/10"})
        return True

    server.trick = shifted
    (tmp_path / "part").write_bytes(b"12345")
    with pytest.raises(WireError, match="another part"):
        Wire(server.url).download("file", tmp_path / "part", limit=100)


def test_nothing_is_unpacked(server: WebServer, tmp_path: Path) -> None:
    """A small body that would unpack to a huge one stays what it is: the hash is of the bytes sent."""
    import gzip

    bomb = gzip.compress(b"\0" * 10_000_000)

    def packed(handler: Any, path: str) -> bool:
        send(handler, 200, bomb, {"Content-Encoding": "gzip"})
        return True

    server.trick = packed
    _, size = Wire(server.url).download("file", tmp_path / "part", limit=100_000)
    assert size == len(bomb)
    assert server.asked[-1][1]["accept-encoding"] == "identity"


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(WireError, match=r"127\.0\.0\.1:9"):
        Wire("http://127.0.0.1:9", attempts=2, timeout=2).get("x", limit=1)
