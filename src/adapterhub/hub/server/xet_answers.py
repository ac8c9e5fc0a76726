"""Answers that tell how far something is, as Xet clients understand them: lines of JSON.

It may take minutes to put a large file together. With a line every few seconds neither the client nor a
proxy in between gives up, and at the end people read why something was refused, which they do not when the
answer has a status of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from anyio import CapacityLimiter, Event, create_task_group, move_on_after
from anyio.to_thread import run_sync
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapterhub.errors import HubError
from adapterhub.hub.store.database import UNREACHABLE

log = logging.getLogger("adapterhub.hub.request")
_EVERY_SECONDS = 5.0


class Told(Response):
    """An answer that does something while it is given.

    Args:
        work: does it, in a thread, and is given a function to call with what is done and what there is to do.
        limiter: limits how many threads do such things.
        after: is called at the end, however that came.
    """

    media_type = "application/x-ndjson"

    def __init__(
        self,
        work: Callable[[Callable[[int, int], object]], None],
        limiter: CapacityLimiter,
        after: Callable[[], object],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._work, self._limiter, self._after = work, limiter, after
        self._state = (0, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as stack:
            stack.callback(self._after)
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            await self._tell(send)

    async def _tell(self, send: Send) -> None:
        ended, last = Event(), dict[str, Any]()

        async def run() -> None:
            last.update(await run_sync(self._do, limiter=self._limiter))
            ended.set()

        async with create_task_group() as group:
            group.start_soon(run)
            while not ended.is_set():
                with move_on_after(_EVERY_SECONDS):
                    await ended.wait()
                if not ended.is_set():
                    done, total = self._state
                    line = {"type": "validating", "verified": done, "total": total}
                    await send(_body(line, more=True))
        await send(_body(last, more=False))

    def _note(self, done: int, total: int) -> None:
        self._state = (done, total)

    def _do(self) -> dict[str, Any]:
        """Do it, and return the last line."""
        try:
            self._work(self._note)
        except HubError as error:
            return {"type": "error", "message": str(error), "retryable": False}
        except (*UNREACHABLE, OSError):
            log.exception("the database, the disk or the network failed")
            text = "The hub has a problem with its storage; try again later."
            return {"type": "error", "message": text, "retryable": True}
        except Exception:
            log.exception("unexpected error")
            text = "This is a fault of the hub, noted in its log."
            return {"type": "error", "message": text, "retryable": False}
        return {"type": "result"}


def _body(line: dict[str, Any], *, more: bool) -> dict[str, Any]:
    data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
    return {"type": "http.response.body", "body": data, "more_body": more}
