"""Save and load one adapter, or one head."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from adapterhub import configs
from adapterhub._version import __version__
from adapterhub.checkpoints.atomic import recover, replacing
from adapterhub.checkpoints.files import read_json, read_tensors, write_json, write_tensors
from adapterhub.checkpoints.layout import (
    entries,
    fill,
    match,
    strip_prefix,
    tensors_to_write,
)
from adapterhub.engine import AdapterRecord, Engine
from adapterhub.errors import CheckpointError
from adapterhub.methods import build, file_groups

WEIGHTS, WEIGHTS_BIN, CONFIG = "adapter.safetensors", "pytorch_adapter.bin", "adapter_config.json"
HEAD_WEIGHTS, HEAD_WEIGHTS_BIN = "model_head.safetensors", "pytorch_model_head.bin"
HEAD_CONFIG = "head_config.json"
ADAPTER_FILES = (WEIGHTS, WEIGHTS_BIN, CONFIG, HEAD_WEIGHTS, HEAD_WEIGHTS_BIN, HEAD_CONFIG)
VERSION = f"adapterhub.{__version__}"

#: Renames that early versions of the format need (substring, replacement).
_OLD_NAMES = (
    ("attention_text_task_adapters", "adapters"),
    ("attention_text_lang_adapters", "adapters"),
    ("layer_text_task_adapters", "adapters"),
    ("layer_text_lang_adapters", "adapters"),
    ("invertible_lang_adapters", "invertible_adapters"),
)
_GROUPS = (
    "adapters",
    "loras",
    "prefix_tunings",
    "prefix_gates",
    "invertible_adapters",
    "refts",
    "prompt_tunings",
    "shared_parameters",
)


@dataclass(frozen=True)
class HeadFiles:
    """A prediction head as it goes to disk: its JSON and its tensors by name."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def model_facts(engine: Engine) -> dict[str, Any]:
    """Return what every saved file says about its model."""
    config: Any = engine.model.config
    return {
        "model_type": config.model_type,
        "model_class": type(engine.model).__name__,
        "model_name": getattr(config, "name_or_path", "") or "",
        "hidden_size": engine.resolved.hidden_size,
        "version": VERSION,
    }


def file_prefix(engine: Engine) -> str:
    """Return what stands before a base model's tensor names in files of this model."""
    return f"{engine.resolved.base_path}." if engine.resolved.base_path else ""


def save_adapter(
    engine: Engine,
    directory: str | Path,
    name: str,
    *,
    meta: dict[str, Any] | None = None,
    head: HeadFiles | None = None,
    safetensors: bool = True,
) -> None:
    """Write adapter *name* (and its head) into *directory*, replacing what was there as a whole."""
    record = engine.adapters[name]
    found = entries(name, record.modules, record.shared, engine.resolved)
    facts = {**model_facts(engine), "config": record.config.to_dict(), "name": name, **(meta or {})}
    tensors = tensors_to_write(found, file_prefix(engine), peer=not safetensors)
    with replacing(directory, ADAPTER_FILES) as folder:
        write_files(folder, CONFIG, facts, (WEIGHTS, WEIGHTS_BIN), tensors, safetensors)
        if head is not None:
            write_files(
                folder,
                HEAD_CONFIG,
                head.config,
                (HEAD_WEIGHTS, HEAD_WEIGHTS_BIN),
                head.tensors,
                safetensors,
            )


def write_files(
    folder: Path,
    config_name: str,
    config: dict[str, Any],
    weights_names: tuple[str, str],
    tensors: dict[str, torch.Tensor],
    safetensors: bool,
) -> None:
    """Write a configuration and its tensors (*weights_names*: of the two kinds of files) into a folder."""
    write_json(folder / config_name, config)
    if safetensors:
        write_tensors(folder / weights_names[0], tensors)
    else:
        torch.save(
            {k: v.detach().cpu().clone() for k, v in tensors.items()}, folder / weights_names[1]
        )


@dataclass(frozen=True)
class Loaded:
    """An adapter read and checked, not yet in the model."""

    record: AdapterRecord
    head: HeadFiles | None
    facts: dict[str, Any]


