"""A server for one purpose on data that no server works on: how a folder gets into it the usual way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import uvicorn
from sqlalchemy import func, select

from adapterhub.errors import HubError
from adapterhub.hub.server.app import HubApp
from adapterhub.hub.server.serve import listen
from adapterhub.hub.server.service import Service
from adapterhub.hub.server.settings import Settings
from adapterhub.hub.store import accounts
from adapterhub.hub.store.models import Account, Job, Token, utcnow

_ADMIN = "admin"
_START_SECONDS = 60.0
#: A worker that finishes no check for so long is not waited for; the next server goes on.
_CHECK_SECONDS = 300.0


@contextmanager
def offline_server(
    data: Path, made: Callable[[str, str], None] = lambda name, token: None
) -> Iterator[tuple[str, str]]:
    """Serve *data* on this machine alone while the block runs; yield address and token.

    A folder that is new or empty becomes the data of a new hub, as with ``adapterhub hub serve``. The token
    is one of an administrator, holds for an hour at most and is revoked at the end.

    Args:
        data: data folder of a server.
        made: told name and token of the first administrator of a new hub, which nobody learns again.

    Raises:
        HubError: If a server works on the data already: give its address instead.
    """
    settings = replace(Settings.from_environment(data), host="127.0.0.1", port=0, public_url="")
    with listen("127.0.0.1", 0) as listener, Service(settings) as service:
        first = service.first_token(_ADMIN)
        if first is not None:
            made(_ADMIN, first)
        with service.database.write() as session:
            query = select(Account).where(
                Account.admin.is_(True), Account.disabled.is_(False), Account.kind == "user"
            )
            account = session.scalar(query.order_by(Account.id).limit(1))
            account = account or accounts.create_account(session, _ADMIN, admin=True)
            row, secret = accounts.issue_token(
                session,
                account,
                name="import",
                scope="admin",
                expires=utcnow() + timedelta(hours=1),
            )
            session.flush()
            token_id = row.id
        config = uvicorn.Config(HubApp(service), log_config=None, access_log=False, lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            for _ in range(int(_START_SECONDS / 0.05)):
                if server.started or not thread.is_alive():
                    break
                threading.Event().wait(0.05)
            if not server.started:
                raise HubError(f"the data in {data} could not be served; see the messages above")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", secret
            _wait_for_checks(service)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            with service.database.write() as session:
                token = session.get(Token, token_id)
                if token is not None:
                    token.revoked = utcnow()


def _wait_for_checks(service: Service) -> None:
    """Let the workers finish: what is not checked yet, nobody sees."""
    waiting = select(func.count()).select_from(Job).where(Job.state.in_(("queued", "running")))
    before, since = -1, time.monotonic()
    while time.monotonic() - since < _CHECK_SECONDS:
        with service.database.read() as session:
            left = session.scalar(waiting) or 0
        if not left:
            return
        if left != before:
            before, since = left, time.monotonic()
        time.sleep(0.2)
