"""From an address to an answer: which page it is, what is on it, as HTML or JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import mimetypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, unquote

from adapterhub._version import __version__
from adapterhub.hub.web import links, routes
from adapterhub.hub.web.pages import Page
from adapterhub.hub.web.source import Source
from adapterhub.hub.web.viewer import Viewer

#: Pages run no script but our own, take styles and images from here only, and are in no frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ASSETS = ("site.css", "site.js", "search.js", "icon.svg")
#: Of the pages that only a live server has.
LIVE_ASSETS = ("account.css", "join.js", "upload.js", "try.css", "try.js")


@dataclass(frozen=True)
class Answer:
    """What to send back."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS)


class Site:
    """All pages of a hub.

    Args:
        source: where the records come from.
        static: whether the pages lie on a server that cannot search; a script in the page then does.
        viewer: who looks; ``None`` where there are no accounts.
    """

    def __init__(
        self, source: Source, *, static: bool = False, viewer: Viewer | None = None
    ) -> None:
        self.source, self.static, self.viewer = source, static, viewer

    def answer(self, path: str, query: str = "") -> Answer:
        """Return the page, its JSON twin (``.../index.json``) or an asset.

        Args:
            path: the raw path below the root, without the leading slash, percent-encoded.
            query: the query string.
        """
        if path.startswith("assets/"):
            return self.asset_answer(path)
        twin = path == links.TWIN or path.endswith("/" + links.TWIN)
        place = path.removesuffix(links.TWIN)
        page = self.page(place, query)
        if page is None:
            return self.nothing(place, twin=twin)
        if unquote(page.path) != unquote(place):  # a former name, or another spelling of it
            target = links.root_of(place) + page.path + (links.TWIN if twin else "")
            return Answer(301, "text/plain", b"", {**HEADERS, "Location": target})
        if twin:
            return Answer(200, "application/json", twin_of(page))
        return Answer(200, "text/html; charset=utf-8", self.render(page))

    def nothing(self, path: str, *, twin: bool = False) -> Answer:
        """Return the page (or its twin) that says that nothing is at *path*."""
        page = routes.missing(self.source, path)
        if twin:
            return Answer(404, "application/json", twin_of(page))
        return Answer(404, "text/html; charset=utf-8", self.render(page))

    def page(self, path: str, query: str = "") -> Page | None:
        """Return what is on the page at *path*, or ``None``."""
        if path and not path.endswith("/"):
            return None
        parts = [unquote(part).replace("~", "/") for part in path.split("/")[:-1]]
        return routes.page(self.source, path, parts, parse_qs(query, max_num_fields=200), query)

    def paths(self) -> Iterator[str]:
        """Yield the address of every page."""
        return routes.paths(self.source)

    def render(self, page: Page, root: str | None = None, viewer: Viewer | None = None) -> bytes:
        """Return a page as HTML.

        Args:
            root: the way to the root where it does not follow from the path.
            viewer: who looks at it, for the header of a live server; by default that of the site.
        """
        template = environment().get_template(page.template)
        html = template.render(
            page=page,
            hub=page.hub,
            root=links.root_of(page.path) if root is None else root,
            static=self.static,
            policy=POLICY,
            version=__version__,
            assets=asset_names(),
            missing=not page.has_twin,
            viewer=viewer or self.viewer,
        )
        return html.encode()

    @staticmethod
    def asset_answer(path: str) -> Answer:
        """Return a style, script or image (*path*: ``assets/NAME``); its name changes with its content."""
        name = path.removeprefix("assets/")
        real = {hashed: plain for plain, hashed in asset_names().items()}.get(name)
        if real is None:
            return Answer(404, "text/plain; charset=utf-8", b"not found\n")
        kind = mimetypes.guess_type(real)[0] or "application/octet-stream"
        kind = "text/javascript" if real.endswith(".js") else kind
        cached = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return Answer(200, kind, asset(real), cached)


def prepare_templates() -> None:
    """Compile every template now, instead of when its first page is asked for."""
    for name in environment().list_templates(extensions=["html"]):
        if (
            "/" not in name
        ):  # those in folders belong to parts of a server, with filters of their own
            environment().get_template(name)


@cache
def asset(name: str) -> bytes:
    """Return the content of one of ``ASSETS`` or ``LIVE_ASSETS``."""
    return files("adapterhub.hub.web").joinpath("assets").joinpath(name).read_bytes()


@cache
def asset_names() -> dict[str, str]:
    """Return the published name of each asset, which changes with its content."""
    result = {}
    for name in (*ASSETS, *LIVE_ASSETS):
        stem, _, suffix = name.rpartition(".")
        result[name] = f"{stem}.{hashlib.sha256(asset(name)).hexdigest()[:10]}.{suffix}"
    return result


def twin_of(page: Page) -> bytes:
    """Return a page's record as JSON."""
    data = _plain(page)
    del data["template"]
    return (json.dumps(data, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_LABELS = {
    "type": {"text_task": "Tasks", "text_lang": "Languages"},
    "format": {
        "adapterhub": "AdapterHub",
        "peft": "PEFT",
        "archive": "zip archive",
        "incomplete": "not complete yet",
    },
    "status": {
        "checked": "Format verified",
        "problem": "Check failed",
        "elsewhere": "Files elsewhere",
        "held": "Not published",
    },
    "size": {
        "1MB": "up to 1 MB",
        "10MB": "up to 10 MB",
        "100MB": "up to 100 MB",
        "larger": "over 100 MB",
    },
}


def facet_label(value: str, facet: str) -> str:
    """Return a facet's value for people."""
    from adapterhub.hub.languages import language_name

    if facet == "language":
        return language_name(value)
    return _LABELS.get(facet, {}).get(value, value)


@cache
def environment() -> Any:
    """Return what the templates of all pages share."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    from adapterhub.hub.languages import language_name
    from adapterhub.hub.web import compare, query, text

    environment = Environment(
        loader=PackageLoader("adapterhub.hub.web", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        markdown=text.markdown,
        plain=text.plain,
        safe_link=text.safe_link,
        number=text.number,
        short=text.short_number,
        size=text.file_size,
        language=language_name,
        pretty=lambda value: json.dumps(_plain(value), indent=2, ensure_ascii=False),
        tensor=compare.describe,
        facet=facet_label,
        method=text.method_title,
    )
    environment.globals.update(links=links, FACETS=query.FACETS, SORTS=query.SORTS)
    return environment
