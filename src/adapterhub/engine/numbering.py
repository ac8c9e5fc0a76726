"""What models and ``generate`` do with positions, masks and caches: what prompts have to be fitted to.

Some of it is only in their sources. Engines ask when they plan, so that answers are known when dynamo,
which cannot read sources, comes by.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin

_NAMES: dict[type, tuple[str, ...]] = {}
_BY_MASK: dict[type, bool] = {}


def names_of_arguments(cls: type) -> tuple[str, ...]:
    """Return the names of the positional arguments of a model class's forward."""
    found = _NAMES.get(cls)
    if found is None:
        found = _NAMES[cls] = tuple(inspect.signature(cls.forward).parameters)[1:]  # type: ignore[attr-defined]
    return found


def numbers_itself(owner: nn.Module) -> bool:
    """Whether a model adds embeddings of positions that a call cannot name."""
    own = any("position" in name for name, _ in owner.named_children())
    return own and "position_ids" not in names_of_arguments(type(owner))


def pools_and_measures(owner: nn.Module) -> bool:
    """Whether a model pools its first position, and looks at distances between positions as they lie."""
    pooled = getattr(owner, "pooler", None) is not None
    return pooled and any("relative_attention_bias" in name for name, _ in owner.named_modules())


def counts_by_mask(cls: type) -> bool:
    """Whether a forward pass numbers positions by the mask (OPT), and so leaves hidden prompts out itself."""
    found = _BY_MASK.get(cls)
    if found is None:
        source = ast.unparse(_forward_of(cls))
        found = _BY_MASK[cls] = re.search(r"cumsum\([^)]*mask", source) is not None
    return found


@functools.cache
def ignores_mask(cls: type) -> bool:
    """Whether a forward pass does no more with its mask than to ask whether there is one (RWKV)."""
    asked, read = 0, 0
    for node in ast.walk(_forward_of(cls)):
        if isinstance(node, ast.Name) and node.id == "attention_mask":
            read += 1
        if isinstance(node, ast.Compare) and ast.unparse(node).startswith("attention_mask is"):
            asked += 1
    return "attention_mask" in names_of_arguments(cls) and read == asked


@functools.cache
def _forward_of(cls: type) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(cls.forward)))  # type: ignore[attr-defined]
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def cached_length(kwargs: Mapping[str, Any], new: int | None, prompt: int | None = None) -> Any:
    """Return how many positions the cache holds that a call is given, a number or a tensor of one.

    A recurrent state counts none. There the mask tells, which is over old and *new* positions; where
    ``generate`` leaves it out, at least *prompt* positions have gone by.
    """
    cache = kwargs.get("past_key_values")
    if cache is None:
        cache = kwargs.get("cache_params")
    if cache is None:
        return 0
    try:
        return cache.get_seq_length()
    except (AttributeError, ValueError):
        begun = getattr(cache, "has_previous_state", None)
        if begun is None:  # Mamba's of transformers 5.0, told by the call's first position
            where = kwargs.get("cache_position")
            begun = isinstance(where, torch.Tensor) and bool(where[0] > 0)
        if not (begun() if callable(begun) else begun):
            return 0
    mask = kwargs.get("attention_mask")
    if new is not None and isinstance(mask, torch.Tensor) and mask.dim() == 2:
        return mask.shape[1] - new
    return prompt or 0


def counted(model: Any, mask: torch.Tensor) -> torch.Tensor | None:
    """Return the positions that ``generate`` would count from *mask*, ``None`` if it does it in another way.

    It goes on from the last position, so behind padding on the right these have to be given with a prompt.
    """
    name = "_prepare_position_ids_for_generation"
    usual = getattr(GenerationMixin, name, None)
    if usual is None or getattr(type(model), name) is not usual:
        return None
    if "position_ids" not in names_of_arguments(type(model)):
        return None
    return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)
