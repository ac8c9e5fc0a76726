"""Which tensor of a file is which parameter: :func:`entries`.

Canonical sites stay the same when transformers renames its modules; files use the paths of the
``adapters`` library, kept in the architecture rows. A fused projection is one tensor in a file and one
parameter a part in memory, stacked on the first axis in the order of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedModel, SiteKey
from adapterhub.errors import CheckpointError


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        names: its name and its aliases, without the base model's prefix; the first is the one to read.
        parts: (module, parameter name) of what it holds, stacked on the first axis.
    """

    names: tuple[str, ...]
    parts: tuple[tuple[nn.Module, str], ...]

    def parameters(self) -> list[torch.Tensor]:
        """Return the parameters (or buffers) that the tensor holds."""
        return [_get(module, name) for module, name in self.parts]

    def shape(self) -> tuple[int, ...]:
        """Return the shape of the tensor in the file."""
        shapes = [tuple(p.shape) for p in self.parameters()]
        axis = self.axis
        return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])

    @property
    def axis(self) -> int:
        """Along which axis the parts lie one after the other."""
        module, name = self.parts[0]
        return getattr(module, "FUSED_AXIS", {}).get(name, 0)

    def value(self, peer: bool = False) -> torch.Tensor | None:
        """Return the tensor to write, or ``None`` if it goes without saying.

        Args:
            peer: as the ``adapters`` library reads it, where that is more than we need.
        """
        values = []
        for module, name in self.parts:
            convert: Any = getattr(module, "file_value", None)
            # (The peer has no such methods on fused projections, so there is nothing to fit to.)
            whole = peer and len(self.parts) == 1
            values.append(_get(module, name) if convert is None else convert(name, whole))
        if values[0] is None:
            return None
        return values[0] if len(values) == 1 else torch.cat([v.detach() for v in values], self.axis)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether the modules can take on a tensor of another shape; if so they have done it."""
        takers: Any = [(getattr(m, "accept_shape", None), name) for m, name in self.parts]
        if len(takers) != 1 or takers[0][0] is None:
            return False
        return takers[0][0](takers[0][1], shape)

    def optional(self) -> bool:
        """Whether the modules can do without the tensor; if so they have said goodbye to it."""
        takers: Any = [(getattr(m, "accept_missing", None), name) for m, name in self.parts]
        return all(taker is not None and taker(name) for taker, name in takers)


def _get(module: nn.Module, name: str) -> torch.Tensor:
    owner, _, leaf = name.rpartition(".")
    holder = module.get_submodule(owner) if owner else module
    found = holder._parameters.get(leaf)
    return found if found is not None else holder._buffers[leaf]  # type: ignore[return-value]


def entries(
    name: str, modules: dict[SiteKey, Any], shared: dict[str, Any], model: ResolvedModel
) -> list[Entry]:
    """Return the tensors of adapter (or fusion layer) *name*, in file order."""
    groups: dict[tuple[str, str], list[tuple[SiteKey, Any]]] = {}
    for key, module in modules.items():
        path = model.sites[key].peer_path
        stem = ".".join(part for part in (path, module.FILE_GROUP, name) if part)
        groups.setdefault((stem, type(module).__name__), []).append((key, module))
    result = []
    for (stem, _), members in groups.items():
        order = model.sites[members[0][0]].fused_parts
        if order:
            members = sorted(members, key=lambda item: order.index(item[0].point))
        for parameter, names in members[0][1].file_names().items():
            parts = tuple((module, parameter) for _, module in members)
            result.append(Entry(tuple(f"{stem}.{n}" for n in names), parts))
    for pool, module in shared.items():
        stem = module.FILE_STEM.format(name=name, pool=pool)
        for parameter, names in module.file_names().items():
            result.append(Entry(tuple(f"{stem}.{n}" for n in names), ((module, parameter),)))
    return result


def tensors_to_write(
    found: Iterable[Entry], prefix: str, peer: bool = False
) -> dict[str, torch.Tensor]:
    """Return ``{file name: tensor}`` with the base model's *prefix* ("" or with its dot).

    Args:
        peer: write everything that the ``adapters`` library needs; see :meth:`Entry.value`.
    """
    result: dict[str, torch.Tensor] = {}
    for entry in found:
        value = entry.value(peer)
        if value is None:
            continue
        for name in entry.names:
            result[prefix + name] = value
    return result


def match(found: list[Entry], tensors: dict[str, torch.Tensor], what: str) -> None:
    """Check that *tensors* are exactly what *found* wants.

    Raises:
        CheckpointError: listing every tensor that is missing, unexpected or of the wrong shape.
    """
    problems: list[str] = []
    known: set[str] = set()
    for entry in found:
        known.update(entry.names)
        present = [n for n in entry.names if n in tensors]
        if not present:
            if entry.optional():
                continue
            problems.append(f"missing: {entry.names[0]} {list(entry.shape())}")
            continue
        value = tensors[present[0]]
        if tuple(value.shape) != entry.shape() and not entry.accepts(tuple(value.shape)):
            problems.append(
                f"shape: {present[0]} is {list(value.shape)} in the file, {list(entry.shape())} in the model"
            )
        elif not value.dtype.is_floating_point:
            problems.append(f"dtype: {present[0]} is {value.dtype}, not a floating-point tensor")
    problems += [
        f"unexpected: {name} {list(tensors[name].shape)}" for name in tensors if name not in known
    ]
    if problems:
        shown = "\n  - ".join(problems[:20])
        more = f"\n  … and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(
            f"{what}: {len(problems)} tensors do not fit, nothing was loaded:\n  - {shown}{more}"
        )


def fill(
    found: list[Entry], tensors: dict[str, torch.Tensor], dtype: torch.dtype | None, device: Any
) -> None:
    """Put the (checked) tensors into the modules as their parameters."""
    for entry in found:
        name = next((n for n in entry.names if n in tensors), None)
        if name is None:  # optional
            continue
        value, start = tensors[name], 0
        for module, parameter in entry.parts:
            rows = _get(module, parameter).shape[entry.axis]
            part = value if len(entry.parts) == 1 else value.narrow(entry.axis, start, rows).clone()
            start += rows
            owner, _, leaf = parameter.rpartition(".")
            target = module.get_submodule(owner) if owner else module
            part = part.to(device=device, dtype=dtype or part.dtype)
            if leaf in target._buffers:
                target._buffers[leaf] = part
            else:
                target._parameters[leaf] = nn.Parameter(part)


def strip_prefix(
    tensors: dict[str, torch.Tensor], prefixes: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Drop the base model's prefix from names that have it.

    Raises:
        CheckpointError: two tensors get the same name that way.
    """
    prefixes = tuple(f"{p}." for p in prefixes if p)
    result: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        short = next((name[len(p) :] for p in prefixes if name.startswith(p)), name)
        if short in result:
            raise CheckpointError(
                f"Two tensors of the file are the same place: {name} and {short}."
            )
        result[short] = value
    return result
