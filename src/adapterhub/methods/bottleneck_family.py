"""How bottleneck adapters take part in compositions, as functions over a :class:`BottleneckState`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.context import local
from adapterhub.methods.base import Family
from adapterhub.methods.stacked import gather

if TYPE_CHECKING:
    from adapterhub.methods.bottleneck import BottleneckAdapter


class BottleneckState(NamedTuple):
    """State of a sub-layer output while adapters act on it; tensors are (batch, sequence, hidden).

    Attributes:
        h: the running value.
        x: the residual input.
        o: the sub-layer's output as the model computed it.
        r: inner residual of the next adapter.
        query: what AdapterFusion attends with; ``raw_query``: the same before addition and norm.
        up: the last adapter's up-projection, scaled, before dropout, gate and residual.
        pending: ``h`` still lacks ``o`` (parallel adapters).
        bypass: ``h`` is the final value: the model's own addition and norm must not act on it.
        plain: the running value before it was prepared for an adapter, for rows that have none.
    """

    h: torch.Tensor
    x: torch.Tensor
    o: torch.Tensor
    r: torch.Tensor | None = None
    query: torch.Tensor | None = None
    raw_query: torch.Tensor | None = None
    up: torch.Tensor | None = None
    pending: bool = False
    bypass: bool = False
    plain: torch.Tensor | None = None


class BottleneckFamily(Family[BottleneckState]):
    """Bottlenecks at the output of a sub-layer, just before the residual addition."""

    name = "bottleneck"
    needs_residual = True
    fusable = True

    def begin(self, h: torch.Tensor, x: torch.Tensor) -> BottleneckState:
        return BottleneckState(h, x, h)

    def alone(
        self, module: BottleneckAdapter, slot: Any, h: torch.Tensor, x: torch.Tensor
    ) -> torch.Tensor:
        if not module.plain or (module.training and (module.dropout or module.stochastic_depth)):
            return self._alone(module, slot, h, x)
        # The common case written out: as few calls as there are kernels.
        weights: Any = module._parameters
        if module.parallel:
            z = r = x
        else:
            z = r = h
            if module.original_ln_before:
                z = h + x
                norm = slot.norm
                if type(norm) is nn.LayerNorm:
                    own = norm._parameters
                    z = torch.layer_norm(
                        z, norm.normalized_shape, own["weight"], own["bias"], norm.eps
                    )
                elif norm is not None:
                    z = norm(z)
        hidden = module.activation(F.linear(z, weights["down_weight"], weights["down_bias"]))
        y = F.linear(hidden, weights["up_weight"], weights["up_bias"])
        if module.factor != 1.0:
            y = y * module.factor
        return y + (h if module.parallel else r)

    def _alone(
        self, module: BottleneckAdapter, slot: Any, h: torch.Tensor, x: torch.Tensor
    ) -> torch.Tensor:
        z, r = module.enter(h, x, slot.norm)
        if module.parallel:
            y = module.finish(module.up(z), z, None) + h
        else:
            y = module.finish(module.up(z), z, r)
        return y if module.original_ln_after else self._bypass(y, x, slot)

    def enter(
        self, state: BottleneckState, module: BottleneckAdapter, slot: Any
    ) -> BottleneckState:
        if state.pending and not module.parallel:
            state = self._settle(state)
        z, r = module.enter(state.h, state.x, slot.norm)
        raw = state.x if module.parallel else state.h
        plain = state.h if state.plain is None else state.plain
        return state._replace(h=z, r=r, query=z, raw_query=raw, plain=plain)

    def skip(self, state: BottleneckState, slot: Any) -> BottleneckState:
        return state if state.plain is None else state._replace(h=state.plain, plain=None)

    def apply(
        self, state: BottleneckState, module: BottleneckAdapter, slot: Any
    ) -> BottleneckState:
        up = module.up(state.h)
        y = module.finish(up, state.h, None if module.parallel else state.r)
        return state._replace(
            h=y, up=up, pending=module.parallel, bypass=not module.original_ln_after, plain=None
        )

    def end(self, state: BottleneckState, slot: Any) -> torch.Tensor:
        h = state.h + state.o if state.pending else state.h
        return self._bypass(h, state.x, slot) if state.bypass else h

    def _bypass(self, y: torch.Tensor, x: torch.Tensor, slot: Any) -> torch.Tensor:
        """Make the block's result *y* itself although the model goes on with N(. + x)."""
        if not slot.norm_on:
            return y - x
        local.ctx.replacements[slot.index] = y if slot.norm_on == "sum" else y - x
        return y

    def _settle(self, state: BottleneckState) -> BottleneckState:
        return state._replace(h=state.h + state.o, pending=False) if state.pending else state

    def _agree(self, states: Sequence[BottleneckState], slot: Any) -> list[BottleneckState]:
        result = list(states)
        if len({s.pending for s in result}) > 1:
            result = [self._settle(s) for s in result]
        if len({s.bypass for s in result}) > 1:
            result = [s if s.bypass else self._finalise(s, slot) for s in result]
        return result

    def _finalise(self, state: BottleneckState, slot: Any) -> BottleneckState:
        state = self._settle(state)
        if slot.norm_on == "output":
            return state._replace(h=slot.norm(state.h) + state.x, bypass=True)
        total = state.h + state.x
        return state._replace(h=slot.norm(total) if slot.norm_on else total, bypass=True)

    def average(
        self, states: Sequence[BottleneckState], weights: Sequence[float], slot: Any
    ) -> BottleneckState:
        states = self._agree(states, slot)
        h = sum(w * s.h for w, s in zip(weights, states, strict=True))
        ups = [s.up for s in states]
        up = (
            None
            if any(u is None for u in ups)
            else sum(w * u for w, u in zip(weights, ups, strict=True) if u is not None)
        )
        return states[-1]._replace(h=h, up=up)  # type: ignore[arg-type]

    def fuse(
        self,
        state: BottleneckState,
        children: Sequence[BottleneckState],
        fusion: nn.Module,
        slot: Any,
    ) -> BottleneckState:
        ups = [child.up for child in children if child.up is not None]
        query = state.raw_query if fusion.query_before_ln else state.query
        mixed = fusion(query, torch.stack(ups, 2), state.r)
        last = children[-1]
        return state._replace(
            h=mixed, up=mixed, pending=last.pending, bypass=last.bypass, plain=None
        )

    def route(
        self,
        state: BottleneckState,
        modules: Sequence[BottleneckAdapter | None],
        rows: torch.Tensor,
        slot: Any,
    ) -> BottleneckState | None:
        present = [module for module in modules if module is not None]
        if not present[0].plain_maps or not _same_shape(present):
            return None
        one = present[0]
        entered = self.enter(state, one, slot)
        z, r = entered.h, entered.r
        if one.ln_before or one.ln_after or one.gated or one.scale is not None:
            return None
        down, down_bias, up, up_bias, has = gather(
            slot, modules, rows, ("down_weight", "down_bias", "up_weight", "up_bias")
        )
        hidden = one.activation(torch.baddbmm(down_bias.unsqueeze(1), z, down.mT))
        out = torch.baddbmm(up_bias.unsqueeze(1), hidden, up.mT)
        out = out if one.factor == 1.0 else out * one.factor
        if one.dropout and one.training:
            out = F.dropout(out, one.dropout)
        y = out if one.parallel or r is None else out + r
        routed = entered._replace(
            h=y, up=out, pending=one.parallel, bypass=not one.original_ln_after, plain=None
        )
        return self.select(state, routed, has, slot)

    def select(
        self, state: BottleneckState, other: BottleneckState, mask: torch.Tensor, slot: Any
    ) -> BottleneckState:
        state, other = self._agree([state, other], slot)
        shaped = mask.view(-1, *([1] * (state.h.dim() - 1)))
        return other._replace(h=torch.where(shaped, other.h, state.h))

    def join(self, states: Sequence[BottleneckState], axis: int, slot: Any) -> BottleneckState:
        states = self._agree(states, slot)
        h = torch.cat([s.h for s in states], axis)
        x = torch.cat([s.x for s in states], axis)
        o = torch.cat([s.o for s in states], axis)
        last = states[-1]
        ups = [s.up for s in states]
        up = torch.cat(ups, axis) if all(u is not None for u in ups) else None  # type: ignore[arg-type]
        return BottleneckState(h, x, o, up=up, pending=last.pending, bypass=last.bypass)


def _same_shape(modules: Sequence[BottleneckAdapter]) -> bool:
    one = modules[0]
    signature = _signature(one)
    return not (one.training and one.stochastic_depth) and all(
        type(module) is type(one) and _signature(module) == signature for module in modules
    )


def _signature(module: BottleneckAdapter) -> tuple[Any, ...]:
    return (
        tuple(module.down_weight.shape),
        module.parallel,
        module.activation,
        module.original_ln_before,
        module.original_ln_after,
        module.residual_before_ln,
        module.factor,
        module.dropout,
        module.ln_before,
        module.ln_after,
        module.gated,
        module.scale is not None,
    )


BOTTLENECK = BottleneckFamily()
