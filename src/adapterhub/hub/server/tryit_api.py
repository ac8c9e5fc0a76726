"""Our JSON API: try an adapter, several side by side, and ask what can be tried."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call, read_body
from adapterhub.hub.server.routing import Route, get, post
from adapterhub.hub.store.refusals import Malformed
from adapterhub.hub.store.repos import DEFAULT_BRANCH
from adapterhub.hub.tryit.jobs import Limits, Typed

_MAX_BODY = 64 << 10
#: Types of images that are taken.
IMAGES = ("image/png", "image/jpeg")


async def try_one(call: Call) -> Response:
    """Run one adapter on what its head takes.

    A ``text``; for heads that answer questions also the ``context``, for those that choose the ``choices``.
    """
    name = f"{call.parts['owner']}/{call.parts['name']}"
    results = await _run(call, await _body(call), [name])
    return Json(results[0], headers={"Cache-Control": "no-store"})


async def try_several(call: Call) -> Response:
    """Run up to four adapters on the same, in one batch.

    As for one adapter, and the names of the ``adapters``.
    """
    body = await _body(call)
    names = body.get("adapters")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Malformed("'adapters' must be a list of owner/name")
    return Json({"results": await _run(call, body, names)}, headers={"Cache-Control": "no-store"})


async def try_image(call: Call) -> Response:
    """Run one adapter that classifies images on a PNG or JPEG file."""
    tryit = call.service.tryit
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in IMAGES:
        raise Malformed(f"this address takes an image ({' or '.join(IMAGES)})")
    data = await read_body(call.request, tryit.limits.image)
    results = await tryit.run(
        call.service.database,
        call.caller,
        [f"{call.parts['owner']}/{call.parts['name']}"],
        Typed(image=data),
        revision=call.first("revision", DEFAULT_BRANCH)[:300],
    )
    return Json(results[0], headers={"Cache-Control": "no-store"})


async def _body(call: Call) -> dict[str, Any]:
    call.body = await read_body(call.request, _MAX_BODY)
    return call.json()


async def _run(call: Call, body: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
    tryit = call.service.tryit
    number = body.get("max_new_tokens", 32)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise Malformed("max_new_tokens must be a whole number from 1")
    return await tryit.run(
        call.service.database,
        call.caller,
        names,
        _typed(call, body, tryit.limits),
        new_tokens=min(number, tryit.limits.new_tokens),
        revision=call.text(body, "revision", DEFAULT_BRANCH, limit=300),
    )


def _typed(call: Call, body: dict[str, Any], limits: Limits) -> Typed:
    given = body.get("choices") or []
    if not isinstance(given, list) or len(given) > limits.choices:
        raise Malformed(f"'choices' must be a list of at most {limits.choices} texts")
    numbered = {f"choices[{number}]": choice for number, choice in enumerate(given)}
    return Typed(
        call.text(body, "text", limit=limits.characters),
        call.text(body, "context", "", limit=limits.context),
        tuple(call.text(numbered, name, limit=limits.choice) for name in numbered),
    )


def what(call: Call) -> Response:
    """Say which base models are here, and how much may be asked."""
    tryit = call.service.tryit
    limits = tryit.limits
    return Json(
        {
            "models": [{"id": m.id, "aliases": list(m.aliases)} for m in tryit.models.all],
            "limits": {
                "characters": limits.characters,
                "context_characters": limits.context,
                "choices": limits.choices,
                "choice_characters": limits.choice,
                "image_bytes": limits.image,
                "image_pixels": limits.pixels,
                "tokens": limits.tokens,
                "max_new_tokens": limits.new_tokens,
                "adapters_side_by_side": 4,
            },
        }
    )


_V1 = "/api/hub/v1"
ROUTES: list[Route] = [
    get(f"{_V1}/try", what),
    post(f"{_V1}/try", try_several),
    post(f"{_V1}/repos/{{owner}}/{{name}}/try", try_one),
    post(f"{_V1}/repos/{{owner}}/{{name}}/try/image", try_image),
]
