"""How ``model.load_adapter("task/subtask@owner")`` comes to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.hub import Hub


def folder_for(identifier: str, *, version: str | None = None, config: Any = None) -> Path:
    """Pull an adapter from the user's hub (``$ADAPTERHUB_HUB``) into the cache; return its folder.

    Raises:
        HubError: no hub, no such adapter (nearest are named), several (each is named), bad checksum.
    """
    try:
        return Hub().pull(identifier, version=version, config=config)
    except HubError as error:
        raise HubError(
            f"'{identifier}' is no folder here, and as an identifier: {error}"
        ) from error
