"""DoRA: magnitude and direction trained apart (Liu et al. 2024, arXiv 2402.09353, section 4.1).

With P the low-rank change of the direction (B A; VeRA's for DVoRA), m (out,) and norms of rows::

    y = m / ||W + P|| * (W x + c + (alpha / r) P x)

as the ``adapters`` library has it: the norm is taken without alpha / r, and c is rescaled too.
The squared norm is ||W||^2 + 2 sum W * P + ||P||^2, so nothing as large as W is built for LoRA; while
nothing is trained the factor is a constant and kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedSite
from adapterhub.configs import LoRAConfig
from adapterhub.methods.hosts import host_weight
from adapterhub.methods.linear import LinearAdapter
from adapterhub.methods.lora import LoRA
from adapterhub.methods.stacked import versions
from adapterhub.methods.vera import SharedMaps, VeRA


class _WithMagnitude(LinearAdapter):
    """Adds the parameter ``magnitude`` (out, 1) to a low-rank adapter."""

    def _start(self, site: ResolvedSite) -> None:
        self.magnitude = nn.Parameter(torch.empty(site.out_features, 1))
        if not self.magnitude.is_meta:
            with torch.no_grad():
                self.magnitude.copy_(host_weight(site).float().norm(dim=1, keepdim=True))

    def squared_norm(self, weight: torch.Tensor) -> torch.Tensor:
        """Return ||W + P||^2 of every row, (out,), for W = *weight*."""
        raise NotImplementedError

    def factor(self, slot: Any) -> torch.Tensor:
        """Return m / ||W + P||, (out,)."""
        weight = host_weight(slot.site)
        if torch.is_grad_enabled():
            return self._factor(weight)
        seen = versions([weight, *self.parameters()])
        if seen is None:
            return self._factor(weight)
        kept = self.__dict__.get("kept")
        if kept is None or kept[0] != seen:
            kept = self.__dict__["kept"] = (seen, self._factor(weight))
        return kept[1]

    def _factor(self, weight: torch.Tensor) -> torch.Tensor:
        norm = self.squared_norm(weight.to(self.magnitude.dtype)).sqrt()
        return self.magnitude.squeeze(-1) / norm

    def merged(
        self, weight: torch.Tensor, bias: torch.Tensor | None, slot: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        factor = self._factor(weight)
        changed, _ = super().merged(weight, bias, slot)
        scaled = changed * factor[:, None].to(weight.dtype)
        return scaled, None if bias is None else bias * factor.to(bias.dtype)


class DoRA(_WithMagnitude, LoRA):
    """LoRA with a trained magnitude."""

    alone: Any = None  # the factor has to act
    routed: Any = None

    def __init__(
        self, config: LoRAConfig, site: ResolvedSite, weight: torch.Tensor | None = None
    ) -> None:
        super().__init__(config, site.in_features, site.out_features, weight)  # type: ignore[call-arg]
        self._start(site)

    def squared_norm(self, weight: torch.Tensor) -> torch.Tensor:
        b, a = self.factors()
        cross = (b * (weight @ a.t())).sum(1)
        own = (b * (b @ (a @ a.t()))).sum(1)
        return weight.detach().pow(2).sum(1) + 2 * cross + own


class DVoRA(_WithMagnitude, VeRA):
    """VeRA with a trained magnitude."""

    def __init__(self, config: LoRAConfig, maps: SharedMaps, site: ResolvedSite) -> None:
        super().__init__(config, maps, site.in_features, site.out_features)  # type: ignore[call-arg]
        self._start(site)

    def squared_norm(self, weight: torch.Tensor) -> torch.Tensor:
        return (weight + self.product()).pow(2).sum(1)
