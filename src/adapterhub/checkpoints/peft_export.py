"""Adapters of ours written as folders of the PEFT library, with the same function.

PEFT holds one pair of matrices a module. A fused projection's parts (q, k and v of GPT-2's ``c_attn``) become
one pair of their ranks' sum, with zeros where a part's B does not reach. What a start subtracts is part of
the pair, and DoRA's magnitudes are those of PEFT's norm, which includes alpha / r.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adapterhub.checkpoints.adapters import ADAPTER_FILES, CONFIG, HeadFiles
from adapterhub.checkpoints.atomic import replacing
from adapterhub.checkpoints.files import write_json, write_tensors
from adapterhub.checkpoints.peft import WEIGHTS, WEIGHTS_BIN
from adapterhub.checkpoints.peft_names import PROJECTIONS, ROOT, Places
from adapterhub.configs import LoRAConfig, MTLLoRAConfig
from adapterhub.engine import Engine
from adapterhub.errors import CheckpointError
from adapterhub.methods.hosts import host_bias, host_weight, write

FILES = (*ADAPTER_FILES, WEIGHTS, WEIGHTS_BIN)


def save(
    engine: Engine, directory: str | Path, name: str, head: HeadFiles | None, safetensors: bool
) -> None:
    """Write adapter *name* as a PEFT folder, replacing what was there.

    Args:
        head: a task class's head to write along, as one of PEFT's ``modules_to_save``.
        safetensors: ``False``: PEFT's pickled file.

    Raises:
        CheckpointError: a method, or an option, that PEFT has no counterpart for.
    """
    record = engine.adapters[name]
    config = record.config
    why = _why_not(config)
    if why:
        raise CheckpointError(
            f"'{name}' cannot be written for PEFT: {why}. PEFT has counterparts of LoRA, DoRA and (IA)3."
        )
    groups = _by_host(engine, name)
    scale = config.composition_mode == "scale"
    tensors: dict[str, torch.Tensor] = {}
    facts: dict[str, Any]
    if scale:
        for path, parts in groups.items():
            tensors[f"{ROOT}{path}.ia3_l"] = _vector(parts)
        facts = {"peft_type": "IA3", "feedforward_modules": [], "init_ia3_weights": True}
    else:
        pairs = {path: _pair(parts, name) for path, parts in groups.items()}
        for path, pair in pairs.items():
            tensors.update(pair.tensors(f"{ROOT}{path}"))
        facts = {"peft_type": "LORA", **_lora_facts(config, pairs)}
    if head is not None:
        tensors.update({f"{ROOT}{key}": value for key, value in head.tensors.items()})
        facts["modules_to_save"] = sorted({key.rpartition(".")[0] for key in head.tensors})
    facts.update(_common(engine, list(groups)))
    with replacing(directory, FILES) as folder:
        write_json(folder / CONFIG, facts)
        if safetensors:
            write_tensors(folder / WEIGHTS, tensors)
        else:
            plain = {key: value.detach().cpu().clone() for key, value in tensors.items()}
            torch.save(plain, folder / WEIGHTS_BIN)


def _why_not(config: Any) -> str | None:
    if not isinstance(config, LoRAConfig):
        return f"it is {type(config).__name__}"
    if isinstance(config, MTLLoRAConfig):
        return "it is MTL-LoRA"
    if config.vera_d is not None or config.vera_b is not None:
        return "it is VeRA, whose shared maps PEFT draws anew"
    if config.use_gating:
        return "it has gates (use_gating)"
    if config.expert_matrices:
        return "it changes experts kept as 3-D parameters (expert_matrices)"
    return None


def _by_host(engine: Engine, name: str) -> dict[str, list[tuple[Any, Any]]]:
    """Return (site, module) of each projection that the adapter changes, by the projection's path."""
    places, groups = Places(engine), {}
    for key, module in engine.adapters[name].modules.items():
        site = engine.resolved.sites[key]
        path = places.path(site) if key.point in PROJECTIONS else None
        if path is None:
            raise CheckpointError(f"'{name}' acts at {key}, which is no module of PEFT's kind.")
        groups.setdefault(path, []).append((site, module))
    for path, parts in groups.items():
        order = parts[0][0].fused_parts
        groups[path] = sorted(parts, key=lambda p: order.index(p[0].key.point) if order else 0)
    return groups


class _Rows:
    """A host's output rows, to be written part by part as its weight would be."""

    def __init__(self, site: Any, columns: int, fill: float) -> None:
        weight = host_weight(replace(site, slice=None))
        self.weight = torch.full((weight.shape[0], columns), fill, dtype=torch.float32)

    def put(self, site: Any, value: torch.Tensor, start: int = 0) -> None:
        columns = self.weight[:, start : start + value.shape[1]]
        write(replace(site, host=_Holder(columns)), "weight", value.detach().cpu().float())


