"""Routes on the raw path, because ``%2F`` inside a revision is not a ``/`` between parts of the path.

A pattern has parts ``{name}`` (no slash in the raw path; decoded afterwards) and, at its end, ``{name*}``
(the rest, with slashes). Every other character stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from adapterhub.hub.store.refusals import Malformed

if TYPE_CHECKING:
    from adapterhub.hub.server.service import Service
    from adapterhub.hub.store.accounts import Caller

_PART = re.compile(r"\{(\w+)(\*?)\}")


@dataclass(frozen=True)
class Route:
    """What is done for a method and pattern.

    Attributes:
        endpoint: called with a :class:`~adapterhub.hub.server.call.Call`; a plain function runs in a
            thread, a coroutine function reads the body itself, as a stream.
        caller: finds out who makes the request, from its ``Authorization`` and address, where that is not
            a user's token.
        visited: whether it is a page: the caller follows from the cookie of the browser, a form is taken
            only from a page of this hub, and refusals are pages (see :mod:`.visitor`, :mod:`.forms`).
    """

    methods: tuple[str, ...]
    pattern: str
    endpoint: Callable[..., Any]
    visited: bool = False
    caller: Callable[[Service, str | None, str], Caller] | None = None
    regex: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        parts, position = [], 0
        for match in _PART.finditer(self.pattern):
            parts.append(re.escape(self.pattern[position : match.start()]))
            parts.append(f"(?P<{match[1]}>{'.*' if match[2] else '[^/]+'})")
            position = match.end()
        parts.append(re.escape(self.pattern[position:]))
        object.__setattr__(self, "regex", re.compile("".join(parts), re.DOTALL))


def get(pattern: str, endpoint: Callable[..., Any]) -> Route:
    """Make a route for GET and HEAD."""
    return Route(("GET", "HEAD"), pattern, endpoint)


def post(pattern: str, endpoint: Callable[..., Any]) -> Route:
    """Make a route for POST."""
    return Route(("POST",), pattern, endpoint)


def put(pattern: str, endpoint: Callable[..., Any]) -> Route:
    """Make a route for PUT."""
    return Route(("PUT",), pattern, endpoint)


def delete(pattern: str, endpoint: Callable[..., Any]) -> Route:
    """Make a route for DELETE."""
    return Route(("DELETE",), pattern, endpoint)


def page(pattern: str, endpoint: Callable[..., Any]) -> Route:
    """Make a route for GET and HEAD of a page."""
    return Route(("GET", "HEAD"), pattern, endpoint, visited=True)


def form(pattern: str, endpoint: Callable[..., Any]) -> Route:
    """Make a route for a form of a page."""
    return Route(("POST",), pattern, endpoint, visited=True)


class Table:
    """All routes; the first that matches counts."""

    def __init__(self, routes: Iterable[Sequence[Route]]) -> None:
        self.routes = [route for group in routes for route in group]

    def find(
        self, method: str, raw_path: bytes
    ) -> tuple[Route | None, dict[str, str], tuple[str, ...]]:
        """Return the route with its decoded parts, or ``None`` with the methods that the path knows.

        Raises:
            Malformed: If the path is not percent-encoded UTF-8, or holds a NUL.
        """
        try:
            path = raw_path.decode("ascii")
        except UnicodeDecodeError as error:
            raise Malformed("the path must be percent-encoded") from error
        known: list[str] = []
        for route in self.routes:
            match = route.regex.fullmatch(path)
            if match is None:
                continue
            if method in route.methods:
                return route, {name: _decode(text) for name, text in match.groupdict().items()}, ()
            known += route.methods
        return None, {}, tuple(dict.fromkeys(known))


def _decode(text: str) -> str:
    try:
        value = unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise Malformed("the path is not UTF-8") from error
    if "\0" in value:
        raise Malformed("the path holds a NUL")
    return value
