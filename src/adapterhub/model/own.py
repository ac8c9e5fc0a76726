"""Adapters that a base model was published with (X-MOD's language adapters), and going without them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapterhub.architectures.paths import blocks_at
from adapterhub.engine import Engine
from adapterhub.errors import ArchitectureError


class HandleOwnAdapters:
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` about the base model's own adapters."""

    engine: Engine

    def own_adapters(self) -> list[nn.Module]:
        """Return the adapters that the base model was published with, by what its row says."""
        resolved = self.engine.resolved
        return [
            module
            for stack in resolved.row.stacks
            if stack.own_adapters
            for block in blocks_at(resolved.base, stack.layers)
            for module in _matching(block.module, stack.own_adapters.split("."))
        ]

    def bypass_own_adapters(self, bypass: bool = True) -> None:
        """Let the base model run as if its own adapters added nothing.

        Adapters from the ``adapters`` library for such a model were trained so: that library takes
        the model's own ones out. By default they go on working beside ours. The modules stay where they
        are, and :meth:`detach` ends the bypass.

        Args:
            bypass: ``False``: let them work again.

        Raises:
            ArchitectureError: the model has none, or its row does not name them.
        """
        modules = self.own_adapters()
        if not modules:
            kind = self.engine.resolved.row.model_type
            raise ArchitectureError(
                f"The row of '{kind}' names no adapters of the model's own (own_adapters=…), so there is "
                "nothing to bypass."
            )
        self._end_bypass()
        if bypass:
            hooks = [module.register_forward_hook(_nothing) for module in modules]
            self.__dict__["_bypass"] = hooks

    def _end_bypass(self) -> None:
        for hook in self.__dict__.pop("_bypass", ()):
            hook.remove()


def _nothing(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(output)


def _matching(module: nn.Module, path: list[str]) -> list[nn.Module]:
    """Return the modules below *module* at a path, in which ``*`` is any name."""
    if not path:
        return [module]
    names = list(module._modules) if path[0] == "*" else [path[0]]
    found = [module._modules.get(name) for name in names]
    return [deep for child in found if child is not None for deep in _matching(child, path[1:])]
