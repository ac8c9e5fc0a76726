"""The loop of a check worker: a thread of the server, or a process of its own."""

from __future__ import annotations

import logging
import threading

from adapterhub.hub.verify.intake import Intake

log = logging.getLogger("adapterhub.hub.worker")
_PAUSE_SECONDS = 1.0


def work(intake: Intake, stop: threading.Event, *, until_idle: bool = False) -> int:
    """Do waiting work until *stop* is set; return how many pieces were done.

    A database that cannot be reached is no end: the worker tries again, a little later each time.

    Args:
        until_idle: End when there is nothing left to do.
    """
    count, pause = 0, _PAUSE_SECONDS
    while not stop.is_set():
        try:
            found = intake.finish()
            pause = _PAUSE_SECONDS
        except Exception:
            log.exception("the worker could not look for work; trying again in %.0f s", pause)
            found, pause = False, min(pause * 2, 60.0)
        count += found
        if not found:
            if until_idle:
                break
            intake.wake.wait(pause)
            intake.wake.clear()
    return count


class WorkerThread:
    """A worker inside the server."""

    def __init__(self, intake: Intake) -> None:
        self._intake, self._stop = intake, threading.Event()
        self._thread = threading.Thread(
            target=work, args=(intake, self._stop), name="checks", daemon=True
        )

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the piece in hand and end."""
        self._stop.set()
        self._intake.wake.set()
        self._thread.join(timeout=30)
