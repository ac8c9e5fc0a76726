"""Getting one file from an address: hashed on the way, never more than allowed, http and https only."""

from __future__ import annotations

import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError

#: Bytes of a file from an address.
MAX_DOWNLOAD = 4 << 30

_SECONDS = 60
_CHUNK = 1 << 18
_SHOWN_FROM = 8 << 20


class Unreachable(HubError):
    """The address does not answer now; it may later."""


@dataclass(frozen=True)
class Download:
    """What arrived: hashes in hex, what the server calls this state of it (an ETag), and its media type."""

    sha256: str
    sha1: str
    size: int
    tag: str | None
    kind: str


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https only, and never from https to http."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        plain = newurl.startswith("http://")
        if not (newurl.startswith("https://") or (plain and not req.full_url.startswith("https:"))):
            fp.close()
            raise HubError(f"{req.full_url} leads to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, target: Path, tag: str | None = None) -> Download | None:
    """Write the file at an http or https address to *target*, with a progress bar if it is large.

    Args:
        tag: the ETag of the state that is known already.

    Returns:
        ``None`` if it is still in that state.

    Raises:
        Unreachable: If there is no answer, or the server is in trouble.
        HubError: If the server refuses, it is too large, or less comes than was announced.
        OSError: If *target* cannot be written.
    """
    headers = {"User-Agent": "adapterhub", "Accept-Encoding": "identity"}
    headers |= {"If-None-Match": tag} if tag else {}
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        _Redirects,
    ):
        opener.add_handler(handler())
    try:
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304 and tag:
                return None
            if error.code >= 500 or error.code in (408, 429):
                raise Unreachable(f"{url} answered {error.code} {error.reason}") from error
            raise HubError(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{url} cannot be reached: {reason}") from error
    with answer:
        return _receive(url, answer, target)


def _receive(url: str, answer: Any, target: Path) -> Download:
    announced = answer.headers.get("Content-Length")
    total = int(announced) if announced and announced.isdigit() else None
    _expect_size(url, total or 0)
    sha256, sha1, size = hashlib.sha256(), hashlib.sha1(usedforsecurity=False), 0
    with target.open("xb") as writer, _bar(url, total) as advance:
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"{url} broke off after {size} bytes: {error}") from error
            if not chunk:
                break
            size += len(chunk)
            _expect_size(url, size)
            sha256.update(chunk)
            sha1.update(chunk)
            writer.write(chunk)
            advance(len(chunk))
    if total is not None and size != total:
        raise Unreachable(f"{url} broke off after {size} of {total} bytes")
    kind = answer.headers.get_content_type()
    return Download(sha256.hexdigest(), sha1.hexdigest(), size, answer.headers.get("ETag"), kind)


def _expect_size(url: str, size: int) -> None:
    if size > MAX_DOWNLOAD:
        raise HubError(f"{url} is larger than {MAX_DOWNLOAD >> 30} GiB, which is no adapter")


@contextmanager
def _bar(url: str, total: int | None) -> Iterator[Any]:
    """Give a function that is told how many bytes came; it draws them if they are many and one looks."""
    if total is None or total < _SHOWN_FROM or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bars:
        task = bars.add_task(url.rsplit("/", 1)[-1] or url, total=total)
        yield lambda count: bars.advance(task, count)
