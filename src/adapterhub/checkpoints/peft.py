"""Adapters of the PEFT library: its folders read as ours, with the same function.

PEFT names tensors by the path of the module they change. Here that module is a place (a site), and the
tensors become the parameters of the method that computes the same:

==============  =================================================================================
LORA            LoRA. A fused projection (GPT-2's ``c_attn``) has one A for its parts; each part gets it.
LORA, use_dora  DoRA with alpha / r folded into B: PEFT's norm includes it, ours does not.
IA3             (IA)3. A factor on the input of a gated network's last map is one on its ``up`` projection.
PROMPT_TUNING   prompt tuning, in models whose prompts join the token embeddings.
==============  =================================================================================

What has no such counterpart is one clear error. A place that our configuration cannot leave out while the
file has nothing there gets a module without effect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adapterhub.checkpoints.adapters import HeadFiles, Loaded, base_dtype
from adapterhub.checkpoints.files import read_tensors
from adapterhub.checkpoints.peft_names import Change, gather, rows_of
from adapterhub.configs import LoRAConfig, PromptTuningConfig
from adapterhub.engine import AdapterRecord, Engine
from adapterhub.errors import CheckpointError
from adapterhub.methods import build
from adapterhub.methods.hosts import host_bias, host_weight
from adapterhub.methods.starts import weight_start

WEIGHTS, WEIGHTS_BIN = "adapter_model.safetensors", "adapter_model.bin"
#: Starts of LoRA's matrices that leave the base weights as they are.
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
#: Entries of a LoRA configuration that are used here, or that do not change the function.
KNOWN = frozenset(
    (
        *(
            "alpha_pattern",
            "auto_mapping",
            "base_model_name_or_path",
            "bias",
            "ensure_weight_tying",
        ),
        *("eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights"),
        *("layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha", "lora_dropout"),
        *(
            "megatron_core",
            "modules_to_save",
            "peft_type",
            "peft_version",
            "qalora_group_size",
            "r",
        ),
        *("rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_dora"),
        "use_rslora",
    )
)


def is_peft(facts: Mapping[str, Any]) -> bool:
    """Whether an ``adapter_config.json`` is one of PEFT's."""
    return isinstance(facts.get("peft_type"), str)


def read(
    engine: Engine,
    folder: Path,
    facts: Mapping[str, Any],
    *,
    load_as: str | None = None,
    prefer_bin: bool = False,
    with_head: bool = True,
) -> Loaded:
    """Read a PEFT folder as an adapter for this model. The model is not touched.

    Args:
        facts: its ``adapter_config.json``.
        load_as: the adapter's name; default: that of the folder, as PEFT's files hold none.

    Raises:
        CheckpointError: a method or an option without counterpart, or tensors that have no place here.
    """
    name = load_as or folder.name.replace(".", "_") or "default"
    kind = str(facts.get("peft_type"))
    readers = {"LORA": _read_lora, "IA3": _read_ia3, "PROMPT_TUNING": _read_prompt}
    if kind not in readers:
        raise CheckpointError(
            f"{folder} holds a PEFT adapter of type {kind}, which has no counterpart that computes the same "
            f"here; {', '.join(readers)} have."
        )
    tensors = read_tensors(folder, WEIGHTS, WEIGHTS_BIN, prefer_bin)
    record, rest = readers[kind](engine, folder, facts, tensors, name)
    head = _head(engine, folder, facts, rest)
    return Loaded(record, head if with_head else None, dict(facts))


# -- LoRA and DoRA -------------------------------------------------------------------------------------


