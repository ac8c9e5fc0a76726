"""Running the server: one process, one address, ready when it says so."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Generator

import uvicorn

from adapterhub.errors import HubError
from adapterhub.hub.server import logs
from adapterhub.hub.server.app import HubApp
from adapterhub.hub.server.notify import notify
from adapterhub.hub.server.patience import PatientProtocol
from adapterhub.hub.server.service import Service
from adapterhub.hub.server.settings import Settings

log = logging.getLogger("adapterhub.hub.server")


class Server(uvicorn.Server):
    """Tells when requests are answered, and returns when told to stop."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Stop at a signal; uvicorn would then end the process by it, with nothing put away."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()
        notify("READY=1")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify("STOPPING=1")
        await super().shutdown(sockets=sockets)


def listen(host: str, port: int) -> socket.socket:
    """Open the port before anything else, so that a port in use is told at once.

    Raises:
        HubError: If it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: asyncio only then sends each piece of an answer at once (TCP_NODELAY); else
    # the last one waits for the client's acknowledgement, which takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise HubError(
            f"{host}:{port} cannot be listened on ({error.strerror}); give another --port"
        ) from error
    listener.listen(1024)
    listener.set_inheritable(True)
    return listener


def serve(settings: Settings, *, admin: str = "admin", say: Callable[[str], None] = print) -> None:
    """Run a hub server until it is told to stop (SIGINT or SIGTERM).

    Args:
        settings: how it is set up.
        admin: name of the first administrator, if the hub has no account yet.
        say: called with what a person at the terminal should read.
    """
    began = time.monotonic()
    logs.set_up(as_json=settings.log_json)
    listener = listen(settings.host, settings.port)
    with listener, Service(settings) as service:
        port = listener.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = settings.public_url or f"http://{host}:{port}"
        token = service.first_token(admin)
        if token is not None:
            say(
                f"This hub is new. Its administrator is {admin!r}; "
                f"the token, shown only now, is\n\n    {token}\n"
            )
            say(f"Publish: HF_ENDPOINT={url} HF_TOKEN=<token> hf upload {admin}/my-adapter FOLDER")
        config = uvicorn.Config(
            HubApp(service),
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=20,
            http=PatientProtocol,
            h11_max_incomplete_event_size=64 * 1024,
        )
        server = Server(
            config, lambda: say(f"Ready at {url} after {time.monotonic() - began:.1f} s")
        )
        log.info("starting at %s", url)
        server.run(sockets=[listener])
    log.info("stopped")
