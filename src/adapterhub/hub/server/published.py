"""The index of all public cards, signed, and the cards: what a mirror asks for. See ``hub/copies``."""

from __future__ import annotations

import hashlib
import os
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.copies import index as indexes
from adapterhub.hub.copies.stored import Cards
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, get
from adapterhub.hub.server.service import Service
from adapterhub.hub.signing import SigningKey, now
from adapterhub.hub.store.refusals import Missing
from adapterhub.hub.trust import PASSPHRASE_VARIABLE

KEY_VARIABLE, DAYS_VARIABLE = "ADAPTERHUB_INDEX_KEY", "ADAPTERHUB_INDEX_DAYS"
#: How often a signature is made anew although nothing has changed, so that nobody meets an expired one.
_RENEWED = 3600


class Board:
    """What one server publishes of its cards; made when it is asked for, after a change.

    Args:
        service: the server.
        key: signs the index; ``None``: it is not signed.
        days: how long a signature holds.
    """

    def __init__(self, service: Service, key: SigningKey | None, days: float) -> None:
        self._cards = Cards(service.database)
        self._key, self._days = key, days
        self._settings = service.settings
        self._lock = threading.Lock()
        self._index: dict[str, Any] = {}
        self._data = b""
        self._signed: tuple[datetime, bytes] | None = None

    def card(self, path: str) -> bytes | None:
        """Return a card by its path."""
        with self._lock:
            self._refresh()
            return self._cards.all.get(path)

    def index(self) -> bytes:
        """Return the bytes of the index."""
        with self._lock:
            self._refresh()
            return self._data

    def signature(self) -> bytes | None:
        """Return a signature of the index that is not older than an hour."""
        if self._key is None:
            return None
        with self._lock:
            self._refresh()
            # The time is that of the last change or of the last full hour, whatever process is asked: to a
            # client that remembers the newest, one process must not look like the past of another.
            hour = datetime.fromtimestamp(now().timestamp() // _RENEWED * _RENEWED, timezone.utc)
            time = max(hour, self._cards.changed or hour)
            if self._signed is None or self._signed[0] != time:
                made = indexes.sign_index(self._key, self._index, days=self._days, signed=time)
                self._signed = time, made.dumps()
            return self._signed[1]

    def _refresh(self) -> None:
        if self._cards.refresh() or not self._data:
            self._index = indexes.make_index(
                self._cards.all,
                name=self._settings.title,
                description=self._settings.about,
                layout="resolve",
            )
            self._data = indexes.dumps(self._index)
            self._signed = None


_boards: WeakKeyDictionary[Service, Board] = WeakKeyDictionary()
_guard = threading.Lock()


def board(service: Service) -> Board:
    """Return the board of a server.

    Raises:
        HubError: If the key that the environment names cannot be read.
    """
    with _guard:
        if service not in _boards:
            _boards[service] = Board(service, *settings())
        return _boards[service]


def settings() -> tuple[SigningKey | None, float]:
    """Read the key of the index and the days that a signature holds from the environment.

    Raises:
        HubError: If they are there, but cannot be used.
    """
    place, days = os.environ.get(KEY_VARIABLE), os.environ.get(DAYS_VARIABLE, "")
    try:
        number = float(days) if days else float(indexes.DEFAULT_DAYS)
        if not 0 < number <= 3650:
            raise ValueError
    except ValueError:
        raise HubError(f"{DAYS_VARIABLE} is {days!r}, which is no number of days") from None
    if not place:
        return None, number
    passphrase = os.environ.get(PASSPHRASE_VARIABLE) or None
    return SigningKey.load(Path(place).expanduser(), passphrase), number


def index(call: Call) -> Response:
    """Return the list of all public cards with their hashes."""
    return _answer(call, board(call.service).index(), "application/json")


def signature(call: Call) -> Response:
    """Return the signature of that list."""
    data = board(call.service).signature()
    if data is None:
        raise Missing(f"the index of this hub is not signed (its operator gave no {KEY_VARIABLE})")
    return _answer(call, data, "application/json")


def card(call: Call) -> Response:
    """Return one public card."""
    data = board(call.service).card(call.parts["path"])
    if data is None:
        raise Missing(f"there is no card {call.parts['path'][:200]}")
    return _answer(call, data, "application/yaml")  # (JSON, as of reports, is YAML)


def _answer(call: Call, data: bytes, media_type: str) -> Response:
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if call.request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


ROUTES: list[Route] = [
    get("/dist/index.json", index),
    get("/dist/index.sig", signature),
    get("/dist/cards/{path*}", card),
]
