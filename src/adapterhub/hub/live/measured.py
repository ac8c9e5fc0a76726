"""What was measured and signed, as records of the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from adapterhub.hub.live.versions import DIGITS
from adapterhub.hub.store import reports, repos
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.refusals import Refusal
from adapterhub.hub.store.reports import Counted
from adapterhub.hub.web.source import Adapter, Measured, Result


def measured_of(database: Database, caller: Caller, owner: str, name: str) -> list[Measured]:
    """Return what was measured of one adapter that *caller* may see, newest first."""
    try:
        with database.read() as session:
            seen = repos.view(session, caller, owner, name)
            found = reports.of_repo(session, seen.repo.id)
    except Refusal:
        return []
    return [record for item in found for record in _records(item)]


def measured_on(
    database: Database,
    caller: Caller,
    adapter_of: Callable[[int], Adapter | None],
    type_: str,
    task: str,
    subtask: str | None,
) -> list[Result]:
    """Return what was measured on the data of a task or data set.

    Args:
        adapter_of: returns the record of a repository by its number.
        type_: only adapters of this type.
    """
    with database.read() as session:
        found = reports.of_datasets(session, caller, task, subtask)
    results = []
    for item in found:
        adapter = adapter_of(item.repo_id)
        if adapter is not None and adapter.type == type_:
            results += [
                Result(adapter, record.version, record.metric, record.value, record)
                for record in _records(item)
            ]
    return results


def _records(item: Counted) -> list[Measured]:
    document: Any = item.document
    data = document["data"]
    href = f"api/hub/v1/repos/{quote(item.repo)}/reports/{item.id}"
    return [
        Measured(
            dataset=data["dataset"] or "",
            data=data["name"],
            data_sha256=data["sha256"],
            split=data["split"],
            examples=data["examples"],
            metric=value.metric,
            value=value.value,
            standard_error=value.standard_error,
            higher_is_better=value.higher_is_better,
            signed_by=item.signer,
            key=item.key,
            evaluated=document["evaluated"],
            base_model=document["base_model"]["id"],
            version=item.commit[:DIGITS],
            current=item.current,
            href=href,
        )
        for value in item.values
    ]