class _Holder:
    """Stands for a module with this weight."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight


def _vector(parts: list[tuple[Any, Any]]) -> torch.Tensor:
    rows = _Rows(parts[0][0], 1, 1.0)
    for site, module in parts:
        rows.put(site, module.vector()[:, None])
    return rows.weight


@dataclass
class _Pair:
    """PEFT's tensors for one module; *alpha* over the rank is the scale."""

    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    magnitude: torch.Tensor | None
    embedding: bool

    def tensors(self, stem: str) -> dict[str, torch.Tensor]:
        """Return the tensors by their names in the file."""
        names = (
            ("lora_embedding_A", "lora_embedding_B")
            if self.embedding
            else ("lora_A.weight", "lora_B.weight")
        )
        found = {f"{stem}.{names[0]}": self.a, f"{stem}.{names[1]}": self.b}
        if self.magnitude is not None:
            found[f"{stem}.lora_magnitude_vector"] = self.magnitude
        return found


def _pair(parts: list[tuple[Any, Any]], name: str) -> _Pair:
    first, scaling = parts[0][0], float(parts[0][1].scaling)
    factors = [module.factors() for _, module in parts]
    a = torch.cat([factor[1].detach().cpu().float() for factor in factors])
    rows, start = _Rows(first, a.shape[0], 0.0), 0
    for (site, module), (b, low) in zip(parts, factors, strict=True):
        rows.put(site, b * (float(module.scaling) / scaling), start)
        start += low.shape[0]
    magnitude = None
    if hasattr(parts[0][1], "magnitude"):
        magnitude = _magnitudes(parts, name)
    return _Pair(a, rows.weight, scaling, magnitude, first.key.point == "tokens")


def _magnitudes(parts: list[tuple[Any, Any]], name: str) -> torch.Tensor:
    """Return m' = m ||W + s P|| / ||W + P||: PEFT's norm includes the scale s, ours does not."""
    site = parts[0][0]
    whole = replace(site, slice=None)
    bias = host_bias(whole)
    if bias is not None and bool(bias.any()):
        raise CheckpointError(
            f"'{name}' cannot be written for PEFT: {site.key} has a bias, which DoRA here "
            "rescales and PEFT's does not."
        )
    rows = _Rows(site, 1, 0.0)
    rows.weight.copy_(host_weight(whole).detach().cpu().float().norm(dim=1, keepdim=True))
    for part, module in parts:
        weight = host_weight(part).detach().float()
        product = module.product().detach().float()
        ours = (weight + product).norm(dim=1, keepdim=True)
        theirs = (weight + float(module.scaling) * product).norm(dim=1, keepdim=True)
        rows.put(part, module.magnitude.detach().float() * theirs / ours)
    return rows.weight.flatten()


def _lora_facts(config: LoRAConfig, pairs: Mapping[str, _Pair]) -> dict[str, Any]:
    rooted = config.use_rslora

    def sizes(pair: _Pair) -> tuple[int, float]:
        rank = pair.a.shape[0]
        alpha = pair.scaling * (rank**0.5 if rooted else rank)
        return rank, int(alpha) if float(alpha).is_integer() else alpha

    rank, alpha = Counter(sizes(pair) for pair in pairs.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {p: sizes(pair)[0] for p, pair in pairs.items() if sizes(pair)[0] != rank},
        "alpha_pattern": {
            p: sizes(pair)[1] for p, pair in pairs.items() if sizes(pair)[1] != alpha
        },
        "lora_dropout": config.dropout,
        "bias": "none",
        "use_rslora": rooted,
        "use_dora": config.use_dora,
        "init_lora_weights": True,
    }


def _common(engine: Engine, paths: list[str]) -> dict[str, Any]:
    model: Any = engine.model
    kind = type(model)
    auto = None
    if not engine.own_heads:
        auto = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
    return {
        "target_modules": _targets(engine, paths),
        "fan_in_fan_out": any(
            type(model.get_submodule(path)).__name__ == "Conv1D" for path in paths
        ),
        "base_model_name_or_path": getattr(model.config, "name_or_path", "") or None,
        "auto_mapping": auto,
        "task_type": None,
        "inference_mode": True,
    }


def _targets(engine: Engine, paths: list[str]) -> list[str]:
    """Return the last words of the paths if they mean these modules and no others, else the paths."""
    words = {path.rpartition(".")[2] for path in paths}
    meant = {
        path
        for path, module in engine.model.named_modules()
        if path.rpartition(".")[2] in words
        and hasattr(module, "weight")
        and "adapterhub" not in path
    }
    return sorted(words) if meant == set(paths) else sorted(paths)
