"""The ``Range`` header: which bytes of a file a client wants."""

from __future__ import annotations

import re

from adapterhub.hub.store.refusals import Refusal

_ONE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class OutOfRange(Refusal):
    """The bytes asked for are not there."""

    status = 416


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last, or ``None`` for the whole file.

    Several ranges in one request, and what is no range, are answered by the whole file, as HTTP allows.

    Raises:
        OutOfRange: If the range begins behind the end.
    """
    match = _ONE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        wanted = min(int(match[2]), size)
        start, end = size - wanted, size
    else:
        start = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start == end:
        raise OutOfRange(f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return start, end
