"""Prefix tuning (Li & Liang 2021, section 4): trained keys and values before the real ones.

For every attention, with P prefix positions::

    K = [P_K; K]        V = [P_V; V]

The P_K, P_V of all layers come out of one pool: flat, a free parameter; or reparametrised,
W_2 tanh(W_1 E + b_1) + b_2 with E (P, hidden). They are prepended after the cache and after the rotary
embedding, so positions and cache are those of the model without prefix. With a gate (UniPELT),
P_K and P_V are multiplied by mean_sequence sigmoid(W_g x + b_g).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs import PrefixTuningConfig
from adapterhub.context import local
from adapterhub.errors import CompositionError
from adapterhub.methods.activations import activation
from adapterhub.methods.base import Built, Family, Method, Placed, left_out
from adapterhub.methods.stacked import versions


class PrefixState(NamedTuple):
    """Prefix keys and values so far.

    Attributes:
        k, v: (batch, heads, P, head_dim).
        x: (batch, sequence, hidden), the attention's input, for gates; ``None`` if there are none.
        valid: (batch, P) bool, which prefix positions a row really has, or (batch, queries, P), which each
            of its positions sees; ``None``: all.
        queries: how many positions attend.
    """

    k: torch.Tensor
    v: torch.Tensor
    x: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    queries: int = 0


class PrefixPool(nn.Module):
    """The prefixes of all layers of one kind of attention.

    Args:
        config: the adapter's configuration.
        layers, heads, head_dim: how many prefixes, and the shape of a position.
        hidden: width of the embeddings E.

    ``forward()`` gives (2 * layers, heads, P, head_dim): key and value of layer l at 2l and 2l + 1.
    """

    def __init__(
        self, config: PrefixTuningConfig, layers: int, heads: int, head_dim: int, hidden: int
    ) -> None:
        super().__init__()
        self.shape = (config.prefix_length, 2 * layers, heads, head_dim)
        width = 2 * layers * heads * head_dim
        self.flat = bool(config.flat)
        self.dropout = float(config.dropout)
        if self.flat:
            self.control = nn.Parameter(torch.randn(config.prefix_length * width))
        else:
            self.activation = activation(config.non_linearity)
            self.embedding = nn.Parameter(torch.randn(config.prefix_length, hidden))
            self.first = nn.Linear(hidden, config.bottleneck_size)
            self.second = nn.Linear(config.bottleneck_size, width)

    def eject(self) -> None:
        """Compute the prefixes once and for all: the pool becomes a flat one of the same function."""
        if self.flat:
            return
        with torch.no_grad():
            values = self.second(self.activation(self.first(self.embedding)))
        trained = self.embedding.requires_grad
        del self.embedding, self.first, self.second, self.activation
        self.control = nn.Parameter(values.flatten(), requires_grad=trained)
        self.flat = True
        self.__dict__.pop("kept", None)

    FILE_STEM: str = "prefix_tuning.prefix_tunings.{name}.{pool}"

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        if self.flat:
            return {"control": ("control_trans",)}
        return {
            "embedding": ("wte.weight",),
            "first.weight": ("control_trans.0.weight",),
            "first.bias": ("control_trans.0.bias",),
            "second.weight": ("control_trans.2.weight",),
            "second.bias": ("control_trans.2.bias",),
        }

    def forward(self) -> torch.Tensor:
        cache = local.ctx.cache
        found = cache.get(id(self))
        if found is None:
            found = cache[id(self)] = self._kept()
        return found

    def _kept(self) -> torch.Tensor:
        """Without gradients the prefixes are constants: keep them until a parameter changes."""
        if torch.is_grad_enabled() or (seen := versions(list(self.parameters()))) is None:
            return self._compute()
        kept = self.__dict__.get("kept")
        if kept is None or kept[0] != seen:
            kept = self.__dict__["kept"] = (seen, self._compute())
        return kept[1]

    def _compute(self) -> torch.Tensor:
        if self.flat:
            values = self.control
        else:
            values = self.second(self.activation(self.first(self.embedding)))
        if self.dropout and self.training:
            values = F.dropout(values, self.dropout)
        return values.view(self.shape).permute(1, 2, 0, 3)


class Prefix(nn.Module):
    """The prefix of one layer: an index into its pool, and its gate (weight (1 or 2, hidden))."""

    def __init__(
        self, config: PrefixTuningConfig, pool: PrefixPool, index: int, site: ResolvedSite
    ) -> None:
        super().__init__()
        self.family = PREFIX
        self.pool = (pool,)  # a tuple, so that the pool is registered once, with the adapter
        self.index = index
        #: Keys and values may be unequally wide (low-rank attention).
        self.widths = (site.head_dim, site.value_dim or site.head_dim)
        self.gated = bool(config.use_gating)
        if self.gated:
            hidden = site.in_features
            gates = 1 if config.shared_gating else 2
            self.gate_weight = nn.Parameter(torch.empty(gates, hidden).normal_(std=0.02))
            bound = hidden**-0.5
            self.gate_bias = nn.Parameter(torch.empty(gates).uniform_(-bound, bound))

    FILE_GROUP = "prefix_tuning.prefix_gates"

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        return {"gate_weight": ("weight",), "gate_bias": ("bias",)} if self.gated else {}

    def states(self, batch: int, x: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values, each (batch, heads, P, head_dim)."""
        pool = self.pool[0]()
        k, v = pool[2 * self.index], pool[2 * self.index + 1]
        if self.widths[0] != self.widths[1]:
            k, v = k[..., : self.widths[0]], v[..., : self.widths[1]]
        if not self.gated:
            return k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)
        assert x is not None
        gate = torch.sigmoid(F.linear(x, self.gate_weight, self.gate_bias)).mean(1)
        if local.ctx.collect is not None:
            local.ctx.collect.setdefault("gates", []).append((self, gate))
        return k * gate[:, 0].view(-1, 1, 1, 1), v * gate[:, -1].view(-1, 1, 1, 1)


