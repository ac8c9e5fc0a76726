"""Adding a row that others may add at the same moment, without an error for whoever is second."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from adapterhub.hub.store.models import Base


def insert_missing(session: Session, model: type[Base], **values: Any) -> None:
    """Insert a row unless one with its key is there; waits for a transaction that is just adding it."""
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    session.execute(insert(model).values(values).on_conflict_do_nothing())
