"""ReFT: low-rank interventions on the hidden states between blocks (Wu et al. 2024, section 3.2).

With R (r, hidden), W (r, hidden), b (r,) and a an activation or the identity, at chosen positions::

    h' = dropout(h + R^T (a(W h + b) - R h))      LoReFT (rows of R orthonormal), NoReFT
    h' = dropout(h + R^T  a(W h + b))             DiReFT

Positions are the first ``prefix_positions`` and the last ``suffix_positions`` of every row, counted without
padding on either side. They belong to the sequence, not to the call: a decoding step with a cache
continues the numbering, and inside ``generate`` the last positions are those of the prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs import ReftConfig
from adapterhub.context import local
from adapterhub.methods.activations import activation
from adapterhub.methods.base import Built, Family, Method, Placed
from adapterhub.methods.positions import positions
from adapterhub.methods.stacked import versions


class ReftState(NamedTuple):
    """Hidden states between two blocks.

    Attributes:
        h: (batch, sequence, hidden).
        where: (batch, sequence), number of each position in its row, negative in left padding.
        length: (batch, sequence), length of the row, repeated.
    """

    h: torch.Tensor
    where: torch.Tensor
    length: torch.Tensor


class Unit(nn.Module):
    """One intervention: W, b (``source_weight``, ``source_bias``) and R.

    R is ``projection`` (r, hidden), or with ``orthogonality`` made of ``original`` (r, hidden), whose lower
    triangle holds Householder vectors and whose diagonal holds signs, after a rotation ``base`` (hidden,
    hidden) that files of the ``adapters`` library bring along (``None``: the identity).
    """

    def __init__(self, config: ReftConfig, hidden: int) -> None:
        super().__init__()
        self.activation = activation(config.non_linearity) if config.non_linearity else None
        self.subtract = bool(config.subtract_projection)
        self.dropout = float(config.dropout)
        self.orthogonal = bool(config.orthogonality)
        bound = hidden**-0.5
        self.source_weight = nn.Parameter(torch.empty(config.r, hidden).uniform_(-bound, bound))
        self.source_bias = nn.Parameter(torch.empty(config.r).uniform_(-bound, bound))
        self.base: torch.Tensor | None
        if not self.orthogonal:
            self.projection = nn.Parameter(torch.empty(config.r, hidden).uniform_(-bound, bound))
            return
        start = torch.empty(config.r, hidden)
        if start.is_meta:  # about to be filled from a file
            self.register_buffer("base", torch.empty(hidden, hidden))
        else:
            start = torch.geqrf(torch.randn(hidden, config.r))[0].tril(-1).mT.contiguous()
            start.diagonal().fill_(1.0)
            self.register_buffer("base", None)
        self.original = nn.Parameter(start)

    def directions(self) -> torch.Tensor:
        """Return R, (r, hidden); kept while nothing is trained."""
        if not self.orthogonal:
            return self.projection
        if torch.is_grad_enabled() or (seen := versions([self.original])) is None:
            return self._orthonormal()
        kept = self.__dict__.get("kept")
        if kept is None or kept[0] != seen:
            kept = self.__dict__["kept"] = (seen, self._orthonormal())
        return kept[1]

    def _orthonormal(self) -> torch.Tensor:
        exact = self.original.dtype if self.original.dtype == torch.float64 else torch.float32
        columns = self.original.to(exact).mT
        vectors = columns.tril(-1)
        product = torch.linalg.householder_product(vectors, 2 / (1 + vectors.pow(2).sum(0)))
        product = product * columns.diagonal().int()
        if self.base is not None:
            product = self.base.to(exact) @ product
        return product.mT.to(self.original.dtype)

    def change(self, h: torch.Tensor) -> torch.Tensor:
        """Return R^T (a(W h + b) - R h), without dropout."""
        directions = self.directions()
        source = F.linear(h, self.source_weight, self.source_bias)
        if self.activation is not None:
            source = self.activation(source)
        if self.subtract:
            source = source - F.linear(h, directions)
        return source @ directions

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return h' for h (..., hidden)."""
        kind = h.dtype
        h = h.to(self.source_weight.dtype)
        changed = h + self.change(h)
        if self.dropout and self.training:
            changed = F.dropout(changed, self.dropout)
        return changed.to(kind)