def read_adapter(
    engine: Engine,
    directory: str | Path,
    *,
    load_as: str | None = None,
    leave_out: list[int] | None = None,
    prefer_bin: bool = False,
    with_head: bool = True,
    config: Any = None,
) -> Loaded:
    """Read and check an adapter for this model. The model is not touched.

    Args:
        config: see :func:`assemble`.

    Raises:
        CheckpointError: files missing or damaged, another architecture, tensors that do not fit; all
            problems of the tensors at once.
    """
    folder = Path(directory)
    recover(folder)
    facts = read_json(folder / CONFIG)
    if "peft_type" in facts:
        from adapterhub.checkpoints import peft  # (which needs what is here)

        return peft.read(
            engine, folder, facts, load_as=load_as, prefer_bin=prefer_bin, with_head=with_head
        )
    check_architecture(engine, facts, folder)
    tensors = read_tensors(folder, WEIGHTS, WEIGHTS_BIN, prefer_bin)
    record = assemble(
        engine, facts, tensors, str(folder), load_as=load_as, leave_out=leave_out, asked=config
    )
    head = read_head(folder, prefer_bin) if with_head else None
    return Loaded(record, head, facts)


def assemble(
    engine: Engine,
    facts: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    source: str,
    *,
    load_as: str | None = None,
    leave_out: list[int] | None = None,
    asked: Any = None,
) -> AdapterRecord:
    """Make an adapter out of its configuration and its tensors, which are checked against each other.

    Args:
        facts: ``adapter_config.json``. tensors: by their names in files.
        source: where they come from, for messages.
        asked: a configuration that says what the file leaves out; what the file says counts.

    Raises:
        CheckpointError: all that does not fit, at once.
    """
    stored = str(facts.get("name") or load_as or "adapter")
    name = load_as or stored
    config = configs.config_from_file(facts)
    tensors = normalise(engine, tensors, stored, name)
    config = _trust_tensors(config, facts, tensors)
    config = _complete(config, facts, asked)
    if leave_out:
        config = _without_layers(config, leave_out, len(engine.resolved.layers))
    with torch.device("meta"):
        built = build(config, engine.resolved)
    modules: dict[Any, Any] = {item.site.key: item.module for item in built.placed}
    found = entries(name, modules, built.shared, engine.resolved)
    if leave_out:
        wanted = {n for entry in found for n in entry.names}
        tensors = {
            k: v for k, v in tensors.items() if k in wanted or not _skipped(engine, k, leave_out)
        }
    match(found, tensors, f"{source} does not fit this {type(engine.model).__name__}")
    fill(found, tensors, _dtype(engine, config), engine.resolved.device())
    return AdapterRecord(name, config, modules, dict(built.shared))


def read_head(folder: Path, prefer_bin: bool = False) -> HeadFiles | None:
    """Read a prediction head, if the folder has one."""
    if not (folder / HEAD_CONFIG).is_file():
        return None
    return HeadFiles(
        read_json(folder / HEAD_CONFIG),
        read_tensors(folder, HEAD_WEIGHTS, HEAD_WEIGHTS_BIN, prefer_bin),
    )


def write_head(directory: str | Path, head: HeadFiles, safetensors: bool = True) -> None:
    """Write a prediction head alone into *directory*."""
    with replacing(directory, ADAPTER_FILES[3:]) as folder:
        write_files(
            folder,
            HEAD_CONFIG,
            head.config,
            (HEAD_WEIGHTS, HEAD_WEIGHTS_BIN),
            head.tensors,
            safetensors,
        )


def check_architecture(engine: Engine, facts: dict[str, Any], folder: Path) -> None:
    """Raise CheckpointError if what is stored is for models of another family or width."""
    config: Any = engine.model.config
    theirs, ours = facts.get("model_type"), config.model_type
    if theirs and theirs != ours and _row_shape(theirs) != _row_shape(ours):
        raise CheckpointError(
            f"{folder} holds an adapter for '{theirs}' ({facts.get('model_name') or 'unnamed base model'}), "
            f"but this model is '{ours}' ({type(engine.model).__name__}); load it into a '{theirs}' model."
        )
    width = facts.get("hidden_size")
    if isinstance(width, int) and width != engine.resolved.hidden_size:
        raise CheckpointError(
            f"{folder} holds an adapter for hidden size {width} ({facts.get('model_name') or theirs}), but "
            f"this {type(engine.model).__name__} has {engine.resolved.hidden_size}."
        )


def _row_shape(model_type: str) -> Any:
    """Families with the same stacks (roberta and xlm-roberta) can share adapters."""
    from adapterhub.architectures import row_for

    row = row_for(model_type)
    return (row.stacks, row.parts, row.peer_prefix) if row is not None else model_type


