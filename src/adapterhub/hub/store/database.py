"""One database, SQLite or PostgreSQL, and its two ways in: :meth:`Database.read` and ``write``.

SQLite runs in WAL mode, so that readers never wait, with the disk synced at every commit, so that what
was acknowledged survives a power cut. It has one writer at a time: ``write`` takes the lock at the
beginning of the transaction (a lock taken later could fail half-way), and threads of this process queue
for it here instead of polling.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError
from sqlalchemy.orm import Session, sessionmaker

from adapterhub.errors import HubError
from adapterhub.hub.store import changes

_BEGIN = "adapterhub_begin"
_BUSY_MS = 30_000
_CONNECT_SECONDS = 5
#: What is raised while the database cannot be reached or has no room; trying again later may help.
UNREACHABLE = (OperationalError, InterfaceError, TimeoutError)
#: Any number that no other program of the same database uses; the migrations queue for it.
_MIGRATION_LOCK = 4_771_190_311


class Database:
    """The database at *url* (``sqlite:///path`` or ``postgresql://user@host/name``).

    Raises:
        HubError: If the address names another kind of database.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        name = parsed.get_backend_name()
        if name in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        elif name != "sqlite":
            raise HubError(
                f"database {name!r} is not supported; give sqlite:///... or postgresql://..."
            )
        self.is_sqlite = name == "sqlite"
        self.file = Path(parsed.database) if self.is_sqlite and parsed.database else None
        options: dict[str, Any] = {}
        if not self.is_sqlite:
            # A connection that broke while it was not used is replaced, and nobody notices.
            options["pool_pre_ping"] = True
            if "connect_timeout" not in parsed.query:
                options["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
        self.engine: Engine = create_engine(parsed, pool_size=20, max_overflow=40, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._queue = threading.Lock() if self.is_sqlite else nullcontext()
        writer = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._writers = sessionmaker(writer, expire_on_commit=False)
        changes.attach(self._writers)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that only reads; what it sees does not change meanwhile on SQLite."""
        with self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that is committed at the end of the block, or undone by an error."""
        with self._queue, self._writers.begin() as session:
            yield session

    def upgrade(self) -> None:
        """Bring the tables to the newest version; safe if several processes start at once."""
        if self._is_current():
            return
        from alembic import command  # slow to import, and needed only now
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["run"] = self._migrating
        command.upgrade(config, "head")

    def revision(self) -> str | None:
        """Return the name of the migration that the tables are at, or ``None`` if there are none."""
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def _is_current(self) -> bool:
        from adapterhub.hub.store.migrations import HEAD

        return self.revision() == HEAD

    @contextmanager
    def _migrating(self) -> Iterator[Connection]:
        # On SQLite the write lock of the transaction keeps others out; tables change within it, too.
        engine = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        with self._queue, engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={_BUSY_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get(_BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