class PrefixFamily(Family[PrefixState]):
    """Prefixes of keys and values."""

    name = "prefix tuning"

    def begin(self, key: torch.Tensor, x: torch.Tensor | None, queries: int = 0) -> PrefixState:
        empty = key[:, :, :0]
        return PrefixState(empty, empty, x, None, queries)

    def size(self, state: PrefixState, axis: int) -> int:
        return state.k.shape[0] if axis == 0 else state.queries

    def apply(self, state: PrefixState, module: Prefix, slot: Any) -> PrefixState:
        k, v = module.states(state.k.shape[0], state.x)
        k, v = k.to(state.k.dtype), v.to(state.k.dtype)
        if not state.k.shape[2]:
            return state._replace(k=k, v=v)
        valid = state.valid
        if valid is not None:
            valid = torch.cat([valid.new_ones(*valid.shape[:-1], k.shape[2]), valid], -1)
        return state._replace(
            k=torch.cat([k, state.k], 2), v=torch.cat([v, state.v], 2), valid=valid
        )

    def average(
        self, states: Sequence[PrefixState], weights: Sequence[float], slot: Any
    ) -> PrefixState:
        if len({s.k.shape[2] for s in states}) > 1 or any(s.valid is not None for s in states):
            raise CompositionError(
                f"Average at {slot.site.key}: prefixes of different length have no mean; give them the "
                "same prefix_length or use Parallel or BatchSplit."
            )
        k: Any = sum(w * s.k for w, s in zip(weights, states, strict=True))
        v: Any = sum(w * s.v for w, s in zip(weights, states, strict=True))
        return states[0]._replace(k=k, v=v)

    def part(self, state: PrefixState, start: int, stop: int, axis: int = 0) -> PrefixState:
        if axis == 0:
            valid = None if state.valid is None else state.valid[start:stop]
            x = None if state.x is None else state.x[start:stop]
            return PrefixState(state.k[start:stop], state.v[start:stop], x, valid, state.queries)
        x = None if state.x is None else state.x[:, start:stop]
        valid = state.valid
        if valid is not None and valid.dim() == 3:
            valid = valid[:, start:stop]
        return state._replace(x=x, valid=valid, queries=stop - start)

    def join(self, states: Sequence[PrefixState], axis: int, slot: Any) -> PrefixState:
        if axis == 1:
            return self._join_positions(states)
        states = _alike(_padded(states))
        x = None if states[0].x is None else torch.cat([s.x for s in states])  # type: ignore[misc]
        valid = None
        if any(s.valid is not None for s in states):
            valid = torch.cat([_valid(s) for s in states])
        return PrefixState(
            torch.cat([s.k for s in states]),
            torch.cat([s.v for s in states]),
            x,
            valid,
            states[0].queries,
        )

    def _join_positions(self, states: Sequence[PrefixState]) -> PrefixState:
        """Line up the prefixes of parts of the sequence; each part's queries see their own."""
        rows = states[0].k.shape[0]
        shown = []
        for number, state in enumerate(states):
            own = _valid(state)
            own = own if own.dim() == 3 else own[:, None].expand(-1, state.queries, -1)
            blocks = [
                own if other == number else own.new_zeros(rows, state.queries, s.k.shape[2])
                for other, s in enumerate(states)
            ]
            shown.append(torch.cat(blocks, 2))
        x = None if states[0].x is None else torch.cat([s.x for s in states], 1)  # type: ignore[misc]
        return PrefixState(
            torch.cat([s.k for s in states], 2),
            torch.cat([s.v for s in states], 2),
            x,
            torch.cat(shown, 1),
            sum(s.queries for s in states),
        )

    def select(
        self, state: PrefixState, other: PrefixState, mask: torch.Tensor, slot: Any
    ) -> PrefixState:
        old, new = _alike(_padded([state, other]))
        shaped = mask.view(-1, 1, 1, 1)
        seen, own = _valid(new), _valid(old)
        valid = torch.where(mask.view(-1, *([1] * (own.dim() - 1))), seen, own)
        return old._replace(
            k=torch.where(shaped, new.k, old.k), v=torch.where(shaped, new.v, old.v), valid=valid
        )


