"""What all configurations have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from adapterhub.errors import ConfigError, did_you_mean

C = TypeVar("C", bound="AdapterConfig")

#: Field metadata: written to files only if it differs from its default.
QUIET = {"quiet": True}


@dataclass(frozen=True, eq=False)
class AdapterConfig:
    """Base of all adapter configurations: immutable, comparable, readable like a mapping.

    Two configurations are equal if their dictionaries are; the class does not matter, since files
    keep the dictionary only.
    """

    #: Value of ``architecture`` in files; ``None`` for bottlenecks, whose files have no such key.
    architecture: str | None = field(init=False, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        result: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "architecture" and value is None:
                continue
            if item.metadata.get("quiet") and value == item.default:
                continue
            if isinstance(value, tuple):
                value = list(value)
            result[item.name] = dict(value) if isinstance(value, dict) else value
        return result

    def replace(self: C, **changes: Any) -> C:
        """Return a copy with some fields changed. Raises ConfigError for unknown ones."""
        self._check_names(changes)
        return dataclasses.replace(self, **changes)

    @classmethod
    def _check_names(cls, names: Any) -> None:
        known = [f.name for f in dataclasses.fields(cls) if f.init]
        unknown = [name for name in names if name not in known]
        if unknown:
            hints = "".join(
                f"\n  - '{name}' is no field of it.{did_you_mean(name, known)}" for name in unknown
            )
            raise ConfigError(f"{cls.__name__} got {len(unknown)} unknown field(s):{hints}")

    @staticmethod
    def from_dict(data: dict[str, Any]) -> AdapterConfig:
        """Return the configuration that *data* (see :meth:`to_dict`) describes.

        Raises:
            ConfigError: unknown architecture, unknown fields (all are named), bad values.
        """
        from adapterhub.configs.presets import config_class

        if not isinstance(data, dict):
            raise ConfigError(f"A configuration is a mapping, not {type(data).__name__}: {data!r}")
        data = dict(data)
        cls = config_class(data.pop("architecture", None), data)
        return cls._from_fields(data)

    @classmethod
    def _from_fields(cls, data: dict[str, Any]) -> AdapterConfig:
        cls._check_names(data)
        try:
            return cls(**data)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error

    @classmethod
    def load(cls, config: Any, **overrides: Any) -> AdapterConfig:
        """Return *config* as a configuration; see :func:`adapterhub.configs.resolve_config`."""
        from adapterhub.configs.language import resolve_config

        return resolve_config(config, **overrides)

    def keys(self) -> Iterator[str]:
        """Names of the fields, as in :meth:`to_dict`."""
        return iter(self.to_dict())

    def get(self, key: str, default: Any = None) -> Any:
        """Return a field, or *default*."""
        return self.to_dict().get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __contains__(self, key: object) -> bool:
        return key in self.to_dict()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdapterConfig) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(repr(sorted(self.to_dict().items(), key=lambda item: item[0])))

    # -- validation helpers ------------------------------------------------------------------------

    def _one_of(self, name: str, allowed: tuple[Any, ...]) -> None:
        value = getattr(self, name)
        if value not in allowed:
            raise ConfigError(
                f"{type(self).__name__}: {name}={value!r}; allowed: {', '.join(map(repr, allowed))}."
            )

    def _is(
        self,
        name: str,
        kind: type | tuple[type, ...],
        low: float | None = None,
        optional: bool = False,
    ) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wrong = not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        if wrong or (low is not None and value < low):
            words = " or ".join(k.__name__ for k in kinds) + (
                f" >= {low:g}" if low is not None else ""
            )
            raise ConfigError(f"{type(self).__name__}: {name}={value!r} must be {words}.")

    def _flags(self, *names: str) -> None:
        for name in names:
            self._is(name, bool)

    def _probability(self, name: str) -> None:
        self._is(name, (int, float), 0)
        if getattr(self, name) >= 1:
            raise ConfigError(
                f"{type(self).__name__}: {name}={getattr(self, name)!r} must be below 1."
            )

    def get_field(self, name: str) -> Any:
        """Return the value of a field by its name."""
        return getattr(self, name)

    def _layers(self) -> None:
        value: Any = self.get_field("leave_out")
        if not isinstance(value, (list, tuple)) or any(
            isinstance(v, bool) or not isinstance(v, int) for v in value
        ):
            raise ConfigError(
                f"{type(self).__name__}: leave_out={value!r} must be a list of layer numbers."
            )
        object.__setattr__(self, "leave_out", list(value))
