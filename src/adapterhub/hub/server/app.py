"""The web application: from a request to an endpoint, and from what happens there to an answer."""

from __future__ import annotations

import inspect
import logging
import time
import uuid
from typing import Any

from anyio import fail_after
from anyio.to_thread import run_sync
from sqlalchemy.exc import IntegrityError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from adapterhub.errors import HubError
from adapterhub.hub.server import (
    account,
    admin,
    cards_api,
    forms,
    hf_files,
    hf_info,
    hf_lfs,
    hf_refs,
    hf_repos,
    hf_upload,
    hf_xet,
    keys,
    openapi,
    ops,
    published,
    reports_api,
    tryit_api,
    tryit_pages,
    webpages,
)
from adapterhub.hub.server.account.show import refusal_page
from adapterhub.hub.server.answers import SAFE_HEADERS, Json, refusal
from adapterhub.hub.server.call import Call, read_body
from adapterhub.hub.server.fault import fault
from adapterhub.hub.server.identity import identify
from adapterhub.hub.server.patience import Patience, TooSlow
from adapterhub.hub.server.routing import Route, Table, get
from adapterhub.hub.server.service import Service
from adapterhub.hub.server.visitor import recognise
from adapterhub.hub.store.database import UNREACHABLE
from adapterhub.hub.store.refusals import Conflict, Malformed, Missing, Refusal, RepoMissing

log = logging.getLogger("adapterhub.hub.request")


def api_description(call: Call) -> Response:
    """Describe this API, by the OpenAPI standard."""
    return Json(openapi.describe(_TABLE.routes, call.base_url))


#: hf_info comes after the more specific routes below a repository.
_TABLE = Table(
    [
        tryit_pages.ROUTES,
        webpages.ROUTES,
        account.ROUTES,
        ops.ROUTES,
        hf_repos.ROUTES,
        hf_files.ROUTES,
        hf_upload.ROUTES,
        hf_lfs.ROUTES,
        hf_xet.ROUTES,
        hf_refs.ROUTES,
        admin.ROUTES,
        cards_api.ROUTES,
        tryit_api.ROUTES,
        reports_api.ROUTES,
        keys.ROUTES,
        published.ROUTES,
        [get("/api/hub/v1/openapi.json", api_description)],
        hf_info.ROUTES,
    ]
)
#: What people type; programs are told that nothing is there.
_SHORT = Table([webpages.SHORT_ROUTES])
_OTHER_KINDS = ("/api/datasets/", "/api/spaces/", "/datasets/", "/spaces/", "/api/models/")
_MOST_HEADERS = 200
_LONGEST_HEAD = 48 << 10
_DRAIN_SECONDS = 20.0
_DRAIN_BYTES = 64 << 20


class NotAllowed(Refusal):
    """The address exists, but not for this method."""

    status = 405


class TooMuchHead(Refusal):
    """The address or the headers are too long, or too many."""

    status = 431


class NotPlain(Refusal):
    """The body is compressed."""

    status = 415


