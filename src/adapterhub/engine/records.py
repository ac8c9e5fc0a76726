"""What an engine keeps about adapters, fusion layers and compiled setups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from adapterhub.architectures import SiteKey
from adapterhub.composition import AdapterCompositionBlock
from adapterhub.engine.sites import Slot
from adapterhub.errors import AdapterHubError


@dataclass(eq=False)
class AdapterRecord:
    """One adapter in one model.

    Attributes:
        name, config: as given.
        modules: its module at each place.
        shared: modules that belong to the adapter as a whole (prefix pools), by name.
    """

    name: str
    config: Any
    modules: dict[SiteKey, nn.Module] = field(default_factory=dict)
    shared: dict[str, nn.Module] = field(default_factory=dict)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter once."""
        for module in (*self.modules.values(), *self.shared.values()):
            yield from module.parameters()


@dataclass(eq=False)
class FusionRecord:
    """One fusion layer: at each place where all its adapters are."""

    name: str
    adapters: tuple[str, ...]
    config: Any
    modules: dict[SiteKey, nn.Module] = field(default_factory=dict)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter once."""
        for module in self.modules.values():
            yield from module.parameters()


@dataclass(eq=False)
class Plan:
    """A composition tree, compiled for one model.

    Attributes:
        nodes: (slot, node) pairs of the places that take part.
        hooks: (slot, hook kinds) of the same places.
        width: channels of Parallel.
        prompts: (slot, node) of those that are positions before the input.
        by_rows: at some place adapters have to tell rows apart: blocks, and gates that are means.
        located: some adapter has to know positions (padding, cache).
        refusal: why this model cannot run the tree; raised when it is asked to.
    """

    tree: AdapterCompositionBlock | None
    skip_layers: frozenset[int]
    nodes: tuple[tuple[Slot, Any], ...]
    hooks: dict[int, frozenset[str]]
    width: int
    located: bool = False
    refusal: AdapterHubError | None = None
    by_rows: bool = False
    prompts: tuple[tuple[Slot, Any], ...] = ()
