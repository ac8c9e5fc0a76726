"""How ``model.load_adapter("task/subtask@owner")`` comes to a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.client import fetch, is_server
from adapterhub.hub.hub import HUB_VARIABLE, Hub


def folder_for(
    identifier: str,
    *,
    version: str | None = None,
    config: Any = None,
    base_model: str | None = None,
    preferred: str | None = None,
) -> Path:
    """Pull an adapter from the user's hub into the cache; return its folder.

    ``$ADAPTERHUB_HUB`` is a folder, or the address of a hub server.

    Args:
        identifier, version, config, base_model: as for :meth:`Hub.pull`.
        preferred: a base model to narrow the choice with, if the hub has such an adapter for it.

    Raises:
        HubError: no hub, no such adapter (nearest are named), several (each is named), bad checksum.
    """
    place = os.environ.get(HUB_VARIABLE, "")
    if is_server(place):
        return _from_server(place, identifier, version, base_model, preferred)
    wanted: dict[str, Any] = {"version": version, "config": config, "base_model": base_model}
    try:
        hub = Hub()
        if base_model is None and preferred is not None:
            try:
                hub.resolve(identifier, version=version, config=config, base_model=preferred)
                wanted["base_model"] = preferred
            except HubError:
                pass  # one for another model may fit, and what is said about it is more to the point
        return hub.pull(identifier, **wanted)
    except HubError as error:
        raise HubError(
            f"'{identifier}' is no folder here, and as an identifier: {error}"
        ) from error


def _from_server(
    url: str, identifier: str, version: str | None, base_model: str | None, preferred: str | None
) -> Path:
    """Fetch from a hub server; for a task, an adapter for the preferred base model if there is one."""
    try:
        if base_model is None and preferred is not None:
            try:
                return fetch(url, identifier, version=version, base_model=preferred)
            except HubError:
                pass  # one for another model may fit, and what is said about it is more to the point
        return fetch(url, identifier, version=version, base_model=base_model)
    except HubError as error:
        raise HubError(
            f"'{identifier}' is no folder here, and as an identifier: {error}"
        ) from error
