"""Who looks at a page: the cookie of a signed-in browser, as the same caller that a token gives.

Cookies count for pages and their forms only; the protocol of the clients and the JSON API know tokens
only, so no other site can make a browser use them. Every form carries a value that follows from the
visitor's cookie (:attr:`Visitor.form_token`), without which it is not taken. Where nobody is signed in,
it follows from a cookie that means nothing else, so that signing somebody in from elsewhere fails, too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from adapterhub.hub.server.identity import identify
from adapterhub.hub.server.service import Service
from adapterhub.hub.store import logins
from adapterhub.hub.store.accounts import LEVELS, Caller
from adapterhub.hub.store.models import Login
from adapterhub.hub.store.refusals import Forbidden
from adapterhub.hub.web.viewer import Viewer

LOGIN_COOKIE, FORM_COOKIE = "ahub_login", "ahub_form"
_SECRET = re.compile(r"[A-Za-z0-9_-]{20,100}")
#: A path of this hub: no scheme, no host (``//``, also as ``/\``), nothing that a browser drops.
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,500}")


def own_path(text: str, default: str = "/") -> str:
    """Return *text* if it is an address within this hub, else *default*: no form leads elsewhere."""
    return text if _PATH.fullmatch(text) else default


def is_secure(service: Service, request: Request) -> bool:
    """Return whether the browser reaches this hub by https."""
    public = service.settings.public_url
    return (urlsplit(public).scheme if public else request.url.scheme) == "https"


class Visitor:
    """Somebody who looks at a page.

    Attributes:
        caller: who it is, and what he may do.
        login: that of his browser; ``None`` if nobody is signed in (or a token came with the request).
    """

    def __init__(
        self, service: Service, request: Request, caller: Caller, login: Login | None, secret: str
    ) -> None:
        self.caller, self.login = caller, login
        self._key = service.signing_key
        self._joins = service.settings.sign_up
        self._secure = is_secure(service, request)
        self._secret = secret
        self._given = (
            "" if login else request.cookies.get(cookie_name(FORM_COOKIE, self._secure), "")
        )
        self._cookies: list[tuple[str, str, int | None]] = []
        raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
        path = raw.decode("ascii", "replace")
        query = request.url.query
        self._here = own_path(f"{path}?{query}" if query else path)

    @property
    def form_token(self) -> str:
        """What every form of this visitor must carry."""
        return self._token(self._secret or self._form_secret())

    def _form_secret(self) -> str:
        if not _SECRET.fullmatch(self._given):
            self._given = secrets.token_urlsafe(32)
            self._cookies.append((FORM_COOKIE, self._given, None))
        return self._given

    def _token(self, secret: str) -> str:
        text = b"form\n" + secret.encode("utf-8", "surrogateescape")
        return hmac.new(bytes.fromhex(self._key), text, hashlib.sha256).hexdigest()

    @property
    def sets_cookies(self) -> bool:
        """Whether the answer will carry a cookie, so that it is for this visitor alone."""
        return bool(self._cookies)

    def require_form(self, request: Request, sent: str) -> None:
        """Refuse a form that did not come from a page of ours that this visitor saw.

        Raises:
            Forbidden: Then.
        """
        site = request.headers.get("sec-fetch-site", "same-origin")
        secret = self._secret or self._given
        expected = self._token(secret) if _SECRET.fullmatch(secret) else ""
        right = hmac.compare_digest(expected.encode(), sent.encode("utf-8", "surrogateescape"))
        if site not in ("same-origin", "none") or not expected or not right:
            raise Forbidden(
                "This form did not come from a page that this hub just showed you. "
                "Open the page again (cookies must be allowed) and send it from there."
            )

    def sign_in(self, secret: str, lifetime: timedelta) -> None:
        """Give the browser a new login."""
        self._cookies.append((LOGIN_COOKIE, secret, int(lifetime.total_seconds())))
        self._cookies.append((FORM_COOKIE, "", 0))

    def sign_out(self) -> None:
        """Take the login from the browser."""
        self._cookies.append((LOGIN_COOKIE, "", 0))

    def finish(self, response: Response) -> Response:
        """Put the cookies that changed into an answer, once."""
        cookies, self._cookies = self._cookies, []
        for name, value, seconds in cookies:
            response.set_cookie(
                cookie_name(name, self._secure),
                value,
                max_age=seconds,
                path="/",
                secure=self._secure,
                httponly=True,
                samesite="lax",
            )
        return response

    def viewer(self) -> Viewer:
        """Return what the header of a page shows."""
        caller = self.caller
        if self.login is None:
            return Viewer(here=self._here, joins=self._joins)
        return Viewer(
            name=caller.name,
            fullname=self.login.account.fullname,
            admin=caller.admin and caller.scope == "admin",
            writes=LEVELS[caller.scope] >= LEVELS["write"],
            form_token=self.form_token,
            here=self._here,
            joins=self._joins,
        )


def cookie_name(name: str, secure: bool) -> str:
    """Return the name of a cookie; by https one that no other host of the domain can set."""
    return f"__Host-{name}" if secure else name


def recognise(service: Service, request: Request, address: str) -> Visitor:
    """Return who makes a request for a page: by token if it has one, else by cookie, else anybody.

    Raises:
        Unidentified, TooMany: As :func:`~adapterhub.hub.server.identity.identify`, for a token.
    """
    header = request.headers.get("authorization")
    if header:
        caller = identify(service.database, service.guesses, header, address)
        return Visitor(service, request, caller, None, "")
    secret = request.cookies.get(cookie_name(LOGIN_COOKIE, is_secure(service, request)), "")
    if _SECRET.fullmatch(secret):
        with service.database.read() as session:
            found = logins.find(
                session, secret, idle=service.settings.login_idle_time, address=address
            )
        if found is not None:
            if found.stale:
                with service.database.write() as session:
                    logins.note_use(session, found.login.id, address)
            return Visitor(service, request, found.caller, found.login, secret)
    return Visitor(service, request, Caller(address=address), None, "")
