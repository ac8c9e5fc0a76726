"""What the hub knows of base models: their configurations, by name.

Three sources, asked in this order: folders that the operator gives (``NAME/config.json`` or
``OWNER/NAME/config.json``, such as a folder of downloaded models; no weights are needed), models that lie in
the cache of ``huggingface_hub`` on this machine, and the table ``bases.json`` of widely used models, which
holds what differs from the defaults of the class in transformers. Nothing is ever fetched. A name that none
of them knows is unknown, and what is said about an adapter for it is that it was not checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adapterhub.hub.names import model_id_problems
from adapterhub.hub.tensors import strict_json

_TABLE = Path(__file__).with_name("bases.json")
_MAX_CONFIG = 4 << 20


@dataclass(frozen=True)
class Base:
    """A base model that is known.

    Attributes:
        name: as it was asked for.
        config: its configuration; what is not in there is as transformers has it by default.
        source: ``"folder"``, ``"cache"`` or ``"table"``.
    """

    name: str
    config: dict[str, Any]
    source: str

    @property
    def model_type(self) -> str:
        """The family, e.g. ``bert``."""
        return str(self.config["model_type"])


class Bases:
    """The base models that a hub knows.

    Args:
        folders: of the operator.
        local: further models, by name.
        cache: whether the cache of ``huggingface_hub`` counts, too.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (),
        *,
        local: Mapping[str, Path] | None = None,
        cache: bool = True,
    ) -> None:
        self.folders, self._cache = tuple(folders), cache
        self._local = {name.casefold(): path for name, path in (local or {}).items()}

    def find(self, name: str | None) -> Base | None:
        """Return what is known of a base model; ``None`` if nothing is."""
        if not isinstance(name, str) or model_id_problems(name):
            return None
        if (path := self._local.get(name.casefold())) is not None:
            config = _read(path / "config.json")
            if config is not None:
                return Base(name, config, "folder")
        for folder in self.folders:
            for place in (folder / name, folder / name.replace("/", "--")):
                config = _read(place / "config.json")
                if config is not None:
                    return Base(name, config, "folder")
        config = _cached(name) if self._cache else None
        if config is not None:
            return Base(name, config, "cache")
        found = table().get(name)
        return Base(name, found, "table") if found is not None else None


@cache
def table() -> dict[str, dict[str, Any]]:
    """Return the built-in table: name (with and without owner, where both are in use) to configuration."""
    content = json.loads(_TABLE.read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for name, config in content["models"].items():
        found[name] = config
    for alias, name in content["aliases"].items():
        found[alias] = found[name]
    return found


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _MAX_CONFIG:
            return None
        config = strict_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(config, dict) and isinstance(config.get("model_type"), str)
    return config if known else None


def _cached(name: str) -> dict[str, Any] | None:
    """Look into the cache of ``huggingface_hub`` without importing it."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    root = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    folder = Path(root).expanduser() / f"models--{name.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text().strip()
    except OSError:
        return None
    return _read(folder / "snapshots" / commit / "config.json")
