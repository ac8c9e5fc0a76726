"""LoRA: a low-rank change of a linear map (Hu et al. 2022, section 4.1).

For a projection y = W x + c, with A (r, in) and B (out, r)::

    y = W x + c + (alpha / r) B A x

At token embeddings x is a one-hot vector, so A x is a column of A. A start other than zero change is
subtracted (:mod:`adapterhub.methods.starts`). With a gate (UniPELT) the factor alpha / r gives way to
g = mean_sequence sigmoid(W_g x + b_g). In a Stack, LoRA adapters form a chain: the second reads the first
one's change, B2 A2 (B1 A1 x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.configs import LoRAConfig
from adapterhub.configs.lora import WEIGHT_STARTS
from adapterhub.errors import ConfigError
from adapterhub.methods.linear import LinearAdapter, LinearState
from adapterhub.methods.stacked import gather
from adapterhub.methods.starts import weight_start


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
        if not source.is_floating_point():  # token ids
            return self.scaled(self.change(source), state.x)
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

    With a start from the base weight it has buffers ``start_A`` and ``start_B`` too, which files hold.

    Args:
        config: the adapter's configuration.
        width_in, width_out: widths of the projection.
        weight: of the projection, (out, in); needed by some starts.
    """

    start_A: torch.Tensor
    start_B: torch.Tensor

    def __init__(
        self,
        config: LoRAConfig,
        width_in: int,
        width_out: int,
        weight: torch.Tensor | None = None,
    ) -> None:
        super().__init__(config, width_in, config.scaling)
        self.rank = config.r
        self.lora_A = nn.Parameter(torch.empty(config.r, width_in))
        self.lora_B = nn.Parameter(torch.empty(width_out, config.r))
        self.started = config.init_weights in WEIGHT_STARTS
        if self.started:
            self.register_buffer("start_A", torch.empty(config.r, width_in))
            self.register_buffer("start_B", torch.empty(width_out, config.r))
        if self.lora_A.is_meta:  # about to be filled from a file
            return
        if self.started:
            assert weight is not None
            a, b = weight_start(config.init_weights, weight, config.r, self.scaling)
            self.start_from(a, b)
        else:
            init_pair(self.lora_A, self.lora_B, config.init_weights)

    def start_from(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Set A and B, and the start that is subtracted, if there is one."""
        with torch.no_grad():
            for name, value in (("A", a), ("B", b)):
                getattr(self, f"lora_{name}").copy_(value)
                if self.started:
                    getattr(self, f"start_{name}").copy_(value)

    def file_names(self) -> dict[str, tuple[str, ...]]:
        start = {name: (name,) for name in ("start_A", "start_B")} if self.started else {}
        return {**super().file_names(), **start}

    def dtype(self) -> torch.dtype:
        return self.lora_A.dtype

    def change(self, source: torch.Tensor) -> torch.Tensor:
        change = F.linear(down(source, self.lora_A), self.lora_B)
        if self.started:
            change = change - F.linear(down(source, self.start_A), self.start_B)
        return change

    def product(self) -> torch.Tensor:
        b, a = self.factors()
        return b @ a

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.started:
            return self.lora_B, self.lora_A
        b = torch.cat([self.lora_B, -self.start_B], 1)
        return b, torch.cat([self.lora_A, self.start_A], 0)

    def alone(self, slot: Any, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The common case written out: one kernel for scaling, product and sum, h + s (A x) B^T."""
        weights: Any = self._parameters
        a = weights["lora_A"]
        if self.gated or self.started or x.dtype is not a.dtype or h.dtype is not a.dtype:
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
            (m.rank, m.scaling, m.dropout, m.gated, m.started)
            == (one.rank, one.scaling, one.dropout, False, False)
            for m in present
        )
        carried = state.value is not None and state.mode != "add"
        if not alike or carried or state.x.dim() != 3 or not state.x.is_floating_point():
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
    ``vera`` draws both from kaiming_uniform, ``ia3`` fills with ones, ``gaussian`` draws A from
    N(0, 1 / r^2).

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
    elif how == "gaussian":
        nn.init.normal_(a, std=1 / a.shape[0])
        nn.init.zeros_(b)
    else:
        raise ConfigError(
            f"init_weights='{how}' has no meaning here; known: lora, bert, vera, ia3, gaussian."
        )


def down(source: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """Return A x, (..., r), for A = *a* (r, in) and x = *source* (..., in), or token ids (...)."""
    return F.linear(source, a) if source.is_floating_point() else F.embedding(source, a.t())
