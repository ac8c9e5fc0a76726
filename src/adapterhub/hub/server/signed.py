"""Addresses to which one certain file, or a part of it, may be sent without a token, for a while."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from adapterhub.hub.store.refusals import Forbidden

_FIELDS = ("repo", "account", "oid", "size", "part", "expires")
LIFETIME = 6 * 3600
#: In place of the number of a part: the whole file in one request, the end of one sent in parts, and the
#: question whether it has arrived.
WHOLE, END, ARRIVED = 0, -1, -2


@dataclass(frozen=True)
class Announced:
    """What may be sent to an address: the file *oid* of *size* bytes, or its part number *part* (from 1)."""

    repo: int
    account: int
    oid: str
    size: int
    part: int = WHOLE


def sign(key: str, announced: Announced) -> str:
    """Return the query of an address for what was announced; it is good for :data:`LIFETIME` seconds."""
    fields = {name: str(value) for name, value in vars(announced).items()}
    fields["expires"] = str(int(time.time()) + LIFETIME)
    return urlencode({**fields, "signature": _signature(key, fields)})


def _signature(key: str, fields: dict[str, str]) -> str:
    text = "\n".join(f"{name}={fields[name]}" for name in _FIELDS)
    return hmac.new(bytes.fromhex(key), b"put\n" + text.encode(), hashlib.sha256).hexdigest()


def check(key: str, query: dict[str, str]) -> Announced:
    """Return what was announced in a signed query.

    Raises:
        Forbidden: If it was not signed with *key*, was changed, or has expired.
    """
    fields = {name: query.get(name, "") for name in _FIELDS}
    expected = _signature(key, fields)
    if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode()):
        raise Forbidden("This upload address was not made by this hub, or was changed.")
    if int(fields["expires"]) < time.time():
        raise Forbidden("This upload address has expired; ask for another one.")
    numbers = {name: int(fields[name]) for name in ("repo", "account", "size", "part")}
    return Announced(oid=fields["oid"], **numbers)
