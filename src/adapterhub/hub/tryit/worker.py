"""The child process that runs models: jobs come in as lines of JSON, results go out as lines of JSON.

``python -m adapterhub.hub.tryit.worker LIMITS MODEL...``. Before each batch it says which jobs are in it,
so that the parent knows whom to suspect if it dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from adapterhub.hub.tryit.jobs import Job, Limits, TryError

#: After the last job.
_END: dict[str, Any] = {}
#: Libraries look for a folder in which they can write, by writing; they get no further than this.
_FILE = 64 << 10


def main() -> None:
    """Serve until the parent closes the pipe."""
    limits = Limits(**json.loads(sys.argv[1]))
    confine(limits)
    # What a library prints must not get between the lines of the protocol.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import torch

    torch.set_num_threads(limits.threads)
    from adapterhub.hub.tryit.runner import Runner

    incoming: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin, incoming), daemon=True).start()
    runner = Runner(limits)
    for path in sys.argv[2:]:
        runner.warm(Path(path))
    _say(answers, {"ready": True})
    while (batch := collect(incoming, limits)) is not None:
        _say(answers, {"running": [item["id"] for item in batch]})
        began = time.perf_counter()
        results = runner.run([Job.from_json(item["job"]) for item in batch])
        seconds = round(time.perf_counter() - began, 4)
        for item, result in zip(batch, results, strict=True):
            if isinstance(result, TryError):
                _say(answers, {"id": item["id"], "refused": str(result)})
            else:
                _say(answers, {"id": item["id"], "result": {**result, "seconds": seconds}})


def confine(limits: Limits) -> None:
    """Give up what the work does not need: memory without end, large files, the network."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, _FILE)]
        wanted += [(resource.RLIMIT_AS, limits.memory)] if limits.memory else []
        for kind, value in wanted:
            _, hard = resource.getrlimit(kind)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
    with contextlib.suppress(Exception):
        # A user namespace makes it possible without privileges; where neither is allowed, the offline
        # switches of the libraries, which the parent sets, are what is left.
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        new_user, new_network = 0x10000000, 0x40000000
        if libc.unshare(new_network) != 0:
            libc.unshare(new_user | new_network)


def _read(source: IO[str], target: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in source:
        target.put(json.loads(line))
    target.put(_END)


def collect(
    source: queue.SimpleQueue[dict[str, Any]], limits: Limits
) -> Sequence[dict[str, Any]] | None:
    """Wait for a job, and then a little for others; return them, or ``None`` at the end.

    A job marked ``alone`` has a batch of its own.
    """
    first = source.get()
    if first is _END:
        return None
    batch = [first]
    deadline = time.monotonic() + limits.wait
    while len(batch) < limits.batch and not first.get("alone"):
        left = deadline - time.monotonic()
        try:
            item = source.get(timeout=left) if left > 0 else source.get_nowait()
        except queue.Empty:
            break
        if item is _END or item.get("alone"):
            source.put(item)  # (the parent sends nothing after its end)
            break
        batch.append(item)
    return batch


def _say(target: IO[str], data: dict[str, Any]) -> None:
    target.write(json.dumps(data, allow_nan=False) + "\n")
    target.flush()


if __name__ == "__main__":
    main()
