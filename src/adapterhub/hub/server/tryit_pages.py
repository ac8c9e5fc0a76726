"""The forms with which visitors try adapters: a text (or more) in, a page with what comes of it out.

They change nothing, so no token of the form is asked for; a browser sends no cookie of ours along with a
form of another site (``SameSite``), and such a form is refused all the same, as it costs time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response

from adapterhub.errors import HubError
from adapterhub.hub.identifier import AdapterKey, parse_identifier
from adapterhub.hub.live.source import LiveSource
from adapterhub.hub.server import forms
from adapterhub.hub.server.account.multipart import FormReader
from adapterhub.hub.server.call import Call, read_body
from adapterhub.hub.server.forms import Form
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.server.tryit_jobs import MOST
from adapterhub.hub.server.webpages import source_of
from adapterhub.hub.store.refusals import Forbidden, Malformed, Refusal, TooMany
from adapterhub.hub.tryit.jobs import Limits, Typed
from adapterhub.hub.web import links
from adapterhub.hub.web.sidebyside import together
from adapterhub.hub.web.site import HEADERS, Site
from adapterhub.hub.web.source import Adapter, Trial
from adapterhub.hub.web.trial import Asked, try_page

_TOKENS = 32


def to_adapter(call: Call) -> Response:
    """Lead from the address of a form to the page that it is on."""
    owner, name = call.parts["owner"], call.parts["name"]
    return RedirectResponse(f"{call.base_url}/{links.adapter(owner, name)}#try", 302)


def to_compare(call: Call) -> Response:
    """Lead from the address of the form to the page to compare."""
    return RedirectResponse(f"{call.base_url}/{links.COMPARE}", 302)


async def try_adapter(call: Call) -> Response:
    """Run one adapter on what is in the form."""
    sent = await _receive(call)
    source = await run_sync(source_of, call)
    owner, name = call.parts["owner"], call.parts["name"]
    adapter = await run_sync(_adapter, source, owner, name)
    if adapter is None:
        raise Malformed(f"@{owner[:60]}/{name[:100]} is no adapter of this hub that can be tried.")
    return await _answer(call, source, sent, [f"{adapter.owner}/{adapter.name}"], adapter)


async def try_side_by_side(call: Call) -> Response:
    """Run several adapters on one text, in one batch."""
    sent = await _receive(call)
    names = []
    for text in list(dict.fromkeys(sent[0].fields.get("a", ())))[:MOST]:
        try:
            key = parse_identifier(text)
        except HubError:
            continue
        if isinstance(key, AdapterKey):
            names.append(f"{key.owner}/{key.stem}")
    if not names:
        raise Malformed("No adapter is named; go back and choose two to four.")
    return await _answer(call, await run_sync(source_of, call), sent, names, None)


async def _receive(call: Call) -> tuple[Form, bytes]:
    """Read a form; return its fields, and the file in it."""
    if call.request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This form did not come from a page of this hub.")
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _with_file(call)
    if kind != "application/x-www-form-urlencoded":
        raise Malformed("This address takes a form (application/x-www-form-urlencoded).")
    return forms.parse(await read_body(call.request, forms.MAX_FORM)), b""


async def _with_file(call: Call) -> tuple[Form, bytes]:
    most = call.service.tryit.limits.image
    with call.service.staging.area() as folder:
        reader = FormReader(
            call.request.headers.get("content-type", ""),
            folder,
            max_file=most,
            max_total=most + forms.MAX_FORM,
            max_files=1,
            check=lambda _: None,
        )
        try:
            async for piece in call.request.stream():
                await run_sync(reader.feed, piece)
            await run_sync(reader.finish)
        except ClientDisconnect as error:
            raise Malformed("The image was not sent to its end.") from error
        finally:
            reader.close()
        staged = [item.staged for item in reader.files if item.staged is not None]
        return reader.form, staged[0].path.read_bytes() if staged else b""


def _typed(sent: Form, image: bytes, limits: Limits) -> Typed:
    """Return what was typed.

    Raises:
        Malformed: If it is too much.
    """

    def read(name: str) -> str:
        return sent.raw(name).replace("\r\n", "\n")

    given = [choice.replace("\r\n", "\n") for choice in sent.fields.get("choice", ())]
    typed = Typed(read("text"), read("context"), tuple(given[: limits.choices]), image)
    for what, value, most in (
        ("text", typed.text, limits.characters),
        ("context", typed.context, limits.context),
        *(("choice", choice, limits.choice) for choice in typed.choices),
    ):
        if len(value) > most:
            raise Malformed(f"The {what} has more than {most} characters.")
    return typed


def _adapter(source: LiveSource, owner: str, name: str) -> Adapter | None:
    found = source.detail(owner, name)
    return found.adapter if found else None


async def _answer(
    call: Call,
    source: LiveSource,
    sent: tuple[Form, bytes],
    names: Sequence[str],
    adapter: Adapter | None,
) -> Response:
    tryit = call.service.tryit
    new_tokens, results, problem, typed = _TOKENS, [], None, Typed()
    try:
        asked = sent[0].number("new_tokens", "Tokens to add", 1, tryit.limits.new_tokens)
        new_tokens = asked or _TOKENS
        typed = _typed(*sent, tryit.limits)
        results: list[dict[str, Any]] = await tryit.run(
            call.service.database, call.caller, names, typed, new_tokens=new_tokens
        )
    except TooMany:
        raise
    except Refusal as error:
        problem = error
    trial = await run_sync(_trial, source, names)
    made = try_page(
        source.hub(),
        [f"@{name}" for name in names],
        trial,
        Asked(typed.text, typed.context, typed.choices, new_tokens),
        adapter=adapter,
        results=results,
        error=str(problem) if problem else "",
    )
    body = Site(source, viewer=call.visitor.viewer()).render(made)
    headers = {**HEADERS, "Cache-Control": "no-store", **(problem.headers if problem else {})}
    status = problem.status if problem else 200
    return Response(body, status, headers, "text/html; charset=utf-8")


def _trial(source: LiveSource, names: Sequence[str]) -> Trial | None:
    pairs = (name.split("/") for name in names)
    found = (source.trial(owner, name) for owner, name in pairs)
    return together(trial for trial in found if trial is not None and trial.form)


_TRY = "/adapters/{owner}/{name}/try/"
ROUTES: list[Route] = [
    page(_TRY, to_adapter),
    form(_TRY, try_adapter),
    page(f"/{links.COMPARE_TRY}", to_compare),
    form(f"/{links.COMPARE_TRY}", try_side_by_side),
]
