"""What all configurations have in common."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from adapterhub.errors import ConfigError, did_you_mean

C = TypeVar("C", bound="AdapterConfig")

#: Field metadata: not written to files while the value is this one (so files and hashes stay the peer's).
QUIET = "quiet"
#: Larger integers are no sizes; they would fail much later, in torch.
_LARGEST = 2**63 - 1


@dataclass(frozen=True, eq=False)
class AdapterConfig(Mapping[str, Any]):
    """Base of all adapter configurations: immutable, validated, readable like a mapping.

    Two configurations are equal if their dictionaries are; the class does not matter, since files
    keep the dictionary only. Sequences are kept as tuples and written as lists.
    """

    #: Value of ``architecture`` in files; ``None`` for bottlenecks, whose files have no such key.
    architecture: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if type(self) is AdapterConfig:
            raise TypeError("AdapterConfig is abstract; use one of its classes, e.g. SeqBnConfig.")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, a fresh one each time."""
        result: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "architecture" and value is None:
                continue
            if QUIET in item.metadata and value == item.metadata[QUIET]:
                continue
            if isinstance(value, tuple):
                value = list(value)
            result[item.name] = dict(value) if isinstance(value, Mapping) else value
        return result

    def replace(self: C, **changes: Any) -> C:
        """Return a copy with some fields changed. Raises ConfigError for unknown ones."""
        self._check_names(changes)
        return dataclasses.replace(self, **changes)

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of the fields that can be given."""
        return tuple(item.name for item in dataclasses.fields(cls) if item.init)

    @classmethod
    def _check_names(cls, names: Iterable[Any]) -> None:
        known = cls.field_names()
        unknown = [name for name in names if name not in known]
        if unknown:
            hints = "".join(
                f"\n  - {show(name)} is no field of it.{did_you_mean(str(name), known)}"
                for name in unknown
            )
            raise ConfigError(f"{cls.__name__} got {len(unknown)} unknown field(s):{hints}")

    @classmethod
    def from_dict(cls: type[C], data: Mapping[str, Any]) -> C:
        """Return the configuration that *data* (see :meth:`to_dict`) describes.

        ``AdapterConfig.from_dict`` chooses the class by the key ``architecture``; a subclass makes one of
        itself, and refuses another architecture.

        Raises:
            ConfigError: unknown architecture, unknown fields (all are named), missing ones, bad values.
        """
        from adapterhub.configs.presets import config_class

        if not isinstance(data, Mapping):
            raise ConfigError(f"A configuration is a mapping, not {type(data).__name__}.")
        fields = dict(data)
        architecture = fields.pop("architecture", None)
        chosen: Any = cls
        if cls is AdapterConfig:
            chosen = config_class(architecture)
        elif architecture is not None and not issubclass(cls, config_class(architecture)):
            raise ConfigError(
                f"{cls.__name__}: architecture={show(architecture)}; use AdapterConfig.from_dict."
            )
        return chosen._from_fields(fields)

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> AdapterConfig:
        cls._check_names(fields)
        missing = [
            item.name
            for item in dataclasses.fields(cls)
            if item.init
            and item.default is dataclasses.MISSING
            and item.default_factory is dataclasses.MISSING
            and item.name not in fields
        ]
        if missing:
            raise ConfigError(f"{cls.__name__} needs the field(s) {', '.join(missing)}.")
        return cls(**fields)

    @classmethod
    def load(
        cls, config: str | os.PathLike[str] | Mapping[str, Any] | None = None, **overrides: Any
    ) -> AdapterConfig:
        """Return *config* as a configuration; see :func:`adapterhub.configs.resolve_config`."""
        from adapterhub.configs.language import resolve_config

        return resolve_config(config, **overrides)

    # -- the mapping -----------------------------------------------------------------------------

    def _view(self) -> dict[str, Any]:
        return self.to_dict()

    def __getitem__(self, key: str) -> Any:
        return self._view()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._view())

    def __len__(self) -> int:
        return len(self._view())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AdapterConfig):
            return self.to_dict() == other.to_dict()
        return isinstance(other, Mapping) and self.to_dict() == other

    def __hash__(self) -> int:
        return hash(_hashable(self.to_dict()))

    # -- validation ------------------------------------------------------------------------------

    def _refuse(self, name: str, allowed: str) -> ConfigError:
        return ConfigError(
            f"{type(self).__name__}: {name}={show(getattr(self, name))}; allowed: {allowed}."
        )

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _one_of(self, name: str, *allowed: str | bool | None) -> None:
        value = getattr(self, name)
        if not any(type(value) is type(item) and value == item for item in allowed):
            raise self._refuse(name, ", ".join(map(repr, allowed)))

    def _flags(self, *names: str, optional: bool = False) -> None:
        for name in names:
            self._one_of(name, True, False, *((None,) if optional else ()))

    def _text(self, *names: str, optional: bool = False) -> None:
        for name in names:
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and not (optional and value is None):
                raise self._refuse(name, "a text" + (" or None" if optional else ""))

    def _integer(self, name: str, low: int | None = None, optional: bool = False) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        if not _is_integer(value) or (low is not None and value < low):
            limit = "" if low is None else f" >= {low}"
            raise self._refuse(name, f"an integer{limit}" + (" or None" if optional else ""))

    def _number(
        self,
        name: str,
        *,
        low: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        optional: bool = False,
        words: str = "a finite number",
        as_float: bool = True,
    ) -> None:
        """Check a number; with *as_float* an integer becomes a float (else files keep what was given)."""
        value = getattr(self, name)
        if optional and value is None:
            return
        if not is_number(value) or not (value >= low and above < value < below):
            raise self._refuse(name, words + (" or None" if optional else ""))
        if as_float:
            self._set(name, float(value))

    def _probability(self, *names: str, optional: bool = False) -> None:
        for name in names:
            words = "a probability >= 0 and < 1"
            self._number(name, low=0, below=1, optional=optional, words=words)

    def _layer_numbers(self, name: str, words: str = "a list of layer numbers") -> None:
        value = getattr(self, name)
        if not isinstance(value, (list, tuple)) or not all(
            _is_integer(v) and v >= 0 for v in value
        ):
            raise self._refuse(name, words)
        self._set(name, tuple(value))


def is_number(value: Any) -> bool:
    """Return whether *value* is a finite float or an integer of reasonable size, and no bool."""
    return (isinstance(value, float) and math.isfinite(value)) or _is_integer(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def show(value: Any) -> str:
    """Return *value* for a message: short, and never failing (an integer can be too long for repr)."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