class ReFT(nn.Module):
    """The interventions after one block: ``units`` for the first and the last positions (one if tied)."""

    FILE_GROUP = "refts"

    def __init__(self, config: ReftConfig, hidden: int) -> None:
        super().__init__()
        self.family = REFT
        self.first = config.prefix_positions
        self.last = config.suffix_positions
        self.tied = bool(config.tied_weights)
        self.units = nn.ModuleList(Unit(config, hidden) for _ in range(1 if self.tied else 2))
        if not self.tied:  # files hold both, but what no position uses cannot be trained
            for unit, used in zip(self.units, (self.first, self.last), strict=True):
                if not used:
                    _fix(unit)

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each parameter in files."""
        names = {
            "source_weight": "learned_source.weight",
            "source_bias": "learned_source.bias",
            "projection": "projection.weight",
            "original": "projection.parametrizations.weight.original",
            "base": "projection.parametrizations.weight.0.base",
        }
        result = {}
        for number, unit in enumerate(self.units):
            for name in ("source_weight", "source_bias", "projection", "original", "base"):
                if hasattr(unit, name):
                    result[f"units.{number}.{name}"] = (f"units.{number}.{names[name]}",)
        return result

    def file_value(self, parameter: str, peer: bool) -> torch.Tensor | None:
        """Return a parameter as files have it; the rotation is left out where it is the identity."""
        number, _, name = parameter.removeprefix("units.").partition(".")
        unit: Any = self.units[int(number)]
        value = getattr(unit, name)
        if value is None and peer:
            hidden = unit.original.shape[1]
            return torch.eye(hidden, dtype=unit.original.dtype, device=unit.original.device)
        return value

    def accept_missing(self, parameter: str) -> bool:
        """Whether a file may lack *parameter*; the rotation is then the identity."""
        number, _, name = parameter.removeprefix("units.").partition(".")
        if name != "base":
            return False
        unit: Any = self.units[int(number)]
        unit.base = None
        return True

    def alone(self, slot: Any, h: torch.Tensor, x: Any) -> torch.Tensor:
        """The common case written out: only the positions that change are computed."""
        sequence = local.ctx.sequence
        plain = sequence is None or (
            sequence.mask is None and sequence.grids is None and not sequence.continued
        )
        if not plain or self.last:
            return REFT.end(self.act(REFT.begin(h, x)), slot)
        if not self.first:
            return h
        changed = self.units[0](h[:, : self.first])
        return torch.cat([changed, h[:, self.first :]], 1)

    def act(self, state: ReftState) -> ReftState:
        """Intervene on the positions of *state* that are meant."""
        h, where, length = state
        result = h
        if self.first:
            meant = (where >= 0) & (where < self.first)
            result = torch.where(meant.unsqueeze(-1), self.units[0](h), h)
        if self.last:
            meant = (where >= length - self.last) & (where < length) & (where >= 0)
            result = torch.where(meant.unsqueeze(-1), self.units[-1](h), result)
        return state._replace(h=result)


def _fix(module: nn.Module) -> None:
    """Turn the parameters of *module* into buffers."""
    for name, parameter in list(module._parameters.items()):
        del module._parameters[name]
        module.register_buffer(name, None if parameter is None else parameter.detach())


class ReftFamily(Family[ReftState]):
    """Interventions on hidden states."""

    name = "ReFT"
    fusable = True
    needs_positions = True

    def begin(self, h: torch.Tensor, x: Any) -> ReftState:
        where, length = positions(h)
        return ReftState(h, where, length)

    def apply(self, state: ReftState, module: ReFT, slot: Any) -> ReftState:
        return module.act(state)

    def end(self, state: ReftState, slot: Any) -> torch.Tensor:
        return state.h

    def average(
        self, states: Sequence[ReftState], weights: Sequence[float], slot: Any
    ) -> ReftState:
        h: Any = sum(w * s.h for w, s in zip(weights, states, strict=True))
        return states[0]._replace(h=h)

    def fuse(
        self, state: ReftState, children: Sequence[ReftState], fusion: nn.Module, slot: Any
    ) -> ReftState:
        changes = torch.stack([child.h - state.h for child in children], -2)
        return state._replace(h=fusion(state.h, changes, state.h))

    def select(
        self, state: ReftState, other: ReftState, mask: torch.Tensor, slot: Any
    ) -> ReftState:
        return state._replace(h=torch.where(mask.view(-1, 1, 1), other.h, state.h))


REFT = ReftFamily()


class ReftMethod(Method):
    """Interventions after the blocks that the configuration names."""

    name = "reft"
    config_type = ReftConfig

    def places(self, config: ReftConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        chosen: Any = config.layers
        for site in model.select(sublayer="layer", point="out"):
            if config.output_reft and (chosen == "all" or site.layer_id in chosen):
                yield site

    def build(self, config: ReftConfig, model: ResolvedModel) -> Built:
        placed = []
        for site in self.places(config, model):
            if config.init_weights_seed:
                torch.manual_seed(config.init_weights_seed)
            module = ReFT(config, site.out_features)
            if config.dtype is not None:
                module.to(getattr(torch, config.dtype))
            placed.append(Placed(site, module))
        return Built(placed, {})
