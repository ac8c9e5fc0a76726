"""Merging adapters of one make, tensor by tensor: :func:`merge_tensors`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from adapterhub.engine import AdapterRecord, Engine
from adapterhub.errors import ConfigError
from adapterhub.methods import averaging as maths
from adapterhub.methods import build, members
from adapterhub.methods.reft import Unit

STRATEGIES = ("linear", "lora_linear_only_negate_b", "ties", "dare")
#: Settings in which adapters may differ: they are about training only.
FREE = ("dropout", "init_weights", "init_weights_seed")

T = TypeVar("T")


class Place(NamedTuple):
    """A tensor of a module: the sub-module that has it, its name, and whether it is trained."""

    path: str
    name: str
    trained: bool


def merge_tensors(
    engine: Engine,
    records: list[AdapterRecord],
    weights: list[float],
    strategy: str,
    combine: maths.Combine,
) -> AdapterRecord:
    """Return an adapter like the first one, with merged tensors. The model is not touched.

    Args:
        combine: merges changes that are zero where nothing was learned; for ``ties`` and ``dare``.

    Raises:
        ConfigError: the adapters are made differently, or the strategy does not know one of their tensors.
    """
    _check_alike(records)
    first = records[0]
    starts = _Starts(engine, first.config)
    modules, shared = copy.deepcopy((first.modules, first.shared))
    for owner, target in _owners(modules, shared):
        sources = [dict(_owners(r.modules, r.shared))[owner] for r in records]
        for place in dict.fromkeys(place for source in sources for place in _places(source)):
            holder = target.get_submodule(place.path)
            values = _aligned([_value(source, place) for source in sources], place)
            if values is None:
                holder._buffers[place.name] = None
                continue
            if strategy == "linear" or not place.trained:
                merged = maths.linear(values, weights)
            elif strategy == "lora_linear_only_negate_b":
                merged = _negate_b(values, weights, place, first.name)
            else:
                start = starts.at(owner, place, values[0])
                merged = start + combine([value.float() - start for value in values])
            merged = merged.to(values[0].dtype)
            if place.trained:
                holder._parameters[place.name] = nn.Parameter(merged)
            else:
                holder._buffers[place.name] = merged
        _settle(target)
    return AdapterRecord(first.name, first.config, modules, shared)


def _negate_b(
    values: list[torch.Tensor], weights: list[float], place: Place, adapter: str
) -> torch.Tensor:
    if place.path or place.name not in ("lora_A", "lora_B"):
        raise ConfigError(
            f"'lora_linear_only_negate_b' knows what to do with A and B of LoRA, not with "
            f"{place.name} of '{adapter}'; use 'linear'."
        )
    sizes = [abs(w) for w in weights] if place.name == "lora_A" else weights
    return maths.linear(values, sizes)


def _check_alike(records: list[AdapterRecord]) -> None:
    first = records[0]
    wanted = _comparable(first.config)
    for record in records[1:]:
        found = _comparable(record.config)
        if found == wanted and record.modules.keys() == first.modules.keys():
            continue
        differing = sorted(
            {
                key
                for one, other in zip(wanted, found, strict=False)
                for key in one.keys() | other.keys()
                if one.get(key) != other.get(key)
            }
        )
        raise ConfigError(
            f"'{first.name}' and '{record.name}' are made differently "
            f"({', '.join(differing) or 'other methods or places'}), so their tensors cannot be "
            "merged one by one. LoRA adapters of different rank or scale can be merged with "
            "combine_strategy='lora_delta_w_svd' or 'lora_concat'; any adapters can be averaged in "
            "their outputs, by the Average block."
        )


def _comparable(config: Any) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in part.to_dict().items() if key not in FREE}
        for part in members(config)
    ]


def _owners(modules: Mapping[Any, T], shared: Mapping[str, T]) -> Iterator[tuple[Any, T]]:
    """Yield the modules of an adapter by site, then its shared ones by name."""
    yield from modules.items()
    yield from shared.items()


def _places(module: nn.Module) -> Iterator[Place]:
    """Yield every parameter and buffer, also buffers that are not set."""
    for path, part in module.named_modules():
        for name, value in part._parameters.items():
            if value is not None:
                yield Place(path, name, True)
        for name in part._buffers:
            yield Place(path, name, False)


def _value(module: nn.Module, place: Place) -> torch.Tensor | None:
    holder: Any = module.get_submodule(place.path)
    return (holder._parameters if place.trained else holder._buffers).get(place.name)


def _aligned(values: list[torch.Tensor | None], place: Place) -> list[torch.Tensor] | None:
    """Return the values in one shape: a diagonal may stand for its matrix, nothing for the identity."""
    given = [value for value in values if value is not None]
    if not given:
        return None
    most = max(given, key=lambda value: value.dim())
    result = []
    for value in values:
        if value is None:
            value = torch.eye(most.shape[0], dtype=most.dtype, device=most.device)
        elif value.dim() == 1 and most.dim() == 2:
            value = torch.diag(value)
        if value.shape != most.shape:
            raise ConfigError(
                f"{place.name} has the shapes {list(most.shape)} and {list(value.shape)}, so it cannot be "
                "merged."
            )
        result.append(value.detach())
    return result


def _settle(module: nn.Module) -> None:
    """Drop what was computed from the copied tensors, and make signs signs again."""
    for part in module.modules():
        part.__dict__.pop("kept", None)
        if isinstance(part, Unit) and part.orthogonal:
            diagonal = part.original.data.diagonal()  # read as integers
            diagonal.copy_(torch.where(diagonal < 0, -1.0, 1.0))


class _Starts:
    """What an adapter that has learned nothing holds: its start, or 0 where that is random."""

    def __init__(self, engine: Engine, config: Any) -> None:
        self.engine, self.config = engine, config
        self._made: list[dict[Any, nn.Module]] | None = None

    def at(self, owner: Any, place: Place, like: torch.Tensor) -> torch.Tensor:
        """Return the start of one tensor, in the shape of *like* and float32."""
        if self._made is None:
            self._made = [self._make(seed) for seed in (0, 1)]
        found = [_value(made[owner], place) for made in self._made]
        one, other = (like.new_zeros(like.shape) if v is None else v.to(like.device) for v in found)
        start = torch.where(one == other, one, torch.zeros_like(one)).detach().float()
        return torch.diag(start) if start.dim() < like.dim() else start

    def _make(self, seed: int) -> dict[Any, nn.Module]:
        config = self.config
        if any("init_weights_seed" in part.field_names() for part in members(config)):
            config = config.replace(init_weights_seed=None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = build(config, self.engine.resolved)
        modules = {item.site.key: item.module for item in built.placed}
        return dict(_owners(modules, built.shared))
