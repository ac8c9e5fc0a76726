"""Prompts that take places among the ids: for models that read more out of their ids than embeddings.

A vision-language model looks for the places of its images in them, Gemma 3n and 4 look up an input for each
layer. So the ids get places for the prompts, with everything else that has a value for each of them, and
what the embeddings make of these places gives way to the prompts.
"""

from __future__ import annotations

from typing import Any

import torch

#: Inputs with a value for each position that says what kind of position it is; prompts are text.
_KINDS = ("token_type_ids", "mm_token_type_ids")


def give_places(made: Any, kwargs: dict[str, Any], ids: torch.Tensor, pad: int) -> dict[str, Any]:
    """Return *kwargs* with places for the prompts of *made*, whose attention mask is widened already.

    Args:
        ids: (batch, n). ``pad``: the id to write at the places.
    """
    at, length = made.at, made.prompt.shape[1]

    def opened(value: torch.Tensor, between: torch.Tensor) -> torch.Tensor:
        return torch.cat([value[:, :at], between.to(value.dtype), value[:, at:]], 1)

    result = dict(kwargs)
    for name, value in kwargs.items():
        if not isinstance(value, torch.Tensor) or value.dim() < 2 or value.shape[:2] != ids.shape:
            continue
        shape = (ids.shape[0], length, *value.shape[2:])
        if name == "labels":
            result[name] = opened(value, value.new_full(shape, -100))
        elif name in _KINDS:
            result[name] = opened(value, value.new_zeros(shape))
        elif (
            name.endswith("attention_mask") and name != "attention_mask"
        ):  # what the first one sees
            result[name] = opened(value, value[:, :1].expand(shape))
    result["input_ids"] = opened(ids, ids.new_full((ids.shape[0], length), pad))
    result.pop("cache_position", None)
    made.total = ids.shape[1] + length
    return result


def placed(made: Any, embedded: torch.Tensor) -> torch.Tensor | None:
    """Return embeddings (batch, n, width) with the prompts at their places; ``None``: of something else."""
    if embedded.dim() != 3 or embedded.shape[1] != made.total:
        return None
    end = made.at + made.prompt.shape[1]
    prompt = made.prompt.to(embedded.dtype)
    return torch.cat([embedded[:, : made.at], prompt, embedded[:, end:]], 1)
