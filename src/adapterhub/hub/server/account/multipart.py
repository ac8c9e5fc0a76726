"""A form with files, read as it arrives: fields are kept, files go to a staging folder at once.

Nothing is held in memory but the fields. Files before the form was checked (its token comes first) are
not written at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from adapterhub.hub.leftovers import is_leftover
from adapterhub.hub.server.forms import MAX_FORM, Form
from adapterhub.hub.store.quotas import human
from adapterhub.hub.store.refusals import Malformed, TooLarge
from adapterhub.hub.store.staging import Staged, Writer

_MAX_HEADERS = 16 << 10
_MAX_PARTS = 20_000
_MAX_LEFT_OUT = 50
#: What tools leave in folders, and nobody means to publish.
_LITTER = re.compile(r"(^|/)(\.git|\.cache|__pycache__|__MACOSX)/|(^|/)desktop\.ini$")


@dataclass
class Sent:
    """One file that was sent, by the path that the browser gave it; several may have the same."""

    path: str
    whole_folder: bool
    staged: Staged | None = None


@dataclass
class _Part:
    headers: dict[str, str] = field(default_factory=dict)
    name: str = ""
    file: Sent | None = None
    writer: Writer | None = None
    value: bytearray = field(default_factory=bytearray)
    size: int = 0


class FormReader:
    """Reads a form with files.

    Args:
        content_type: header of the request.
        folder: where files are written; it is the caller's to remove.
        max_file, max_total: bytes of one file, and of all.
        max_files: how many.
        check: called with the fields so far, once, before the first file is written (or at the end).

    Raises:
        Malformed: If it is no such form.
    """

    def __init__(
        self,
        content_type: str,
        folder: Path,
        *,
        max_file: int,
        max_total: int,
        max_files: int,
        check: Callable[[Form], None],
    ) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
            raise Malformed("This address takes a form with files (multipart/form-data).")
        self._folder, self._check = folder, check
        self._max_file, self._max_total, self._max_files = max_file, max_total, max_files
        self._fields: dict[str, list[str]] = {}
        self._field_bytes = self._total = self._parts = 0
        self._checked = self._ended = False
        self._part = _Part()
        self._header, self._header_value = bytearray(), bytearray()
        self.files: list[Sent] = []
        self.left_out: list[str] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
                "on_end": self._finished,
            },
        )

    @property
    def form(self) -> Form:
        """The fields that were sent."""
        return Form(self._fields)

    def feed(self, data: bytes) -> None:
        """Read the next bytes.

        Raises:
            Malformed, TooLarge: If they cannot be taken; and whatever ``check`` raises.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Malformed("The form with files cannot be read.") from error

    def finish(self) -> None:
        """Check that the end was reached.

        Raises:
            Malformed: If not.
        """
        if not self._ended:
            raise Malformed("The files were not sent to their end.")
        self._once()

    def close(self) -> None:
        """Give up the file that is being received."""
        if self._part.writer is not None:
            self._part.writer.close()

    def _once(self) -> None:
        if not self._checked:
            self._check(self.form)
            self._checked = True

    def _begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise TooLarge("These are too many files; choose the folder of one adapter.")

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._limit_headers()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._limit_headers()

    def _limit_headers(self) -> None:
        if len(self._header) + len(self._header_value) > _MAX_HEADERS:
            raise Malformed("A file or field of the form has a header that is too long.")

    def _on_header_end(self) -> None:
        name = self._header.decode("latin-1").lower()
        self._part.headers[name] = self._header_value.decode("utf-8", "replace")
        self._header, self._header_value = bytearray(), bytearray()

    def _on_headers(self) -> None:
        part = self._part
        kind, options = parse_options_header(part.headers.get("content-disposition", "").encode())
        if kind != b"form-data" or b"name" not in options:
            raise Malformed("A part of the form has no name.")
        part.name = options[b"name"].decode("utf-8", "replace")
        if b"filename" not in options:
            return
        path = options[b"filename"].decode("utf-8", "replace").replace("\\", "/")
        self._once()
        if not path:  # a box in which nothing was chosen
            part.file = Sent("", False)
        elif _LITTER.search(path) or is_leftover(path):
            part.file = Sent(path, False)
            if len(self.left_out) < _MAX_LEFT_OUT:
                self.left_out.append(path)
        else:
            self._open(path)

    def _open(self, path: str) -> None:
        if len(self.files) >= self._max_files:
            raise TooLarge(
                f"At most {self._max_files} files can be published; choose the adapter only."
            )
        part = self._part
        part.file = Sent(path, part.name == "folder")
        part.writer = Writer(self._folder / str(len(self.files)), self._max_file, path[:200])
        self.files.append(part.file)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        part, size = self._part, end - start
        self._total += size
        if self._total > self._max_total:
            raise TooLarge(
                f"The files have more than the {human(self._max_total)} that can be sent from a browser; "
                "use 'adapterhub push' for them."
            )
        if part.writer is not None:
            part.writer.write(data[start:end])
        elif part.file is None:
            self._field_bytes += size
            if self._field_bytes > MAX_FORM:
                raise TooLarge("The texts of the form are too long.")
            part.value += data[start:end]

    def _end(self) -> None:
        part = self._part
        if part.writer is not None and part.file is not None:
            part.file.staged = part.writer.finish()
            part.writer = None
        elif part.file is None:
            self._fields.setdefault(part.name, []).append(part.value.decode("utf-8", "replace"))

    def _finished(self) -> None:
        self._ended = True


def without_top(files: list[Sent]) -> list[tuple[str, Sent]]:
    """Return the files with their paths in the repository: a chosen folder's own name is no part of them."""
    tops = {item.path.partition("/")[0] for item in files if item.whole_folder}
    cut = len(tops) == 1 and all("/" in item.path for item in files if item.whole_folder)
    return [
        (item.path.partition("/")[2] if cut and item.whole_folder else item.path, item)
        for item in files
    ]
