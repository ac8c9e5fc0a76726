"""The invertible adapters of a model (MAD-X) by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adapterhub.configs import ConfigUnion, members
from adapterhub.context import current
from adapterhub.engine import Engine
from adapterhub.methods import build
from adapterhub.methods.invertible import InputFamily


class HandleInvertibles:
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` about invertible adapters."""

    engine: Engine

    if TYPE_CHECKING:

        def _require(self, name: str) -> None: ...

        def _put(self, record: Any) -> None: ...

        def _place(self, record: Any) -> None: ...

    def add_invertible_adapter(self, adapter_name: str) -> bool:
        """Put the invertible part of an adapter back, with fresh weights; return whether it has one.

        (``add_adapter`` makes it already; this is for one that was deleted.)

        Raises:
            UnknownAdapterError: no such adapter.
        """
        self._require(adapter_name)
        record = self.engine.adapters[adapter_name]
        config = record.__dict__.pop("whole_config", record.config)
        missing = {
            item.site.key: item.module
            for item in build(config, self.engine.resolved).placed
            if _is_invertible(item.module) and item.site.key not in record.modules
        }
        if not missing:
            return any(True for _ in self._invertible(adapter_name))
        self._change(adapter_name, {**record.modules, **missing}, config)
        return True

    def delete_invertible_adapter(self, adapter_name: str) -> None:
        """Take the invertible part of an adapter out; the rest stays. Raises UnknownAdapterError."""
        self._require(adapter_name)
        record = self.engine.adapters[adapter_name]
        left = {k: module for k, module in record.modules.items() if not _is_invertible(module)}
        if len(left) == len(record.modules):
            return
        parts = [
            part.replace(inv_adapter=None, inv_adapter_reduction_factor=None)
            if getattr(part, "inv_adapter", None)
            else part
            for part in members(record.config)
        ]
        record.__dict__["whole_config"] = record.config
        self._change(adapter_name, left, parts[0] if len(parts) == 1 else ConfigUnion(*parts))

    def _change(self, name: str, modules: dict[Any, Any], config: Any) -> None:
        """Give an adapter other modules, keeping the active setup."""
        record, plan = self.engine.adapters[name], self.engine.active
        self.engine.remove(name)
        record.modules, record.config = modules, config
        self._place(record)
        self.engine.add(record)
        if plan is not None:
            self.engine.activate(plan.tree, tuple(plan.skip_layers))

    def get_invertible_adapter(self) -> nn.Module | None:
        """Return the invertible part of the active setup's first adapter; ``None``: it has none."""
        plan = self.engine.plan_in(current())
        if plan is None or plan.tree is None:
            return None
        return next(self._invertible(plan.tree.first()), None)

    def enable_invertible_adapters(self, adapter_names: Iterable[str]) -> None:
        """Let the invertible parts of some adapters be trained. Raises UnknownAdapterError."""
        for name in adapter_names:
            self._require(name)
            for module in self._invertible(name):
                module.requires_grad_(True)

    def invertible_adapters_forward(
        self, hidden_states: torch.Tensor, rev: bool = False
    ) -> torch.Tensor:
        """Return what the active setup's first invertible adapter makes of states (batch, length, hidden).

        Args:
            hidden_states: as they come from the embeddings. rev: run it backwards.
        """
        module: Any = self.get_invertible_adapter()
        if module is None:
            return hidden_states
        return module.inverse(hidden_states) if rev else module(hidden_states)

    def _invertible(self, name: str) -> Iterator[nn.Module]:
        for module in self.engine.adapters[name].modules.values():
            if _is_invertible(module):
                yield module


def _is_invertible(module: Any) -> bool:
    return isinstance(module.family, InputFamily)
