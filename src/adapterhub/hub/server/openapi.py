"""A description of the API by the OpenAPI standard, made from the table by which requests are routed.

Paths, methods and their parts come from the routes, the words from the endpoints' docstrings, and what is
sent and answered from :mod:`.operations`. Pages are not part of the API.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from adapterhub import __version__
from adapterhub.hub.server.operations import OPERATIONS, Operation
from adapterhub.hub.server.routing import Route
from adapterhub.hub.store import refusals

_PART = re.compile(r"\{(\w+)(\*?)\}")
#: What every operation may answer: it was not understood, no (good) token, not allowed, nothing there, too
#: many requests, and no database.
_EVERYWHERE = (400, 401, 403, 404, 429, 431, 503)
_WITH_BODY = (408, 413, 415)
#: For statuses whose refusals are not among those of the store.
_WORDS = {
    408: "The body did not come, or hardly.",
    415: "The body is compressed.",
    416: "The bytes asked for are not there.",
    431: "The address or the headers are too long, or too many.",
    503: "The database, the bucket or the disk does not answer; try again later.",
}
_REFUSALS = (*_EVERYWHERE, *_WITH_BODY, 409, 412, 416, 422)
_PARTS = {
    "owner": "User or organisation.",
    "name": "Name of the repository.",
    "rev": "Branch, tag, or 7 to 40 digits of a commit; a slash in it as %2F.",
    "ref": "Name of a branch or tag (to make a tag: its revision); a slash in it as %2F.",
    "path": "Path of a file or folder, with its slashes.",
    "what": "What is asked for: write.",
    "state": "To read: pending, accepted or rejected. To write: grant, or handle (then with a status).",
    "token": "Number of a token.",
    "user": "Name of a user.",
    "report": "Number of a report.",
    "key": "Fingerprint of a key.",
    "push": "Name of an upload, from the address that came with its token.",
    "prefix": "Kind of hash: default.",
    "hash": "Hash of a chunk or xorb, as Xet writes it.",
}
_GROUPS = {"hf": "Hugging Face protocol", "ops": "Operation"}
_OURS = "Hub"


def describe(routes: Iterable[Route], url: str) -> dict[str, Any]:
    """Return the description of all routes but those of pages, for a hub at *url*.

    Raises:
        KeyError: If an operation has no line in :data:`~.operations.OPERATIONS`.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if not route.visited:
            path = _PART.sub(r"{\1}", route.pattern)
            for method in route.methods:
                made = _operation(route, method)
                paths.setdefault(path, {}).setdefault(method.lower(), made)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Adapter hub",
            "version": __version__,
            "description": "Share, find, verify and reuse adapters. Models of the Hugging Face "
            "protocol are adapters here; stock clients work with this hub as HF_ENDPOINT.",
        },
        "servers": [{"url": url}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Refusal": _REFUSAL},
            "responses": {str(status): _refused(meaning(status)) for status in _REFUSALS},
        },
    }


_REFUSAL = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "errors": {"type": "array"}},
    "anyOf": [{"required": ["error"]}, {"required": ["errors"]}],
}


def _refused(text: str) -> dict[str, Any]:
    headers = {
        name: {"description": what, "schema": {"type": "string"}}
        for name, what in {
            "X-Error-Message": "The same words.",
            "X-Error-Code": "By which Hugging Face clients choose their error.",
        }.items()
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
    return {"description": text, "headers": headers, "content": content}


def key_of(route: Route, method: str) -> str:
    """Return the name of an operation in :data:`~.operations.OPERATIONS`."""
    module = route.endpoint.__module__.rpartition(".")[2]
    name = f"{module}.{route.endpoint.__name__}"
    return f"{name} {method}" if f"{name} {method}" in OPERATIONS else name


def _operation(route: Route, method: str) -> dict[str, Any]:
    found = OPERATIONS[key_of(route, method)]
    summary, description = _words(route)
    module = route.endpoint.__module__.rpartition(".")[2]
    made: dict[str, Any] = {
        "operationId": f"{method} {route.pattern}",
        "summary": summary,
        "tags": [_GROUPS.get(module.partition("_")[0], _OURS)],
        "parameters": [*_path_parts(route), *_query(found)],
        "responses": _responses(found, method),
        "security": [{"token": []}] if found.needs else [{}, {"token": []}],
    }
    if description:
        made["description"] = description
    if found.needs:
        made["x-token-scope"] = found.needs
    if found.body is not None and method not in ("GET", "HEAD"):
        kinds = {kind: {"schema": found.body} for kind in found.body_type.split(", ")}
        made["requestBody"] = {"required": True, "content": kinds}
    return made


def _words(route: Route) -> tuple[str, str]:
    """Return the first sentence of an endpoint's docstring, and what else it says to those who call."""
    lines = (inspect.getdoc(route.endpoint) or "").partition("\n\n")
    return " ".join(lines[0].split()).rstrip("."), " ".join(lines[2].partition("\n\n")[0].split())


def _path_parts(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": match[1],
            "in": "path",
            "required": True,
            "description": _PARTS.get(match[1], ""),
            "schema": {"type": "string", "minLength": 1},
        }
        for match in _PART.finditer(route.pattern)
    ]


def _query(found: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in found.query.items()
    ]


def _responses(found: Operation, method: str) -> dict[str, Any]:
    content = {found.answer: {}} if found.answer and method != "HEAD" else {}
    good = {
        str(status): {"description": "Done.", **({"content": content} if status < 300 else {})}
        for status in found.good
    }
    statuses = {*_EVERYWHERE, *found.bad, *(_WITH_BODY if found.body is not None else ())}
    bad = {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    return {**good, **bad}


def meaning(status: int) -> str:
    """Return what a status means here, in the words of the refusal that has it."""
    kinds = [
        kind
        for kind in vars(refusals).values()
        if isinstance(kind, type)
        and issubclass(kind, refusals.Refusal)
        and kind.status == status
        and kind.code is None
        and kind is not refusals.Refusal
    ]
    if not kinds:
        return _WORDS.get(status, "")
    return " ".join((inspect.getdoc(kinds[-1]) or "").partition("\n\n")[0].split())
