"""Tuning what the base model has: biases (BitFit) and normalisations, as changes of outputs.

BitFit (Ben Zaken et al. 2022, section 3) trains c in y = W x + c; here a shift b is trained and c stays::

    y = (W x + c) + b

Tuning of norms trains gamma and beta in y = gamma n(x) + beta. Here both are relative to the base model's,
with g and b starting at 0::

    y = (gamma n(x) + beta) (1 + g) + b

which is the same function class wherever gamma is not 0 (gamma' = gamma (1 + g), beta' = beta (1 + g) + b).
So both stack, average, split, route and fuse like other adapters of a projection, and merge exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs.tuning import BitFitConfig, NormTuningConfig
from adapterhub.methods.base import Built, Method, Placed, left_out
from adapterhub.methods.hosts import host_bias, run_with
from adapterhub.methods.linear import LinearAdapter, LinearState


class BiasShift(LinearAdapter):
    """One trained bias: parameter ``shift`` (out,), 0 at first."""

    FILE_GROUP = "biases"

    def __init__(self, config: Any, site: ResolvedSite) -> None:
        super().__init__(config, site.in_features, 1.0)
        self.shift = nn.Parameter(torch.zeros(site.out_features))

    def carry(self, value: torch.Tensor | None, state: LinearState) -> torch.Tensor:
        shift = self.shift.to(state.y.dtype)
        return shift.expand_as(state.y) if value is None else value + shift

    def merged(
        self, weight: torch.Tensor, bias: torch.Tensor | None, slot: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return weight, None if bias is None else bias + self.shift.to(bias.dtype)


class NormChange(LinearAdapter):
    """One tuned norm: parameters ``scale`` (width,) and, if wanted, ``shift`` (width,), 0 at first."""

    FILE_GROUP = "norms"

    def __init__(self, config: Any, site: ResolvedSite, shift: bool) -> None:
        super().__init__(config, site.in_features, 1.0)
        self.scale = nn.Parameter(torch.zeros(site.out_features))
        if shift:
            self.shift = nn.Parameter(torch.zeros(site.out_features))
        self.shifts = shift

    def carry(self, value: torch.Tensor | None, state: LinearState) -> torch.Tensor:
        y = state.y if value is None else state.y + value
        change = y * self.scale.to(y.dtype)
        if self.shifts:
            change = change + self.shift.to(y.dtype)
        return change if value is None else value + change

    def merged_parameters(self, slot: Any) -> dict[str, torch.Tensor]:
        """Return ``{parameter of the norm: its value with the adapter's work in it}``."""
        host = slot.site.host
        weight, bias = host.weight, getattr(host, "bias", None)
        scale = 1 + self.scale.to(weight.dtype)
        offset = weight_offset(host)
        changed = {"weight": (weight + offset) * scale - offset}
        if bias is not None:
            changed["bias"] = bias * scale
            if self.shifts:
                changed["bias"] = changed["bias"] + self.shift.to(bias.dtype)
        return changed


def weight_offset(norm: Any) -> float:
    """Return c where a norm multiplies with (c + weight): 1 for some families, 0 for most.

    It is seen from what the norm gives for a weight of zeros.
    """
    weight = norm.weight
    x = torch.linspace(-1, 1, weight.shape[0], device=weight.device, dtype=weight.dtype)
    zero = {"weight": torch.zeros_like(weight)}
    if getattr(norm, "bias", None) is not None:
        zero["bias"] = torch.zeros_like(norm.bias)
    with torch.no_grad():
        return 1.0 if run_with(norm, zero, x[None, None]).abs().max() > 0.1 else 0.0


class BitFit(Method):
    """Trained biases at projections and norms that have one."""

    name = "bitfit"
    file_groups = (BiasShift.FILE_GROUP,)
    config_type = BitFitConfig

    def places(self, config: BitFitConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        wanted = {
            "self": config.attn_matrices,
            "cross": config.attn_matrices,
            "ffn": config.ffn_matrices,
        }
        sites = [s for s in model.sites.values() if s.key.point in wanted.get(s.key.sublayer, ())]  # type: ignore[arg-type]
        sites += model.extras("norm") if config.norms else []
        yield from (s for s in sites if host_bias(s) is not None and not left_out(config, s))

    def build(self, config: BitFitConfig, model: ResolvedModel) -> Built:
        return Built(
            [Placed(site, BiasShift(config, site)) for site in self.places(config, model)], {}
        )

    def mergeable(self, config: Any) -> str | None:
        return None


class NormTuning(Method):
    """Trained factors, and shifts, of the base model's norms."""

    name = "ln_tuning"
    file_groups = (NormChange.FILE_GROUP,)
    config_type = NormTuningConfig

    def places(self, config: NormTuningConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        yield from (site for site in model.extras("norm") if not left_out(config, site))

    def build(self, config: NormTuningConfig, model: ResolvedModel) -> Built:
        placed = []
        for site in self.places(config, model):
            shift = config.shift and host_bias(site) is not None
            placed.append(Placed(site, NormChange(config, site, shift)))
        return Built(placed, {})

    def mergeable(self, config: Any) -> str | None:
        return None
