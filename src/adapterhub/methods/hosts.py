"""The weight of a projection, whatever module holds it: read it, and write it."""

from __future__ import annotations

from typing import Any

import torch

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
