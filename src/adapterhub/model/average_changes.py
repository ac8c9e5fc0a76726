"""Merging the changes of weight that LoRA adapters make, whatever their rank: :func:`merge_changes`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapterhub.configs import ConfigUnion, LoRAConfig
from adapterhub.engine import AdapterRecord, Engine
from adapterhub.errors import ConfigError
from adapterhub.methods import averaging as maths
from adapterhub.methods import build
from adapterhub.methods.dora import DoRA, DVoRA
from adapterhub.methods.lora import LowRank

#: Strategies that are only defined on changes of weight.
STRATEGIES = ("lora_delta_w_svd", "lora_concat")


def merge_changes(
    engine: Engine,
    records: list[AdapterRecord],
    weights: list[float],
    strategy: str,
    combine: maths.Combine,
    rank: int | None,
) -> AdapterRecord:
    """Return a plain LoRA adapter that makes the merged change of weight. The model is not touched.

    The result keeps the scale s = alpha / r of the first adapter; scales of the others are folded in.

    Args:
        combine: merges whole matrices; for ``ties`` and ``dare``.
        rank: of the result; ``None``: as large as it can have to be.

    Raises:
        ConfigError: an adapter that is no low-rank change of weights, or at other places.
    """
    _check_all(records, strategy)
    first = records[0]
    sites = engine.resolved.sites
    total = sum(record.config.r for record in records)
    if strategy == "lora_concat":
        if rank is not None:
            raise ConfigError(
                f"'lora_concat' is exact, here of rank {total}, so svd_rank={rank} has no meaning; use "
                "'lora_delta_w_svd'."
            )
        rank = total
    elif rank is None:
        widest = max(min(sites[key].in_features, sites[key].out_features) for key in first.modules)
        rank = min(total, widest)
    if not isinstance(rank, int) or rank < 1:
        raise ConfigError(f"svd_rank={rank!r} is no rank; give a positive integer.")
    scale = first.config.alpha / first.config.r
    config = _plain(first.config, rank)
    with torch.device("meta"):
        built = build(config, engine.resolved)
    modules: dict[Any, nn.Module] = {}
    for item in built.placed:
        sources = [record.modules[item.site.key] for record in records]
        b, a = _merged(sources, weights, strategy, combine, scale, rank)
        like = next(sources[0].parameters())
        for name, value in (("lora_A", a), ("lora_B", b)):
            value = value.to(device=like.device, dtype=like.dtype).contiguous()
            item.module._parameters[name] = nn.Parameter(value)
        modules[item.site.key] = item.module
    return AdapterRecord(first.name, config, modules, {})


def _merged(
    sources: list[Any],
    weights: list[float],
    strategy: str,
    combine: maths.Combine,
    scale: float,
    rank: int,
) -> maths.Factors:
    """Return the factors at one place, to be multiplied by *scale*."""
    pairs = []
    for source in sources:
        b, a = source.factors()
        pairs.append((b * (source.scaling / scale), a))
    if strategy in ("ties", "dare"):
        return maths.low_rank(combine([b.float() @ a.float() for b, a in pairs]), rank)
    shares = [(weight * b, a) for weight, (b, a) in zip(weights, pairs, strict=True)]
    if strategy == "lora_concat":
        return maths.concatenated(shares)
    return maths.low_rank_of_sum(shares, rank)


def _check_all(records: list[AdapterRecord], strategy: str) -> None:
    first = records[0]
    for record in records:
        why = next(filter(None, map(_not_low_rank, record.modules.values())), None)
        if isinstance(record.config, ConfigUnion):
            why = "it is a union of methods"
        if why:
            raise ConfigError(
                f"'{strategy}' merges low-rank changes of weight, and '{record.name}' is none: {why}. "
                "Use combine_strategy='linear', or the Average block."
            )
        differing = record.modules.keys() ^ first.modules.keys()
        if differing:
            raise ConfigError(
                f"'{first.name}' and '{record.name}' are not at the same places: only one of them is "
                f"at {min(map(str, differing))}. Use the Average block instead."
            )


def _not_low_rank(module: Any) -> str | None:
    if not isinstance(module, LowRank):
        return f"{type(module).__name__} is another method"
    if isinstance(module, (DoRA, DVoRA)):
        return "DoRA also rescales the weights, which no change of low rank can express"
    return "its gate depends on the input (use_gating=True)" if module.gated else None


def _plain(config: LoRAConfig, rank: int) -> LoRAConfig:
    """Return the configuration of a plain LoRA at the places of *config*, with its alpha / r."""
    alpha = config.alpha * rank / config.r
    kept = {name: getattr(config, name) for name in LoRAConfig.field_names()}
    kept.update(
        r=rank,
        alpha=int(alpha) if float(alpha).is_integer() else alpha,
        vera_d=None,
        vera_b=None,
        init_weights="lora",
    )
    return LoRAConfig(**kept)
