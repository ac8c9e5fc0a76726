"""LoRA: a low-rank change of a linear map (Hu et al. 2022, section 4.1).

For a projection y = W x + c, with A (r, in) and B (out, r)::

    y = W x + c + (alpha / r) B A x

With a gate (UniPELT) the factor alpha / r gives way to g = mean_sequence sigmoid(W_g x + b_g). In a
Stack, LoRA adapters form a chain: the second reads the first one's change, B2 A2 (B1 A1 x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.configs import LoRAConfig
from adapterhub.errors import ConfigError
from adapterhub.methods.linear import LinearAdapter, LinearState
from adapterhub.methods.stacked import gather


class LowRank(LinearAdapter):
    """Adapters that add s P x for a matrix P (out, in) of low rank, with or without gate."""

    chains = True

    def change(self, source: torch.Tensor) -> torch.Tensor:
        """Return P x for x = *source*, without the scaling."""
        raise NotImplementedError

    def product(self) -> torch.Tensor:
        """Return P, (out, in), in the parameters' dtype."""
        raise NotImplementedError

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return B' (out, r) and A' (r, in) with P = B' A'."""
        raise NotImplementedError

    def dtype(self) -> torch.dtype:
        """Return the type that the matrices compute in."""
        raise NotImplementedError

    def carry(self, value: torch.Tensor | None, state: LinearState) -> torch.Tensor:
        source = state.x if value is None else value
        if source.dtype is not self.dtype():
            source = source.to(self.dtype())
        if self.dropout and self.training:
            source = F.dropout(source, self.dropout)
        return self.scaled(self.change(source), state.x)

    def weight_change(self) -> torch.Tensor:
        """Return s P, (out, in)."""
        return self.scaling * self.product()

    def merged(
        self, weight: torch.Tensor, bias: torch.Tensor | None, slot: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return weight + self.weight_change().to(weight.dtype), bias


class LoRA(LowRank):
    """One LoRA at one projection: parameters ``lora_A`` (r, in), ``lora_B`` (out, r), maybe a gate.

    Args:
        config: the adapter's configuration.
        width_in, width_out: widths of the projection.
    """

    def __init__(self, config: LoRAConfig, width_in: int, width_out: int) -> None:
        super().__init__(config, width_in, config.scaling)
        self.rank = config.r
        self.lora_A = nn.Parameter(torch.empty(config.r, width_in))
        self.lora_B = nn.Parameter(torch.empty(width_out, config.r))
        if not self.lora_A.is_meta:  # on meta: about to be filled from a file
            init_pair(self.lora_A, self.lora_B, config.init_weights)

    def dtype(self) -> torch.dtype:
        return self.lora_A.dtype

    def change(self, source: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(source, self.lora_A), self.lora_B)

    def product(self) -> torch.Tensor:
        return self.lora_B @ self.lora_A

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.lora_B, self.lora_A

    def alone(self, slot: Any, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The common case written out: one kernel for scaling, product and sum, h + s (A x) B^T."""
        weights: Any = self._parameters
        a = weights["lora_A"]
        if self.gated or x.dtype is not a.dtype or h.dtype is not a.dtype:
            return h + self.carry(None, LinearState(h, x)).to(h.dtype)
        if self.dropout and self.training:
            x = F.dropout(x, self.dropout)
        low = F.linear(x, a)
        flat = torch.addmm(
            h.reshape(-1, h.shape[-1]),
            low.reshape(-1, low.shape[-1]),
            weights["lora_B"].t(),
            alpha=self.scaling,
        )
        return flat.view(h.shape)

    @classmethod
    def routed(
        cls,
        state: LinearState,
        modules: Sequence[Any],
        rows: torch.Tensor,
        slot: Any,
    ) -> LinearState | None:
        """Run module ``rows[b]`` on row b with one batched product a matrix; ``None``: not alike."""
        present = [module for module in modules if module is not None]
        one = present[0]
        alike = all(
            (m.rank, m.scaling, m.dropout, m.gated) == (one.rank, one.scaling, one.dropout, False)
            for m in present
        )
        carried = state.value is not None and state.mode != "add"
        if not alike or carried or state.x.dim() != 3:
            return None
        a, b, _ = gather(slot, modules, rows, ("lora_A", "lora_B"))
        x = state.x if state.value is None else state.value
        if one.dropout and one.training:
            x = F.dropout(x, one.dropout)
        change = torch.bmm(torch.bmm(x, a.mT), b.mT)
        change = change if one.scaling == 1.0 else change * one.scaling
        return state._replace(value=change)


def init_pair(a: torch.Tensor, b: torch.Tensor, how: str) -> None:
    """Initialise A and B: ``lora`` starts at zero change (B = 0), ``bert`` draws both from N(0, 0.02),
    ``vera`` draws both from kaiming_uniform, ``ia3`` fills with ones.

    Raises:
        ConfigError: another name.
    """
    if how == "lora":
        nn.init.kaiming_uniform_(a, a=5**0.5)
        nn.init.zeros_(b)
    elif how == "bert":
        nn.init.normal_(a, std=0.02)
        nn.init.normal_(b, std=0.02)
    elif how == "vera":
        nn.init.kaiming_uniform_(a)
        nn.init.kaiming_uniform_(b)
    elif how == "ia3":
        nn.init.ones_(a)
        nn.init.ones_(b)
    else:
        raise ConfigError(f"Unknown init_weights '{how}' of LoRA; known: lora, bert, vera, ia3.")
