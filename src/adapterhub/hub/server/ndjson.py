"""Reads the body of a commit while it arrives: lines of JSON, some of which hold whole files as base64.

A line may be as long as the largest file, so it is never held in memory. A small scanner follows the
strings and braces of the line; when it meets ``"content": "`` inside ``"value"``, what follows up to the
next quote is decoded and written to a staged file, and the line goes on with an empty string in its place.
What remains of a line is short, or refused, and is parsed as JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.hub.server import jsontext
from adapterhub.hub.store.refusals import Malformed, TooLarge
from adapterhub.hub.store.staging import Staged, Writer

MAX_LINE = 256 * 1024
MAX_LINES = 2_000
# A whole string, a single sign of structure, or anything between them.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^"{}\[\]:,]+')
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Line:
    """One line: its key, its value without the content, and the content if there was one."""

    key: str
    value: dict[str, Any]
    staged: Staged | None = None


@dataclass
class _Scan:
    """Where the scanner stands in a line: what was read, how deep, what came last."""

    kept: bytearray = field(default_factory=bytearray)
    position: int = 0
    depth: int = 0
    key: bytes = b""
    after_colon: bool = False


class CommitReader:
    """Takes the pieces of a body in :meth:`feed`, and gives the lines at the end in :meth:`finish`.

    Args:
        folder: where contents are written.
        max_file, max_total: bytes of one content and of all together.

    Raises:
        Malformed: From any method, if the body is not what it should be.
        TooLarge: If it is too much.
    """

    def __init__(self, folder: Path, *, max_file: int, max_total: int) -> None:
        self._folder, self._max_file, self._left = folder, max_file, max_total
        self._lines: list[Line] = []
        self._pending = bytearray()
        self._scan = _Scan()
        self._writer: Writer | None = None
        self._base64 = b""
        self._padded = False
        self._staged: Staged | None = None

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body."""
        self._pending += data
        while self._pending:
            if self._writer is not None:
                if not self._take_content():
                    return
            elif not self._take_line():
                return

    def finish(self) -> list[Line]:
        """Return all lines; the body has ended."""
        if self._writer is not None:
            raise Malformed("the commit ends in the middle of a file")
        if bytes(self._scan.kept + self._pending).strip():
            self.feed(b"\n")
        return self._lines

    def close(self) -> None:
        """Give up; files that were begun are closed."""
        if self._writer is not None:
            self._writer.close()

    def _take_line(self) -> bool:
        """Go on until the line ends or a content begins; ``False`` if more is needed first."""
        end = self._pending.find(b"\n")
        fresh = self._pending if end < 0 else self._pending[:end]
        scan = self._scan
        room = MAX_LINE - len(scan.kept)
        # Of a long line only so much is looked at as may belong to it besides its content.
        scan.kept += fresh[: room + 1]
        begins = self._find_content()
        if begins is not None:
            unread = len(scan.kept) - begins
            del scan.kept[begins:]
            taken = min(len(fresh), room + 1) - unread
            del self._pending[:taken]
            self._writer = Writer(
                self._folder / str(len(self._lines)),
                min(self._max_file, self._left),
                "a file of the commit",
            )
            self._base64, self._padded = b"", False
            return True
        if len(scan.kept) > MAX_LINE:
            raise TooLarge(
                f"a line of the commit has more than {MAX_LINE} bytes besides its content"
            )
        if end < 0:
            self._pending.clear()
            return False
        del self._pending[: end + 1]
        self._end_line()
        return True

    def _find_content(self) -> int | None:
        """Return where the content begins in what was kept of the line, if it begins there."""
        scan = self._scan
        while scan.position < len(scan.kept):
            match = _TOKEN.match(scan.kept, scan.position)
            token = match[0] if match else b""
            at_content = scan.depth == 2 and scan.after_colon and scan.key == b'"content"'
            if (
                at_content
                and self._staged is None
                and scan.kept[scan.position : scan.position + 1] == b'"'
            ):
                scan.position += 1
                return scan.position
            if not token:
                return None  # a string that has not ended yet
            if match is not None and match.end() == len(scan.kept) and token[:1] not in b'"{}[]:,':
                return None  # may go on in the next piece
            scan.position += len(token)
            if token in (b"{", b"["):
                scan.depth += 1
                scan.after_colon = False
            elif token in (b"}", b"]"):
                scan.depth -= 1
                scan.after_colon = False
            elif token == b":":
                scan.after_colon = True
            elif token == b",":
                scan.after_colon = False
            elif token[:1] == b'"' and not scan.after_colon:
                scan.key = bytes(token)
        return None

    def _take_content(self) -> bool:
        """Decode what is there of a content; ``False`` if more is needed first."""
        end = self._pending.find(b'"')
        data = bytes(self._pending if end < 0 else self._pending[:end])
        del self._pending[: len(data)]
        for start in range(0, len(data), _BLOCK):
            self._decode(data[start : start + _BLOCK], last=False)
        if end < 0:
            return False
        self._decode(b"", last=True)
        assert self._writer is not None
        self._staged, self._writer = self._writer.finish(), None
        self._left -= self._staged.size
        del self._pending[:1]  # the closing quote
        self._scan.kept += b'"'
        self._scan.position, self._scan.after_colon = len(self._scan.kept), False
        return True

    def _decode(self, data: bytes, *, last: bool) -> None:
        """Decode base64 in groups of four letters; only the very end may be padded."""
        data = self._base64 + data
        whole = len(data) if last else len(data) - len(data) % 4
        data, self._base64 = data[:whole], data[whole:]
        if not data:
            return
        if self._padded:
            raise Malformed("a content goes on after its padding")
        try:
            decoded = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise Malformed("a content is not base64") from error
        self._padded = data.endswith(b"=")
        assert self._writer is not None
        self._writer.write(decoded)

    def _end_line(self) -> None:
        text, staged = bytes(self._scan.kept), self._staged
        self._scan, self._staged = _Scan(), None
        if not text.strip():
            return
        if len(self._lines) >= MAX_LINES:
            raise TooLarge(f"a commit can have {MAX_LINES} lines")
        try:
            item = jsontext.parse(text)
        except ValueError as error:
            raise Malformed(f"line {len(self._lines) + 1} of the commit is not JSON") from error
        if not isinstance(item, dict) or not isinstance(item.get("key"), str):
            raise Malformed(f"line {len(self._lines) + 1} of the commit has no key")
        value = item.get("value")
        if not isinstance(value, dict):
            raise Malformed(f"line {len(self._lines) + 1} of the commit has no value")
        self._lines.append(Line(item["key"], value, staged))
