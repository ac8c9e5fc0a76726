"""Sends files to a hub server so that nothing travels twice, however often the line breaks.

What the repository holds under the same path is known by its hash and left out. Weights go ahead of the
commit: the server tells which contents it has already, and of a long file which parts; the rest is sent,
each part in a request of its own that is tried again when it fails. At last comes one commit with the small
files and the hashes of the large ones. Until then nothing is visible, and an upload that was stopped goes
on where it was when it is started again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from adapterhub.errors import HubError

#: Files from this size on, and all weights, are sent ahead of the commit.
_LARGE = 4 << 20
_ATTEMPTS = 5
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_SECONDS = 120.0
_PIECE = 1 << 20

#: Told what is sent: the name of a file, bytes that are there by now, and bytes of the file.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Outgoing:
    """A file to send: its path on this machine or its bytes, and the hashes that servers compare."""

    name: str
    source: Path | bytes
    size: int
    sha256: str
    git_oid: str

    @classmethod
    def of(cls, name: str, source: Path | bytes) -> Outgoing:
        """Read and hash a file."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for piece in _pieces(source):
            sha256.update(piece)
            git.update(piece)
        return cls(name, source, size, sha256.hexdigest(), git.hexdigest())

    @property
    def large(self) -> bool:
        """Whether it goes ahead of the commit."""
        return self.size >= _LARGE or (self.name.endswith(".safetensors") and self.size > 0)


@dataclass(frozen=True)
class Sent:
    """What a push did: the commit, its status, and which files had to travel."""

    commit: str
    status: str = ""
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    warning: str = ""


def _pieces(source: Path | bytes) -> Any:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


