"""LoRA on mixtures of experts whose weights are 3-D parameters.

Such a module keeps W (experts, out, in) as one parameter and decides inside which expert sees which token, so
there is no projection to adapt. The change is made on the weights, one pair an expert e::

    W'_e = W_e + (alpha / r) B_e A_e

and the module's own forward runs with W' in the place of W. A Stack would be a chain (the second reads
the first one's change), which weights cannot express, so it is refused; an Average is the weighted sum of the
changes; blocks that treat rows differently run the module once for each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.architectures.extras import expert_parameters, experts_transposed
from adapterhub.configs import LoRAConfig
from adapterhub.methods.base import Family
from adapterhub.methods.hosts import run_with


class ExpertState(NamedTuple):
    """A mixture of experts while adapters act on it.

    Attributes:
        x: hidden states, (batch, sequence, width), or (batch, sequence, copies, width) where the module
            takes them flat, one copy for each expert or one in all; the batch is 1 where rows cannot be
            told apart.
        others: further inputs, by position or name; tensors with the same first two axes are cut like *x*.
        name: position or name of *x*.
        flat: the module takes (copies times tokens, ...).
        y: the output, if it is known already.
        changes: what is to be added to the weights: (factor, module).
    """

    x: torch.Tensor
    others: dict[int | str, Any]
    name: int | str
    flat: bool
    y: torch.Tensor | None = None
    changes: tuple[tuple[float, Any], ...] = ()


class ExpertFamily(Family[ExpertState]):
    """Changes of the weights of a mixture of experts."""

    name = "LoRA at experts"

    def begin(self, inputs: dict[int | str, Any], flat: bool) -> ExpertState:
        """Return the state before any adapter; *inputs* are by position or name, hidden states first."""
        (name, x), *others = inputs.items()
        return ExpertState(x, dict(others), name, flat)

    def apply(self, state: ExpertState, module: Any, slot: Any) -> ExpertState:
        return state._replace(changes=((1.0, module),))

    def refuse_stack(self, followers: Sequence[Any], slot: Any) -> str | None:
        if not followers:
            return None
        return (
            f"stacked LoRA adapters are a chain, which changes of weights at {slot.site.key} cannot be; "
            "merge them with average_adapter or use Average"
        )

    def average(
        self, states: Sequence[ExpertState], weights: Sequence[float], slot: Any
    ) -> ExpertState:
        if all(state.y is None for state in states):
            changes = tuple(
                (weight * factor, module)
                for weight, state in zip(weights, states, strict=True)
                for factor, module in state.changes
            )
            return states[0]._replace(changes=changes)
        total: Any = sum(w * self.end(s, slot) for w, s in zip(weights, states, strict=True))
        return states[0]._replace(y=total, changes=())

    def part(self, state: ExpertState, start: int, stop: int, axis: int = 0) -> ExpertState:
        def cut(value: Any) -> Any:
            if not isinstance(value, torch.Tensor) or value.shape[:2] != state.x.shape[:2]:
                return value
            return value.narrow(axis, start, stop - start)

        others = {name: cut(value) for name, value in state.others.items()}
        return ExpertState(
            cut(state.x), others, state.name, state.flat, cut(state.y), state.changes
        )

    def join(self, states: Sequence[ExpertState], axis: int, slot: Any) -> ExpertState:
        first = states[0]
        others = {
            name: torch.cat([s.others[name] for s in states], axis)
            if isinstance(value, torch.Tensor) and value.shape[:2] == first.x.shape[:2]
            else value
            for name, value in first.others.items()
        }
        x = torch.cat([s.x for s in states], axis)
        y = torch.cat([self.end(s, slot) for s in states], axis)
        return ExpertState(x, others, first.name, first.flat, y)

    def select(
        self, state: ExpertState, other: ExpertState, mask: torch.Tensor, slot: Any
    ) -> ExpertState:
        old, new = self.end(state, slot), self.end(other, slot)
        shaped = mask.view(-1, *([1] * (new.dim() - 1)))
        return state._replace(y=torch.where(shaped, new, old), changes=())

    def end(self, state: ExpertState, slot: Any) -> torch.Tensor:
        """Return the output, (batch, sequence, width), running the module if need be."""
        if state.y is not None:
            return state.y
        host, shape = slot.site.host, state.x.shape[:2]
        weights: dict[str, torch.Tensor] = {}
        for factor, module in state.changes:
            for name, change in module.weight_changes().items():
                weight = weights[name] if name in weights else host.get_parameter(name)
                weights[name] = weight + factor * change.to(weight.dtype)

        def ravel(value: Any) -> Any:
            same = isinstance(value, torch.Tensor) and value.shape[:2] == shape
            return value.movedim(2, 0).flatten(0, 2) if same and state.flat else value

        inputs = {state.name: state.x, **state.others}
        args = [ravel(value) for name, value in inputs.items() if isinstance(name, int)]
        named = {name: ravel(value) for name, value in inputs.items() if isinstance(name, str)}
        y = run_with(host, weights, *args, **named)
        if not state.flat:
            return y
        return y.unflatten(0, (state.x.shape[2], *shape)).movedim(0, 2)


class ExpertLoRA(nn.Module):
    """One LoRA at one mixture: a pair for each expert.

    For every parameter wanted there are ``NAME_A`` (experts, r, in) and ``NAME_B`` (experts, out, r).

    Args:
        config: the adapter's configuration.
        site: the mixture.
    """

    FILE_GROUP: ClassVar[str] = "loras"

    def __init__(self, config: LoRAConfig, site: ResolvedSite) -> None:
        super().__init__()
        self.family = EXPERTS
        self.scaling = config.scaling
        self.transposed = experts_transposed(site.host, site.in_features)
        self.names = wanted_parameters(config, site.host)
        for name in self.names:
            count, rows, columns = site.host._parameters[name].shape  # type: ignore[union-attr]
            out, width = (columns, rows) if self.transposed else (rows, columns)
            a = nn.Parameter(torch.empty(count, config.r, width))
            b = nn.Parameter(torch.empty(count, out, config.r))
            self.register_parameter(f"{name}_A", a)
            self.register_parameter(f"{name}_B", b)
            if not a.is_meta:
                _start(a, b, config.init_weights)

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return {name: (name,) for name, _ in self.named_parameters(recurse=False)}

    def weight_changes(self) -> dict[str, torch.Tensor]:
        """Return ``{parameter of the host: what is added to it}``."""
        changes = {}
        for name in self.names:
            product = self.scaling * (self._parameters[f"{name}_B"] @ self._parameters[f"{name}_A"])  # type: ignore[operator]
            changes[name] = product.mT if self.transposed else product
        return changes

    def merged_parameters(self, slot: Any) -> dict[str, torch.Tensor]:
        """Return ``{parameter of the host: its value with the adapter's work in it}``."""
        host = slot.site.host
        return {
            name: host.get_parameter(name) + change.to(host.get_parameter(name).dtype)
            for name, change in self.weight_changes().items()
        }


def wanted_parameters(config: LoRAConfig, host: nn.Module) -> tuple[str, ...]:
    """Return the names of the host's parameters that ``expert_matrices`` means."""
    asked = set(config.expert_matrices)
    names = expert_parameters(host)
    return tuple(name for point, name in names.items() if set(point.split("_")) <= asked)


def missing_experts(config: LoRAConfig, model: ResolvedModel) -> list[str]:
    """Say which of ``expert_matrices`` the model does not have."""
    sites = model.extras("experts")
    if not sites:
        return ["expert_matrices (no mixture of experts here keeps its weights as 3-D parameters)"]
    problems = []
    for site in sites[:1]:
        points = expert_parameters(site.host)
        for matrix in config.expert_matrices:
            holder = next((point for point in points if matrix in point.split("_")), None)
            if holder is None:
                problems.append(f"expert_matrices ['{matrix}'] (there are {sorted(points)})")
            elif not set(holder.split("_")) <= set(config.expert_matrices):
                problems.append(
                    f"expert_matrices ['{matrix}'] alone (here {' and '.join(holder.split('_'))} are one "
                    "parameter: ask for both)"
                )
    return problems


def _start(a: torch.Tensor, b: torch.Tensor, how: str) -> None:
    from adapterhub.methods.lora import init_pair

    for one_a, one_b in zip(a.unbind(0), b.unbind(0), strict=True):
        init_pair(one_a, one_b, how)


EXPERTS = ExpertFamily()
