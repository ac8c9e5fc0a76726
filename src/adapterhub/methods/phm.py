"""Parameterised hypercomplex multiplication, the maps of Compacter (Mahabadi et al. 2021, section 3).

A map from *in* to *out* is a sum of n Kronecker products of a rule R_i (n, n) and a matrix W_i
(in / n, out / n)::

    y = x M + b,   M = sum_i R_i (x) W_i          W_i = L_i R'_i  of rank ``phm_rank``, if factorised

The rule may be shared by all maps of an adapter, and so may the W_i of all down and all up maps.
M is as small as a bottleneck's map, so it is built; while nothing is trained it is a constant and kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapterhub.configs import BnConfig
from adapterhub.errors import ConfigError
from adapterhub.methods.stacked import versions


def _draw(shape: tuple[int, ...], config: BnConfig, deviation: float) -> nn.Parameter:
    """Draw a rule: normal or uniform, as ``phm_c_init`` says."""
    value = torch.empty(shape)
    if config.phm_c_init == "normal":
        value.normal_(std=deviation)
    elif config.phm_c_init == "uniform":
        bound = 1.0 if deviation == config.phm_init_range else 0.01
        value.uniform_(-bound, bound)
    else:
        raise ConfigError(
            f"Unknown phm_c_init '{config.phm_c_init}' of Compacter; known: normal, uniform."
        )
    return nn.Parameter(value, requires_grad=bool(config.learn_phm))


def _slices(shape: tuple[int, int, int]) -> nn.Parameter:
    value = torch.empty(shape)
    if not value.is_meta:
        for part in value:
            nn.init.xavier_normal_(part)
    return nn.Parameter(value)


def _rule(module: nn.Module, config: BnConfig, deviation: float) -> None:
    n = config.phm_dim or 4
    if config.factorized_phm_rule:
        module.phm_rule_left = _draw((n, n, 1), config, deviation)
        module.phm_rule_right = _draw((n, 1, n), config, deviation)
    else:
        module.phm_rule = _draw((n, n, n), config, deviation)


def _weight(module: nn.Module, config: BnConfig, wide: int, high: int, prefix: str = "W") -> None:
    n, rank = config.phm_dim or 4, config.phm_rank or 1
    for size, what in ((wide, "input"), (high, "output")):
        if size % n:
            raise ConfigError(
                f"Compacter: the {what} width {size} is not divisible by phm_dim={n}; choose a "
                "reduction_factor or phm_dim that fits."
            )
    if config.factorized_phm_W:
        setattr(module, f"{prefix}_left", _slices((n, wide // n, rank)))
        setattr(module, f"{prefix}_right", _slices((n, rank, high // n)))
    else:
        setattr(module, prefix, _slices((n, wide // n, high // n)))


class SharedPHM(nn.Module):
    """What all maps of one adapter share: the rule, and with ``shared_W_phm`` the W of down and up maps."""

    FILE_STEM = "shared_parameters.{name}"

    def __init__(self, config: BnConfig, hidden: int, bottleneck: int) -> None:
        super().__init__()
        if config.shared_phm_rule:
            _rule(self, config, config.phm_init_range or 1e-4)
        if config.shared_W_phm:
            _weight(self, config, hidden, bottleneck, "W_down")
            _weight(self, config, bottleneck, hidden, "W_up")

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return {name: (name,) for name, _ in self.named_parameters()}


class PHMLinear(nn.Module):
    """One map.

    Args:
        config: the adapter's configuration.
        wide, high: widths of input and output.
        shared: what the adapter shares, or ``None``.
        role: ``down`` or ``up``, which of the shared W is meant.
    """

    def __init__(
        self, config: BnConfig, wide: int, high: int, shared: SharedPHM | None, role: str
    ) -> None:
        super().__init__()
        self.shared = (shared,)  # a tuple, so that it is registered once, with the adapter
        self.role = role
        self.own_rule, self.own_weight = not config.shared_phm_rule, not config.shared_W_phm
        self.high = high
        if self.own_rule:
            _rule(self, config, 0.01)
        if self.own_weight:
            _weight(self, config, wide, high)
        self.b = nn.Parameter(torch.zeros(high)) if config.phm_bias else None

    def rule(self) -> torch.Tensor:
        """Return R, (n, n, n)."""
        holder: Any = self if self.own_rule else self.shared[0]
        if hasattr(holder, "phm_rule"):
            return holder.phm_rule
        return torch.bmm(holder.phm_rule_left, holder.phm_rule_right)

    def weight(self) -> torch.Tensor:
        """Return W, (n, in / n, out / n)."""
        holder: Any = self if self.own_weight else self.shared[0]
        prefix = "W" if self.own_weight else f"W_{self.role}"
        if hasattr(holder, prefix):
            return getattr(holder, prefix)
        return torch.bmm(getattr(holder, f"{prefix}_left"), getattr(holder, f"{prefix}_right"))

    def matrix(self) -> torch.Tensor:
        """Return M transposed, (out, in), as a linear map wants it."""
        if torch.is_grad_enabled():
            return self._matrix()
        holders = [self, *(shared for shared in self.shared if shared is not None)]
        seen = versions([p for holder in holders for p in holder.parameters()])
        if seen is None:
            return self._matrix()
        kept = self.__dict__.get("kept")
        if kept is None or kept[0] != seen:
            kept = self.__dict__["kept"] = (seen, self._matrix())
        return kept[1]

    def _matrix(self) -> torch.Tensor:
        rule, weight = self.rule(), self.weight()
        n, wide, high = weight.shape
        return torch.einsum("iab,icd->bdac", rule, weight).reshape(n * high, n * wide)
