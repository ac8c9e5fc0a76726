"""The weight of a projection, whatever module holds it: read it, and write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedSite
from adapterhub.architectures.resolve import transposed
from adapterhub.errors import ConfigError


def host_weight(site: ResolvedSite) -> torch.Tensor:
    """Return the weight of a projection site, (out, in). Change it with :func:`write`.

    Raises:
        ConfigError: the host keeps its weight in a packed (quantised) form.
    """
    weight: Any = getattr(site.host, "weight", None)
    if not isinstance(weight, torch.Tensor) or not weight.dtype.is_floating_point:
        raise ConfigError(
            f"{site.key}: {type(site.host).__name__} keeps its weight in a packed form, which this needs in "
            "full; load the base model unquantised, or use LoRA."
        )
    return _part(weight.t() if transposed(site.host) else weight, site)


def host_bias(site: ResolvedSite) -> torch.Tensor | None:
    """Return the bias of a projection site, (out,); ``None`` if there is none."""
    bias: Any = getattr(site.host, "bias", None)
    if not isinstance(bias, torch.Tensor):
        return None
    return _part(bias, site)


def effective_weight(site: ResolvedSite) -> torch.Tensor:
    """Return the weight that a projection site computes with, (out, in), also where it is quantised.

    A packed weight is read off the unit vectors: W^T = host(I) - c.
    """
    weight: Any = getattr(site.host, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.dtype.is_floating_point:
        return host_weight(site)
    bias: Any = getattr(site.host, "bias", None)
    floating = bias if isinstance(bias, torch.Tensor) else torch.empty(0)
    device = weight.device if isinstance(weight, torch.Tensor) else floating.device
    unit = torch.eye(site.in_features, device=device, dtype=floating.dtype)
    with torch.no_grad():
        columns = site.host.forward(unit)  # (past the hooks: without active adapters)
    columns = columns if bias is None else columns - bias
    return _part(columns.t(), site)


def weight_part(rows: torch.Tensor, site: ResolvedSite) -> torch.Tensor:
    """Return the site's part, (out, in), of a weight stored as its host stores it."""
    return _part(rows.t() if transposed(site.host) else rows, site)


def host_gain(site: ResolvedSite) -> float:
    """Return what the host multiplies its weight's output with: scaled embeddings have a factor."""
    gain = getattr(site.host, "scalar_embed_scale", getattr(site.host, "embed_scale", None))
    return 1.0 if gain is None else float(gain)


def write(site: ResolvedSite, attribute: str, value: torch.Tensor) -> None:
    """Put *value*, (out, in) or (out,), into the host's ``"weight"`` or ``"bias"``."""
    whole: Any = getattr(site.host, attribute)
    rows = whole.t() if attribute == "weight" and transposed(site.host) else whole
    if site.slice is None or site.blocks == 1:
        _part(rows, site).copy_(value)
    else:
        start, stop = site.slice
        pieces = rows.unflatten(0, (site.blocks, -1))
        pieces[:, start:stop].copy_(value.unflatten(0, (site.blocks, -1)))


def _part(rows: torch.Tensor, site: ResolvedSite) -> torch.Tensor:
    """The site's own rows: a view, if they lie together."""
    if site.slice is None:
        return rows
    start, stop = site.slice
    if site.blocks == 1:
        return rows[start:stop]
    return rows.unflatten(0, (site.blocks, -1))[:, start:stop].flatten(0, 1)


def merging(site: ResolvedSite, module: Any, slot: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the host's parameters that an adapter's work goes into, each with a function that puts it there.

    A module says it as ``merged(weight, bias, slot)`` for a projection, or as ``merged_parameters(slot)``.
    """
    if hasattr(module, "merged_parameters"):
        for name, value in module.merged_parameters(slot).items():
            yield name, partial(site.host._parameters[name].copy_, value)  # type: ignore[union-attr]
        return
    weight, bias = host_weight(site), host_bias(site)
    new_weight, new_bias = module.merged(weight, bias, slot)
    if new_weight is not weight:
        yield "weight", partial(write, site, "weight", new_weight)
    if bias is not None and new_bias is not bias:
        yield "bias", partial(write, site, "bias", new_bias)


def run_with(host: nn.Module, weights: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
    """Run a module's forward with other tensors in the place of some parameters.

    The module itself is not touched: other threads may be running it.

    Args:
        weights: the tensors, by the parameter's name in *host*.
    """
    return type(host).forward(_View(host, weights), *args, **kwargs)  # type: ignore[arg-type]


class _View:
    """A module as its forward sees it, with other tensors for some parameters."""

    def __init__(self, host: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        self._adapterhub_host = host
        for name, value in weights.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        host = self.__dict__["_adapterhub_host"]
        found = getattr(type(host), name, None)
        if isinstance(found, FunctionType):  # its methods have to see the view too
            return MethodType(found, self)
        return getattr(host, name)
