"""What differs between two versions of an adapter: results, files, and tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapterhub.hub.web.source import File, Tensor, Version
from adapterhub.hub.web.text import file_size, number


@dataclass(frozen=True)
class Change:
    """One line: what, before, after (``None``: not there), and the relative change of a number."""

    label: str
    before: str | None
    after: str | None
    ratio: float | None = None


def compare(
    old: Version,
    new: Version,
    tensors: Mapping[str, tuple[Sequence[Tensor], Sequence[Tensor]]] | None = None,
) -> tuple[Change, ...]:
    """Return what differs, in the order in which people ask.

    Args:
        old, new: the versions.
        tensors: for each weight file, its tensors in both.
    """
    pairs: list[tuple[str, str | None, str | None]] = [
        ("Published", old.published, new.published),
        ("Description", old.description or None, new.description or None),
        ("Score", _number(old.score), _number(new.score)),
    ]
    for name in sorted({*old.metrics, *new.metrics}):
        pairs.append((name, _number(old.metrics.get(name)), _number(new.metrics.get(name))))
    pairs.append(("Parameters", _number(old.parameters), _number(new.parameters)))
    pairs.append(("Address", old.url, new.url))
    if not old.files or not new.files:
        pairs.append(("SHA-256", old.sha256, new.sha256))
    found = [Change(label, one, two) for label, one, two in pairs if one != two]
    before, after = ({file.path: file for file in v.files} for v in (old, new))
    for path in sorted({*before, *after}):
        one, two = before.get(path), after.get(path)
        if one is None or two is None or one.sha256 != two.sha256:
            found.append(Change(path, _file(one), _file(two)))
    for first, second in (tensors or {}).values():
        found += _tensors(first, second)
    return tuple(found)


def _number(value: float | None) -> str | None:
    return None if value is None else number(value)


def _file(file: File | None) -> str | None:
    return f"{file_size(file.size)}, {file.sha256[:12]}" if file else None


def _tensors(old: Sequence[Tensor], new: Sequence[Tensor]) -> list[Change]:
    before, after = ({tensor.name: tensor for tensor in group} for group in (old, new))
    found = []
    for name in dict.fromkeys((*before, *after)):
        one, two = before.get(name), after.get(name)
        first, second = (describe(tensor) if tensor else None for tensor in (one, two))
        if first == second:
            continue
        ratio = None
        if one and two and one.norm and two.norm is not None and math.isfinite(one.norm):
            ratio = two.norm / one.norm - 1
        found.append(Change(name, first, second, ratio))
    return found


def describe(tensor: Tensor) -> str:
    """Return type, shape and norm of a tensor."""
    shape = " × ".join(map(str, tensor.shape)) or "scalar"
    norm = "" if tensor.norm is None else f", norm {tensor.norm:.4g}"
    return f"{tensor.dtype} {shape}{norm}"
