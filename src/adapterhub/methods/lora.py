"""LoRA: a low-rank change of a linear map (Hu et al. 2022, section 4.1).

For a projection y = W x + c, with A (r, in) and B (out, r)::

    y = W x + c + (alpha / r) B A x

With a gate (UniPELT) the factor alpha / r gives way to g = mean_sequence sigmoid(W_g x + b_g). In a
Stack, LoRA adapters form a chain: the second reads the first one's change, B2 A2 (B1 A1 x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs import LoRAConfig
from adapterhub.context import local
from adapterhub.errors import ConfigError
from adapterhub.methods.base import Built, Family, Method, Placed, left_out
from adapterhub.methods.stacked import gather


class LinearState(NamedTuple):
    """A projection's output *y*, its input *x* and the change so far (``None``: none yet)."""

    y: torch.Tensor
    x: torch.Tensor
    delta: torch.Tensor | None = None


class LoRA(nn.Module):
    """One LoRA at one projection: parameters ``lora_A`` (r, in), ``lora_B`` (out, r), maybe a gate.

    Args:
        config: the adapter's configuration.
        width_in, width_out: widths of the projection.
    """

    def __init__(self, config: LoRAConfig, width_in: int, width_out: int) -> None:
        super().__init__()
        self.family = LINEAR
        self.rank = config.r
        self.scaling = config.alpha / config.r
        self.dropout = float(config.dropout)
        self.gated = bool(config.use_gating)
        self.lora_A = nn.Parameter(torch.empty(config.r, width_in))
        self.lora_B = nn.Parameter(torch.empty(width_out, config.r))
        if self.gated:
            self.gate_weight = nn.Parameter(torch.empty(1, width_in).normal_(std=0.02))
            bound = width_in**-0.5
            self.gate_bias = nn.Parameter(torch.empty(1).uniform_(-bound, bound))
        self.reset_parameters(config)

    FILE_GROUP = "loras"

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        names = {
            "lora_A": "lora_A",
            "lora_B": "lora_B",
            "gate_weight": "gate.weight",
            "gate_bias": "gate.bias",
        }
        return {name: (names[name],) for name, _ in self.named_parameters()}

    def reset_parameters(self, config: LoRAConfig) -> None:
        """Initialise: ``lora`` starts at zero change (B = 0); ``bert`` draws both from N(0, 0.02)."""
        if self.lora_A.is_meta:  # about to be filled from a file
            return
        if config.init_weights == "lora":
            nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)
            nn.init.zeros_(self.lora_B)
        elif config.init_weights == "bert":
            nn.init.normal_(self.lora_A, std=0.02)
            nn.init.normal_(self.lora_B, std=0.02)
        else:
            raise ConfigError(
                f"Unknown init_weights '{config.init_weights}' of LoRA; known: lora, bert."
            )

    def delta(self, source: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the change for input *source*; the gate, if any, reads *x*."""
        if source.dtype is not self.lora_A.dtype:
            source = source.to(self.lora_A.dtype)
        if self.dropout and self.training:
            source = F.dropout(source, self.dropout)
        change = F.linear(F.linear(source, self.lora_A), self.lora_B)
        if self.gated:
            return change * self.gate(x)
        return change if self.scaling == 1.0 else change * self.scaling

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Return mean over the sequence of sigmoid(W_g x + b_g), (batch, 1, 1)."""
        gate = torch.sigmoid(F.linear(x, self.gate_weight, self.gate_bias)).mean(1, keepdim=True)
        if local.ctx.collect is not None:
            local.ctx.collect.setdefault("gates", []).append((self, gate))
        return gate

    def weight_change(self) -> torch.Tensor:
        """Return (alpha / r) B A, (out, in), in the parameters' dtype."""
        return self.scaling * (self.lora_B @ self.lora_A)


class LinearFamily(Family[LinearState]):
    """Changes of a projection's output that depend on its input."""

    name = "LoRA"

    def begin(self, h: torch.Tensor, x: torch.Tensor) -> LinearState:
        return LinearState(h, x)

    def alone(self, module: LoRA, slot: Any, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        weights: Any = module._parameters
        a = weights["lora_A"]
        if module.gated or x.dtype is not a.dtype or h.dtype is not a.dtype:  # type: ignore[union-attr]
            return h + module.delta(x, x).to(h.dtype)
        if module.dropout and module.training:
            x = F.dropout(x, module.dropout)
        low = F.linear(x, a)  # type: ignore[arg-type]
        # One kernel for scaling, product and sum: h + s (A x) B^T.
        width = h.shape[-1]
        flat = torch.addmm(
            h.reshape(-1, width),
            low.reshape(-1, low.shape[-1]),
            weights["lora_B"].t(),  # type: ignore[union-attr]
            alpha=module.scaling,
        )
        return flat.view(h.shape)

    def apply(self, state: LinearState, module: LoRA, slot: Any) -> LinearState:
        source = state.x if state.delta is None else state.delta
        return state._replace(delta=module.delta(source, state.x))

    def end(self, state: LinearState, slot: Any) -> torch.Tensor:
        if state.delta is None:
            return state.y
        return state.y + state.delta.to(state.y.dtype)

    def refuse_stack(self, modules: Sequence[Any], slot: Any) -> str | None:
        site = slot.site
        if len(modules) > 1 and site.in_features != site.out_features:
            return (
                f"stacked LoRA adapters are a chain, so {site.key} ({site.in_features} -> "
                f"{site.out_features}) would have to be square; merge them with average_adapter "
                "or use Average"
            )
        return None

    def _deltas(self, states: Sequence[LinearState]) -> list[torch.Tensor]:
        return [torch.zeros_like(s.y) if s.delta is None else s.delta for s in states]

    def average(
        self, states: Sequence[LinearState], weights: Sequence[float], slot: Any
    ) -> LinearState:
        total: Any = sum(w * d for w, d in zip(weights, self._deltas(states), strict=True))
        return states[0]._replace(delta=total)

    def join(self, states: Sequence[LinearState], axis: int, slot: Any) -> LinearState:
        y = torch.cat([s.y for s in states], axis)
        x = torch.cat([s.x for s in states], axis)
        if all(s.delta is None for s in states):
            return LinearState(y, x)
        return LinearState(y, x, torch.cat(self._deltas(states), axis))

    def select(
        self, state: LinearState, other: LinearState, mask: torch.Tensor, slot: Any
    ) -> LinearState:
        old, new = self._deltas([state, other])
        shaped = mask.view(-1, *([1] * (old.dim() - 1)))
        return state._replace(delta=torch.where(shaped, new, old))

    def route(
        self, state: LinearState, modules: Sequence[LoRA | None], rows: torch.Tensor, slot: Any
    ) -> LinearState | None:
        present = [module for module in modules if module is not None]
        one = present[0]
        alike = all(
            (m.rank, m.scaling, m.dropout, m.gated) == (one.rank, one.scaling, one.dropout, False)
            for m in present
        )
        if not alike or state.x.dim() != 3:
            return None
        a, b, _ = gather(slot, modules, rows, ("lora_A", "lora_B"))
        x = state.x if state.delta is None else state.delta
        if one.dropout and one.training:
            x = F.dropout(x, one.dropout)
        change = torch.bmm(torch.bmm(x, a.mT), b.mT)
        return state._replace(delta=change if one.scaling == 1.0 else change * one.scaling)


LINEAR = LinearFamily()


class LoRAMethod(Method):
    """LoRA at the projections that the configuration names."""

    name = "lora"
    config_type = LoRAConfig

    def _refuse(self, config: LoRAConfig) -> None:
        if config.composition_mode != "add" or config.use_dora or config.vera_d is not None:
            raise ConfigError(
                f"{type(config).__name__} (composition_mode='{config.composition_mode}', use_dora="
                f"{config.use_dora}, vera_d={config.vera_d}) is not available yet; plain LoRA is."
            )

    def places(self, config: LoRAConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        for site in model.sites.values():
            if wanted(config, site, model) and not left_out(config, site):
                yield site

    def build(self, config: LoRAConfig, model: ResolvedModel) -> Built:
        self._refuse(config)
        placed = []
        for site in self.places(config, model):
            if config.init_weights_seed:
                torch.manual_seed(config.init_weights_seed)
            module = LoRA(config, site.in_features, site.out_features)
            if config.dtype is not None:
                module.to(getattr(torch, config.dtype))
            placed.append(Placed(site, module))
        return Built(placed, {})

    def describe_missing(self, config: LoRAConfig, model: ResolvedModel) -> str:
        if not config.selfattn_lora:
            return ""
        have = {site.key.point for site in model.select(sublayer="self")}
        missing = [point for point in config.attn_matrices if point not in have]
        return (
            f"attn_matrices {missing} (this model has {sorted(have & set('qkvo'))})"
            if missing
            else ""
        )

    def mergeable(self, config: LoRAConfig) -> str | None:
        return "its gate depends on the input (use_gating=True)" if config.use_gating else None


def wanted(config: LoRAConfig, site: ResolvedSite, model: ResolvedModel) -> bool:
    """Whether *config* asks for LoRA at *site*."""
    sublayer, point = site.key.sublayer, site.key.point
    if sublayer in ("self", "cross"):
        return config.selfattn_lora and point in config.attn_matrices
    if sublayer != "ffn":
        return False
    stack = next(row for row in model.row.stacks if row.name == site.key.stack)
    intermediate, output = (
        ("up", "down") if stack.peer is None else (stack.peer.intermediate, stack.peer.output)
    )
    return (config.intermediate_lora and point == intermediate) or (
        config.output_lora and point == output
    )
