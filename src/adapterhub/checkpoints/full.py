"""Adapters inside the checkpoint of a whole model, as the ``adapters`` library saves one.

``config.json`` then lists them under ``"adapters"``, and their tensors lie among the model's. Early releases
wrote ``[type, configuration]`` for an adapter and ``adapter_fusion_models`` for fusion layers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)
from transformers.utils.hub import cached_file

from adapterhub.configs import (
    DEFAULT_ADAPTER_CONFIG,
    AdapterConfig,
    AdapterFusionConfig,
    config_hash,
)
from adapterhub.configs.legacy import config_from_file
from adapterhub.errors import AdapterHubError, CheckpointError

#: A release whose configurations mean what they say.
_TODAY = "adapters.1.3.0"
#: What stands before an adapter's name in the name of a tensor.
_GROUPS = (
    "adapters|attention_text_task_adapters|attention_text_lang_adapters|layer_text_task_adapters|"
    "layer_text_lang_adapters|invertible_lang_adapters|invertible_adapters|loras|prefix_tunings|"
    "prefix_gates|refts|prompt_tunings|shared_parameters"
)
_ADAPTER = re.compile(rf"(?:^|\.)(?:{_GROUPS})\.([^.]+)\.")
_FUSION = re.compile(r"(?:^|\.)adapter_fusion_layer\.([^.]+)\.")
#: Patterns of tensors that are no base model's, for transformers.
PATTERNS = (_ADAPTER.pattern, _FUSION.pattern)


@dataclass
class SavedAdapters:
    """What a ``config.json`` says about adapters.

    Attributes:
        adapters: ``{name: facts}``, facts as in ``adapter_config.json``.
        fusions: ``{name: facts}``, facts as in ``adapter_fusion_config.json``.
    """

    adapters: dict[str, dict[str, Any]] = field(default_factory=dict)
    fusions: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_entry(data: Any, models: Any = None, fusion_config: Any = None) -> SavedAdapters:
    """Read the ``"adapters"`` of a ``config.json``.

    Args:
        data: the entry.
        models, fusion_config: the entries ``adapter_fusion_models`` and ``adapter_fusion`` of early releases.

    Raises:
        CheckpointError: it is no such entry.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("adapters", {}), Mapping):
        raise CheckpointError("The entry 'adapters' of config.json does not list adapters.")
    configs = dict(data.get("config_map") or {})
    result = SavedAdapters()
    for name, value in (data.get("adapters") or {}).items():
        result.adapters[name] = _facts(name, value, configs)
    names = dict(data.get("fusion_name_map") or {})
    kinds = dict(data.get("fusion_config_map") or {})
    fusions = dict(data.get("fusions") or {})
    for old in models or ():
        name = old if isinstance(old, str) else ",".join(old)
        fusions.setdefault(name, fusion_config)
    for name, key in fusions.items():
        config = kinds.get(key, key) if isinstance(key, str) else key
        parts = names.get(name) or name.split(",")
        result.fusions[name] = {
            "name": name,
            "adapter_names": list(parts),
            "config": AdapterFusionConfig.load(config).to_dict(),
        }
    return result


def _facts(name: str, value: Any, configs: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name}
    if isinstance(value, (list, tuple)):  # version 1: [type, configuration]
        kind, value = (*value, None, None)[:2]
        facts["type"] = kind
        value = configs.get(str(kind)) if value is None else value
    else:
        facts["version"] = _TODAY
    config = configs.get(value, value) if isinstance(value, str) else value
    facts["config"] = DEFAULT_ADAPTER_CONFIG if config is None else config
    return facts


def write_entry(
    adapters: Mapping[str, AdapterConfig],
    fusions: Mapping[str, tuple[AdapterFusionConfig, tuple[str, ...]]],
) -> dict[str, Any]:
    """Return the ``"adapters"`` of a ``config.json`` in the layout of the ``adapters`` library."""
    hashes = {name: config_hash(config) for name, config in adapters.items()}
    fusion_hashes = {name: config_hash(config) for name, (config, _) in fusions.items()}
    return {
        "adapters": hashes,
        "config_map": {hashes[name]: config.to_dict() for name, config in adapters.items()},
        "fusions": fusion_hashes,
        "fusion_config_map": {
            fusion_hashes[n]: config.to_dict() for n, (config, _) in fusions.items()
        },
        "fusion_name_map": {name: list(parts) for name, (_, parts) in fusions.items()},
    }


def config_of(facts: Mapping[str, Any]) -> AdapterConfig:
    """Return an adapter's configuration. Raises CheckpointError."""
    try:
        return config_from_file(facts)
    except AdapterHubError as error:
        raise CheckpointError(f"The configuration of '{facts.get('name')}': {error}") from error


def adapter_tensors(source: str | Path, options: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of adapters and fusion layers in a model's checkpoint.

    Args:
        source: a folder or a name on the Hugging Face hub.
        options: where files come from (``revision``, ``cache_dir``, …).

    Raises:
        CheckpointError: a damaged file.
    """
    found: dict[str, torch.Tensor] = {}
    for file in _files(source, options):
        try:
            found.update(_from_file(file))
        except Exception as error:
            raise CheckpointError(f"{file} is damaged: {str(error)[:200]}") from error
    return found


def _files(source: str | Path, options: Mapping[str, Any]) -> list[Path]:
    def locate(name: str) -> Path | None:
        found = cached_file(
            str(source), name, _raise_exceptions_for_missing_entries=False, **options
        )
        return None if found is None else Path(found)

    for whole, index in (
        (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME),
        (WEIGHTS_NAME, WEIGHTS_INDEX_NAME),
    ):
        file = locate(whole)
        if file is not None:
            return [file]
        listed = locate(index)
        if listed is not None:
            names = set(json.loads(listed.read_text(encoding="utf-8"))["weight_map"].values())
            return [part for part in map(locate, sorted(names)) if part is not None]
    return []


def _from_file(file: Path) -> dict[str, torch.Tensor]:
    def ours(name: str) -> bool:
        return bool(_ADAPTER.search(name) or _FUSION.search(name))

    if file.suffix == ".safetensors":
        with safe_open(str(file), framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys() if ours(name)}  # noqa: SIM118
    data = torch.load(file, map_location="cpu", weights_only=True)
    return {name: value for name, value in data.items() if ours(name)}


def tensors_of(
    name: str, tensors: Mapping[str, torch.Tensor], fusion: bool = False
) -> dict[str, torch.Tensor]:
    """Return the tensors of one adapter, or of one fusion layer."""
    pattern = _FUSION if fusion else _ADAPTER
    return {
        key: value
        for key, value in tensors.items()
        if name in pattern.findall(key) and (fusion or not _FUSION.search(key))
    }
