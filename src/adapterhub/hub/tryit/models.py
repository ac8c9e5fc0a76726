"""Which base models the hub has locally, and for which ids each of them answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapterhub.errors import HubError

MODELS_FILE = "models.yaml"
_CONFIG = "config.json"
_KEYS = ("id", "path", "aliases")


@dataclass(frozen=True)
class LocalModel:
    """A base model on this machine.

    Attributes:
        id: under which adapters know it.
        path: folder as ``save_pretrained`` writes it.
        aliases: further ids of the same weights.
    """

    id: str
    path: Path
    aliases: tuple[str, ...] = ()


class LocalModels:
    """The base models of a hub, found by id whatever the case of its letters.

    Raises:
        HubError: If two of them answer for one id.
    """

    def __init__(self, models: Iterable[LocalModel] = ()) -> None:
        self.all = tuple(models)
        self._by_id: dict[str, LocalModel] = {}
        for model in self.all:
            for name in (model.id, *model.aliases):
                other = self._by_id.setdefault(name.casefold(), model)
                if other is not model:
                    raise HubError(
                        f"two models answer for {name!r}: {other.path} and {model.path}; "
                        f"take it out of one {MODELS_FILE}"
                    )

    def find(self, id_: str | None) -> LocalModel | None:
        """Return the model that answers for *id_*."""
        return self._by_id.get(id_.casefold()) if id_ else None

    def __len__(self) -> int:
        return len(self.all)


def read_models(places: Sequence[str]) -> LocalModels:
    """Read what ``--models`` names.

    Args:
        places: each a folder with a ``models.yaml``, the folder of one model, or the short name of a
            model that ships in a package (``minilm``).

    ``models.yaml`` is a list ``models`` of ``{id, path, aliases}``; a path is relative to the file, or a
    short name.

    Raises:
        HubError: If something is not there or not as it should be.
    """
    return LocalModels(model for place in places for model in _read(place))


def _read(place: str) -> list[LocalModel]:
    folder = Path(place).expanduser()
    file = folder / MODELS_FILE
    if file.is_file():
        return [_entry(file, item) for item in _entries(file)]
    return [_whole(place, folder)]


def _whole(place: str, folder: Path) -> LocalModel:
    path, packaged = _resolve(place, folder)
    return LocalModel(packaged or path.resolve().name, path)


def _entries(file: Path) -> list[Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise HubError(f"{file} cannot be read: {error}") from error
    models = content.get("models") if isinstance(content, Mapping) else None
    if not isinstance(models, list) or not models:
        raise HubError(f"{file}: a list 'models' of entries with id and path is expected")
    return models


def _entry(file: Path, item: Any) -> LocalModel:
    if not isinstance(item, Mapping) or not all(
        isinstance(item.get(key), str) and item[key] for key in ("id", "path")
    ):
        raise HubError(f"{file}: each model needs an id and a path, this one is {str(item)[:100]}")
    unknown = [str(key) for key in item if key not in _KEYS]
    if unknown:
        raise HubError(f"{file}, {item['id']}: unknown key {unknown[0]!r}; known: {list(_KEYS)}")
    aliases = item.get("aliases") or []
    if not isinstance(aliases, list) or not all(isinstance(name, str) for name in aliases):
        raise HubError(f"{file}, {item['id']}: aliases is a list of ids")
    path, _ = _resolve(item["path"], file.parent / Path(item["path"]).expanduser())
    return LocalModel(item["id"], path, tuple(aliases))


def _resolve(name: str, folder: Path) -> tuple[Path, str | None]:
    """Return the folder of a model, and its public id if *name* is a short name."""
    if (folder / _CONFIG).is_file():
        return folder.absolute(), None
    from adapterhub.training.base_models import PACKAGED, base_model_path, public_id

    if name in PACKAGED:
        return base_model_path(name), public_id(name)
    what = f"has neither {MODELS_FILE} nor {_CONFIG}" if folder.is_dir() else "is no folder"
    raise HubError(
        f"--models {name}: {folder} {what}; give the folder of a model, a folder with a "
        f"{MODELS_FILE}, or one of: {', '.join(PACKAGED)}"
    )
