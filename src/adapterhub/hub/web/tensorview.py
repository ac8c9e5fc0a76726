"""The tensors of a safetensors file with their norms, without torch and a piece at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from adapterhub.hub.tensors import TensorInfo, read_header
from adapterhub.hub.web.source import Tensor

_CHUNK = 1 << 22
_READ_AS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def tensors_of(path: Path) -> tuple[Tensor, ...]:
    """Return the tensors in the order of their names; empty if the header is not sound."""
    header = read_header(path)
    if header.problems:
        return ()
    ordered = sorted(header.tensors, key=lambda tensor: _natural(tensor.name))
    return tuple(Tensor(t.name, t.dtype, t.shape, _norm(path, t)) for t in ordered)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort ``layer.10`` after ``layer.9``."""
    parts = name.split(".")
    return [(0, int(p), "") if p.isascii() and p.isdigit() else (1, 0, p) for p in parts]


def _norm(path: Path, tensor: TensorInfo) -> float | None:
    """Return the Frobenius norm, summed in float64."""
    import numpy as np

    count = math.prod(tensor.shape)
    if tensor.dtype not in _READ_AS or not count:
        return None
    data: Any = np.memmap(path, _READ_AS[tensor.dtype], "r", offset=tensor.begin, shape=(count,))
    total = 0.0
    for first in range(0, count, _CHUNK):
        piece = data[first : first + _CHUNK]
        if tensor.dtype == "BF16":  # the upper half of a float32
            piece = (piece.astype("<u4") << 16).view("<f4")
        total += float(np.square(piece.astype("<f8")).sum())
    return math.sqrt(total) if math.isfinite(total) else None
