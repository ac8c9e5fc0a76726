"""What a browser and a program are told when the hub itself is at fault.

Nothing of what went wrong is told, only the number under which the log has it. The page needs neither the
database nor who looks at it, as those may be what failed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from adapterhub._version import __version__
from adapterhub.hub.server.answers import Json, header_text
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.web import links
from adapterhub.hub.web.pages import Fault
from adapterhub.hub.web.site import HEADERS, POLICY, asset_names, environment
from adapterhub.hub.web.source import HubInfo

log = logging.getLogger("adapterhub.hub.request")


def fault(
    settings: Settings,
    request: Request,
    number: str,
    status: int,
    title: str,
    text: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer to a request that failed: a page for a browser, else JSON.

    Args:
        number: of the request, in the log and in the header ``X-Request-Id``.
        text: what to tell; it also is the header ``X-Error-Message``.
        headers: further headers.
    """
    sent = {**(headers or {}), "X-Error-Message": header_text(text)}
    if _is_browser(request):
        try:
            html = _page(settings, request, number, title, text)
            kept = {**HEADERS, **sent, "Cache-Control": "no-store"}
            return Response(html, status, kept, "text/html; charset=utf-8")
        except Exception:  # the pages themselves are broken
            log.exception("the page of an error could not be made", extra={"request": number})
    return Json({"error": text}, status_code=status, headers=sent)


def _is_browser(request: Request) -> bool:
    """Tell whether a person waits for the answer: of a page, or of a form that was sent."""
    path, accepted = request.url.path, request.headers.get("accept", "")
    return "text/html" in accepted and not path.startswith("/api/")


def _page(settings: Settings, request: Request, number: str, title: str, text: str) -> bytes:
    raw: bytes = request.scope.get("raw_path") or b"/"
    path = raw.decode("ascii", "replace").lstrip("/")
    hub = HubInfo(name=settings.title, description=settings.about)
    page = Fault(path=path, title=title, hub=hub, template="fault.html", text=text, number=number)
    html = (
        environment()
        .get_template(page.template)
        .render(
            page=page,
            hub=hub,
            root=links.root_of(path),
            static=False,
            policy=POLICY,
            version=__version__,
            assets=asset_names(),
            missing=True,
        )
    )
    return html.encode()
