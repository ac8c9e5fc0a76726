"""What schemathesis needs to know to send a commit: its body is lines of JSON. Loaded by :mod:`.hub_fuzz`."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx: Any, value: Any) -> bytes:
    """Send a text as it is, and anything else as one line of JSON for each of its items."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    rows = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
