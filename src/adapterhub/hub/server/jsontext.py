"""JSON of strangers: parsed only if everything in it can be stored and sent again."""

from __future__ import annotations

import json
import re
from typing import Any

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(data: bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: If it is none, is nested too deeply, or holds half of a surrogate pair (which is no
            character, and which no database takes).
    """
    try:
        value = json.loads(data)
        if _HALF_PAIR.search(data):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value
