"""Fetching from a server that may be broken or hostile.

Answers have a size limit, downloads go on where they were cut off, redirects are followed only to the same
host or to hosts that the user named, never from https to http, and the token goes to no other host. Headers
that would lead to another store of the same contents (``X-Xet-*``) are never looked at: the bytes come from
where we asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from adapterhub.errors import HubError

_CHUNK = 1 << 18
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_MAX_REDIRECTS = 5
_MAX_WAIT = 60.0
#: What https://huggingface.co sends clients to for large files.
_KNOWN = {"huggingface.co": ("huggingface.co", "hf.co")}


class WireError(HubError):
    """The server cannot be reached, or its answer is not acceptable."""


class NotThere(WireError):
    """The server says that there is no such thing."""


class Wire:
    """Requests to one hub.

    Args:
        base: its address.
        token: sent to this host only.
        hosts: other hosts to which it may redirect downloads; ``example.org`` stands for all below it, too.
        attempts: how often a request is tried when the network fails or the server is busy.
        timeout: seconds without a byte after which a request has failed.
    """

    def __init__(
        self,
        base: str,
        *,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        attempts: int = 4,
        timeout: float = 30.0,
    ) -> None:
        import urllib3

        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise WireError(f"{base!r} is not the address of a hub; write e.g. https://example.org")
        if parts.query or parts.fragment:
            raise WireError(f"{base!r} must be an address without ? and #")
        self.base = base.rstrip("/") + "/"
        self._token, self._attempts = token, attempts
        self._hosts = (*hosts, *_KNOWN.get(parts.hostname, ()))
        proxy = _proxy(parts.scheme, parts.hostname)
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=timeout, read=timeout),
            "retries": False,
            "maxsize": 8,
        }
        self._pool = (
            urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        )
        self.requests = 0
        self.received = 0

    def url(self, place: str) -> str:
        """Return the address of something below the hub's own; one that leads elsewhere is refused."""
        found = urljoin(self.base, place)
        if not found.startswith(self.base):
            raise WireError(f"{place[:200]!r} does not lie below {self.base}")
        return found

    def get(self, place: str, *, limit: int) -> tuple[bytes, Mapping[str, str]]:
        """Return the body, of at most *limit* bytes, and the headers (names in lower case).

        Raises:
            NotThere: the server answered 404 or 410.
            WireError: anything else went wrong; the message names the address.
        """
        return self._often(place, lambda: self._get(self.url(place), limit))

    def json(self, place: str, *, limit: int) -> tuple[Any, Mapping[str, str]]:
        """Return the body read as JSON, and the headers."""
        body, headers = self.get(place, limit=limit)
        try:
            return json.loads(body), headers
        except (ValueError, RecursionError) as error:
            raise WireError(f"{self.url(place)} did not answer with JSON") from error

    def download(
        self, place: str, target: Path, *, limit: int, note: Callable[[int], None] = lambda _: None
    ) -> tuple[str, int]:
        """Fetch a file to *target*, going on where an earlier try stopped; return SHA-256 and size.

        Args:
            place: where it lies below the hub's address.
            target: may hold the beginning of the file.
            limit: more bytes than these are refused, and what came is removed.
            note: called with the number of bytes that have come.
        """
        return self._often(place, lambda: self._download(self.url(place), target, limit, note))

    def _often(self, place: str, action: Callable[[], Any]) -> Any:
        import urllib3

        for attempt in range(1, self._attempts + 1):
            try:
                return action()
            except (urllib3.exceptions.HTTPError, _Busy) as error:
                if attempt == self._attempts:
                    said = str(error) or type(error).__name__
                    raise WireError(f"{self.base}{place[:200]} failed: {said[:300]}") from error
                wait = error.wait if isinstance(error, _Busy) else None
                time.sleep(min(_MAX_WAIT, 0.5 * 2**attempt if wait is None else wait))
        raise AssertionError("unreachable")

    def _get(self, url: str, limit: int) -> tuple[bytes, Mapping[str, str]]:
        with self._open(url, {}) as response:
            body = bytearray()
            for piece in self._pieces(response):
                body += piece
                if len(body) > limit:
                    raise WireError(f"{url} sends more than {limit} bytes")
            return bytes(body), {name.lower(): value for name, value in response.headers.items()}

    def _download(
        self, url: str, target: Path, limit: int, note: Callable[[int], None]
    ) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        if target.is_file():
            with target.open("rb") as reader:
                while chunk := reader.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
        headers = {"Range": f"bytes={size}-"} if size else {}
        with self._open(url, headers, partial=bool(size)) as response:
            if response.status == 416:  # all of it was here already, or it is another file now
                stated = (response.headers.get("content-range") or "").rpartition("/")[2]
                if stated == str(size):
                    return digest.hexdigest(), size
                target.unlink()
                raise _Busy("the file has changed meanwhile", 0.0)
            if response.status == 206:
                began = (response.headers.get("content-range") or "").partition(" ")[2]
                if began.partition("-")[0] != str(size):
                    raise WireError(f"{url} sent another part of the file than was asked for")
            elif size:
                digest, size = hashlib.sha256(), 0
            with target.open("ab" if size else "wb") as writer:
                if size:
                    note(size)
                for piece in self._pieces(response):
                    size += len(piece)
                    if size > limit:
                        writer.close()
                        target.unlink()
                        raise WireError(f"{url} sends more than the {limit} bytes that are allowed")
                    writer.write(piece)
                    digest.update(piece)
                    note(len(piece))
        return digest.hexdigest(), size

    def _pieces(self, response: Any) -> Iterator[bytes]:
        for piece in response.stream(_CHUNK, decode_content=False):
            self.received += len(piece)
            yield piece

    @contextmanager
    def _open(self, url: str, extra: Mapping[str, str], *, partial: bool = False) -> Iterator[Any]:
        home = urlsplit(self.base)
        for _ in range(_MAX_REDIRECTS + 1):
            parts = urlsplit(url)
            headers = {
                "Accept-Encoding": "identity",
                "User-Agent": "adapterhub-mirror",
                **extra,
            }
            if self._token and (parts.scheme, parts.netloc) == (home.scheme, home.netloc):
                headers["Authorization"] = f"Bearer {self._token}"
            self.requests += 1
            response: Any = self._pool.request(
                "GET", url, headers=headers, redirect=False, preload_content=False
            )
            try:
                if response.status in _REDIRECTS:
                    url = self._followed(url, response.headers.get("location") or "")
                    continue
                _require_good(url, response, partial)
                yield response
                return
            finally:
                _put_away(response)
        raise WireError(f"{url} redirects in circles")

    def _followed(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        old, new, home = urlsplit(url), urlsplit(target), urlsplit(self.base)
        host = (new.hostname or "").lower()
        if (
            new.scheme not in ("http", "https")
            or new.username
            or (old.scheme == "https" and new.scheme != "https")
        ):
            raise WireError(f"{url} redirects to {target[:200]!r}, which is not followed")
        if (new.scheme, new.netloc) == (home.scheme, home.netloc):
            return target
        named = any(
            host == name.lower() or host.endswith(f".{name.lower()}") for name in self._hosts
        )
        if not named and host + f":{new.port}" not in self._hosts:
            raise WireError(
                f"{url} redirects to another host, {new.netloc[:200]!r}; if that is right, allow it "
                f"with --allow-host {host}"
            )
        return target


class _Busy(Exception):
    """The server asks to come back later, in *wait* seconds if it says so."""

    def __init__(self, message: str, wait: float | None) -> None:
        super().__init__(message)
        self.wait = wait


def _require_good(url: str, response: Any, partial: bool) -> None:
    status = response.status
    if status in (200, 206) or (partial and status == 416):
        return
    if status in _AGAIN:
        after = response.headers.get("retry-after") or ""
        raise _Busy(f"answer {status}", float(after) if after.isdigit() else None)
    said = " ".join((response.headers.get("x-error-message") or "").split())[:200]
    text = f"{url} answered {status}{f': {said}' if said else ''}"
    raise (NotThere if status in (404, 410) else WireError)(text)


def _put_away(response: Any) -> None:
    """Keep the connection for the next request, unless too much of a body is left that nobody reads."""
    left = response.length_remaining
    if left is not None and left <= _CHUNK:
        response.drain_conn()
        response.release_conn()
    else:
        response.close()


def _proxy(scheme: str, host: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    return None if proxy_bypass(host) else getproxies().get(scheme)


def git_oid(path: Path) -> str:
    """Return the hash by which git knows the content of a file."""
    digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    with path.open("rb") as reader:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
