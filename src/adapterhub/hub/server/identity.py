"""Who makes a request: the token in its ``Authorization`` header, and how often one may guess."""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
import time
from collections import OrderedDict, deque

from adapterhub.hub.store import accounts
from adapterhub.hub.store.accounts import BAD_TOKEN, Caller
from adapterhub.hub.store.database import UNREACHABLE, Database
from adapterhub.hub.store.refusals import TooMany, Unidentified

log = logging.getLogger("adapterhub.hub.server")
_WINDOW = 60.0
_MAX_ADDRESSES = 10_000
_MAX_TOKEN = 500


class Guesses:
    """Counts wrong tokens per address. Over the limit, only tokens that were right before are looked at.

    In the memory of one process: with several web workers each has its own count.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._right: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, address: str, digest: str) -> None:
        """Refuse another guess if there were too many.

        Raises:
            TooMany: Then; with the time after which it is worth trying.
        """
        with self._lock:
            times = self._wrong.get(address)
            while times and times[0] < time.monotonic() - _WINDOW:
                times.popleft()
            if times is None or len(times) < self.limit or digest in self._right:
                return
            wait = int(times[0] + _WINDOW - time.monotonic()) + 1
        headers = {
            "Retry-After": str(wait),
            "RateLimit": f'"tokens";r=0;t={wait}',
            "RateLimit-Policy": f'"tokens";q={self.limit};w={_WINDOW:.0f}',
        }
        raise TooMany(
            f"Too many wrong tokens from your address; wait {wait} seconds.", headers=headers
        )

    def note(self, address: str, digest: str, *, right: bool) -> None:
        """Remember whether a token was right."""
        with self._lock:
            if right:
                self._right[digest] = None
                self._right.move_to_end(digest)
                while len(self._right) > _MAX_ADDRESSES:
                    self._right.popitem(last=False)
                return
            self._right.pop(digest, None)
            self._wrong.setdefault(address, deque(maxlen=self.limit + 1)).append(time.monotonic())
            self._wrong.move_to_end(address)
            while len(self._wrong) > _MAX_ADDRESSES:
                self._wrong.popitem(last=False)


def secret_of(authorization: str | None) -> str | None:
    """Return the token of a header ``Bearer <token>``, or ``Basic`` with the token as password (git)."""
    if not authorization:
        return None
    kind, _, value = authorization.strip().partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value or None
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except ValueError:  # not base64, not ASCII, not UTF-8
            pass
    raise Unidentified(BAD_TOKEN)


def identify(
    database: Database, guesses: Guesses, authorization: str | None, address: str
) -> Caller:
    """Return the caller of a request.

    Raises:
        Unidentified: If a token was sent that is not (or no longer) valid here.
        TooMany: After too many of those.
    """
    secret = secret_of(authorization)
    if secret is None:
        return Caller(address=address)
    digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
    guesses.check(address, digest)
    try:
        if len(secret) > _MAX_TOKEN:
            raise Unidentified(BAD_TOKEN)
        with database.read() as session:
            caller, stale = accounts.identify(session, secret, address)
    except Unidentified:
        guesses.note(address, digest, right=False)
        raise
    guesses.note(address, digest, right=True)
    if stale and caller.token_id is not None:
        try:
            with database.write() as session:
                accounts.note_use(session, caller.token_id)
        except UNREACHABLE:  # reading goes on while nothing can be written
            log.exception("the use of a token could not be noted")
    return caller
