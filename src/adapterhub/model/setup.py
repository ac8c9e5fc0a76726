"""A setup for a block of code and one thread: :class:`AdapterSetup`."""

from __future__ import annotations

import weakref
from typing import Any

from adapterhub.composition import names_in, parse_composition
from adapterhub.context import current, local
from adapterhub.engine import Engine
from adapterhub.errors import UnknownAdapterError

#: Engines of all living models.
ENGINES: weakref.WeakSet[Engine] = weakref.WeakSet()


class AdapterSetup:
    """``with AdapterSetup("a"):`` runs every model that has these adapters with this setup.

    Only the calling thread is concerned, and only for the block; setups of other threads and the
    models' own active setup stay as they are. Blocks nest.

    Args:
        adapter_setup: name, list or composition block.
        head_setup: heads for models of ours with prediction heads; default: as the setup implies.
        ignore_empty: accept an empty setup (the bare base models).

    Raises:
        UnknownAdapterError: on entry, if no living model has all the adapters.
        CompositionError: on entry, if every model that has them refuses the setup; if only some do, in
            the forward passes of those.
    """

    def __init__(
        self, adapter_setup: Any, head_setup: Any = None, ignore_empty: bool = False
    ) -> None:
        self.adapter_setup = parse_composition(adapter_setup)
        self.head_setup = head_setup if head_setup is not None else self.adapter_setup
        if self.adapter_setup is None and not ignore_empty:
            raise UnknownAdapterError(
                "AdapterSetup got an empty setup; pass ignore_empty=True to run without adapters."
            )

    def __enter__(self) -> AdapterSetup:
        names = set(names_in(self.adapter_setup))
        engines = [engine for engine in list(ENGINES) if names <= set(engine.adapters)]
        if not engines:
            raise UnknownAdapterError(
                f"No model here has all the adapters {', '.join(sorted(names))}."
            )
        # Which of the models will run is not known yet (one may be about to be collected), so one that
        # cannot run this setup says so when it is called, unless there is no other.
        plans = [engine.plan_or_refusal(self.adapter_setup) for engine in engines]
        if all(plan.refusal is not None for plan in plans):
            raise plans[0].refusal  # type: ignore[misc]
        self._previous = current()
        self._engines = engines
        self._ctx = current().apart()
        self._ctx.heads = self.head_setup
        for engine, plan in zip(engines, plans, strict=True):
            engine.visit(plan, self._ctx)
        local.ctx = self._ctx
        return self

    def __exit__(self, *exc: object) -> None:
        local.ctx = self._previous
        for engine in self._engines:
            engine.leave(self._ctx)


class routing:
    """``with routing(engine, rows):`` says which child of a Route works on which row."""

    def __init__(self, engine: Engine, rows: Any) -> None:
        self.engine, self.rows = engine, rows

    def __enter__(self) -> routing:
        self._previous = current()
        local.ctx = self._previous.apart(rows=self.engine.rows_tensor(self.rows), expandable=True)
        return self

    def __exit__(self, *exc: object) -> None:
        local.ctx = self._previous