def _read_lora(
    engine: Engine, folder: Path, facts: Mapping[str, Any], tensors: Any, name: str
) -> tuple[AdapterRecord, dict[str, torch.Tensor]]:
    used = [key for key, value in facts.items() if value and key not in KNOWN]
    start = facts.get("init_lora_weights", True)
    known_start = isinstance(start, str) and start in ("pissa", "olora")
    if start not in PLAIN_STARTS and not (known_start and not facts.get("use_dora")):
        used.append(f"init_lora_weights={start!r}")
    if used:
        raise CheckpointError(
            f"{folder} uses {', '.join(used)}, which has no counterpart here; let PEFT merge it into the "
            "model, or save it as plain LoRA (path_initial_model_for_weight_conversion)."
        )
    changes, rest = gather(engine, folder, tensors)
    if not changes:
        raise CheckpointError(f"{folder} has no LoRA matrices.")
    dora = any(change.magnitude is not None for change in changes.values())
    if dora and any(change.magnitude is None for change in changes.values()):
        raise CheckpointError(f"{folder} has DoRA at some places and LoRA at others.")
    scales = {key: _scaling(facts, change) for key, change in changes.items()}
    ranks = {key: change.rank for key, change in changes.items()}
    alphas: dict[Any, float] = dict(ranks)  # (DoRA's scale goes into B)
    if dora:
        _check_biases(engine, folder, changes)
    else:
        rooted = bool(facts.get("use_rslora"))
        alphas = {k: scales[k] * (r**0.5 if rooted else r) for k, r in ranks.items()}
        alphas = {k: int(a) if float(a).is_integer() else a for k, a in alphas.items()}
    rank, alpha = Counter((ranks[key], alphas[key]) for key in changes).most_common(1)[0][0]
    config = LoRAConfig(
        **_places(engine, changes),
        r=rank,
        alpha=alpha,
        dropout=float(facts.get("lora_dropout") or 0.0),
        use_dora=dora,
        use_rslora=bool(facts.get("use_rslora")) and not dora,
        init_weights=str(start) if known_start else "lora",
        rank_pattern={str(key): r for key, r in ranks.items() if r != rank},
        alpha_pattern={str(key): a for key, a in alphas.items() if a != alpha},
    )
    record = _build(engine, name, config)
    module: Any
    for key, module in record.modules.items():
        change = changes.get(key)
        site = engine.resolved.sites[key]
        if change is None:
            values = {
                "lora_A": torch.zeros(module.lora_A.shape),
                "lora_B": torch.zeros(module.lora_B.shape),
            }
            nn.init.kaiming_uniform_(values["lora_A"], a=5**0.5)
            if dora:
                values["magnitude"] = host_weight(site).float().norm(dim=1, keepdim=True)
        else:
            values = {"lora_A": change.a, "lora_B": change.b * scales[key] if dora else change.b}
            if change.magnitude is not None:
                values["magnitude"] = change.magnitude.reshape(-1, 1)
        if getattr(module, "started", False):
            a, b = values["lora_A"], values["lora_B"]
            if change is not None:  # (PEFT starts from the whole of a fused weight)
                whole = host_weight(replace(site, slice=None))
                a, b = weight_start(config.init_weights, whole, module.rank, module.scaling)
                b = rows_of(b, site)
            values.update(start_A=a, start_B=b)
        _put(engine, module, values, folder, key)
    return record, rest


def _scaling(facts: Mapping[str, Any], change: Change) -> float:
    """Return PEFT's factor on B A at one place."""
    alpha = float(_pattern(facts.get("alpha_pattern"), change.path, facts.get("lora_alpha", 8)))
    return alpha / (change.rank**0.5 if facts.get("use_rslora") else change.rank)


def _pattern(patterns: Any, path: str, default: Any) -> Any:
    """Return the value of the first pattern (a regular expression on a path's end) that fits."""
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", path):
                return value
        except re.error as error:
            raise CheckpointError(f"{pattern!r} is no pattern of module names: {error}") from error
    return default


def _check_biases(engine: Engine, folder: Path, changes: Mapping[Any, Change]) -> None:
    for key in changes:
        bias = host_bias(engine.resolved.sites[key])
        if bias is not None and bool(bias.any()):
            raise CheckpointError(
                f"{folder} is DoRA over {key}, which has a bias: PEFT leaves it as it is, while DoRA here "
                "rescales it, so the two differ. Let PEFT merge this adapter into the model."
            )


# -- (IA)3 ---------------------------------------------------------------------------------------------


def _read_ia3(
    engine: Engine, folder: Path, facts: Mapping[str, Any], tensors: Any, name: str
) -> tuple[AdapterRecord, dict[str, torch.Tensor]]:
    changes, rest = gather(engine, folder, tensors)
    vectors: dict[Any, torch.Tensor] = {}
    for key, change in changes.items():
        vector = change.vector
        assert vector is not None
        if change.on_input:
            key = _before(engine, folder, key, vector)
        vectors[key] = vectors[key] * vector if key in vectors else vector
    config = LoRAConfig(
        **_places(engine, vectors),
        r=1,
        alpha=1,
        composition_mode="scale",
        init_weights="ia3",
    )
    record = _build(engine, name, config)
    module: Any
    for key, module in record.modules.items():
        vector = vectors.get(key)
        value = torch.ones(module.lora_B.shape) if vector is None else vector.reshape(-1, 1)
        _put(engine, module, {"lora_B": value}, folder, key)
    return record, rest


def _before(engine: Engine, folder: Path, key: Any, vector: torch.Tensor) -> Any:
    """Return the place whose output is what a factor on the input of place *key* multiplies."""
    sites = engine.resolved.sites
    up = key._replace(point="up")
    gated = key.point == "down" and key._replace(point="gate") in sites and up in sites
    if gated and sites[up].out_features == vector.numel():
        return up
    values = key._replace(point="v")
    if key.point == "o" and values in sites and sites[values].out_features == vector.numel():
        return values  # attention mixes positions, not channels
    raise CheckpointError(
        f"{folder} scales the input of {key}. There is no projection just before it that could be scaled "
        "in its place (the network has no gate, or the widths differ), so (IA)3 here cannot do the same. "
        "Train it with feedforward_modules=[], or let PEFT merge it into the model."
    )


