"""The queue of jobs and the child that works on them: started, watched, replaced."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.hub.tryit.jobs import Job, Limits, Overloaded, TryError

log = logging.getLogger("adapterhub.hub.tryit")

#: Only these reach the child; it has no business with the database, the bucket or anybody's token.
_PASSED = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL", "PYTHONPATH")
_PAUSE = 1.0
_START_SECONDS = 180.0
_BLAMED_SECONDS = 600.0


@dataclass
class _Pending:
    """A job that the child has not answered yet. *strikes*: how often the child died while it ran."""

    number: int
    job: Job
    future: Future[dict[str, Any]]
    deadline: float
    strikes: int = 0
    sent: bool = False
    running_since: float | None = None

    def line(self) -> str:
        """Return the message for the child."""
        data = {"id": self.number, "job": self.job.to_json(), "alone": self.strikes > 0}
        return json.dumps(data) + "\n"


@dataclass
class _Child:
    """A process. *running*: the jobs of its batch that it has not answered, since *since*."""

    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    running: dict[int, _Pending] = field(default_factory=dict)
    since: float = 0.0

    def close(self) -> None:
        """Close the pipes of a process that has ended."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # (what was not sent any more)
                    pipe.close()


class Pool:
    """Runs jobs in a child process. Use as a context manager.

    Args:
        limits: see :class:`~adapterhub.hub.tryit.jobs.Limits`.
        warm: base models that the child loads before it begins.
        folder: where the child works; limits keep it from writing more than scraps.

    The child is started at the beginning, and again when it has died. The jobs that ran then are tried
    once more, each by itself; an adapter that was alone when the child died is refused for ten minutes.
    """

    def __init__(self, limits: Limits, folder: Path, warm: Sequence[Path] = ()) -> None:
        self.limits, self._folder, self._warm = limits, folder, warm
        self._pending: OrderedDict[int, _Pending] = OrderedDict()
        self._blamed: dict[str, float] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._stopped = False
        self._child: _Child | None = None
        self.restarts = 0
        self.batches: deque[tuple[int, int]] = deque(maxlen=100)
        self._keeper = threading.Thread(target=self._keep, name="tryit-keeper", daemon=True)
        self._writer = threading.Thread(target=self._write, name="tryit-writer", daemon=True)

    def __enter__(self) -> Pool:
        self._keeper.start()
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._work:
            self._stopped = True
            pending = list(self._pending.values())
            self._pending.clear()
            self._work.notify_all()
        for item in pending:
            _fail(item, Overloaded("This hub is being stopped."))
        child = self._child
        if child is not None:
            child.process.kill()
        self._keeper.join(timeout=10)
        self._writer.join(timeout=10)

    @property
    def waiting(self) -> int:
        """How many jobs have no answer yet."""
        return len(self._pending)

    def submit(self, jobs: Sequence[Job]) -> list[Future[dict[str, Any]]]:
        """Queue *jobs*, all or none; they go to the child together, so that they share a batch.

        The futures end with a result, :class:`TryError` or :class:`Overloaded`.

        Raises:
            Overloaded: If the queue is full.
            TryError: If a text is too long, or an adapter has killed the child before.
        """
        now = time.monotonic()
        for job in jobs:
            job.require_within(self.limits)
            if self._blamed.get(job.adapter, 0) > now:
                raise TryError(
                    f"{job.name}: it broke the process that runs it; not tried again now"
                )
        with self._work:
            if self._stopped or len(self._pending) + len(jobs) > self.limits.queue:
                raise Overloaded("Too many people are trying adapters right now.")
            made = []
            for job in jobs:
                self._number += 1
                item = _Pending(self._number, job, Future(), now + self.limits.seconds)
                self._pending[item.number] = item
                made.append(item.future)
            self._work.notify_all()
        return made

    # -- one thread starts the child, reads what it says, and buries it -----------------------------

    def _keep(self) -> None:
        watcher = threading.Thread(target=self._watch, name="tryit-watch", daemon=True)
        watcher.start()
        while not self._stopped:
            try:
                child = self._start()
            except OSError:
                log.exception("the process that runs models cannot be started")
                time.sleep(_PAUSE)
                continue
            self._listen(child)
            self._bury(child)
            if not self._stopped:
                time.sleep(_PAUSE)

    def _start(self) -> _Child:
        environment = {key: os.environ[key] for key in _PASSED if key in os.environ}
        environment |= {
            "HOME": str(self._folder),
            "TMPDIR": str(self._folder),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(self.limits.threads),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "adapterhub.hub.tryit.worker"]
        process = subprocess.Popen(
            [*command, json.dumps(asdict(self.limits)), *map(str, self._warm)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=self._folder,
            text=True,
            encoding="utf-8",
        )
        child = _Child(process)
        with self._work:
            self._child = child
            if self._stopped:
                process.kill()
        return child

    def _listen(self, child: _Child) -> None:
        assert child.process.stdout is not None
        try:
            for line in child.process.stdout:
                self._take(child, json.loads(line))
        except ValueError:
            log.error("the process that runs models said something that is not JSON")
        child.process.kill()

    def _take(self, child: _Child, said: dict[str, Any]) -> None:
        if "ready" in said:
            with self._work:
                child.ready = True
                self._work.notify_all()
            return
        with self._lock:
            if "running" in said:
                # (One that was given up meanwhile is run all the same, but nobody is to blame then.)
                running = [self._pending[n] for n in said["running"] if n in self._pending]
                self.batches.append((len(running), len({item.job.adapter for item in running})))
                child.running = {item.number: item for item in running}
                child.since = time.monotonic()
                return
            child.running.pop(said["id"], None)
            item = self._pending.pop(said["id"], None)
        if item is None:
            return  # given up meanwhile
        if "refused" in said:
            _fail(item, TryError(said["refused"]))
        else:
            _end(item, said["result"])

    def _bury(self, child: _Child) -> None:
        """The child is dead: blame those that ran, and let the rest be sent again."""
        child.process.wait()
        child.close()
        now = time.monotonic()
        lost: list[_Pending] = []
        with self._work:
            self._child = None
            if self._stopped:
                return
            self.restarts += 1
            self._blamed = {key: until for key, until in self._blamed.items() if until > now}
            for item in child.running.values():
                if item.strikes > 0 or len(child.running) == 1:
                    self._blamed[item.job.adapter] = now + _BLAMED_SECONDS
                    if self._pending.pop(item.number, None) is not None:
                        lost.append(item)
                item.strikes += 1
            for item in self._pending.values():
                item.sent = False
        log.warning(
            "the process that runs models ended (%s); it is started again", child.process.returncode
        )
        for item in lost:
            _fail(item, TryError("it broke the process that runs it"))

    # -- one sends -----------------------------------------------------------------------------------

    def _write(self) -> None:
        while not self._stopped:
            with self._work:
                ready, child = self._unsent(), self._child
                if not ready or child is None:
                    self._work.wait()
                    continue
                for item in ready:
                    item.sent = True
            try:
                assert child.process.stdin is not None
                child.process.stdin.write("".join(item.line() for item in ready))
                child.process.stdin.flush()
            except (OSError, ValueError):
                child.process.kill()  # its end is noticed by the keeper, which lets them be sent again

    def _unsent(self) -> list[_Pending]:
        if self._child is None or not self._child.ready:
            return []
        return [item for item in self._pending.values() if not item.sent]

    # -- one looks at the clock ----------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped:
            time.sleep(0.1)
            now = time.monotonic()
            late = []
            with self._lock:
                child = self._child
                hangs = slow = False
                if child is not None:
                    hangs = bool(child.running) and now - child.since > self.limits.hang
                    slow = not child.ready and now - child.started > _START_SECONDS
                for item in list(self._pending.values()):
                    if now > item.deadline:
                        late.append(self._pending.pop(item.number))
            for item in late:
                _fail(item, Overloaded("It took too long; the hub is busy.", 5))
            if child is not None and (hangs or slow):
                log.warning("the process that runs models hangs; it is ended")
                child.process.kill()


def _fail(item: _Pending, error: Exception) -> None:
    with contextlib.suppress(InvalidStateError):  # nobody waits any more
        item.future.set_exception(error)


def _end(item: _Pending, result: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidStateError):
        item.future.set_result(result)
