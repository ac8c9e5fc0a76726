"""PostgreSQL and an S3-compatible store that really run, and can be taken away and given back."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

BINARIES = Path("/usr/lib/postgresql/15/bin")
BUCKET = "hub"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, seconds: float = 30.0) -> None:
    """Return when somebody listens on *port*.

    Raises:
        TimeoutError: If nobody does.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port} after {seconds:.0f} s")


class Postgres:
    """A PostgreSQL 15 of its own; it refuses to run as root, so then it runs as its own user.

    Attributes:
        url: the address of its database.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="adapterhub-pg-", dir="/tmp"))
        self._port = free_port()
        self._prefix: list[str] = []
        self._running = False
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres")
            self._prefix = ["runuser", "-u", "postgres", "--"]
        self.url = f"postgresql://hub@127.0.0.1:{self._port}/postgres"
        options = ["-D", str(self._data), "-U", "hub", "-A", "trust", "-N"]
        self._run(str(BINARIES / "initdb"), *options)

    @property
    def _data(self) -> Path:
        return self._folder / "db"

    @property
    def pid(self) -> int:
        """The process that starts all others of it, while it runs."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def _run(self, *command: str, check: bool = True) -> None:
        subprocess.run(
            [*self._prefix, *command],
            check=check,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/tmp",
        )

    def _control(self, *command: str, check: bool = True) -> None:
        self._run(str(BINARIES / "pg_ctl"), "-D", str(self._data), "-w", *command, check=check)

    def start(self) -> None:
        """Start it, if it does not run; what was in it is in it again."""
        if self._running:
            return
        options = (
            f"-p {self._port} -k {self._folder} -c fsync=off -c listen_addresses=127.0.0.1 "
            "-c max_connections=200"
        )
        self._control("-o", options, "-l", str(self._folder / "log"), "start")
        self._running = True

    def stop(self) -> None:
        """Stop it as if it crashed: connections break, transactions under way are lost."""
        self._running = False
        self._control("-m", "immediate", "stop", check=False)

    def empty(self) -> None:
        """Remove all tables."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def __enter__(self) -> Postgres:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class Gate:
    """A port that leads to another one while it is open, and refuses connections while it is shut."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self._listener: socket.socket | None = None
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()

    def open(self) -> None:
        """Let connections through, if it is shut."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Break all connections and take no more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # Only a shutdown wakes the thread that waits in accept().
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for connection in pairs:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        """Carry what one connection says, both ways, until both ends have said all."""
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            with self._lock:
                self._pairs |= {near, far}
            back = threading.Thread(target=_carry, args=(far, near), daemon=True)
            back.start()
            _carry(near, far)
            back.join()
            with self._lock:
                self._pairs -= {near, far}


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for connection in (source, target):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class S3:
    """moto's S3 server with one bucket, behind a :class:`Gate`.

    Attributes:
        url: the address of a folder in the bucket.
        environment: the variables by which boto3 finds it.
    """

    url = f"s3://{BUCKET}/prefix"

    def __init__(self) -> None:
        port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.gate = Gate(port)
        self.environment = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.gate.port}",
        }
        self._port = port

    def __enter__(self) -> S3:
        import boto3

        try:
            wait_for_port(self._port, 60)
            self.gate.open()
            names = {
                "aws_access_key_id": "AWS_ACCESS_KEY_ID",
                "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
                "region_name": "AWS_DEFAULT_REGION",
                "endpoint_url": "AWS_ENDPOINT_URL",
            }
            options = {key: self.environment[name] for key, name in names.items()}
            boto3.client("s3", **options).create_bucket(Bucket=BUCKET)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.gate.shut()
        self._process.kill()
        self._process.wait()
