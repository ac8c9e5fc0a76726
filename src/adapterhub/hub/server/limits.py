"""How many requests one user or address may make: a bucket of tokens each, refilled all the time.

Buckets are in the memory of one process: with N web processes somebody who is spread over all of them
gets up to N times the limit, and a restart fills all buckets. (The limit on guessing passwords is in the
database and holds exactly; see :mod:`adapterhub.hub.store.attempts`.) Requests of the machine itself are
not limited, so that a proxy that does not say whom it asks for cannot lock everybody out at once.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.attempts import network
from adapterhub.hub.store.refusals import TooMany

_MAX_BUCKETS = 20_000
_WINDOW = 60.0
_FREE = ("/healthz", "/readyz", "/metrics", "/assets/")
_TRIES = ("/try", "/try/", "/try/image")
_SEARCHES = ("/search/", "/api/hub/v1/search")
#: Questions that are asked by POST because they are long.
_ASKING = ("/paths-info/", "/preupload/", "/api/validate-yaml")


def kind_of(method: str, path: str) -> str:
    """Return as what a request counts: ``read``, ``search``, ``write``, ``try``, or ``""``: not at all."""
    if path.startswith(_FREE):
        return ""
    if path == "/api/models" or path.startswith(_SEARCHES):
        return "search"
    if method == "POST" and path.endswith(_TRIES):
        return "try"
    reads = method in ("GET", "HEAD") or any(part in path for part in _ASKING)
    return "read" if reads else "write"


class Limits:
    """Counts requests.

    Args:
        per_minute: for each kind, how many requests a user (or an address, where nobody is signed in)
            may make in a minute, which is also how many at once; 0 is no limit.
        clock: returns seconds.
    """

    def __init__(
        self, per_minute: Mapping[str, int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, method: str, path: str, caller: Caller) -> None:
        """Count a request.

        Raises:
            TooMany: If there were too many; with the time after which the next is taken.
        """
        kind = kind_of(method, path)
        limit = self._per_minute.get(kind, 0)
        if not limit or _is_loopback(caller.address):
            return
        who = f"user:{caller.account_id}" if caller.known else f"address:{network(caller.address)}"
        now, rate = self._clock(), limit / _WINDOW
        with self._lock:
            left, since = self._buckets.get((kind, who), (float(limit), now))
            left = min(float(limit), left + (now - since) * rate)
            taken = left >= 1
            self._buckets[kind, who] = (left - 1 if taken else left, now)
            self._buckets.move_to_end((kind, who))
            while len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        if not taken:
            raise _too_many(kind, limit, int((1 - left) / rate) + 1)


def _too_many(kind: str, limit: int, wait: int) -> TooMany:
    headers = {
        "Retry-After": str(wait),
        "RateLimit": f'"{kind}";r=0;t={wait}',
        "RateLimit-Policy": f'"{kind}";q={limit};w={_WINDOW:.0f}',
    }
    what = {"read": "requests", "search": "searches", "write": "changes", "try": "tries"}[kind]
    return TooMany(
        f"Too many {what}: this hub takes {limit} a minute from one user or address. "
        f"Go on in {wait} second{'s' if wait > 1 else ''}.",
        headers=headers,
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
