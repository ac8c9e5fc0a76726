"""(IA)3: a trained factor for every output of a projection (Liu et al. 2022, section 3.3).

With l (out,)::

    y = alpha l * (W x + c)

With a gate g = mean_sequence sigmoid(W_g x + b_g) the factor is g l.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adapterhub.configs import LoRAConfig
from adapterhub.errors import ConfigError
from adapterhub.methods.linear import LinearAdapter, LinearState
from adapterhub.methods.stacked import gather


class IA3(LinearAdapter):
    """One (IA)3 vector at one projection: parameter ``lora_B`` (out, 1), maybe a gate."""

    mode = "scale"

    def __init__(self, config: LoRAConfig, width_in: int, width_out: int) -> None:
        super().__init__(config, width_in, float(config.alpha))
        self.lora_B = nn.Parameter(torch.empty(width_out, 1))
        if self.lora_B.is_meta:
            return
        starts = {"ia3": nn.init.ones_, "lora": nn.init.zeros_}
        if config.init_weights == "bert":
            nn.init.normal_(self.lora_B, std=0.02)
        elif config.init_weights in starts:
            starts[config.init_weights](self.lora_B)
        else:
            raise ConfigError(
                f"Unknown init_weights '{config.init_weights}' of (IA)3; known: ia3, bert, lora."
            )

    def vector(self) -> torch.Tensor:
        """Return alpha l, (out,)."""
        vector = self.lora_B.squeeze(-1)
        return vector if self.scaling == 1.0 or self.gated else vector * self.scaling

    def carry(self, value: torch.Tensor | None, state: LinearState) -> torch.Tensor:
        vector = self.vector().to(state.y.dtype)
        if self.gated:
            vector = vector * self.gate(state.x)
        return vector.expand_as(state.y) if value is None else value * vector

    def alone(self, slot: Any, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The common case written out: one product."""
        vector: Any = self._parameters["lora_B"]
        if self.gated or self.scaling != 1.0 or vector.dtype is not h.dtype:
            return h * self.carry(None, LinearState(h, x))
        return h * vector.view(-1)

    def merged(
        self, weight: torch.Tensor, bias: torch.Tensor | None, slot: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        vector = self.vector().to(weight.dtype)
        return weight * vector[:, None], None if bias is None else bias * vector.to(bias.dtype)

    @classmethod
    def routed(
        cls, state: LinearState, modules: Sequence[Any], rows: torch.Tensor, slot: Any
    ) -> LinearState | None:
        """Give row b the vector of module ``rows[b]``; ``None``: gated."""
        present = [module for module in modules if module is not None]
        if any(m.gated or m.scaling != present[0].scaling for m in present):
            return None
        if state.value is not None:
            return None
        vector, has = gather(slot, modules, rows, ("lora_B",))
        shape = (-1, *([1] * (state.y.dim() - 2)), state.y.shape[-1])
        vector = torch.where(has[:, None], vector.squeeze(-1) * present[0].scaling, 1.0)
        value = vector.to(state.y.dtype).view(shape).expand_as(state.y)
        return state._replace(value=value, mode="scale")
