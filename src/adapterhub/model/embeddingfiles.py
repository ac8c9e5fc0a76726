"""Embeddings as files: the matrix, what follows it in a model with a decoder, and a tokenizer."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from adapterhub.checkpoints.atomic import replacing
from adapterhub.checkpoints.files import write_tensors
from adapterhub.engine.vocabulary import Follower, Matrix
from adapterhub.errors import CheckpointError

#: The matrix, as the ``adapters`` library writes it; biases and output matrices; a folder.
FILE, OUTPUT, TOKENIZER = "embedding.pt", "embedding_output.safetensors", "tokenizer"


def write(path: str | Path, matrix: Matrix, tokenizer: Any) -> None:
    """Write a vocabulary (and its tokenizer, unless ``None``) into a folder."""
    with replacing(path, (FILE, OUTPUT, TOKENIZER)) as folder:
        torch.save(nn.Parameter(matrix.weight.detach().cpu().clone()), folder / FILE)
        if matrix.names:
            write_tensors(folder / OUTPUT, matrix.followers())
        if tokenizer is not None:
            tokenizer.save_pretrained(folder / TOKENIZER)


def stored(follower: Follower, tensors: dict[str, torch.Tensor], size: int) -> torch.Tensor | None:
    """Return a follower's tensor for *size* tokens: as stored; else, for equal size, a copy of that in use.

    ``None``: neither. Raises CheckpointError for another shape.
    """
    now = follower.tensor()
    value = tensors.get(follower.key)
    if value is None:
        return now.detach().clone() if now.shape[follower.axis] == size else None
    wanted = list(now.shape)
    wanted[follower.axis] = size
    if list(value.shape) != wanted:
        raise CheckpointError(
            f"{OUTPUT} holds {follower.key} {list(value.shape)}, but this model wants {wanted}."
        )
    return value.to(now)


def read_matrix(file: Path) -> torch.Tensor:
    """Return the matrix of a folder. Raises CheckpointError: none, damaged, or more than a tensor."""
    if not file.is_file():
        raise CheckpointError(f"{file.parent} has no {file.name}; it holds no saved embeddings.")
    try:
        value = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{file} was refused: it is damaged, or holds more than a tensor ({reason[:200]})."
        ) from error
    if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point:
        raise CheckpointError(f"{file} holds no floating-point tensor.")
    return value.detach()


def read_followers(file: Path) -> dict[str, torch.Tensor]:
    """Return what follows the matrix; nothing where the file is missing. Raises CheckpointError."""
    if not file.is_file():
        return {}
    try:
        return load_file(str(file))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged or not a safetensors file ({error}).") from error


def read_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder, ``None`` where there is none."""
    if not folder.is_dir():
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
