"""Our JSON API for evaluation reports: send one, read them, take one's own back."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from adapterhub.hub.reports import MAX_BYTES, ReportError, SignedReport
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, delete, get, post
from adapterhub.hub.store import reports
from adapterhub.hub.store.refusals import Malformed, Missing, TooLarge, Unacceptable


def send(call: Call) -> Response:
    """Take in a signed report about an adapter, whoever's the adapter is."""
    if len(call.body) > MAX_BYTES:
        raise TooLarge(f"a report has at most {MAX_BYTES >> 10} KB")
    body = call.json()
    call.caller.require_scope("write")
    try:
        signed = SignedReport.from_json(body)
    except ReportError as error:
        raise Unacceptable(f"the report cannot be taken: {error}") from error
    with call.service.database.write() as session:
        seen = call.view(session, lock=True)
        row, new = reports.add(session, seen, signed)
        answer = {"id": row.id, "repo": seen.repo.full_name, "commit": row.commit_id}
    return Json(answer, status_code=201 if new else 200)


def listing(call: Call) -> Response:
    """Return the reports about an adapter that count, newest first."""
    with call.service.database.read() as session:
        seen = call.view(session)
        found = reports.of_repo(session, seen.repo.id)
    return Json([item.to_json() for item in found])


def one(call: Call) -> Response:
    """Return a report as it was sent, with its signature, so that anybody can verify it."""
    with call.service.database.read() as session:
        row = reports.find(session, call.view(session), _number(call))
        return Json({"report": row.document, "signature": row.signature})


def withdraw(call: Call) -> Response:
    """Take one's own report back."""
    with call.service.database.write() as session:
        row = reports.withdraw(session, call.view(session), _number(call))
        return Json({"id": row.id, "withdrawn": row.withdrawn})


def board(call: Call) -> Response:
    """Return the reports on the data of a task, ``?dataset=task/subtask`` or ``?dataset=task``."""
    task, _, subtask = call.first("dataset").partition("/")
    if not task or len(task) + len(subtask) > 200:
        raise Malformed("dataset must be task/subtask or task")
    with call.service.database.read() as session:
        found = reports.of_datasets(session, call.caller, task, subtask or None)
    answer: list[dict[str, Any]] = [item.to_json() for item in found]
    return Json(answer)


def _number(call: Call) -> int:
    text = call.parts["report"]
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Missing(f"there is no report {text[:40]!r}")
    return int(text)


_V1 = "/api/hub/v1"
_REPORTS = f"{_V1}/repos/{{owner}}/{{name}}/reports"
ROUTES: list[Route] = [
    post(_REPORTS, send),
    get(_REPORTS, listing),
    get(f"{_REPORTS}/{{report}}", one),
    delete(f"{_REPORTS}/{{report}}", withdraw),
    get(f"{_V1}/reports", board),
]
