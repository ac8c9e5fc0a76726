"""Configurations of representation fine-tuning (Wu et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapterhub.configs.base import QUIET, AdapterConfig
from adapterhub.errors import ConfigError


@dataclass(frozen=True, eq=False)
class ReftConfig(AdapterConfig):
    """Low-rank interventions on hidden states.

    Attributes:
        layers: ``"all"`` or layer numbers.
        prefix_positions, suffix_positions: how many first, last positions are changed.
        r: rank. orthogonality: orthonormal rows of the projection.
        tied_weights: the same weights for first and last positions.
        dropout: probability in [0, 1). non_linearity: name, or ``None``.
        dtype: name of the torch type of the parameters.
        output_reft: interventions at layer outputs.
        init_weights_seed: seed before initialisation.
        subtract_projection: subtract R h (False: DiReFT). Written to files only when False.
    """

    layers: str | list[int]
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
    subtract_projection: bool = field(default=True, metadata=QUIET)

    def __post_init__(self) -> None:
        self._flags("orthogonality", "tied_weights", "output_reft", "subtract_projection")
        for name, low in (("prefix_positions", 0), ("suffix_positions", 0), ("r", 1)):
            self._is(name, int, low)
        self._probability("dropout")
        self._is("non_linearity", str, optional=True)
        self._is("dtype", str, optional=True)
        self._is("init_weights_seed", int, optional=True)
        if self.layers != "all":
            if not isinstance(self.layers, (list, tuple)) or not all(
                isinstance(i, int) for i in self.layers
            ):
                raise ConfigError(
                    f"{type(self).__name__}: layers={self.layers!r} must be 'all' or a list."
                )
            object.__setattr__(self, "layers", list(self.layers))


@dataclass(frozen=True, eq=False)
class LoReftConfig(ReftConfig):
    """LoReFT."""

    layers: str | list[int] = "all"
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

    subtract_projection: bool = field(default=False, metadata=QUIET | {"default": True})

    def to_dict(self) -> dict[str, object]:
        return {**super().to_dict(), "subtract_projection": self.subtract_projection}
