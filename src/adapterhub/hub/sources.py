"""How ``model.load_adapter("task/subtask@owner")`` comes to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.hub import Hub


def folder_for(
    identifier: str,
    *,
    version: str | None = None,
    config: Any = None,
    base_model: str | None = None,
    preferred: str | None = None,
) -> Path:
    """Pull an adapter from the user's hub (``$ADAPTERHUB_HUB``) into the cache; return its folder.

    Args:
        identifier, version, config, base_model: as for :meth:`Hub.pull`.
        preferred: a base model to narrow the choice with, if the hub has such an adapter for it.

    Raises:
        HubError: no hub, no such adapter (nearest are named), several (each is named), bad checksum.
    """
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
