"""For those who run a hub: is it alive, is it ready, what does it do; and a greeting for visitors."""

from __future__ import annotations

from sqlalchemy import func, select, text
from starlette.responses import PlainTextResponse, Response

from adapterhub import __version__
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, get
from adapterhub.hub.store.models import Repo

_GREETING = """\
An adapter hub, made with adapterhub {version}. It holds {number} published adapter{s}.

Publish with the tools that you have:

    export HF_ENDPOINT={url}
    hf auth login                          # paste a token of this hub
    hf upload NAMESPACE/NAME FOLDER        # what save_adapter or save_pretrained wrote

Load with transformers, PEFT or adapterhub while HF_ENDPOINT is set.

JSON: {url}/api/models  ·  health: {url}/readyz  ·  metrics: {url}/metrics
"""


def greeting(call: Call) -> Response:
    """Say what this is, and how to publish."""
    with call.service.database.read() as session:
        query = select(func.count()).select_from(Repo)
        number = (
            session.scalar(query.where(Repo.private.is_(False), Repo.published_id.is_not(None)))
            or 0
        )
    values = {
        "version": __version__,
        "number": number,
        "s": "" if number == 1 else "s",
        "url": call.base_url,
    }
    return PlainTextResponse(_GREETING.format(**values))


def alive(call: Call) -> Response:
    """Answer as long as the process runs."""
    return Json({"status": "alive", "version": __version__})


def ready(call: Call) -> Response:
    """Answer 200 if database and blobs can be reached, else 503."""
    problems = {}
    try:
        with call.service.database.read() as session:
            session.execute(text("SELECT 1"))
    except Exception as error:
        problems["database"] = type(error).__name__
    try:
        call.service.home.size("0" * 64)
    except Exception as error:
        problems["blobs"] = type(error).__name__
    status = "not ready" if problems else "ready"
    return Json({"status": status, **problems}, status_code=503 if problems else 200)


def metrics(call: Call) -> Response:
    """Return the numbers for Prometheus."""
    return Response(
        call.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


ROUTES: list[Route] = [
    get("/healthz", alive),
    get("/readyz", ready),
    get("/metrics", metrics),
]
