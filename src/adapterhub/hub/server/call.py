"""One request as the endpoints see it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from sqlalchemy.orm import Session
from starlette.requests import Request

from adapterhub.hub.server import jsontext
from adapterhub.hub.server.service import Service
from adapterhub.hub.store import repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.refusals import Malformed, TooLarge
from adapterhub.hub.store.repos import View

if TYPE_CHECKING:
    from adapterhub.hub.server.forms import Form
    from adapterhub.hub.server.visitor import Visitor

MAX_BODY = 8 << 20
MAX_DEPTH = 50
_HOST = re.compile(r"[A-Za-z0-9.-]{1,255}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]{2,45}\](?::[0-9]{1,5})?")


class Call:
    """A request with its caller, the decoded parts of its path, and its (small) body."""

    def __init__(
        self,
        request: Request,
        service: Service,
        caller: Caller,
        parts: Mapping[str, str],
        body: bytes = b"",
        visitor: Visitor | None = None,
    ) -> None:
        self.request, self.service, self.caller = request, service, caller
        self.parts, self.body = parts, body
        self._visitor = visitor
        self._form: Form | None = None
        self.query = parse_qs(
            request.url.query, keep_blank_values=True, errors="replace", max_num_fields=1000
        )

    @property
    def visitor(self) -> Visitor:
        """Who looks at a page; only for routes of pages."""
        assert self._visitor is not None
        return self._visitor

    @property
    def form(self) -> Form:
        """The fields of a form that came from a page of this hub; only for routes of forms."""
        assert self._form is not None
        return self._form

    @form.setter
    def form(self, value: Form) -> None:
        self._form = value

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.request.method

    @property
    def base_url(self) -> str:
        """The address under which the client knows this hub, without a slash at the end."""
        if self.service.settings.public_url:
            return self.service.settings.public_url
        host = self.request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise Malformed("the Host header is missing or not a host name")
        return f"{self.request.url.scheme}://{host}"

    def first(self, name: str, default: str = "") -> str:
        """Return the (last given) value of a query parameter."""
        return self.query.get(name, [default])[-1]

    def flag(self, name: str) -> bool:
        """Return a query parameter that is true or false, in any of the clients' spellings."""
        return self.first(name).lower() in ("true", "1", "yes")

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number of the query, moved into its range.

        Raises:
            Malformed: If it is no number.
        """
        text = self.first(name)
        if not text:
            return default
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise Malformed(f"{name} must be a whole number")
        return min(max(int(text), low), high)

    def json(self) -> dict[str, Any]:
        """Return the body, which must be a JSON object.

        Raises:
            Malformed: If it is not.
        """
        try:
            value = jsontext.parse(self.body or b"{}")
        except ValueError as error:
            raise Malformed("the body is not JSON") from error
        if not isinstance(value, dict):
            raise Malformed("the body must be a JSON object")
        return value

    def text(
        self, source: Mapping[str, Any], name: str, default: str | None = None, limit: int = 10_000
    ) -> str:
        """Return a text of a JSON object.

        Raises:
            Malformed: If it is missing (and there is no default), not text, or too long.
        """
        value = source.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or len(value) > limit or "\0" in value:
            raise Malformed(f"{name!r} must be text of at most {limit} characters")
        return value

    def view(self, session: Session, *, need: str = "read", lock: bool = False) -> View:
        """Return the repository that the path names, as :func:`adapterhub.hub.store.repos.view` does."""
        return repos.view(
            session, self.caller, self.parts["owner"], self.parts["name"], need=need, lock=lock
        )

    def repo_url(self, full_name: str, *parts: str) -> str:
        """Return the address of something in a repository."""
        return "/".join([self.base_url, full_name, *(quote(part, safe="") for part in parts)])


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """Read a small body.

    Raises:
        TooLarge: If it is larger than *limit*.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body may have at most {limit} bytes")
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise TooLarge(f"the body may have at most {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)
