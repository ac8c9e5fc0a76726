"""The log: one line of JSON an event, with what a request was and never what a secret is."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}


class JsonLines(logging.Formatter):
    """Formats a record, with everything passed as ``extra``, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # In ASCII: some readers take U+0085 and U+2028, which a path may have, for the end of a line.
        return json.dumps(line, default=str)


def set_up(*, as_json: bool, stream: TextIO | None = None) -> None:
    """Send the log of the hub (and warnings of its libraries) to standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        JsonLines() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s")
    )
    for name, level in (
        ("adapterhub", logging.INFO),
        ("uvicorn", logging.WARNING),
        ("alembic", logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
