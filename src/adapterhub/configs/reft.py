"""Configurations of representation fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapterhub.configs.base import QUIET, AdapterConfig


@dataclass(frozen=True, eq=False)
class ReftConfig(AdapterConfig):
    """Low-rank interventions on hidden states (Wu et al. 2024, arXiv 2404.03592).

    The first five fields have no default here.

    Attributes:
        layers: ``"all"`` or layer numbers.
        prefix_positions, suffix_positions: how many first, last positions are changed.
        r: rank.
        orthogonality: keep the rows of the projection orthonormal.
        tied_weights: the same weights for first and last positions (False).
        dropout: probability in [0, 1) (0.05).
        non_linearity: name of an activation (None).
        dtype: name of the torch type of the parameters; ``None`` (default): the base model's.
        output_reft: interventions at layer outputs (True).
        init_weights_seed: seed before initialisation (None).
        subtract_projection: subtract R h (True; False is DiReFT). Written to files only when False, since
            the peer has no such key.
    """

    layers: str | Sequence[int]
    prefix_positions: int
    suffix_positions: int
    r: int
    orthogonality: bool
    tied_weights: bool = False
    dropout: float = 0.05
    non_linearity: str | None = None
    dtype: str | None = None
    architecture: str | None = field(init=False, default="reft")
    output_reft: bool = True
    init_weights_seed: int | None = None
    subtract_projection: bool = field(default=True, metadata={QUIET: True})

    def __post_init__(self) -> None:
        self._flags("orthogonality", "tied_weights", "output_reft", "subtract_projection")
        self._integer("prefix_positions", 0)
        self._integer("suffix_positions", 0)
        self._integer("r", 1)
        self._probability("dropout")
        self._text("non_linearity", "dtype", optional=True)
        self._integer("init_weights_seed", optional=True)
        if self.layers != "all":
            self._layer_numbers("layers", "'all' or a list of layer numbers")


@dataclass(frozen=True, eq=False)
class LoReftConfig(ReftConfig):
    """LoReFT: all layers, 3 first positions, rank 1, orthonormal."""

    layers: str | Sequence[int] = "all"
    prefix_positions: int = 3
    suffix_positions: int = 0
    r: int = 1
    orthogonality: bool = True


@dataclass(frozen=True, eq=False)
class NoReftConfig(LoReftConfig):
    """NoReFT: LoReFT without orthogonality."""

    orthogonality: bool = False


@dataclass(frozen=True, eq=False)
class DiReftConfig(NoReftConfig):
    """DiReFT: NoReFT without subtracting the projection."""

    subtract_projection: bool = field(default=False, metadata={QUIET: True})
