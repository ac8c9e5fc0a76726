"""How the tensors of several adapters differ: their norms side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from adapterhub.hub.web.pages import Row
from adapterhub.hub.web.source import Detail, Source, Tensor

#: A page shows so many, those that differ most.
MOST = 40
_ANY = "*"


def norm_rows(source: Source, details: Sequence[Detail]) -> tuple[list[Row], int]:
    """Return the tensors in which adapters differ most, and how many names there are in all.

    Names hold the name that an adapter was saved under; where it differs, it is written ``*``, so that the
    same place in the model is one line. A value is the Frobenius norm, with the shape if shapes differ.
    """
    tables = [_tensors(source, detail) for detail in details]
    if len(tables) < 2 or not all(tables):
        return [], 0
    aligned = _aligned(tables)
    names = list(dict.fromkeys(name for table in aligned for name in table))
    ordered = sorted(names, key=lambda name: (-_distance([t.get(name) for t in aligned]), name))
    rows = []
    for name in ordered[:MOST]:
        found = [table.get(name) for table in aligned]
        shapes = {tensor.shape for tensor in found if tensor}
        rows.append(Row(name, tuple(_text(tensor, len(shapes) > 1) for tensor in found)))
    return rows, len(names)


def _tensors(source: Source, detail: Detail) -> dict[str, Tensor]:
    version = next((v for v in detail.versions if v.name == detail.adapter.version), None)
    found: dict[str, Tensor] = {}
    for file in version.files if version else ():
        if file.path.endswith(".safetensors"):
            found.update({tensor.name: tensor for tensor in source.tensors(file) or ()})
    return found


def _aligned(tables: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Write ``*`` for those parts of names that all tensors of one adapter have and another's have not."""
    common = [set.intersection(*(set(name.split(".")) for name in table)) for table in tables]
    shared = set.intersection(*common)
    result = []
    for table, own in zip(tables, common, strict=True):
        special = own - shared
        result.append(
            {
                ".".join(_ANY if part in special else part for part in name.split(".")): tensor
                for name, tensor in table.items()
            }
        )
    return result


def _distance(found: Sequence[Tensor | None]) -> float:
    """How far apart the norms are, from 0 to 1; 1 also where a tensor is missing."""
    if any(tensor is None for tensor in found):
        return 1.0
    norms = [tensor.norm for tensor in found if tensor and tensor.norm is not None]
    finite = [norm for norm in norms if math.isfinite(norm)]
    if len(finite) < len(found):
        return 1.0
    return (max(finite) - min(finite)) / max(finite) if max(finite) > 0 else 0.0


def _text(tensor: Tensor | None, shape: bool) -> str | None:
    if tensor is None:
        return None
    norm = tensor.dtype if tensor.norm is None else f"{tensor.norm:.4g}"
    return f"{norm} ({' × '.join(map(str, tensor.shape))})" if shape else norm