class Sender:
    """Requests to one repository of a hub server.

    Args:
        url: of the hub. repo: ``owner/name``. token: with scope write.
        progress: told what is sent.
    """

    def __init__(
        self, url: str, repo: str, token: str | None, progress: Progress | None = None
    ) -> None:
        import urllib3

        self.url, self.repo = url.rstrip("/"), repo
        self._token = token
        self._tell = progress or (lambda name, done, size: None)
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=30.0, read=_SECONDS)
        )

    # -- requests ------------------------------------------------------------------------------------

    def ask(
        self, method: str, place: str, body: Any = None, *, kind: str = "application/json"
    ) -> tuple[int, Mapping[str, str], Any]:
        """Send a small request with the token; return status, headers and the JSON of the answer.

        Raises:
            HubError: If the server cannot be reached, or refuses (but for 404, 409 and 412).
        """
        data = (
            body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        )
        headers = {"Content-Type": kind} if data is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        answer = self._often(method, f"{self.url}{place}", lambda: data, headers)
        found = {name.lower(): value for name, value in answer.headers.items()}
        if answer.status >= 400 and answer.status not in (404, 409, 412):
            raise HubError(said(answer.status, found, answer.data))
        try:
            content = json.loads(answer.data) if answer.data else None
        except ValueError as error:
            raise HubError(f"{self.url} did not answer with JSON; is it a hub server?") from error
        return answer.status, found, content

    def _often(
        self, method: str, url: str, body: Callable[[], Any], headers: Mapping[str, str]
    ) -> Any:
        """Send a request, again if the network fails or the server is busy."""
        import urllib3

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._pool.request(
                    method, url, body=body(), headers=dict(headers), redirect=False
                )
            except urllib3.exceptions.HTTPError as error:
                if attempt == _ATTEMPTS:
                    raise HubError(f"{self.url} cannot be reached: {error}") from error
                time.sleep(0.4 * 2**attempt)
                continue
            if answer.status not in _AGAIN or attempt == _ATTEMPTS:
                return answer
            after = answer.headers.get("retry-after") or ""
            time.sleep(min(30.0, float(after) if after.isdigit() else 0.4 * 2**attempt))
        raise AssertionError("unreachable")

    # -- steps ---------------------------------------------------------------------------------------

    def create(self, *, private: bool = False) -> None:
        """Make the repository, unless it is there."""
        owner, _, name = self.repo.rpartition("/")
        body = {"name": name, "organization": owner or None, "private": private, "type": "model"}
        self.ask("POST", "/api/repos/create", body)

    def there(self, revision: str) -> dict[str, str]:
        """Return what the repository holds: path to the hash by which the hub shows it."""
        place = f"/api/models/{self.repo}/tree/{quote(revision, safe='')}?recursive=true"
        status, _, rows = self.ask("GET", place)
        if status == 404 or not isinstance(rows, list):
            return {}
        files = [row for row in rows if isinstance(row, dict) and row.get("type") == "file"]
        return {
            str(row["path"]): str((row.get("lfs") or {}).get("oid") or row.get("oid"))
            for row in files
        }

    def read(self, revision: str, path: str) -> bytes | None:
        """Return the content of a small file of the repository, if it is there."""
        place = f"/{self.repo}/resolve/{quote(revision, safe='')}/{quote(path)}"
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        answer = self._often("GET", f"{self.url}{place}", lambda: None, headers)
        return answer.data if answer.status == 200 else None

    def send_ahead(self, files: Sequence[Outgoing]) -> None:
        """Send contents ahead of the commit; what the server has is not sent.

        Raises:
            HubError: If it does not take one.
        """
        by_hash = {item.sha256: item for item in files}
        if not by_hash:
            return
        body = {
            "operation": "upload",
            "transfers": ["multipart", "basic"],
            "objects": [{"oid": item.sha256, "size": item.size} for item in by_hash.values()],
            "hash_algo": "sha256",
        }
        place = f"/{self.repo}.git/info/lfs/objects/batch"
        _, _, answer = self.ask("POST", place, body, kind="application/vnd.git-lfs+json")
        rows = answer.get("objects") if isinstance(answer, dict) else None
        for row in rows if isinstance(rows, list) else ():
            item = by_hash.get(str(row.get("oid")))
            if item is None:
                continue
            if "error" in row:
                raise HubError(f"{item.name}: {row['error'].get('message')}")
            actions = row.get("actions") or {}
            if "upload" in actions:
                self._send(item, actions["upload"])
            self._tell(item.name, item.size, item.size)

    def _send(self, item: Outgoing, action: Mapping[str, Any]) -> None:
        header = dict(action.get("header") or {})
        length = header.pop("chunk_size", None)
        addresses = {int(key): value for key, value in header.items() if key.isdigit()}
        if length is None or not addresses:
            self._put(item, self._own(action["href"]), 0, item.size)
            return
        parts = []
        for number in sorted(addresses):
            begin = (number - 1) * int(length)
            size = min(int(length), item.size - begin)
            tag = self._part(item, self._own(addresses[number]), begin, size)
            parts.append({"partNumber": number, "etag": tag})
        body = json.dumps({"oid": item.sha256, "parts": parts}).encode()
        headers = {"Content-Type": "application/vnd.git-lfs+json"}
        answer = self._often("POST", self._own(action["href"]), lambda: body, headers)
        _require(answer, item.name)

    def _own(self, address: str) -> str:
        """Take an address only if it can be that of this hub or of its bucket: never plain after TLS."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or (
            self.url.startswith("https") and parts.scheme != "https"
        ):
            raise HubError(
                f"{self.url} wants the files sent to {address[:80]!r}, which is not done"
            )
        return address

    def _part(self, item: Outgoing, address: str, begin: int, size: int) -> str:
        """Send one part, unless it arrived before; return its ETag."""
        digest = hashlib.sha256()
        with _Slice(item.source, begin, size) as part:
            while piece := part.read(_PIECE):
                digest.update(piece)
        answer = self._often("GET", address, lambda: None, {})
        tag = (answer.headers.get("etag") or "").strip('"')
        if answer.status == 200 and tag == digest.hexdigest():
            self._tell(item.name, begin + size, item.size)
            return tag
        return self._put(item, address, begin, size)

    def _put(self, item: Outgoing, address: str, begin: int, size: int) -> str:
        slices: list[_Slice] = []

        def body() -> Any:
            for old in slices:
                old.close()
            slices[:] = [
                _Slice(item.source, begin, size, lambda n: self._tell(item.name, n, item.size))
            ]
            return slices[0]

        # (A body without a type is taken for a form by some stores.)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        try:
            answer = self._often("PUT", address, body, headers)
        finally:
            for part in slices:
                part.close()
        _require(answer, item.name)
        return (answer.headers.get("etag") or "").strip('"')

    def commit(
        self,
        files: Sequence[Outgoing],
        removed: Sequence[str],
        *,
        message: str,
        revision: str,
        parent: str | None = None,
    ) -> Sent:
        """Commit files (large ones must have been sent ahead) and removals.

        Raises:
            HubError: If the server refuses; nothing has changed there then.
        """
        head: dict[str, Any] = {"summary": message, "description": ""}
        if parent:
            head["parentCommit"] = parent
        lines: list[dict[str, Any]] = [{"key": "header", "value": head}]
        for item in files:
            if item.large:
                value: dict[str, Any] = {"path": item.name, "algo": "sha256", "oid": item.sha256}
                lines.append({"key": "lfsFile", "value": {**value, "size": item.size}})
            else:
                data = b"".join(_pieces(item.source))
                value = {"path": item.name, "encoding": "base64"}
                value["content"] = base64.b64encode(data).decode()
                lines.append({"key": "file", "value": value})
        lines += [{"key": "deletedFile", "value": {"path": path}} for path in removed]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        place = f"/api/models/{self.repo}/commit/{quote(revision, safe='')}"
        status, headers, made = self.ask("POST", place, body, kind="application/x-ndjson")
        if status >= 400 or not isinstance(made, dict):
            raise HubError(said(status, headers, json.dumps(made).encode()))
        warning = (headers.get("x-hf-warning") or "").partition(";")[2].strip()
        names = tuple(item.name for item in files)
        return Sent(
            str(made.get("commitOid")),
            str(made.get("status") or ""),
            names,
            tuple(removed),
            warning,
        )


class _Slice:
    """A part of a file, to be read once, that tells how far it was read."""

    def __init__(
        self,
        source: Path | bytes,
        begin: int,
        size: int,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        import io

        self._file: BinaryIO = (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        )
        self._file.seek(begin)
        self._position, self._left, self._tell = begin, size, tell

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        wanted = self._left if size < 0 else min(size, self._left)
        piece = self._file.read(wanted)
        self._left -= len(piece)
        self._position += len(piece)
        if self._tell is not None and piece:
            self._tell(self._position)
        return piece

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> _Slice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _require(answer: Any, name: str) -> None:
    if answer.status >= 300:
        headers = {key.lower(): value for key, value in answer.headers.items()}
        raise HubError(f"{name} was not taken: {said(answer.status, headers, answer.data)}")


def said(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Return what a server said about a refusal."""
    text = headers.get("x-error-message")
    if not text:
        try:
            content = json.loads(body)
            text = content.get("error") if isinstance(content, dict) else None
        except ValueError:
            text = None
    return str(text or f"the server answered {status}")[:2000]
