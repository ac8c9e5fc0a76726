"""Showing a page of somebody's own things, going on to another, and saying no in a page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from typing import Any
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from adapterhub._version import __version__
from adapterhub.hub.server.answers import refusal
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.webpages import hub_info
from adapterhub.hub.store.accounts import LEVELS
from adapterhub.hub.store.quotas import human
from adapterhub.hub.store.refusals import Forbidden, Refusal, Unidentified
from adapterhub.hub.web import links
from adapterhub.hub.web.pages import Page
from adapterhub.hub.web.site import HEADERS, POLICY, asset_names, environment

#: What was done, as the page that follows says it; the address holds only the word.
DONE = {
    "profile": "Your profile is changed.",
    "password": "Your password is set. You were signed out everywhere else.",
    "logged-out": "You are signed out.",
    "ended": "That browser is signed out.",
    "ended-all": "You are signed out everywhere else.",
    "revoked": "The token is revoked. Nothing can be done with it any more.",
    "member": "The members are changed.",
    "left": "You are no longer a member.",
    "organisation": "The organisation is made, with you as its administrator.",
    "settings": "The settings are changed.",
    "renamed": "It has its new name. The old address leads here.",
    "deleted": "It is deleted.",
    "access": "The answer is noted.",
    "asked": "You asked for access.",
    "user": "The user is changed.",
    "quota": "The limits are changed.",
    "withdrawn": "The invitation is withdrawn.",
    "rechecked": "All checks run again.",
}

#: The pages beside each other, by the address of each: label, and whether only administrators have it.
SECTIONS = (
    ("settings/", "Profile", False),
    ("settings/adapters/", "My adapters", False),
    ("settings/tokens/", "Tokens", False),
    ("settings/organizations/", "Organisations", False),
    ("settings/access/", "Gated access", False),
    ("settings/sessions/", "Signed in", False),
    ("settings/hub/users/", "Users", True),
    ("settings/hub/audit/", "Audit log", True),
)


@dataclass(frozen=True, kw_only=True)
class AccountPage(Page):
    """A page of somebody's own things; *section* is the address of its entry in the menu."""

    section: str = ""


@cache
def _environment() -> Any:
    made = environment().overlay()
    made.filters = {**made.filters, "moment": moment, "ago": ago, "bytes": human, "agent": agent}
    return made


def moment(value: datetime) -> str:
    """Return a time for people: ``2026-11-21 15:40`` (UTC)."""
    return value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M")


def ago(value: datetime, now: datetime | None = None) -> str:
    """Return how long ago (or until) a time is, roughly."""
    seconds = ((now or datetime.now(timezone.utc)) - value).total_seconds()
    size = abs(seconds)
    for limit, unit in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if size >= limit:
            number = int(size / limit)
            text = f"{number} {unit}{'s' if number > 1 else ''}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "just now" if seconds >= 0 else "in a moment"


#: Words of a User-Agent header, and what people call it; the first that is there counts.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrom", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"))
_SYSTEMS += (("Mac OS", "macOS"), ("Linux", "Linux"))


def agent(text: str) -> str:
    """Return what a browser calls itself, in two words."""
    browser = next((name for word, name in _BROWSERS if word in text), text[:40] or "A browser")
    system = next((name for word, name in _SYSTEMS if word in text), "")
    return f"{browser} on {system}" if system else browser


def show(
    call: Call,
    template: str,
    title: str,
    *,
    section: str = "",
    problem: Refusal | None = None,
    status: int = 200,
    crumbs: tuple[tuple[str, str], ...] = (),
    headers: dict[str, str] | None = None,
    **context: Any,
) -> Response:
    """Return a page.

    Args:
        template: its name below ``templates/account``.
        section: the entry of the menu at the side that it belongs to; empty: no menu.
        problem: why the form that led here was not taken; gives the status, too.
        context: what the template shows.
    """
    raw: bytes = call.request.scope.get("raw_path") or call.request.scope["path"].encode()
    path = raw.decode("ascii", "replace").lstrip("/")
    page = AccountPage(path=path, title=title, hub=hub_info(call), section=section, crumbs=crumbs)
    caller = call.caller
    admin = caller.admin and caller.scope == "admin"
    html = (
        _environment()
        .get_template(f"account/{template}")
        .render(
            page=page,
            hub=page.hub,
            root=links.root_of(path),
            static=False,
            policy=POLICY,
            version=__version__,
            assets=asset_names(),
            missing=True,  # it has no twin for programs: those have the JSON API
            viewer=call.visitor.viewer(),
            form_token=call.visitor.form_token,
            sections=[item for item in SECTIONS if admin or not item[2]],
            caller=caller,
            problem=str(problem) if problem else "",
            done=DONE.get(call.first("done"), ""),
            scope=caller.scope,
            **context,
        )
    )
    sent = {**HEADERS, "Cache-Control": "no-store", **(headers or {})}
    if problem is not None:
        status = problem.status
        sent |= problem.headers
    return Response(html, status, sent, "text/html; charset=utf-8")


def go(call: Call, path: str, **query: str) -> Response:
    """Lead on to the page at *path* (below the root, without a slash before it) after a form."""
    raw: bytes = call.request.scope.get("raw_path") or call.request.scope["path"].encode()
    root = links.root_of(raw.decode("ascii", "replace").lstrip("/"))
    text = urlencode(query)
    return RedirectResponse(
        f"{root}{path}{f'?{text}' if text else ''}", 303, {"Cache-Control": "no-store"}
    )


def require(call: Call, scope: str = "admin") -> int:
    """Return the account that is signed in, if it may do what *scope* says.

    Raises:
        Unidentified: If nobody is signed in.
        Forbidden: If a token was used to sign in that allows less.
    """
    caller = call.caller
    if caller.account_id is None or call.visitor.login is None:
        raise Unidentified("Sign in to see this page.")
    if LEVELS[caller.scope] < LEVELS[scope]:
        raise Forbidden(
            f"You signed in with a token that allows to {caller.scope}; "
            f"this needs {'a password, or ' if scope == 'admin' else ''}a token of scope {scope!r}."
        )
    return caller.account_id


def require_admin(call: Call) -> int:
    """Return the account that is signed in, if it administers this hub.

    Raises:
        Unidentified, Forbidden: If not.
    """
    account_id = require(call)
    if not call.caller.admin:
        raise Forbidden("This page is for administrators of this hub.")
    return account_id


def refusal_page(call: Call, error: Refusal) -> Response:
    """Return the page that says no; programs get the same in JSON."""
    accepts = call.request.headers.get("accept", "")
    reads = call.method in ("GET", "HEAD")
    if ("text/html" not in accepts) if reads else ("application/json" in accepts):
        return refusal(error)
    if error.status == 401 and reads and call.visitor.login is None:
        return go(call, "login/", next=call.visitor.viewer().here)
    titles = {
        401: "Sign in first",
        403: "This is not for you",
        404: "Nothing is here",
        413: "Too large",
        429: "Not so fast",
    }
    title = titles.get(error.status, "That did not work")
    return show(call, "refused.html", title, problem=error, back=_back(call))


def _back(call: Call) -> str:
    raw: bytes = call.request.scope.get("raw_path") or b"/"
    for href, _, _ in sorted(SECTIONS, key=lambda item: -len(item[0])):
        if raw.decode("ascii", "replace").startswith("/" + href):
            return href
    return ""
