"""What a method is to the engine: a :class:`Method` that builds modules, a :class:`Family` that runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import nn

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.errors import CompositionError

State = TypeVar("State", bound=tuple)


class Family(Generic[State]):
    """How a kind of adapter takes part in composition, as pure functions over a *state*.

    A state is a NamedTuple of tensors whose first axis is the batch and second axis the sequence
    (other fields may hold plain values). The engine walks the composition tree and calls these;
    it never looks inside a state.
    """

    name: ClassVar[str]
    #: Whether the residual input of the sub-layer is needed (the engine then taps it).
    needs_residual: ClassVar[bool] = False
    #: Stack applies only its first child (adapters of the model's input).
    stack_first_only: ClassVar[bool] = False
    #: AdapterFusion can mix the outputs of such adapters.
    fusable: ClassVar[bool] = False
    #: The adapters are positions before the input; the engine makes room for them.
    prompts: ClassVar[bool] = False
    #: The engine has to note what tells the position of each hidden state (padding, cache).
    needs_positions: ClassVar[bool] = False

    def enter(self, state: State, module: Any, slot: Any) -> State:
        """Prepare the state for *module*; called by the block that holds it."""
        return state

    def apply(self, state: State, module: Any, slot: Any) -> State:
        """Run one adapter."""
        raise NotImplementedError

    def average(self, states: Sequence[State], weights: Sequence[float], slot: Any) -> State:
        """Return the weighted sum of the states' outputs."""
        raise NotImplementedError

    def fuse(self, state: State, children: Sequence[State], fusion: nn.Module, slot: Any) -> State:
        """Mix the children's outputs by learned attention."""
        raise CompositionError(
            f"AdapterFusion mixes outputs, and {self.name} at {slot.site.key} has none of its own to mix. "
            "Use Average or Stack there, or fuse adapters without that method."
        )

    def skip(self, state: State, slot: Any) -> State:
        """Return what rows give that have no adapter here, from a state that may be prepared for one."""
        return state

    def refuse_stack(self, followers: Sequence[Any], slot: Any) -> str | None:
        """Return why *followers* cannot follow other adapters here, or ``None`` if they can."""
        return None

    def route(
        self, state: State, modules: Sequence[Any], rows: torch.Tensor, slot: Any
    ) -> State | None:
        """Run module ``rows[b]`` on row b in one go; ``None``: not possible, the engine masks instead."""
        return None

    def select(self, state: State, other: State, mask: torch.Tensor, slot: Any) -> State:
        """Return *other* on the rows where *mask* (batch,) is true, *state* elsewhere."""
        raise NotImplementedError

    def size(self, state: State, axis: int) -> int:
        """Return how many rows (axis 0) or positions (axis 1) a state is about."""
        return state[0].shape[axis]

    def part(self, state: State, start: int, stop: int, axis: int = 0) -> State:
        """Return the rows (axis 0) or positions (axis 1) from *start* to *stop*."""
        return type(state)(*(_narrow(field, start, stop, axis) for field in state))

    def join(self, states: Sequence[State], axis: int, slot: Any) -> State:
        """Put parts together again."""
        first = states[0]
        fields = [
            torch.cat(values, axis) if isinstance(values[0], torch.Tensor) else values[0]
            for values in zip(*states, strict=True)
        ]
        return type(first)(*fields)


def _narrow(value: Any, start: int, stop: int, axis: int) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value[start:stop] if axis == 0 else value[:, start:stop]


class Placed(NamedTuple):
    """A module of an adapter and the site it belongs to."""

    site: ResolvedSite
    module: nn.Module


class Built(NamedTuple):
    """Everything an adapter is made of, before it is put into a model.

    Attributes:
        placed: one entry a site.
        shared: modules that belong to the adapter as a whole, by name (e.g. prefix pools).
    """

    placed: list[Placed]
    shared: dict[str, nn.Module]


class Method:
    """A kind of adapter: which configs it understands, where it goes, how its modules are built.

    Attributes:
        name: as shown to people, e.g. ``bottleneck``.
        config_type: the config class it builds from.
        file_groups: the ``FILE_GROUP`` of its modules, where they have one of their own.
    """

    name: ClassVar[str]
    config_type: ClassVar[type]
    file_groups: ClassVar[tuple[str, ...]] = ()

    def places(self, config: Any, model: ResolvedModel) -> Iterator[ResolvedSite]:
        """Yield the sites this configuration asks for, in layer order."""
        raise NotImplementedError

    def build(self, config: Any, model: ResolvedModel) -> Built:
        """Make all modules, with initialised weights, in float32 on the current default device."""
        raise NotImplementedError

    def describe_missing(self, config: Any, model: ResolvedModel) -> str:
        """Say which places this configuration wants that the model does not have."""
        return ""

    def mergeable(self, config: Any) -> str | None:
        """Return why this adapter cannot be folded into the base weights, or ``None`` if it can."""
        return f"a {self.name} adapter is not a linear change of a weight"


def left_out(config: Any, site: ResolvedSite) -> bool:
    """Whether the site's layer is in the configuration's ``leave_out``."""
    return site.layer_id in (getattr(config, "leave_out", None) or ())


def sites_in_order(sites: Iterable[ResolvedSite]) -> list[ResolvedSite]:
    """Sort by layer number, sub-layer order within the layer kept."""
    return sorted(sites, key=lambda site: site.layer_id)