# -- prompts -------------------------------------------------------------------------------------------


def _read_prompt(
    engine: Engine, folder: Path, facts: Mapping[str, Any], tensors: Any, name: str
) -> tuple[AdapterRecord, dict[str, torch.Tensor]]:
    rest = dict(tensors)
    prompt = rest.pop("prompt_embeddings", None)
    if prompt is None or prompt.dim() != 2:
        raise CheckpointError(f"{folder} has no prompt_embeddings of shape (tokens, width).")
    record = _build(engine, name, PromptTuningConfig(prompt_length=prompt.shape[0]))
    for key, module in record.modules.items():
        site = engine.resolved.sites[key]
        if site.insert_after is not None or engine.model.config.is_encoder_decoder:  # type: ignore[union-attr]
            raise CheckpointError(
                f"{folder} puts prompts among the token embeddings, where this {type(engine.model).__name__} "
                "adds positions and norms to them; prompts here come behind that, so the two differ."
            )
        (parameter,) = (n for n, _ in module.named_parameters())
        _put(engine, module, {parameter: prompt}, folder, key)
    return record, rest


# -- common --------------------------------------------------------------------------------------------


def _places(engine: Engine, found: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the fields of a LoRA configuration that lead to (at least) the places of *found*."""
    attention = {key.point for key in found if key.sublayer in ("self", "cross")}
    network = {key.point for key in found if key.sublayer == "ffn"}
    points = {key.point for key in found if key.layer is None}
    sites = engine.resolved.sites
    layers = {sites[key].layer_id for key in found if key.layer is not None}
    every = {site.layer_id for key, site in sites.items() if key.layer is not None}
    return {
        "selfattn_lora": bool(attention),
        "attn_matrices": tuple(p for p in ("q", "k", "v", "o") if p in attention) or ("q", "v"),
        "ffn_matrices": tuple(p for p in ("up", "gate", "down") if p in network),
        "intermediate_lora": False,
        "output_lora": False,
        "leave_out": tuple(sorted(every - layers)) if layers else (),
        "embedding_lora": "tokens" in points,
        "lm_head_lora": "vocabulary" in points,
    }


def _build(engine: Engine, name: str, config: Any) -> AdapterRecord:
    with torch.device("meta"):
        built = build(config, engine.resolved)
    return AdapterRecord(
        name, config, {item.site.key: item.module for item in built.placed}, dict(built.shared)
    )


def _put(
    engine: Engine, module: Any, values: Mapping[str, torch.Tensor], folder: Path, key: Any
) -> None:
    """Give a module that was built without memory its tensors."""
    dtype, device = base_dtype(engine), engine.resolved.device()
    for name, value in values.items():
        own = module._parameters.get(name)
        wanted = module._buffers[name] if own is None else own
        if value.shape != wanted.shape:
            raise CheckpointError(
                f"{folder}: {name} at {key} is {list(value.shape)}, but {list(wanted.shape)} in this "
                f"{type(engine.model).__name__}; nothing was loaded."
            )
        value = value.detach().to(device=device, dtype=dtype).clone()
        if own is None:
            module._buffers[name] = value
        else:
            module._parameters[name] = nn.Parameter(value)


def _head(
    engine: Engine, folder: Path, facts: Mapping[str, Any], rest: Mapping[str, torch.Tensor]
) -> HeadFiles | None:
    """Return what PEFT's ``modules_to_save`` holds as the head of a task class."""
    if not rest:
        return None
    saved = [str(name).rpartition(".")[2] for name in facts.get("modules_to_save") or ()]
    unknown = [key for key in rest if not any(part in saved for part in key.split("."))]
    if unknown:
        shown = "\n  - ".join(unknown[:20])
        raise CheckpointError(
            f"{folder} has {len(unknown)} tensors without a place in this {type(engine.model).__name__}; "
            f"nothing was loaded:\n  - {shown}"
        )
    config: Any = engine.model.config
    facts = {
        "config": None,
        "name": None,
        "model_type": config.model_type,
        "model_class": _task_class(engine, facts),
        "label2id": getattr(config, "label2id", None),
        "num_labels": getattr(config, "num_labels", None),
    }
    return HeadFiles(dict(facts), dict(rest))


def _task_class(engine: Engine, facts: Mapping[str, Any]) -> str:
    """Return the class that the saved head belongs to."""
    named = (facts.get("auto_mapping") or {}).get("base_model_class")
    if named:
        return str(named)
    from transformers.models.auto import modeling_auto as auto

    tasks = {
        "SEQ_CLS": auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        "TOKEN_CLS": auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        "QUESTION_ANS": auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    }
    kind: Any = engine.model.config.model_type  # type: ignore[union-attr]
    found: Any = tasks.get(str(facts.get("task_type")), {}).get(kind)
    return str(found) if found else type(engine.model).__name__
