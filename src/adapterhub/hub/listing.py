"""Looking through a hub by the functions that the ``adapters`` library has for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.client import is_server
from adapterhub.hub.entries import Entry
from adapterhub.hub.hub import HUB_VARIABLE, Hub
from adapterhub.hub.pull import cache_folder
from adapterhub.hub.remote import RemoteHub

#: Where pulled adapters are kept.
ADAPTER_CACHE = cache_folder()


@dataclass(frozen=True)
class AdapterInfo:
    """What there is to know about an adapter of a hub before it is loaded.

    Attributes:
        source: ``"ah"``, an adapter hub.
        adapter_id: identifier to load it by.
        model_name: its base model.
        task, subtask: what it was trained on.
        username: who published it.
        adapter_config: its configuration.
        sha1_checksum: ``None``; see *sha256*.
        sha256: checksum of the list of its files.
    """

    source: str
    adapter_id: str
    model_name: str | None = None
    task: str | None = None
    subtask: str | None = None
    username: str | None = None
    adapter_config: Mapping[str, Any] = field(default_factory=dict)
    sha1_checksum: str | None = None
    sha256: str | None = None


def list_adapters(source: str | None = None, model_name: str | None = None) -> list[AdapterInfo]:
    """Return the adapters of the user's hub (``$ADAPTERHUB_HUB``, a folder or server), by identifier.

    Args:
        source: ``"ah"`` or ``None``; others (``"hf"``) are not asked from here.
        model_name: only those for this base model.

    Raises:
        HubError: no hub, or another source.
    """
    if source not in (None, "ah"):
        raise HubError(
            f"list_adapters lists the adapters of a hub (source='ah'), not of {source!r}."
        )
    server = _server()
    if server is not None:
        every = server.everything(model_name)
        return sorted((_served(item) for item in every), key=lambda info: info.adapter_id)
    found = Hub().search(base_model=model_name)
    return sorted((_info(entry) for entry in found), key=lambda info: info.adapter_id)


def get_adapter_info(adapter_id: str, source: str | None = "ah") -> AdapterInfo | None:
    """Return what the user's hub knows about an adapter; ``None``: it has none of that name.

    Args:
        adapter_id: any identifier.
        source: ``"ah"`` or ``None``.
    """
    if source not in (None, "ah"):
        return None
    server = _server()
    try:
        if server is not None:
            found = server.detail(adapter_id)
            return _served(found["adapter"], found["config"], found["versions"]) if found else None
        return _info(Hub().resolve(adapter_id))
    except HubError:
        return None


def _server() -> RemoteHub | None:
    """Return the first of the user's hubs if it is a server."""
    place = os.environ.get(HUB_VARIABLE, "").split(",")[0].strip()
    return RemoteHub(place, os.environ.get("HF_TOKEN")) if is_server(place) else None


def _served(
    item: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    versions: Sequence[Mapping[str, Any]] = (),
) -> AdapterInfo:
    """Return what a server says about an adapter; only its own page has configuration and checksum."""
    sha256 = next((v["sha256"] for v in versions if v["name"] == item["version"]), None)
    return AdapterInfo(
        source="ah",
        adapter_id=f"@{item['owner']}/{item['name']}",
        model_name=item["base_model"],
        task=item["task"],
        subtask=item["subtask"],
        username=item["owner"],
        adapter_config=dict(config or {}),
        sha256=sha256,
    )


def _info(entry: Entry) -> AdapterInfo:
    return AdapterInfo(
        source="ah",
        adapter_id=entry.identifier,
        model_name=entry.card.model_name,
        task=entry.card.task,
        subtask=entry.card.subtask,
        username=entry.card.owner,
        adapter_config=dict(entry.config),
        sha256=entry.version.sha256,
    )
