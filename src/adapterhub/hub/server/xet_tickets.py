"""What a Xet client has instead of the user's token: a ticket, good for one repository and a while.

A ticket says whose token it was given for. That token is looked up at every use, so what ends the token
ends its tickets.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import astuple, dataclass

from adapterhub.hub.server.identity import secret_of
from adapterhub.hub.server.service import Service
from adapterhub.hub.store import accounts
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.refusals import Unidentified

LIFETIME = 3600
_PREFIX = "ahubxet"


@dataclass(frozen=True)
class Ticket:
    """Who may send to which repository: numbers of both, that of a token, and seconds since 1970."""

    repo: int
    account: int
    token: int
    expires: int


def issue(key: str, repo: int, account: int, token: int) -> tuple[str, Ticket]:
    """Return a ticket, as text and as it is; it is good for :data:`LIFETIME` seconds."""
    ticket = Ticket(repo, account, token, int(time.time()) + LIFETIME)
    return write(key, ticket), ticket


def write(key: str, ticket: Ticket) -> str:
    """Return a ticket as text, signed with *key*."""
    numbers = ".".join(str(value) for value in astuple(ticket))
    return f"{_PREFIX}.{numbers}.{_signature(key, numbers)}"


def _signature(key: str, numbers: str) -> str:
    return hmac.new(bytes.fromhex(key), b"xet\n" + numbers.encode(), hashlib.sha256).hexdigest()


def read(key: str, authorization: str | None) -> Ticket:
    """Return the ticket in an ``Authorization`` header.

    Raises:
        Unidentified: If there is none, it was not signed with *key*, was changed, or has expired.
    """
    prefix, _, rest = (secret_of(authorization) or "").partition(".")
    numbers, _, signature = rest.rpartition(".")
    expected = _signature(key, numbers)
    if prefix != _PREFIX or not hmac.compare_digest(expected.encode(), signature.encode()):
        raise Unidentified("This needs a token from /xet-write-token/ of this hub.")
    ticket = Ticket(*(int(text) for text in numbers.split(".")))
    if ticket.expires < time.time():
        raise Unidentified("This token from /xet-write-token/ has expired; ask for another one.")
    return ticket


def caller(service: Service, authorization: str | None, address: str) -> Caller:
    """Return who makes a request with a ticket.

    Raises:
        Unidentified: As :func:`read`, or if the token that it was given for is not valid any more.
    """
    ticket = read(service.signing_key, authorization)
    with service.database.read() as session:
        return accounts.identify_again(session, ticket.token, address)
