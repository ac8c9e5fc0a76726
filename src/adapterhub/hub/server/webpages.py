"""The pages of the hub for people, and their twins for programs, from what is in the database."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from adapterhub.hub.live.source import LiveSource
from adapterhub.hub.server import ops
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, page
from adapterhub.hub.web import links
from adapterhub.hub.web.site import Answer, Site
from adapterhub.hub.web.source import HubInfo

#: Smaller answers do not become faster by being packed.
_PACKED = 1400
_PACKED_TYPES = ("text/", "application/json", "image/svg")
#: First parts of the addresses of pages; with one of them, an address never means a repository.
PLACES = (
    *("adapters", "tasks", "explore", "languages", "models", "architectures"),
    *("people", "search", "compare", "about", "assets"),
)


def wants_page(request: Request) -> bool:
    """Tell whether a person looks (a browser asks for HTML), and not a program."""
    accepted = request.headers.get("accept", "")
    return request.method in ("GET", "HEAD") and "text/html" in accepted


def hub_info(call: Call) -> HubInfo:
    """Return what this hub says about itself."""
    settings, url = call.service.settings, call.base_url
    return HubInfo(
        name=settings.title,
        description=settings.about,
        endpoint=url,
        site=settings.public_url or None,
        publish=(
            f"export HF_ENDPOINT={url} ADAPTERHUB_HUB={url}\n"
            "hf auth login                           # paste a token of this hub\n"
            "adapterhub push FOLDER NAMESPACE/NAME --task TASK/DATASET\n"
            "hf upload NAMESPACE/NAME FOLDER         # the same with the tools that you have"
        ),
        countable=True,
    )


def source_of(call: Call) -> LiveSource:
    """Return the records of this hub for whoever makes the request."""
    service = call.service
    service.live.refresh()
    return LiveSource(
        service.live,
        service.database,
        service.home,
        service.staging,
        hub_info(call),
        call.caller,
        service.tryit.trial,
    )


def site_of(call: Call) -> Site:
    """Return the pages of this hub for whoever makes the request."""
    return Site(source_of(call), viewer=call.visitor.viewer())


def show(call: Call) -> Response:
    """Show the page at the address of the request."""
    path = _path(call)
    if path.startswith("assets/"):
        return respond(call, Site.asset_answer(path))
    return respond(call, site_of(call).answer(path, call.request.url.query))


def home(call: Call) -> Response:
    """Show the first page to people, and a few lines to programs that ask for no page."""
    return show(call) if wants_page(call.request) else ops.greeting(call)


def nothing(call: Call) -> Response:
    """Say on a page that there is nothing at the address of the request."""
    return respond(call, site_of(call).nothing(_path(call)))


def repository(call: Call) -> Response:
    """Lead a person from the short address of an adapter to its page."""
    if call.parts["owner"] in PLACES:  # a page without its last slash
        return _go(call, "/".join([call.parts["owner"], call.parts["name"]]) + "/")
    return _go(call, links.adapter(call.parts["owner"], call.parts["name"]))


def person(call: Call) -> Response:
    """Lead a person from the short address of an account to its page."""
    if call.parts["owner"] in PLACES:
        return _go(call, call.parts["owner"] + "/")
    return _go(call, links.person(call.parts["owner"]))


def _go(call: Call, path: str) -> Response:
    query = f"?{call.request.url.query}" if call.request.url.query else ""
    return RedirectResponse(f"{call.base_url}/{path}{query}", 302)


def _path(call: Call) -> str:
    raw: bytes = call.request.scope.get("raw_path") or call.request.scope["path"].encode()
    return raw.decode("ascii", "replace").lstrip("/")


def respond(call: Call, answer: Answer) -> Response:
    """Make the response of an answer of the site: who may keep it, whether it is new, packed.

    A page for somebody who is known is for nobody else's cache. Others are the same for everybody, and
    a browser that has one asks only whether it still is what it has.
    """
    headers = dict(answer.headers)
    response = Response(answer.body, answer.status, headers, answer.content_type)
    if "cache-control" in response.headers:  # an asset, whose name changes with its content
        return _packed(call.request, response)
    own = call.visitor.caller.known or call.visitor.sets_cookies
    response.headers["Vary"] = "Accept-Encoding, Authorization, Cookie"
    if own or answer.status != 200:
        response.headers["Cache-Control"] = "no-store"
        # Packing would let a stranger's text in the address be compared with what is secret here.
        return response
    response.headers["Cache-Control"] = "public, no-cache"
    tag = f'W/"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    response.headers["ETag"] = tag
    if _has(call.request.headers, tag):
        # With its policy: a browser takes the headers of this answer for those of the page it has.
        body = ("content-length", "content-type", "content-encoding")
        kept = {k: v for k, v in response.headers.items() if k not in body}
        return Response(status_code=304, headers=kept)
    return _packed(call.request, response)


def _has(headers: Mapping[str, str], tag: str) -> bool:
    known = headers.get("if-none-match", "")
    return known.strip() == "*" or tag in [item.strip() for item in known.split(",")]


def _packed(request: Request, response: Response) -> Response:
    kind = response.headers.get("content-type", "")
    accepted = request.headers.get("accept-encoding", "")
    body = bytes(response.body)
    if "gzip" not in accepted or len(body) < _PACKED or not kind.startswith(_PACKED_TYPES):
        return response
    response.body = gzip.compress(body, 1, mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.body))
    return response


ROUTES: list[Route] = [
    page("/", home),
    page("/index.json", show),
    *(page(f"/{place}/{{rest*}}", show) for place in PLACES),
]
#: For people, where nothing else answers to an address.
SHORT_ROUTES: list[Route] = [page("/{owner}/{name}", repository), page("/{owner}", person)]
#: Takes the place of a route where a person came to an address at which there is nothing.
NOWHERE = page("", nothing)
