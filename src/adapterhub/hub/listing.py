"""Looking through a hub by the functions that the ``adapters`` library has for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.entries import Entry
from adapterhub.hub.hub import Hub
from adapterhub.hub.pull import cache_folder

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
    """Return the adapters of the user's hub (``$ADAPTERHUB_HUB``), by identifier.

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
    try:
        return _info(Hub().resolve(adapter_id))
    except HubError:
        return None


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
