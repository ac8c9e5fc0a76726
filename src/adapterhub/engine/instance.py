"""What an engine puts on the model itself: ``generate``, and the keys that are not saved with the base."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from adapterhub.engine.sites import CHILD


class Generate:
    """``model.generate`` of an attached model: rows follow beams, Parallel its channels.

    Kept on the instance, so that the model's class stays as it is.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.__doc__ = type(engine.model).generate.__doc__  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        model: Any = self.engine.model
        return self.engine.generate(partial(type(model).generate, model), args, kwargs)


class IgnoredKeys:
    """The set of keys that ``save_pretrained`` leaves out: the adapters', whatever they are just then."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.base: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        yield from self.base
        marker = f"{CHILD}."
        for key in self.engine.model.state_dict():
            if key.startswith(marker) or f".{marker}" in key:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return any(key == mine for mine in self)

    def update(self, keys: Any) -> None:
        self.base.update(keys)
