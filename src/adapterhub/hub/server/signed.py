"""Addresses to which one certain file may be sent without a token, for a while."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlencode

from adapterhub.hub.store.refusals import Forbidden

_FIELDS = ("repo", "account", "oid", "size", "expires")
LIFETIME = 6 * 3600


def sign(key: str, **values: str | int) -> str:
    """Return the query of an address for ``repo``, ``account``, ``oid`` and ``size``."""
    fields = {**values, "expires": int(time.time()) + LIFETIME}
    return urlencode(
        {**fields, "signature": _signature(key, {name: str(fields[name]) for name in _FIELDS})}
    )


def _signature(key: str, fields: dict[str, str]) -> str:
    text = "\n".join(f"{name}={fields[name]}" for name in _FIELDS)
    return hmac.new(bytes.fromhex(key), b"put\n" + text.encode(), hashlib.sha256).hexdigest()


def check(key: str, query: dict[str, str]) -> tuple[int, int, str, int]:
    """Return repository, account, hash and size of a signed query.

    Raises:
        Forbidden: If it was not signed with *key*, was changed, or has expired.
    """
    fields = {name: query.get(name, "") for name in _FIELDS}
    expected = _signature(key, fields)
    if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode()):
        raise Forbidden("This upload address was not made by this hub, or was changed.")
    if int(fields["expires"]) < time.time():
        raise Forbidden("This upload address has expired; ask for another one.")
    return int(fields["repo"]), int(fields["account"]), fields["oid"], int(fields["size"])
