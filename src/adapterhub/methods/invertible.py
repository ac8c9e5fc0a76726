"""Invertible adapters at the model's input (MAD-X, Pfeiffer et al. 2020b, section 4.1).

The embedding e is split in two halves, e = [a; b]. With small networks F and G, NICE (Dinh et al. 2015)::

    a' = a + F(b)            b  = b' - G(a')
    b' = b + G(a')           a  = a' - F(b)

and GLOW-style affine coupling (Kingma & Dhariwal 2018) with s = sigmoid(. + 2) and t from one network::

    b' = s2(a) * b + t2(a);  a' = s1(b') * a + t1(b')
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from adapterhub.architectures import ResolvedModel
from adapterhub.errors import ArchitectureError, ConfigError
from adapterhub.methods.activations import activation
from adapterhub.methods.base import Family, Placed


class HiddenState(NamedTuple):
    """The embedded input, (batch, sequence, embedding).

    Attributes:
        h: the states. inverse: whether adapters are to be undone, on the way out of the model.
    """

    h: torch.Tensor
    inverse: bool = False


class Coupling(nn.Module):
    """A two-layer network W2 a(W1 x + b1) + b2 with weights N(0, 0.02)."""

    def __init__(self, width_in: int, width: int, width_out: int, non_linearity: str) -> None:
        super().__init__()
        self.activation = activation(non_linearity)
        self.first = nn.Linear(width_in, width)
        self.second = nn.Linear(width, width_out)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.activation(self.first(x)))


class NICE(nn.Module):
    """Additive coupling; ``inverse(forward(e)) == e`` up to rounding."""

    def __init__(self, config: Any, width: int) -> None:
        super().__init__()
        self.family = INPUT
        self.split = width // 2
        rest = width - self.split
        factor = config.inv_adapter_reduction_factor or 2
        self.F = Coupling(rest, max(1, int(rest // factor)), self.split, config.non_linearity)
        self.G = Coupling(self.split, max(1, int(self.split // factor)), rest, config.non_linearity)

    FILE_GROUP = "invertible_adapters"

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return _coupling_names(self)

    def forward(self, e: torch.Tensor) -> torch.Tensor:
        a, b = e[..., : self.split], e[..., self.split :]
        a = a + self.F(b)
        return torch.cat([a, b + self.G(a)], -1)

    def inverse(self, e: torch.Tensor) -> torch.Tensor:
        a, b = e[..., : self.split], e[..., self.split :]
        b = b - self.G(a)
        return torch.cat([a - self.F(b), b], -1)


class GLOW(nn.Module):
    """Affine coupling; ``inverse(forward(e)) == e`` up to rounding."""

    def __init__(self, config: Any, width: int) -> None:
        super().__init__()
        self.family = INPUT
        self.split = width // 2
        rest = width - self.split
        factor = config.inv_adapter_reduction_factor or 2
        self.s1 = Coupling(rest, max(1, int(rest // factor)), 2 * self.split, config.non_linearity)
        self.s2 = Coupling(
            self.split, max(1, int(self.split // factor)), 2 * rest, config.non_linearity
        )

    FILE_GROUP = "invertible_adapters"

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return _coupling_names(self)

    def forward(self, e: torch.Tensor) -> torch.Tensor:
        a, b = e[..., : self.split], e[..., self.split :]
        scale, shift = self.s2(a).chunk(2, -1)
        b = torch.sigmoid(scale + 2) * b + shift
        scale, shift = self.s1(b).chunk(2, -1)
        return torch.cat([torch.sigmoid(scale + 2) * a + shift, b], -1)

    def inverse(self, e: torch.Tensor) -> torch.Tensor:
        a, b = e[..., : self.split], e[..., self.split :]
        scale, shift = self.s1(b).chunk(2, -1)
        a = (a - shift) / torch.sigmoid(scale + 2)
        scale, shift = self.s2(a).chunk(2, -1)
        return torch.cat([a, (b - shift) / torch.sigmoid(scale + 2)], -1)


def _coupling_names(module: nn.Module) -> dict[str, tuple[str, ...]]:
    return {
        name: (name.replace(".first.", ".0.").replace(".second.", ".2."),)
        for name, _ in module.named_parameters()
    }


class InputFamily(Family[HiddenState]):
    """Adapters of the embedded input. In a Stack the first (lowest) adapter's acts: it meets the input."""

    name = "invertible"
    stack_first_only = True

    def begin(self, h: torch.Tensor, x: torch.Tensor) -> HiddenState:
        return HiddenState(h)

    def alone(self, module: Any, slot: Any, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return module(h)

    def apply(self, state: HiddenState, module: Any, slot: Any) -> HiddenState:
        done = module.inverse(state.h) if state.inverse else module(state.h)
        return HiddenState(done, state.inverse)

    def undo(self, node: Any, slot: Any, h: torch.Tensor) -> torch.Tensor:
        """Run a plan's node backwards: what language-model heads do before they score words.

        Each adapter that the setup gives a row is inverted. (For an average of adapters that is the
        average of their inverses, which is not the inverse of their average; there is no such.)
        """
        return self.end(node.run(HiddenState(h, inverse=True), slot), slot)

    def end(self, state: HiddenState, slot: Any) -> torch.Tensor:
        return state.h

    def average(
        self, states: Sequence[HiddenState], weights: Sequence[float], slot: Any
    ) -> HiddenState:
        mean: Any = sum(w * s.h for w, s in zip(weights, states, strict=True))
        return HiddenState(mean, states[0].inverse)

    def select(
        self, state: HiddenState, other: HiddenState, mask: torch.Tensor, slot: Any
    ) -> HiddenState:
        return HiddenState(torch.where(mask.view(-1, 1, 1), other.h, state.h), state.inverse)


INPUT = InputFamily()


def build_invertible(config: Any, model: ResolvedModel) -> list[Placed]:
    """Return the invertible adapter that a bottleneck configuration asks for, if it does.

    Raises:
        ArchitectureError: the model has no known place for it.
    """
    if not config.inv_adapter:
        return []
    site = next(model.select(point="embed"), None)
    if site is None:
        raise ArchitectureError(
            f"inv_adapter='{config.inv_adapter}' needs the model's embeddings, but the row of "
            f"'{model.row.model_type}' names none; use a configuration without inv_adapter."
        )
    kinds = {"nice": NICE, "glow": GLOW}
    if config.inv_adapter not in kinds:
        raise ConfigError(f"Unknown inv_adapter '{config.inv_adapter}'; known: nice, glow.")
    if config.init_weights_seed:
        torch.manual_seed(config.init_weights_seed)
    return [Placed(site, kinds[config.inv_adapter](config, site.out_features))]


__all__ = ["GLOW", "INPUT", "NICE", "build_invertible"]
