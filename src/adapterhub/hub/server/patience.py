"""How long a hub waits for clients that are slow, or only pretend to be.

Without limits a few thousand connections that send a byte now and then would keep everybody else out. A
client has some seconds for the head of a request; the body may take as long as it moves on.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import h11
from anyio import fail_after
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

from adapterhub.hub.store.refusals import Refusal

#: Seconds for the head of a request, from the first byte or (for the first request) the connection on.
HEAD_SECONDS = 15.0
#: Seconds until the next piece of a body.
PIECE_SECONDS = 30.0
#: Bytes a second that a body must come with on average, after the first while.
LEAST_RATE = 1024
RATE_SECONDS = 60.0


class TooSlow(Refusal):
    """The body did not come, or hardly."""

    status = 408

    def __init__(self) -> None:
        super().__init__(
            f"The body stopped, or came with less than {LEAST_RATE} bytes a second; send it again.",
            headers={"Connection": "close"},
        )


class Patience:
    """Waits for the pieces of one body; only the time spent waiting counts."""

    def __init__(self) -> None:
        self._waited, self._received = 0.0, 0

    async def receive(self, receive: Receive) -> Message:
        """Take the next message.

        Raises:
            TooSlow: If it does not come, or too little has come for the time that it took.
        """
        began = time.monotonic()
        try:
            with fail_after(PIECE_SECONDS):
                message = await receive()
        except TimeoutError:
            raise TooSlow from None
        self._waited += time.monotonic() - began
        self._received += len(message.get("body", b""))
        if self._waited > RATE_SECONDS:
            due = (self._waited - RATE_SECONDS) * LEAST_RATE
            if self._received < due and message.get("more_body"):
                raise TooSlow
        return message


class PatientProtocol(H11Protocol):
    """HTTP/1.1 whose connections are closed if the head of a request does not come in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._watch()
        else:
            self._forget()

    def _watch(self) -> None:
        """Wait for the rest of a head; the clock is not set back by a byte more."""
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
