"""The trial of an adapter in our format (that of the ``adapters`` library).

The engine that would load it for a user reads it here, first against the real shapes, then into a model
that runs.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from adapterhub import configs
from adapterhub.checkpoints import adapters as files
from adapterhub.checkpoints.files import read_json, read_tensors
from adapterhub.checkpoints.layout import entries
from adapterhub.errors import AdapterHubError, CheckpointError
from adapterhub.hub.verify.trial_base import (
    NeedsDepth,
    config_of,
    first_output,
    on_meta,
    runnable,
    thin,
)
from adapterhub.methods import build
from adapterhub.model.handle import attach


def fits(folder: Path, base: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return what does not fit the real base model, and what was compared."""
    engine = attach(on_meta(AutoModel, config_of(base))).engine
    try:
        loaded = files.read_adapter(engine, folder, load_as="adapter", with_head=False)
    except CheckpointError as error:
        return lines_of(error), {}
    return [], {"modules": len(loaded.record.modules), "class": type(engine.model).__name__}


def lines_of(error: CheckpointError) -> list[str]:
    """Return a message of the reader as lines, without the folder, which is nobody's business."""
    first, *rest = str(error).splitlines()
    return [line.strip().removeprefix("- ") for line in rest if line.strip()] or [first]


def forward(folder: Path, base: dict[str, Any], *, whole_depth: bool = False) -> dict[str, Any]:
    """Run a thin base model with and without the adapter, and merged with it; see :func:`.trial.judge`.

    Raises:
        CannotRun: If the base model cannot be run here.
        NeedsDepth: If the adapter needs all layers.
    """
    config, depth = thin(AutoModel, config_of(base), whole_depth=whole_depth)
    with torch.no_grad():
        model, inputs, without = runnable(AutoModel, config)
        handle = attach(model)
        try:
            handle._put(assemble(handle.engine, folder))
        except CheckpointError as error:
            if whole_depth:
                raise
            raise NeedsDepth from error
        handle.set_active_adapters("adapter")
        result = first_output(model(**inputs))
        found = {"layers": depth, **compare(without, result)}
        found["merged"] = _merged(handle, model, inputs, result, without)
    return found


def assemble(engine: Any, folder: Path) -> Any:
    """Read the adapter into a model with fewer layers: tensors for those that are not there stay out."""
    facts = read_json(folder / files.CONFIG)
    stored = str(facts.get("name") or "adapter")
    tensors = read_tensors(folder, files.WEIGHTS, files.WEIGHTS_BIN)
    tensors = files.normalise(engine, tensors, stored, "adapter")
    config = _within(configs.config_from_file(facts), len(engine.resolved.layers))
    with torch.device("meta"):
        built = build(config, engine.resolved)
    modules: dict[Any, Any] = {item.site.key: item.module for item in built.placed}
    wanted = {
        name
        for entry in entries("adapter", modules, built.shared, engine.resolved)
        for name in entry.names
    }
    kept = {name: value for name, value in tensors.items() if name in wanted}
    facts = {**facts, "name": "adapter", "config": config.to_dict()}
    return files.assemble(engine, facts, kept, "the adapter", load_as="adapter")


def _within(config: Any, depth: int) -> Any:
    """Return the configuration without mention of layers that a thin model has not."""
    parts = []
    for part in configs.members(config):
        part = copy.deepcopy(part)
        if getattr(part, "leave_out", None):
            part = part.replace(leave_out=[n for n in part.leave_out if n < depth])
        if isinstance(getattr(part, "layers", None), list | tuple):
            part = part.replace(layers=[n for n in part.layers if n < depth])
        parts.append(part)
    return parts[0] if len(parts) == 1 else configs.ConfigUnion(*parts)


def _merged(
    handle: Any, model: Any, inputs: Any, result: Any, without: Any
) -> dict[str, Any] | None:
    """Merge the adapter and take it out again; ``None`` if its method cannot be merged."""
    try:
        handle.merge_adapter("adapter")
    except AdapterHubError:
        return None
    merged = first_output(model(**inputs))
    handle.reset_adapter()
    handle.set_active_adapters(None)
    again = first_output(model(**inputs))
    return {"merged": distance(merged, result), "restored": distance(again, without)}


def compare(without: torch.Tensor, result: torch.Tensor) -> dict[str, Any]:
    """Return whether a result is finite, and how far it is from that without the adapter."""
    finite = bool(torch.isfinite(result).all())
    if result.shape != without.shape:  # (a prompt makes the sequence longer)
        return {"finite": finite, "distance": None}
    return {"finite": finite, "distance": distance(result, without) if finite else None}


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference, as a share of the largest value."""
    scale = float(other.abs().max().clamp_min(1e-12))
    return float((one - other).abs().max()) / scale
