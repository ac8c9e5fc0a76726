"""Save and load one fusion layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from adapterhub import configs
from adapterhub.checkpoints.adapters import (
    HEAD_CONFIG,
    HEAD_WEIGHTS,
    HEAD_WEIGHTS_BIN,
    HeadFiles,
    base_dtype,
    check_architecture,
    file_prefix,
    model_facts,
    normalise,
    write_files,
)
from adapterhub.checkpoints.atomic import recover, replacing
from adapterhub.checkpoints.files import read_json, read_tensors
from adapterhub.checkpoints.layout import Entry, entries, fill, match, tensors_to_write
from adapterhub.engine import Engine, FusionRecord
from adapterhub.errors import CheckpointError
from adapterhub.methods import AdapterFusion

FUSION_WEIGHTS = "model_adapter_fusion.safetensors"
FUSION_WEIGHTS_BIN = "pytorch_model_adapter_fusion.bin"
FUSION_CONFIG = "adapter_fusion_config.json"
FUSION_FILES = (
    FUSION_WEIGHTS,
    FUSION_WEIGHTS_BIN,
    FUSION_CONFIG,
    HEAD_WEIGHTS,
    HEAD_WEIGHTS_BIN,
    HEAD_CONFIG,
)
#: In ``adapter_fusion_config.json``: the temperature that a trained fusion has come to.
TEMPERATURE = "temperature"


def fusion_entries(engine: Engine, record: FusionRecord) -> list[Entry]:
    """Return the tensors of a fusion layer."""
    return entries(record.name, record.modules, {}, engine.resolved)


def save_fusion(
    engine: Engine,
    directory: str | Path,
    name: str,
    *,
    meta: dict[str, Any] | None = None,
    head: HeadFiles | None = None,
    safetensors: bool = True,
) -> None:
    """Write fusion layer *name* (and a head) into *directory*."""
    record = engine.fusions[name]
    facts = {
        **model_facts(engine),
        "config": record.config.to_dict(),
        "name": name,
        "adapter_names": list(record.adapters),
        **_temperature(record),
        **(meta or {}),
    }
    tensors = tensors_to_write(fusion_entries(engine, record), file_prefix(engine))
    with replacing(directory, FUSION_FILES) as folder:
        write_files(
            folder, FUSION_CONFIG, facts, (FUSION_WEIGHTS, FUSION_WEIGHTS_BIN), tensors, safetensors
        )
        if head is not None:
            write_files(
                folder,
                HEAD_CONFIG,
                head.config,
                (HEAD_WEIGHTS, HEAD_WEIGHTS_BIN),
                head.tensors,
                safetensors,
            )


def read_fusion(
    engine: Engine, directory: str | Path, *, load_as: str | None = None, prefer_bin: bool = False
) -> FusionRecord:
    """Read and check a fusion layer for this model; its adapters must be loaded."""
    folder = Path(directory)
    recover(folder)
    facts = read_json(folder / FUSION_CONFIG)
    check_architecture(engine, facts, folder)
    tensors = read_tensors(folder, FUSION_WEIGHTS, FUSION_WEIGHTS_BIN, prefer_bin)
    return assemble_fusion(engine, facts, tensors, str(folder), load_as=load_as)


def assemble_fusion(
    engine: Engine,
    facts: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    source: str,
    *,
    load_as: str | None = None,
) -> FusionRecord:
    """Make a fusion layer out of ``adapter_fusion_config.json`` and tensors; see :func:`assemble`."""
    stored = str(facts.get("name") or ",".join(facts.get("adapter_names") or []))
    name = load_as or stored
    adapters = tuple(facts.get("adapter_names") or stored.split(","))
    config = configs.AdapterFusionConfig.from_dict(facts.get("config") or {})
    marker = f"adapter_fusion_layer.{stored}."
    tensors = {
        key.replace(marker, f"adapter_fusion_layer.{name}."): value
        for key, value in normalise(engine, tensors, stored, stored).items()
        if marker in key  # the peer also stores fusions whose name begins with this one's
    }
    with torch.device("meta"):
        modules = build_fusion(engine, adapters, config)
    record = FusionRecord(name, adapters, config, modules)
    found = fusion_entries(engine, record)
    known = {n for entry in found for n in entry.names}
    # A fusion without query, key and value matrices has an unused `dense` in older files.
    tensors = {k: v for k, v in tensors.items() if k in known or ".dense." not in k}
    match(found, tensors, f"{source} does not fit this {type(engine.model).__name__}")
    fill(found, tensors, base_dtype(engine), engine.resolved.device())
    reached = facts.get(TEMPERATURE)
    if isinstance(reached, (int, float)) and reached > 0:
        for module in modules.values():
            if module.decays:
                module.temperature = float(reached)
    return record


def _temperature(record: FusionRecord) -> dict[str, float]:
    """Return what a fusion's file says about the temperature that it has come to, if it is not the first.

    It falls with every training step at all places alike. The ``adapters`` library does not know the entry.
    """
    modules: Any = record.modules.values()
    reached = min((m.temperature for m in modules if m.decays), default=None)
    return {} if reached in (None, AdapterFusion.FIRST_TEMPERATURE) else {TEMPERATURE: reached}


def build_fusion(engine: Engine, adapters: tuple[str, ...], config: Any) -> dict[Any, Any]:
    """Make a fusion layer's modules: one wherever all *adapters* have an output that can be mixed."""
    dropout = getattr(engine.model.config, "attention_probs_dropout_prob", None) or 0.0
    keys = [
        key
        for key in engine.adapters[adapters[0]].modules
        if all(_fusable(engine.adapters[name].modules.get(key)) for name in adapters)
    ]
    if not keys:
        raise CheckpointError(
            f"The adapters {', '.join(adapters)} have no common place with an output to fuse."
        )
    return {
        key: AdapterFusion(config, engine.resolved.sites[key].out_features, dropout) for key in keys
    }


def _fusable(module: Any) -> bool:
    return module is not None and module.family.fusable