class HubApp:
    """The ASGI application of one hub."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        await _Exchange(self.service, scope, receive, send).run()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


class _Exchange:
    """One request and its answer, with what the log and the metrics say about it."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self.service, self.scope = service, scope
        self._receive, self._send = receive, send
        self._body_ended = scope["method"] in ("GET", "HEAD")
        self._patience = Patience()
        self.request = Request(scope, self.receive)
        self.id = uuid.uuid4().hex[:16]
        self.route: Route | None = None
        self.who = ""
        self.status = 0

    async def receive(self) -> Message:
        """Take the next message of the client, and notice the end of the body."""
        if self._body_ended:
            return await self._receive()
        try:
            message = await self._patience.receive(self._receive)
        except TooSlow:
            self._body_ended = True  # nobody waits for the rest of it
            raise
        self._body_ended = message["type"] != "http.request" or not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name for name, _ in message["headers"]}
            extra = {**SAFE_HEADERS, "X-Request-Id": self.id}
            message["headers"] = [
                *message["headers"],
                *(
                    (k.lower().encode(), v.encode())
                    for k, v in extra.items()
                    if k.lower().encode() not in present
                ),
            ]
        await self._send(message)

    async def run(self) -> None:
        began = time.monotonic()
        try:
            response = await self._answer()
            await response(self.scope, self.receive, self.send)
        except ClientDisconnect:
            self.status = self.status or 499
        except Exception:
            log.exception("an answer broke off", extra={"request": self.id})
            raise
        finally:
            self._note(time.monotonic() - began)

    async def _answer(self) -> Response:
        try:
            return await self._call_or_page()
        except Refusal as error:
            await self._drain()
            return refusal(error)
        except HubError as error:
            await self._drain()
            return refusal(Malformed(str(error)))
        except IntegrityError:
            log.exception("two requests changed the same thing", extra={"request": self.id})
            text = "Somebody else changed the same thing at the same moment; send it again."
            return refusal(Conflict(text))
        except UNREACHABLE:
            log.exception("the database does not answer", extra={"request": self.id})
            await self._drain()
            return self._busy("The hub cannot reach its database; try again later.")
        except OSError as error:
            log.exception("the disk or network failed", extra={"request": self.id})
            await self._drain()
            return self._busy(
                f"The hub has a problem with its storage ({error.strerror}); try again later."
            )
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("unexpected error", extra={"request": self.id})
            text = f"This is a fault of the hub, noted under {self.id}."
            return self._fault(500, "Something went wrong", text)

    def _busy(self, text: str) -> Response:
        """Ask to come back: the database, the bucket or the disk does not answer."""
        return self._fault(503, "Not just now", text, {"Retry-After": "5"})

    def _fault(
        self, status: int, title: str, text: str, headers: dict[str, str] | None = None
    ) -> Response:
        settings = self.service.settings
        return fault(settings, self.request, self.id, status, title, text, headers)

    async def _call_or_page(self) -> Response:
        """Answer, and tell a person by a page that there is nothing at an address."""
        try:
            return await self._call()
        except Refusal as error:
            path = self.request.url.path
            if error.status != 404 or not webpages.wants_page(self.request) or path[:5] == "/api/":
                raise
        await self._drain()
        address = self.request.client.host if self.request.client else ""
        return await self._visit(webpages.NOWHERE, {}, address)

    async def _call(self) -> Response:
        _require_clear_request(self.request)
        raw_path: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        self.route, parts, known = _TABLE.find(self.request.method, raw_path)
        if self.route is None and not known and webpages.wants_page(self.request):
            self.route, parts, _ = _SHORT.find(self.request.method, raw_path)
        if self.route is None:
            raise _no_route(self.request.url.path, known)
        address = self.request.client.host if self.request.client else ""
        if self.route.visited:
            return await self._visit(self.route, parts, address)
        header = self.request.headers.get("authorization")
        if self.route.caller is not None:
            caller = await run_sync(self.route.caller, self.service, header, address)
        else:
            caller = await run_sync(
                identify, self.service.database, self.service.guesses, header, address
            )
        self.who = caller.name
        self.service.limits.take(self.request.method, self.request.url.path, caller)
        if inspect.iscoroutinefunction(self.route.endpoint):
            return await self.route.endpoint(Call(self.request, self.service, caller, parts))
        body = b"" if self.request.method in ("GET", "HEAD") else await read_body(self.request)
        return await run_sync(
            self.route.endpoint, Call(self.request, self.service, caller, parts, body)
        )

    async def _visit(self, route: Route, parts: dict[str, str], address: str) -> Response:
        """Answer for a page: the caller is whom the cookie of the browser names."""
        visitor = await run_sync(recognise, self.service, self.request, address)
        self.who = visitor.caller.name
        call = Call(self.request, self.service, visitor.caller, parts, visitor=visitor)
        try:
            self.service.limits.take(self.request.method, self.request.url.path, visitor.caller)
            if inspect.iscoroutinefunction(route.endpoint):
                response = await route.endpoint(call)
            else:
                if self.request.method == "POST":
                    call.form = await forms.receive(call)
                response = await run_sync(route.endpoint, call)
        except HubError as error:
            await self._drain()
            why = error if isinstance(error, Refusal) else Malformed(str(error))
            response = await run_sync(refusal_page, call, why)
        return visitor.finish(response)

    async def _drain(self) -> None:
        """Read the rest of a refused body: a client that still sends would not read the answer."""
        left = _DRAIN_BYTES
        try:
            with fail_after(_DRAIN_SECONDS):
                while left > 0 and not self._body_ended:
                    left -= len((await self.receive()).get("body", b""))
        except (TimeoutError, TooSlow):
            return

    def _note(self, seconds: float) -> None:
        pattern = self.route.pattern if self.route else "none"
        metrics = self.service.metrics
        metrics.requests.labels(self.request.method, pattern, str(self.status)).inc()
        metrics.seconds.labels(pattern).observe(seconds)
        extra: dict[str, Any] = {
            "request": self.id,
            "method": self.request.method,
            # Without the query, in which signed addresses carry their signature.
            "path": self.request.url.path,
            "status": self.status,
            "ms": round(seconds * 1000, 1),
            "user": self.who,
            "address": self.request.client.host if self.request.client else "",
        }
        log.info("%s %s %s", self.request.method, self.request.url.path, self.status, extra=extra)


def _require_clear_request(request: Request) -> None:
    """Refuse what proxies and servers understand in different ways, packed bodies, and endless heads.

    Raises:
        Malformed: If the length of the body is stated twice, or the version of HTTP is none.
        NotPlain: If the body is compressed.
        TooMuchHead: If there are too many headers, or the address or they are too long.
    """
    scope = request.scope
    if scope["http_version"] not in ("1.0", "1.1", "2", "3"):
        raise Malformed("this server speaks HTTP/1.1", headers={"Connection": "close"})
    head = sum(len(name) + len(value) for name, value in scope["headers"])
    address = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    if len(scope["headers"]) > _MOST_HEADERS or max(head, address) > _LONGEST_HEAD:
        raise TooMuchHead(
            f"a request may have {_MOST_HEADERS} headers and {_LONGEST_HEAD} bytes of them"
        )
    if "transfer-encoding" in request.headers and "content-length" in request.headers:
        raise Malformed(
            "a request has either a Content-Length or a Transfer-Encoding",
            headers={"Connection": "close"},
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise NotPlain(f"bodies are taken as they are, and not as {encoding[:40]}")


def _no_route(path: str, known: tuple[str, ...]) -> Refusal:
    if known:
        return NotAllowed(
            f"{path[:200]} knows only {', '.join(known)}", headers={"Allow": ", ".join(known)}
        )
    if path.startswith(_OTHER_KINDS) or "/resolve/" in path:
        return RepoMissing(
            "Repository not found: this hub holds adapters as models called owner/name."
        )
    return Missing(f"there is nothing at {path[:200]}")
