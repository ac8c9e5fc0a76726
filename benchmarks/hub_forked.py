"""Hub servers that start in a moment: forked off a process that has imported everything.

What a command of its own would do after its imports happens in full, in a process of its own, which can be
killed like any other. Only the second or two of importing are saved, each time.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.hub.server.conftest import Hub

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "alembic.command",
        "alembic.config",
        "boto3",
        "psycopg",
        "adapterhub.hub.server.serve",
        "adapterhub.hub.store.s3",
        "adapterhub.hub.verify.intake",
    ]
)
_START_SECONDS = 120.0


def _serve(data: Path, environment: dict[str, str], log: Path, pipe: Connection) -> None:
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    from adapterhub.hub.server.serve import serve
    from adapterhub.hub.server.settings import Settings

    serve(replace(Settings.from_environment(data), port=0), say=pipe.send)


class ForkedHub(Hub):
    """A hub server in a forked process; otherwise as :class:`~tests.hub.server.conftest.Hub`."""

    timeout = 600.0

    def start(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.log = self.data.parent / f"{self.data.name}.log"
        near, far = _CONTEXT.Pipe(duplex=False)
        environment = {"ADAPTERHUB_CHECKS": "format", **self.environment}
        arguments = (self.data, environment, self.log, far)
        self.process: Any = _CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        far.close()
        self.said, deadline = "", time.monotonic() + _START_SECONDS
        while near.poll(max(0.0, deadline - time.monotonic())):
            try:
                self.said += near.recv() + "\n"
            except EOFError:
                break
            if found := re.search(r"ahub_\S+", self.said):
                self.token = found[0]
            if found := re.search(r"Ready at (\S+) after ([0-9.]+) s", self.said):
                self.url, self.seconds = found[1], float(found[2])
                return
        raise AssertionError(f"the server did not start: {self.said}{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(30)
        if self.process.is_alive():
            self.kill()
