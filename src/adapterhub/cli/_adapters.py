"""Where an adapter named on the command line is."""

from __future__ import annotations

from pathlib import Path

from adapterhub.errors import CheckpointError


def adapter_folder(adapter: str, hub: Path | None = None) -> Path:
    """Return the folder of an adapter: itself, the only adapter in it, or pulled from a hub.

    Args:
        adapter: a folder, or an identifier such as ``sentiment/movie-reviews@owner``.
        hub: folder of the hub for identifiers; default: the user's hub.

    Raises:
        CheckpointError: a folder without an adapter. HubError: an identifier that no adapter has.
    """
    path = Path(adapter).expanduser()
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            return path
        inside = sorted(item.parent for item in path.glob("*/adapter_config.json"))
        if len(inside) == 1:
            return inside[0]
        found = "several: " + ", ".join(item.name for item in inside) if inside else "none"
        raise CheckpointError(f"{path} has no adapter_config.json; adapters below it: {found}.")
    from adapterhub.errors import HubError
    from adapterhub.hub import Hub

    try:
        return Path(Hub(hub).pull(adapter))
    except HubError as error:
        raise HubError(f"'{adapter}' is no folder, and as an identifier: {error}") from error
