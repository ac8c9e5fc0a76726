"""VeRA: shared frozen random maps with trained scalings (Kopiczko et al. 2024, section 3).

One pair A (r, in), B (out, r) for the whole adapter, never trained; each projection trains d (r,) and
b (out,)::

    y = W x + c + (alpha / r) b * (B (d * (A x)))

Projections narrower than the shared maps use their first columns and rows. Files of the ``adapters``
library hold full matrices in place of d and b, whose entries off the diagonal are trained too; they
are read, used and written as what they are.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.configs import LoRAConfig
from adapterhub.methods.lora import LowRank, down, init_pair


class SharedMaps(nn.Module):
    """The frozen maps of one adapter: buffers ``lora_A`` (r, widest input), ``lora_B`` (widest output, r)."""

    FILE_STEM = "shared_parameters.{name}"
    lora_A: torch.Tensor
    lora_B: torch.Tensor

    def __init__(self, config: LoRAConfig, width_in: int, width_out: int) -> None:
        super().__init__()
        self.register_buffer("lora_A", torch.empty(config.r, width_in))
        self.register_buffer("lora_B", torch.empty(width_out, config.r))
        if not self.lora_A.is_meta:
            init_pair(self.lora_A, self.lora_B, config.init_weights)

    def file_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each tensor in files."""
        return {"lora_A": ("lora_A",), "lora_B": ("lora_B",)}


class VeRA(LowRank):
    """One VeRA at one projection: parameters ``vera_D`` (r,) and ``vera_B`` (out,), or full matrices."""

    def __init__(self, config: LoRAConfig, maps: SharedMaps, width_in: int, width_out: int) -> None:
        super().__init__(config, width_in, config.scaling)
        self.widths = (width_in, width_out)
        self.maps = (maps,)  # a tuple, so that they are registered once, with the adapter
        self.vera_D = nn.Parameter(torch.full((config.r,), float(config.vera_d or 0.0)))
        self.vera_B = nn.Parameter(torch.full((width_out,), float(config.vera_b or 0.0)))

    def dtype(self) -> torch.dtype:
        return self.vera_D.dtype

    def shared(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A (r, in) and B (out, r) as wide as this projection."""
        maps = self.maps[0]
        return maps.lora_A[:, : self.widths[0]], maps.lora_B[: self.widths[1]]

    def change(self, source: torch.Tensor) -> torch.Tensor:
        a, b = self.shared()
        low = _scaled(down(source, a), self.vera_D)
        return _scaled(F.linear(low, b), self.vera_B)

    def product(self) -> torch.Tensor:
        a, b = self.shared()
        return _matrix(self.vera_B) @ b @ _matrix(self.vera_D) @ a

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.shared()
        return _matrix(self.vera_B) @ b, _matrix(self.vera_D) @ a

    def file_value(self, parameter: str, peer: bool) -> torch.Tensor:
        """Return a parameter as files have it: the ``adapters`` library wants full matrices."""
        value = self.get_parameter(parameter)
        return _matrix(value) if peer and parameter in ("vera_D", "vera_B") else value

    def accept_shape(self, parameter: str, shape: tuple[int, ...]) -> bool:
        """Take on a full matrix where a file has one; whether *shape* is one."""
        size = self.get_parameter(parameter).shape[0]
        if parameter not in ("vera_D", "vera_B") or shape != (size, size):
            return False
        setattr(self, parameter, nn.Parameter(self.get_parameter(parameter).new_empty(shape)))
        return True


def _scaled(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * scale if scale.dim() == 1 else F.linear(x, scale)


def _matrix(scale: torch.Tensor) -> torch.Tensor:
    return torch.diag(scale) if scale.dim() == 1 else scale
