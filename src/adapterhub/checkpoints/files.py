"""Reading what strangers wrote: JSON and tensor files, with limits and one clear error each."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adapterhub.errors import CheckpointError

#: A configuration longer than this is not one.
MAX_JSON_BYTES = 4 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in *path*. Raises CheckpointError for anything else."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; it is not a saved adapter.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{path} is larger than {MAX_JSON_BYTES} bytes; it is no configuration."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a {type(data).__name__}, not an object.")
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write *data* as JSON, keys sorted."""
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_tensors(
    folder: Path, safetensors_name: str, bin_name: str, prefer_bin: bool = False
) -> dict[str, torch.Tensor]:
    """Return the tensors of a folder, from safetensors or from a pickled ``.bin`` (tensors only).

    Raises:
        CheckpointError: no file; a damaged one; a pickle with anything but tensors in it.
    """
    safe, pickled = folder / safetensors_name, folder / bin_name
    if pickled.is_file() and (prefer_bin or not safe.is_file()):
        return _read_bin(pickled)
    if not safe.is_file():
        raise CheckpointError(f"{folder} has neither {safetensors_name} nor {bin_name}.")
    try:
        return load_file(str(safe))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{safe} is damaged or not a safetensors file ({error}); fetch or save it again."
        ) from error


def _read_bin(path: Path) -> dict[str, torch.Tensor]:
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} was refused: it holds more than tensors ({reason[:200]}). Loading it could run code; "
            "ask its author for a safetensors file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is damaged or no PyTorch file: {str(error)[:200]}"
        ) from error
    if not isinstance(data, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in data.items()
    ):
        raise CheckpointError(f"{path} is not a flat dictionary of tensors.")
    return data


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write *tensors* as safetensors; equal storages are written out one by one."""
    ready, seen = {}, set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in seen or value.storage_offset():
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        ready[name] = value
    save_file(ready, str(path), metadata={"format": "pt"})