def _prefixes(engine: Engine) -> set[str]:
    """What files may call the base model: each class of a family names it as it likes."""
    resolved = engine.resolved
    home = vars(sys.modules[type(resolved.base).__module__])
    named = {
        getattr(cls, "base_model_prefix", "")
        for cls in home.values()
        if isinstance(cls, type) and issubclass(cls, PreTrainedModel)
    }
    named |= {resolved.row.peer_prefix, resolved.base_path}
    # (Inside some base models is a module of that name.)
    paths = [site.peer_path for site in resolved.sites.values()]
    return {p for p in named if p and not any(path.startswith(f"{p}.") for path in paths)}


def normalise(
    engine: Engine, tensors: dict[str, torch.Tensor], stored: str, name: str
) -> dict[str, torch.Tensor]:
    """Return a file's tensors under today's names, for adapter *stored* loaded as *name*."""
    row = engine.resolved.row
    tensors = strip_prefix(tensors, _prefixes(engine))
    result: dict[str, torch.Tensor] = {}
    roots = {f"{stack.peer.root}." for stack in row.stacks if stack.peer and stack.peer.root}
    for key, value in tensors.items():
        for old, new in _OLD_NAMES:
            key = key.replace(old, new)
        root = next((r for r in roots if key.startswith(r)), "")
        if key.startswith(f"{root}shared_parameters."):  # the peer writes them once a part
            key = key.removeprefix(root)
        pool = re.match(r"^.*\.prefix_tuning\.pool\.(prefix_tunings\..*)$", key)
        if pool:  # the peer writes the shared pool once a layer
            key = f"{root}prefix_tuning.{pool.group(1)}"
        if stored != name:
            for group in {**dict.fromkeys(_GROUPS), **dict.fromkeys(file_groups())}:
                marker = f"{group}.{stored}."
                at = key.find(marker)
                if at == 0 or (at > 0 and key[at - 1] == "."):
                    key = f"{key[:at]}{group}.{name}.{key[at + len(marker) :]}"
                    break
        result[key] = value
    return result


def _trust_tensors(config: Any, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """Correct what the JSON of older files gets wrong and the tensors tell."""
    single = len(configs.members(config)) == 1
    if (
        single
        and getattr(config, "flat", None) is False
        and any(k.endswith(".control_trans") for k in tensors)
    ):
        config = config.replace(flat=True)
    if (
        single
        and facts.get("type") == "text_task"
        and getattr(config, "inv_adapter", None)
        and not any("invertible_adapters." in key for key in tensors)
    ):
        config = config.replace(inv_adapter=None, inv_adapter_reduction_factor=None)
    return config


def _complete(config: Any, facts: dict[str, Any], asked: Any) -> Any:
    """Fill in what the ``adapters`` library does not write: whether ReFT subtracts the projection.

    Its files of NoReFT and DiReFT are the same, so only the user can tell; ``asked`` is what they say.
    """
    stored = facts.get("config")
    silent = not (isinstance(stored, dict) and "subtract_projection" in stored)
    wanted = None if asked is None or not silent else configs.resolve_config(asked)
    if isinstance(config, configs.ReftConfig) and isinstance(wanted, configs.ReftConfig):
        return config.replace(subtract_projection=wanted.subtract_projection)
    return config


def _without_layers(config: Any, layers: list[int], count: int) -> Any:
    """Return the configuration without modules in *layers*, of *count* in all."""
    parts = []
    for part in configs.members(config):
        if hasattr(part, "leave_out"):
            part = part.replace(leave_out=sorted({*part.leave_out, *layers}))
        elif hasattr(part, "layers"):
            chosen = range(count) if part.layers == "all" else part.layers
            part = part.replace(layers=[number for number in chosen if number not in layers])
        parts.append(part)
    return parts[0] if len(parts) == 1 else configs.ConfigUnion(*parts)


def _skipped(engine: Engine, key: str, leave_out: list[int]) -> bool:
    for site in engine.resolved.sites.values():
        if site.layer_id in leave_out and key.startswith(f"{site.peer_path}."):
            return True
    return False


def _dtype(engine: Engine, config: Any) -> torch.dtype | None:
    if getattr(config, "dtype", None):
        return getattr(torch, config.dtype)
    return base_dtype(engine)


def base_dtype(engine: Engine) -> torch.dtype:
    """Return the floating-point type that the base model computes in."""
    for parameter in engine.resolved.base.parameters():
        if parameter.dtype.is_floating_point:
            return parameter.dtype
    declared = getattr(engine.model.config, "dtype", None)
    return declared if isinstance(declared, torch.dtype) else torch.float32


__all__ = [
    "HeadFiles",
    "Loaded",
    "assemble",
    "base_dtype",
    "read_adapter",
    "read_head",
    "save_adapter",
    "write_head",
]
