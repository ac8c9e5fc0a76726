"""Which adapter a configuration of the LoRA family means, and where it goes: :class:`LoRAMethod`."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs import LoRAConfig, MTLLoRAConfig
from adapterhub.configs.lora import WEIGHT_STARTS
from adapterhub.methods.base import Built, Method, Placed, left_out
from adapterhub.methods.dora import DoRA, DVoRA
from adapterhub.methods.experts import ExpertLoRA, missing_experts
from adapterhub.methods.hosts import host_gain, host_weight
from adapterhub.methods.ia3 import IA3
from adapterhub.methods.linear import LinearAdapter
from adapterhub.methods.lora import LoRA
from adapterhub.methods.mtl_lora import MTLLoRA
from adapterhub.methods.vera import SharedMaps, VeRA


class LoRAMethod(Method):
    """LoRA, (IA)3, DoRA, VeRA, DVoRA and MTL-LoRA at the projections that the configuration names."""

    name = "lora"
    config_type = LoRAConfig

    def places(self, config: LoRAConfig, model: ResolvedModel) -> Iterator[ResolvedSite]:
        places = [site for site in model.sites.values() if wanted(config, site, model)]
        for kind, asked in (
            ("tokens", config.embedding_lora),
            ("experts", bool(config.expert_matrices)),
            ("vocabulary", config.lm_head_lora),
        ):
            places += model.extras(kind) if asked else []
        yield from (site for site in places if not left_out(config, site))

    def build(self, config: LoRAConfig, model: ResolvedModel) -> Built:
        sites = list(self.places(config, model))
        maps = None
        if is_vera(config) and sites:
            _seed(config)
            wide_in = max(site.in_features for site in sites)
            maps = SharedMaps(config, wide_in, max(site.out_features for site in sites))
        placed = []
        for site in sites:
            _seed(config)
            module = module_for(config.at(str(site.key)), site, maps)
            if config.dtype is not None:
                module.to(getattr(torch, config.dtype))
            placed.append(Placed(site, module))
        return Built(placed, {} if maps is None else {"maps": maps})

    def describe_missing(self, config: LoRAConfig, model: ResolvedModel) -> str:
        wanted: dict[str, Any] = {
            "ffn": ("ffn_matrices", config.ffn_matrices, ("up", "gate", "down"))
        }
        if config.selfattn_lora:
            wanted["self"] = ("attn_matrices", config.attn_matrices, ("q", "k", "v", "o"))
        problems = []
        for sublayer, (field, points, known) in wanted.items():
            have = {site.key.point for site in model.select(sublayer=sublayer)}
            missing = [point for point in points if point not in have]
            if missing:
                problems.append(f"{field} {missing} (this model has {sorted(have & set(known))})")
        if config.embedding_lora and not model.extras("tokens"):
            problems.append("embedding_lora=True (this model has no token embeddings)")
        if config.lm_head_lora and not model.extras("vocabulary"):
            problems.append(
                "lm_head_lora=True (this model has no map to the vocabulary of its own)"
            )
        if config.expert_matrices:
            problems += missing_experts(config, model)
        problems += [
            f"{field} {pattern!r} (no place of the adapter has such a name)"
            for field in ("rank_pattern", "alpha_pattern")
            for pattern in getattr(config, field)
            if not any(fnmatchcase(str(s.key), pattern) for s in self.places(config, model))
        ]
        return " and ".join(problems)

    def mergeable(self, config: LoRAConfig) -> str | None:
        return "its gate depends on the input (use_gating=True)" if config.use_gating else None


def is_vera(config: LoRAConfig) -> bool:
    """Whether the configuration is a VeRA: a number is given for the start of d or b."""
    return config.vera_d is not None or config.vera_b is not None


def module_for(config: LoRAConfig, site: ResolvedSite, maps: SharedMaps | None) -> nn.Module:
    """Return the module that *config* means at *site*."""
    if site.key.point == "experts":
        return ExpertLoRA(config, site)
    module = _linear_module(config, site, maps)
    module.gain = host_gain(site)
    return module


def _linear_module(
    config: LoRAConfig, site: ResolvedSite, maps: SharedMaps | None
) -> LinearAdapter:
    widths = (site.in_features, site.out_features)
    if config.composition_mode == "scale":
        return IA3(config, *widths)
    if maps is not None:
        return DVoRA(config, maps, site) if config.use_dora else VeRA(config, maps, *widths)
    if isinstance(config, MTLLoRAConfig):
        return MTLLoRA(config, *widths)
    weight = host_weight(site) if config.init_weights in WEIGHT_STARTS else None
    return DoRA(config, site, weight) if config.use_dora else LoRA(config, *widths, weight)


def _seed(config: Any) -> None:
    if config.init_weights_seed:
        torch.manual_seed(config.init_weights_seed)


def wanted(config: LoRAConfig, site: ResolvedSite, model: ResolvedModel) -> bool:
    """Whether *config* asks for LoRA at *site*."""
    sublayer, point = site.key.sublayer, site.key.point
    if sublayer in ("self", "cross"):
        return config.selfattn_lora and point in config.attn_matrices
    if sublayer != "ffn" or point == "experts":
        return False
    if point in config.ffn_matrices:
        return True
    stack = next(row for row in model.row.stacks if row.name == site.key.stack)
    intermediate, output = (
        ("up", "down") if stack.peer is None else (stack.peer.intermediate, stack.peer.output)
    )
    return (config.intermediate_lora and point == intermediate) or (
        config.output_lora and point == output
    )
