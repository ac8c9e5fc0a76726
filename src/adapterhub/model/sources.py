"""Where an adapter is loaded from: a folder, or what the known hubs make of an identifier."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from adapterhub.errors import CheckpointError, ConfigError, HubError
from adapterhub.model.huggingface import is_repository

#: Where adapters come from that are no local folder, by what ``source=`` calls it: ``"module:function"``,
#: asked with (identifier, version=, config=, base_model=, preferred=); a function returns a folder or
#: ``None``, or raises. By name, because this room knows nothing of hubs.
RESOLVERS: dict[str, str] = {
    "ah": "adapterhub.hub.sources:folder_for",
    "hf": "adapterhub.model.huggingface:folder_for",
}
#: Fetches an archive from an http or https address, in the same way.
ARCHIVES = "adapterhub.hub.archives:folder_for"
#: Checks the signature of a folder, by name for the same reason.
VERIFIER = "adapterhub.hub.signedfolder:verify_folder"


def base_name(model: Any) -> str | None:
    """Return the name of the checkpoint that a model was loaded from, of a folder the last part."""
    name = getattr(model.config, "name_or_path", None) or None
    return Path(name).name if name is not None and Path(name).is_dir() else name


def find_adapter(
    identifier: str | Path,
    version: str | None = None,
    config: Any = None,
    base_model: str | None = None,
    preferred: str | None = None,
    source: str | None = None,
    require_signature: Any = None,
) -> Path:
    """Return the folder of an adapter given as a folder or as an identifier.

    Args:
        identifier: a folder; ``"task/subtask@owner"``; ``"owner/name"`` of the Hugging Face hub; the address
            of an archive (``"https://..."``).
        version, config, base_model: what it has to be.
        preferred: a base model to take it for, if there is one.
        source: ``"ah"``: the user's hub; ``"hf"``: the Hugging Face hub; ``None``: the first, and the
            second if it does not have what may be a name there.
        require_signature: whose signature it needs; see :meth:`.HandleFiles.load_adapter`.

    Raises:
        ConfigError: no such source. CheckpointError, HubError: it is nowhere, or not signed as it must be.
    """
    if source is not None and source not in RESOLVERS:
        raise ConfigError(f"source is one of {', '.join(RESOLVERS)}, or None; not {source!r}.")
    if isinstance(identifier, str) and identifier.lower().startswith(("https://", "http://")):
        return _function(ARCHIVES)(identifier, require_signature=require_signature)
    path = Path(identifier).expanduser()
    if source is None and path.is_dir():
        if require_signature:
            _function(VERIFIER)(path, required=require_signature)
        return path
    if isinstance(identifier, Path):
        raise CheckpointError(f"There is no folder {path}.")
    wanted = {"config": config, "base_model": base_model, "preferred": preferred}
    if require_signature is not None:
        wanted["require_signature"] = require_signature
    if source is None:
        try:
            return _ask("ah", identifier, version, wanted)
        except HubError as error:
            if error.final or not is_repository(identifier):
                raise
            try:
                return _ask("hf", identifier, version, wanted)
            except HubError as other:
                raise HubError(f"{error}\n{other}") from other
    return _ask(source, identifier, version, wanted)


def _ask(source: str, identifier: str, version: str | None, wanted: dict[str, Any]) -> Path:
    found = _function(RESOLVERS[source])(identifier, version=version, **wanted)
    if found is None:
        raise HubError(f"'{identifier}' is no folder here, and no hub known here has it.")
    if source == "hf":  # (the user's hubs have looked at it already)
        _function(VERIFIER)(found, identifier, wanted.get("require_signature"))
    return found


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
