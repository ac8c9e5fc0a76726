"""Answers: JSON, and refusals with the headers by which Hugging Face clients tell errors apart."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from starlette.responses import Response

from adapterhub.hub.store.refusals import Refusal

_MAX_HEADER = 1500
#: Nothing that strangers uploaded may run in a browser, whatever it is taken for.
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(
            content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
        ).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def moment(value: datetime) -> str:
    """Write a time as the clients expect it: UTC, milliseconds, ``Z``."""
    return (
        value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.")
        + f"{value.microsecond // 1000:03d}Z"
    )


def header_text(text: str) -> str:
    """Return *text* as it can stand in a header: one line of printable ASCII, not too long."""
    line = " ".join(text.split())
    return "".join(char if " " <= char <= "~" else "?" for char in line)[:_MAX_HEADER]


def refusal(error: Refusal) -> Response:
    """Return the answer for a refusal; clients show ``X-Error-Message`` and choose by ``X-Error-Code``."""
    headers = {**error.headers, "X-Error-Message": header_text(str(error))}
    if error.code:
        headers["X-Error-Code"] = error.code
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="adapterhub"'
    return Json({"error": str(error)}, status_code=error.status, headers=headers)
