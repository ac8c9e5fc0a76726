"""How ``model.load_adapter("task/subtask@owner")`` comes to a folder.

``$ADAPTERHUB_HUB`` names one hub or several, with commas: folders, addresses of servers, and ``hf`` for the
Hugging Face hub. They are asked in that order, and the first that has what fits gives it. What one of them
has but cannot give (several adapters fit, a checksum or a signature is wrong) is an error at once: the
next hub must not paper over it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.client import fetch, is_server
from adapterhub.hub.hub import HUB_VARIABLE, Hub
from adapterhub.hub.resolve import Ambiguous
from adapterhub.hub.signedfolder import Requirement, verify_folder

HUGGING_FACE = "hf"


def places(text: str | None = None) -> list[str]:
    """Return the hubs in a list with commas; by default those of ``$ADAPTERHUB_HUB``."""
    given = os.environ.get(HUB_VARIABLE, "") if text is None else text
    return [part for item in given.split(",") if (part := item.strip())]


def folder_for(
    identifier: str,
    *,
    version: str | None = None,
    config: Any = None,
    base_model: str | None = None,
    preferred: str | None = None,
    require_signature: Requirement = None,
    hubs: Sequence[str] | None = None,
) -> Path:
    """Bring an adapter from the first of the user's hubs that has it into the cache; return its folder.

    Args:
        identifier, version, config, base_model: as for :meth:`Hub.pull`; on a server, *version* is a
            branch, tag or commit.
        preferred: a base model to narrow the choice with, if the hub has such an adapter for it.
        require_signature: whose signature is needed; see :data:`~.signedfolder.Requirement`.
        hubs: the hubs, as in :func:`places`. Default: the user's.

    Raises:
        HubError: no hub, no such adapter (nearest are named), several (each is named), bad checksum.
        SignatureError: the signature is wrong, or is needed and missing.
    """
    said: list[str] = []
    hubs = (places() if hubs is None else list(hubs)) or [""]
    for place in hubs:
        ask = _asker(place, identifier, version, config, require_signature)
        try:
            return _preferring(ask, base_model, preferred)
        except HubError as error:
            if error.final:
                raise
            said.append(f"{place}: {error}" if len(hubs) > 1 else str(error))
    reasons = "\n".join(said)
    raise HubError(f"'{identifier}' is no folder here, and as an identifier: {reasons}")


_Asker = Callable[[str | None], Path]


def _asker(
    place: str, identifier: str, version: str | None, config: Any, required: Requirement
) -> _Asker:
    """Return a function that asks one hub for an adapter for a base model (``None``: for any)."""

    def server(base_model: str | None) -> Path:
        return fetch(
            place,
            identifier,
            version=version,
            config=config,
            base_model=base_model,
            require_signature=required,
        )

    def hugging_face(base_model: str | None) -> Path:
        from adapterhub.model.huggingface import folder_for as download

        folder = download(identifier, version=version)
        verify_folder(folder, identifier, required)
        return folder

    def folder(base_model: str | None) -> Path:
        hub = Hub(place or None)
        wanted: dict[str, Any] = {"version": version, "config": config, "base_model": base_model}
        entry = hub.resolve(identifier, **wanted)
        path = hub.pull(entry.identifier, version=entry.version.version)
        verify_folder(path, f"{entry.card.owner}/{entry.card.stem}", required)
        return path

    if is_server(place):
        return server
    return hugging_face if place == HUGGING_FACE else folder


def _preferring(ask: _Asker, base_model: str | None, preferred: str | None) -> Path:
    """Ask for an adapter for the preferred base model first, where none is demanded."""
    if base_model is None and preferred is not None:
        try:
            return ask(preferred)
        except HubError as error:
            if error.final and not isinstance(error, Ambiguous):
                raise
            # One for another model may fit, and what is said about it is more to the point.
    return ask(base_model)
