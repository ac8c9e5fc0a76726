"""Which adapter a configuration of the LoRA family means, and where it goes: :class:`LoRAMethod`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from adapterhub.architectures import ResolvedModel, ResolvedSite
from adapterhub.configs import LoRAConfig, MTLLoRAConfig
from adapterhub.methods.base import Built, Method, Placed, left_out
from adapterhub.methods.dora import DoRA, DVoRA
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
        for site in model.sites.values():
            if wanted(config, site, model) and not left_out(config, site):
                yield site

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
            module = module_for(config, site, maps)
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
        return " and ".join(problems)

    def mergeable(self, config: LoRAConfig) -> str | None:
        return "its gate depends on the input (use_gating=True)" if config.use_gating else None


def is_vera(config: LoRAConfig) -> bool:
    """Whether the configuration is a VeRA: a number is given for the start of d or b."""
    return config.vera_d is not None or config.vera_b is not None


def module_for(config: LoRAConfig, site: ResolvedSite, maps: SharedMaps | None) -> LinearAdapter:
    """Return the module that *config* means at *site*."""
    widths = (site.in_features, site.out_features)
    if config.composition_mode == "scale":
        return IA3(config, *widths)
    if maps is not None:
        return DVoRA(config, maps, site) if config.use_dora else VeRA(config, maps, *widths)
    if isinstance(config, MTLLoRAConfig):
        return MTLLoRA(config, *widths)
    return DoRA(config, site) if config.use_dora else LoRA(config, *widths)


def _seed(config: Any) -> None:
    if config.init_weights_seed:
        torch.manual_seed(config.init_weights_seed)


def wanted(config: LoRAConfig, site: ResolvedSite, model: ResolvedModel) -> bool:
    """Whether *config* asks for LoRA at *site*."""
    sublayer, point = site.key.sublayer, site.key.point
    if sublayer in ("self", "cross"):
        return config.selfattn_lora and point in config.attn_matrices
    if sublayer != "ffn":
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
