"""Looking through a hub by the functions that the ``adapters`` library has for it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from adapterhub.errors import HubError
from adapterhub.hub.client import is_server
from adapterhub.hub.entries import Entry
from adapterhub.hub.hub import Hub
from adapterhub.hub.pull import cache_folder
from adapterhub.hub.remote import RemoteHub
from adapterhub.hub.signedfolder import Requirement
from adapterhub.hub.signing import SignatureError
from adapterhub.hub.sources import HUGGING_FACE, places

_Given = TypeVar("_Given")

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
        hub: which of the user's hubs has it, as ``$ADAPTERHUB_HUB`` names it.
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
    hub: str = ""


def list_adapters(
    source: str | None = None,
    model_name: str | None = None,
    *,
    require_signature: Requirement = None,
) -> list[AdapterInfo]:
    """Return the adapters of the user's hubs (``$ADAPTERHUB_HUB``: folders and servers), by identifier.

    Of several hubs, those of the first come first; one that cannot be asked is left out with a warning.

    Args:
        source: ``"ah"`` or ``None``; others (``"hf"``) are not asked from here.
        model_name: only those for this base model.
        require_signature: whose signature over the index of a server is needed. Where a key of a hub is
            trusted, its index is verified in any case.

    Raises:
        HubError: no hub, none that answers, or another source.
        SignatureError: an index is not to be believed.
    """
    if source not in (None, "ah"):
        raise HubError(
            f"list_adapters lists the adapters of a hub (source='ah'), not of {source!r}."
        )

    def ask(place: str) -> list[AdapterInfo]:
        if is_server(place):
            server = _server(place, require_signature)
            found = [_served(item) for item in server.everything(model_name)]
        else:
            found = [_info(entry) for entry in Hub(place or None).search(base_model=model_name)]
        return sorted((replace(i, hub=place) for i in found), key=lambda info: info.adapter_id)

    return [info for _, infos in ask_all(listable(), ask, _warn) for info in infos]


def get_adapter_info(
    adapter_id: str, source: str | None = "ah", *, require_signature: Requirement = None
) -> AdapterInfo | None:
    """Return what the first of the user's hubs that has an adapter knows about it; ``None``: none has it.

    Args:
        adapter_id: any identifier.
        source: ``"ah"`` or ``None``.
        require_signature: as for :func:`list_adapters`.

    Raises:
        SignatureError: an index is not to be believed.
    """
    if source not in (None, "ah"):
        return None
    if places() == [HUGGING_FACE]:
        return None
    for place in listable():
        try:
            found = _one(place, adapter_id, require_signature)
        except SignatureError:
            raise
        except HubError:
            continue
        if found is not None:
            return replace(found, hub=place)
    return None


def _one(place: str, adapter_id: str, required: Requirement) -> AdapterInfo | None:
    if not is_server(place):
        return _info(Hub(place or None).resolve(adapter_id))
    server = _server(place, required)
    if server.index is not None:
        repo = server.index.find(adapter_id)
        return _info(server.index.entry(repo)) if repo else None
    found = server.detail(adapter_id)
    return _served(found["adapter"], found["config"], found["versions"]) if found else None


def _server(place: str, required: Requirement) -> RemoteHub:
    return RemoteHub(place, os.environ.get("HF_TOKEN"), require_signature=required)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def listable(text: str | None = None) -> list[str]:
    """Return those of a list of hubs (default: the user's) whose adapters can be listed, in order.

    ``""`` stands for the user's own folder. The Hugging Face hub (``hf``) is for loading only.

    Raises:
        HubError: If there is no other.
    """
    named = places(text)
    found = [place for place in named if place != HUGGING_FACE]
    if named and not found:
        raise HubError("the Hugging Face hub is not searched from here; name another hub, too")
    return found or [""]


def ask_all(
    hubs: Sequence[str], ask: Callable[[str], _Given], warn: Callable[[str], None]
) -> list[tuple[str, _Given]]:
    """Ask several hubs the same, and return what each said, in their order.

    Args:
        hubs: the hubs.
        ask: asks one of them.
        warn: told of one that cannot be asked, if another can.

    Raises:
        HubError: If none can be asked, or what one of them says is wrong (not: cannot be had).
    """
    answers: list[tuple[str, _Given]] = []
    failed: list[tuple[str, HubError]] = []
    for place in hubs:
        try:
            answers.append((place, ask(place)))
        except HubError as error:
            if error.final or len(hubs) == 1:
                raise
            failed.append((place, error))
    lines = [str(error) if place in str(error) else f"{place}: {error}" for place, error in failed]
    if not answers:
        raise HubError("no hub can be asked:\n" + "\n".join(lines))
    for line in lines:
        warn(line)
    return answers


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
