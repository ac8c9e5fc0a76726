"""What adapters of a projection have in common: the state they act on, and how they compose.

A projection gives y = W x + c. An adapter there carries a *value* v along and finally acts on y in one of
two ways, ``"add"``: y + v, or ``"scale"``: y * v; DoRA multiplies the result with a *factor* besides. In a
Stack the value is handed on (LoRA reads it in place of x, (IA)3 multiplies it) and the last adapter
decides how it acts, as in the ``adapters`` library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.context import local
from adapterhub.methods.base import Family


class LinearState(NamedTuple):
    """A projection while adapters act on it.

    Attributes:
        y: its output, (batch, ..., out).
        x: its input, (batch, ..., in).
        value: carried by the adapters so far, shaped as *y*; ``None``: none yet.
        mode: how the value acts, ``"add"`` or ``"scale"``.
        factor: multiplies the result, (out,); ``None``: 1.
    """

    y: torch.Tensor
    x: torch.Tensor
    value: torch.Tensor | None = None
    mode: str = "add"
    factor: torch.Tensor | None = None


class LinearAdapter(nn.Module):
    """Base of the modules at a projection; sub-classes give :meth:`carry` and :meth:`merged`.

    Attributes:
        mode: ``"add"`` or ``"scale"``.
        scaling: multiplies the change, unless the module is gated.
        chains: in a Stack it reads the value of the adapter before in place of the projection's input.
        gated: the gate mean_sequence sigmoid(W_g x + b_g) takes the place of the scaling.
    """

    FILE_GROUP: ClassVar[str] = "loras"
    mode: ClassVar[str] = "add"
    chains: ClassVar[bool] = False

    def __init__(self, config: Any, width_in: int, scaling: float) -> None:
        super().__init__()
        self.family = LINEAR
        self.scaling = scaling
        #: What the projection multiplies with after its weight (scaled embeddings).
        self.gain = 1.0
        self.dropout = float(getattr(config, "dropout", 0.0))
        self.gated = bool(getattr(config, "use_gating", False))
        if self.gated:
            self.gate_weight = nn.Parameter(torch.empty(1, width_in).normal_(std=0.02))
            bound = width_in**-0.5
            self.gate_bias = nn.Parameter(torch.empty(1).uniform_(-bound, bound))

    #: Names of parameters in files, where they are not their own.
    FILE_NAMES: ClassVar[dict[str, str]] = {
        "gate_weight": "gate.weight",
        "gate_bias": "gate.bias",
        "magnitude": "m.weight",
    }

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return {
            name: (self.FILE_NAMES.get(name, name),)
            for name, _ in self.named_parameters(recurse=False)
        }

    def carry(self, value: torch.Tensor | None, state: LinearState) -> torch.Tensor:
        """Return the new value, given the one carried so far (``None``: this is the first adapter)."""
        raise NotImplementedError

    def factor(self, slot: Any) -> torch.Tensor | None:
        """Return what multiplies the result, (out,); ``None``: nothing does."""
        return None

    def merged(
        self, weight: torch.Tensor, bias: torch.Tensor | None, slot: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the weight (out, in) and the bias (out,) of a projection that does the adapter's work."""
        raise NotImplementedError

    def scaled(self, change: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return *change* times the gate or the scaling."""
        if self.gated:
            return change * self.gate(x)
        scale = self.scaling * self.gain
        return change if scale == 1.0 else change * scale

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Return mean over the sequence of sigmoid(W_g x + b_g), (batch, 1, 1)."""
        gate = torch.sigmoid(F.linear(x, self.gate_weight, self.gate_bias)).mean(1, keepdim=True)
        if local.ctx.collect is not None:
            local.ctx.collect.setdefault("gates", []).append((self, gate))
        return gate


class LinearFamily(Family[LinearState]):
    """Changes of a projection's output that depend on its input."""

    name = "LoRA"
    fusable = True

    def begin(self, h: torch.Tensor, x: torch.Tensor) -> LinearState:
        return LinearState(h, x)

    def alone(
        self, module: LinearAdapter, slot: Any, h: torch.Tensor, x: torch.Tensor
    ) -> torch.Tensor:
        return self.end(self.apply(LinearState(h, x), module, slot), slot)

    def apply(self, state: LinearState, module: LinearAdapter, slot: Any) -> LinearState:
        value = module.carry(state.value, state)
        return LinearState(state.y, state.x, value, module.mode, module.factor(slot))

    def end(self, state: LinearState, slot: Any) -> torch.Tensor:
        return _outcome(state)

    def refuse_stack(self, followers: Sequence[Any], slot: Any) -> str | None:
        site = slot.site
        chained = any(module.chains for module in followers)
        if chained and site.in_features != site.out_features:
            return (
                f"stacked LoRA adapters are a chain, so {site.key} ({site.in_features} -> "
                f"{site.out_features}) would have to be square; to add their changes use "
                "Average(..., weights=[1, 1], normalize_weights=False)"
            )
        return None

    def average(
        self, states: Sequence[LinearState], weights: Sequence[float], slot: Any
    ) -> LinearState:
        states = _agree(states)
        total: Any = sum(w * v for w, v in zip(weights, _values(states), strict=True))
        return states[0]._replace(value=total)

    def fuse(
        self,
        state: LinearState,
        children: Sequence[LinearState],
        fusion: nn.Module,
        slot: Any,
    ) -> LinearState:
        changes = torch.stack(_values([_collapse(child) for child in children]), -2)
        before = fusion.residual_before
        mixed = fusion(state.y, changes, state.y if before else None)
        return state._replace(value=mixed - state.y if before else mixed, mode="add", factor=None)

    def part(self, state: LinearState, start: int, stop: int, axis: int = 0) -> LinearState:
        return (
            super()
            .part(state._replace(factor=None), start, stop, axis)
            ._replace(factor=state.factor)
        )

    def join(self, states: Sequence[LinearState], axis: int, slot: Any) -> LinearState:
        states = _agree(states)
        y = torch.cat([s.y for s in states], axis)
        x = torch.cat([s.x for s in states], axis)
        if all(s.value is None for s in states):
            return LinearState(y, x)
        return LinearState(y, x, torch.cat(_values(states), axis), states[0].mode)

    def select(
        self, state: LinearState, other: LinearState, mask: torch.Tensor, slot: Any
    ) -> LinearState:
        old, new = _agree([state, other])
        first, second = _values([old, new])
        shaped = mask.view(-1, *([1] * (first.dim() - 1)))
        return new._replace(value=torch.where(shaped, second, first))

    def route(
        self,
        state: LinearState,
        modules: Sequence[LinearAdapter | None],
        rows: torch.Tensor,
        slot: Any,
    ) -> LinearState | None:
        present = [module for module in modules if module is not None]
        kind: Any = type(present[0])
        routed = getattr(kind, "routed", None)
        if routed is None or any(type(module) is not kind for module in present):
            return None
        return routed(state, modules, rows, slot)


def _outcome(state: LinearState) -> torch.Tensor:
    y, value = state.y, state.value
    if value is None:
        return y
    value = value.to(y.dtype)
    result = y + value if state.mode == "add" else y * value
    return result if state.factor is None else result * state.factor.to(y.dtype)


def _collapse(state: LinearState) -> LinearState:
    """Return the same outcome as a plain addition."""
    if state.value is None or (state.mode == "add" and state.factor is None):
        return state
    return LinearState(state.y, state.x, _outcome(state) - state.y)


def _agree(states: Sequence[LinearState]) -> list[LinearState]:
    """Return the states with one mode and without factors, collapsed where they differ."""
    acting = [state for state in states if state.value is not None]
    modes = {state.mode for state in acting}
    if len(modes) > 1 or any(state.factor is not None for state in acting):
        return [_collapse(state) for state in states]
    return [state._replace(mode=mode) for state in states for mode in (modes or {"add"})]


def _values(states: Sequence[LinearState]) -> list[torch.Tensor]:
    neutral = {"add": torch.zeros_like, "scale": torch.ones_like}
    return [neutral[s.mode](s.y) if s.value is None else s.value for s in states]


LINEAR = LinearFamily()
