"""Checks a safetensors file without trusting it: first the header, then the numbers.

The format is a little-endian 8-byte length, that many bytes of JSON, then the raw data. Readers in
the wild believe the header, so every statement in it is checked against the others and against the
file: known types, shapes whose bytes equal the stated span, and spans that cover the data exactly
once, without gap, overlap or tail.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The limit of the Hugging Face clients; a header larger than that cannot be read by them.
MAX_HEADER_BYTES = 25_000_000
MAX_DIMENSIONS = 16
MAX_TENSORS = 100_000

#: Bits of one element of each type of the format.
DTYPE_BITS: dict[str, int] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the header states it; *begin* and *end* count from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass
class TensorFile:
    """What was read from one safetensors file."""

    tensors: list[TensorInfo] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors together."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def strict_json(data: bytes) -> Any:
    """Parse UTF-8 JSON; repeated keys, NaN and infinities are refused.

    Raises:
        ValueError: If it is not JSON in this sense.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"key {twice!r} occurs twice")
        return result

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_header(path: Path) -> TensorFile:
    """Read and check the header of the file at *path*; see ``problems`` of the result."""
    result = TensorFile()
    size = os.path.getsize(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            result.problems.append("is cut off: shorter than its header says")
            return result
        if length > MAX_HEADER_BYTES:
            result.problems.append(f"header has {length} bytes; at most {MAX_HEADER_BYTES} can be")
            return result
        data = file.read(length)
    try:
        header = strict_json(data)
    except ValueError as error:
        result.problems.append(f"header is not valid JSON: {error}")
        return result
    if not isinstance(header, dict):
        result.problems.append("header is not a JSON object")
        return result
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        result.problems.append("__metadata__ must map text to text")
    if len(header) > MAX_TENSORS:
        result.problems.append(f"holds {len(header)} tensors; at most {MAX_TENSORS} can be")
        return result
    for name, info in header.items():
        tensor = _tensor(name, info, 8 + length, result.problems)
        if tensor is not None:
            result.tensors.append(tensor)
    if not result.problems:
        _check_cover(result, 8 + length, size)
    return result


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _tensor(name: str, info: Any, start: int, problems: list[str]) -> TensorInfo | None:
    label = f"tensor {name[:120]!r}"
    if not isinstance(info, dict) or set(info) != {"dtype", "shape", "data_offsets"}:
        problems.append(f"{label} must have exactly dtype, shape and data_offsets")
        return None
    dtype, shape, offsets = info["dtype"], info["shape"], info["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        problems.append(f"{label} has the unknown type {dtype!r:.40}")
        return None
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_whole, shape)):
        problems.append(f"{label} has the impossible shape {shape!r:.60}")
        return None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_whole, offsets)):
        problems.append(f"{label} has the impossible offsets {offsets!r:.60}")
        return None
    begin, end = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        problems.append(
            f"{label} of type {dtype} and shape {shape} needs {bits / 8:g} bytes, "
            f"but its offsets span {end - begin}"
        )
        return None
    return TensorInfo(name, dtype, tuple(shape), start + begin, start + end)


def _check_cover(result: TensorFile, start: int, size: int) -> None:
    position = start
    for tensor in sorted(result.tensors, key=lambda item: (item.begin, item.end)):
        if tensor.begin != position:
            kind = "overlaps the one before" if tensor.begin < position else "leaves a gap before"
            result.problems.append(f"tensor {tensor.name[:120]!r} {kind} it")
            return
        position = tensor.end
    if position != size:
        result.problems.append(f"has {size - position} bytes that no tensor accounts for")


def number_problems(path: Path, tensors: list[TensorInfo]) -> list[str]:
    """Return which tensors hold NaN or infinity; see :mod:`.numbers` for all that can be said."""
    from adapterhub.hub.numbers import measure  # which reads this module

    return measure(path, tensors).problems()