def _alike(states: Sequence[PrefixState]) -> list[PrefixState]:
    """Return the states with ``valid`` by query in all of them, if it is so in one."""
    if not any(s.valid is not None and s.valid.dim() == 3 for s in states):
        return list(states)
    result = []
    for state in states:
        valid = _valid(state)
        if valid.dim() == 2:
            valid = valid[:, None].expand(-1, state.queries, -1)
        result.append(state._replace(valid=valid))
    return result


def _valid(state: PrefixState) -> torch.Tensor:
    if state.valid is not None:
        return state.valid
    return torch.ones(state.k.shape[0], state.k.shape[2], dtype=torch.bool, device=state.k.device)


def _padded(states: Sequence[PrefixState]) -> list[PrefixState]:
    """Return the states with prefixes as long as the longest, hidden where they were not.

    One without a prefix has no values to tell how wide they are: keys and values may differ in that.
    """
    length = max(s.k.shape[2] for s in states)
    width = next((s.v.shape[3] for s in states if s.v.shape[2]), states[0].v.shape[3])
    result = []
    for state in states:
        missing = length - state.k.shape[2]
        if missing:
            empty = state.v if state.v.shape[2] else state.v[..., :1].expand(-1, -1, -1, width)
            k, v = (F.pad(t, (0, 0, missing, 0)) for t in (state.k, empty))
            valid = F.pad(_valid(state), (missing, 0), value=False)
            state = state._replace(k=k, v=v, valid=valid)
        result.append(state)
    return result


PREFIX = PrefixFamily()


class PrefixTuning(Method):
    """Prefixes at every attention that the configuration names."""

    name = "prefix_tuning"
    config_type = PrefixTuningConfig

    def places(self, config: PrefixTuningConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        for site in model.select(point="kv"):
            key = site.peer_prefix_key
            skip = (key == "encoder_prefix" and not config.encoder_prefix) or (
                site.key.sublayer == "cross" and not config.cross_prefix
            )
            if not skip and not left_out(config, site):
                yield site

    def build(self, config: PrefixTuningConfig, model: ResolvedModel) -> Built:
        by_pool: dict[tuple[str, str, tuple[int, ...]], list[ResolvedSite]] = {}
        for site in self.places(config, model):
            shape = (site.kv_heads, max(site.head_dim, site.value_dim), site.in_features)
            by_pool.setdefault((site.peer_root, site.peer_prefix_key, shape), []).append(site)
        placed, shared = [], {}
        for (root, key, (heads, dim, width)), sites in by_pool.items():
            name = key if not root else f"{root}_{key}".replace(".", "_")
            if name in shared:  # layers with keys of another shape
                name = key = f"{name}_{heads}x{dim}x{width}"
            if config.init_weights_seed:
                torch.manual_seed(config.init_weights_seed)
            pool = PrefixPool(config, len(sites), heads, dim, width)
            if root:  # a part of the model that has pools of its own
                pool.FILE_STEM = f"{root}.prefix_tuning.prefix_tunings.{{name}}.{key}"
            shared[name] = pool
            for index, site in enumerate(sites):
                placed.append(Placed(site, Prefix(config, pool, index, site)))
        return Built(placed, shared)
