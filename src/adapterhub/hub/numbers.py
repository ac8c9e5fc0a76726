"""Reads all numbers of a safetensors file once, in pieces, without torch: what is wrong or odd with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.hub.tensors import TensorInfo

#: No trained weight is larger; half precision ends at 65504.
ABSURD = 1e5
_SHOWN = 3
_PIECE = 1 << 22
_NORMS = 256
_READ_AS = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
    "BF16": "<u2",
    "F8_E5M2": "u1",
    "F8_E4M3": "u1",
}


@dataclass
class Numbers:
    """What the numbers of a file are like.

    Attributes:
        broken: tensors with NaN or infinity. zero: matrices that are zero throughout.
        absurd: tensors with a value beyond :data:`ABSURD`.
        norms: Euclidean norm of each tensor, by name in sorted order (the first 256; 0 where the type
            is none that numpy can compute with).
        shapes: a hash of all shapes, in the order of the names.
        largest: the largest absolute value.
    """

    broken: list[str] = field(default_factory=list)
    zero: list[str] = field(default_factory=list)
    absurd: list[str] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    shapes: str = ""
    largest: float = 0.0

    def problems(self) -> list[str]:
        """Return why the file cannot be published."""
        if not self.broken:
            return []
        return [
            f"holds NaN or infinity in {_names(self.broken)}; training has diverged, so do not publish it"
        ]

    def warnings(self, count: int) -> list[str]:
        """Return what is odd about a file of *count* tensors."""
        lines = []
        if self.absurd:
            lines.append(
                f"holds values up to {self.largest:.1e}, which no training gives, in {_names(self.absurd)}"
            )
        if self.zero and len(self.zero) == count:
            lines.append("is zero throughout, so it does nothing")
        elif self.zero:
            lines.append(f"is zero throughout in {_names(self.zero)}")
        return lines


def measure(path: Path, tensors: Sequence[TensorInfo]) -> Numbers:
    """Read every number of the file at *path*, whose header was read and found right."""
    found = Numbers(shapes=_shapes(tensors))
    norms: dict[str, float] = {}
    for tensor in tensors:
        peak, square = _measure(path, tensor)
        if not math.isfinite(peak):
            found.broken.append(tensor.name)
            continue
        found.largest = max(found.largest, peak)
        if peak > ABSURD:
            found.absurd.append(tensor.name)
        if peak == 0.0 and len(tensor.shape) >= 2 and tensor.dtype in _READ_AS:
            found.zero.append(tensor.name)
        norms[tensor.name] = float(f"{math.sqrt(square):.6g}")
    found.norms = [norms[name] for name in sorted(norms)[:_NORMS]]
    return found


def _measure(path: Path, tensor: TensorInfo) -> tuple[float, float]:
    """Return the largest absolute value (NaN or infinity if one is in there) and the sum of squares."""
    import numpy as np  # slow to import, and only needed here

    count = math.prod(tensor.shape)
    if tensor.dtype not in _READ_AS or not count:
        return 0.0, 0.0
    data = np.memmap(path, _READ_AS[tensor.dtype], "r", offset=tensor.begin, shape=(count,))
    peak, square = 0.0, 0.0
    for start in range(0, count, _PIECE):
        values = _wide(data[start : start + _PIECE], tensor.dtype, np)
        high = float(np.max(values))
        if not math.isfinite(high):
            return high, 0.0
        peak = max(peak, high)
        square += float(np.dot(values, values))
    return peak, square


def _wide(values: Any, dtype: str, np: Any) -> Any:
    """Return absolute values as a type in which their squares have room."""
    if dtype == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
    elif dtype.startswith("F8"):
        # Only NaN and infinity matter of these: of E4M3 all ones is NaN, of E5M2 an exponent of ones is.
        mask, special = (0x7C, 0x7C) if dtype == "F8_E5M2" else (0x7F, 0x7F)
        return np.where((values & mask) == special, np.inf, (values & 0x7F) != 0).astype("f8")
    if not np.isfinite(values).all():
        return np.array([np.inf])
    return np.abs(values).astype("f8")


def _shapes(tensors: Sequence[TensorInfo]) -> str:
    # In the order of names, but without them: a copy under another name is a copy, too.
    rows = [list(tensor.shape) for tensor in sorted(tensors, key=lambda tensor: tensor.name)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name[:120]) for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
