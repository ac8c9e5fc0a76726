"""Prompts before the input: longer embeddings, and masks, positions and labels to go with them.

Where the model adds positions and norms inside one embeddings module, prompts are inserted behind it (they
get none of that, as in the ``adapters`` library); elsewhere they join the token embeddings, and the model is
called with ``inputs_embeds``. A decoding step with a cache inserts nothing: the prompt is in the cache,
and only the mask is widened for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from adapterhub.context import Context
from adapterhub.engine.numbering import (
    cached_length,
    counts_by_mask,
    ignores_mask,
    names_of_arguments,
    numbers_itself,
    pools_and_measures,
)
from adapterhub.engine.places import give_places
from adapterhub.engine.prompted import prompted
from adapterhub.errors import CompositionError

#: In a context's cache: the ids have places for the prompts, for the model around them to count.
MARKED = "ids with places for prompts"


def _length(node: Any) -> int:
    """Return how many positions the prompts of a plan node take."""
    if hasattr(node, "module"):
        return node.module.length
    lengths = [_length(child) for child in node.children if child is not None]
    return sum(lengths) if type(node).__name__ == "StackNode" else max(lengths)


def prepare(
    slot: Any, node: Any, ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Change the inputs of a stack's owner for the prompts of *node*; note them for the embeddings' hook.

    Raises:
        CompositionError: a mask that cannot be widened.
    """
    owner = slot.host
    given = dict(zip(names_of_arguments(type(owner)), args, strict=False))
    kwargs = {**given, **kwargs}
    length = _length(node)
    ids, embeds = kwargs.get("input_ids"), kwargs.get("inputs_embeds")
    if ids is not None and ctx.cache.pop(MARKED, False):
        at = int(node.modules[0].after_first)
        ids = kwargs["input_ids"] = torch.cat([ids[:, :at], ids[:, at + length :]], 1)
    first = ids if ids is not None else embeds
    if first is None:
        first = next((v for v in kwargs.values() if isinstance(v, torch.Tensor)), None)
    if first is None:
        return (), kwargs
    past = cached_length(kwargs, first.shape[1])
    if not isinstance(past, int):
        past = int(past)
    if past:
        return (), _continue(slot, node, ctx, kwargs, first, past)
    made = prompted(node, slot, first.shape[0])
    mask_name = _mask_over(kwargs, first)
    mask = kwargs.get(mask_name)
    if mask is not None and slot.site.insert_before is not None:
        raise CompositionError(
            f"Prompt tuning before the first block of {type(owner).__name__} cannot widen its "
            "attention_mask, which is not over positions; pass rows of equal length without a mask."
        )
    maskless = ids is None and embeds is None
    known = made.valid is not None and not torch.compiler.is_compiling()
    if maskless and known and bool(made.valid.all()):  # type: ignore[union-attr]
        made.valid = None  # a Route that gives every row a prompt
    if maskless and made.valid is not None:
        raise CompositionError(
            f"Prompts of different length in one batch need an attention mask, and {type(owner).__name__} "
            "takes none for its input; use prompts of one length, without rows that have none."
        )
    if mask is None and made.valid is not None:
        mask = first.new_ones(first.shape[:2], dtype=torch.long)
    if mask is not None:
        if not isinstance(mask, torch.Tensor) or mask.dim() != 2:
            raise CompositionError(
                f"Prompt tuning cannot widen the attention mask given to {type(owner).__name__}; pass a "
                "two-dimensional one, (batch, sequence)."
            )
        made.mask, made.longer = mask, made.widen(mask)
        kwargs[mask_name] = made.longer
    site = slot.site
    uneven = made.valid is not None and known and not bool(made.valid.all())
    if uneven and ignores_mask(type(owner)):
        raise CompositionError(
            f"Prompts of different length in one batch need an attention mask, and {type(owner).__name__} "
            "ignores its mask; use prompts of one length, without rows that have none."
        )
    if uneven and pools_and_measures(owner):
        raise CompositionError(
            "Prompts of different length in one batch leave gaps, which may lie neither before the position "
            f"that {type(owner).__name__} pools nor between positions whose distance it looks at; use "
            "prompts of one length, without rows that have none."
        )
    kwargs.pop("cache_position", None)  # (transformers 5.0 counts queries by it)
    if site.insert_after is not None or site.insert_before is not None:
        ctx.prompts[slot.index] = made
        if (
            ids is not None
        ):  # places for the prompts, for who looks for a token (CLIP: the last) in the ids
            made.total = ids.shape[1] + length
            marks = ids[:, :1].expand(-1, length)
            kwargs["input_ids"] = torch.cat([ids[:, : made.at], marks, ids[:, made.at :]], 1)
        return (), kwargs
    if site.placed is not None and ids is not None:
        ctx.prompts[slot.index] = made
        pad, known_ids = _padding_id(owner.config), site.placed.num_embeddings
        where = kwargs.get("position_ids")
        if isinstance(where, torch.Tensor):
            kwargs["position_ids"] = made.number(where)
        return (), give_places(
            made, kwargs, ids, pad if isinstance(pad, int) and 0 <= pad < known_ids else 0
        )
    if uneven and numbers_itself(owner):
        raise CompositionError(
            "Prompts of different length in one batch need positions of their own, and "
            f"{type(owner).__name__} numbers positions by itself; use prompts of one length, without rows "
            "that have none."
        )
    if embeds is None:
        embeds = owner.get_input_embeddings()(ids)
    kwargs["inputs_embeds"] = made.insert(embeds)
    kwargs.pop("input_ids", None)
    where = kwargs.get("position_ids")
    numbered = "position_ids" in names_of_arguments(type(owner))
    if where is None and made.valid is not None and numbered and not counts_by_mask(type(owner)):
        where = torch.arange(first.shape[1], device=first.device)[None]
    if isinstance(where, torch.Tensor):
        kwargs["position_ids"] = made.number(where)
    for (
        name,
        value,
    ) in kwargs.items():  # what else is said about each token: its type, language, box
        if name not in ("attention_mask", "position_ids") and _is_said_of(first, value):
            none = value.new_zeros(value.shape[0], length, *value.shape[2:])
            kwargs[name] = torch.cat([value[:, : made.at], none, value[:, made.at :]], 1)
    # XLNet's: what each position may not see, (batch, n, n), and which are predicted, (batch, m, n)
    for name, axes in (("perm_mask", (1, 2)), ("target_mapping", (2,))):
        if isinstance(value := kwargs.get(name), torch.Tensor):
            for axis in axes:
                left, right = value.tensor_split([made.at], axis)
                size = [*value.shape[:axis], length, *value.shape[axis + 1 :]]
                value = torch.cat([left, value.new_zeros(size), right], axis)
            kwargs[name] = value
    return (), kwargs


#: Where a config says which tokens stand for an image, a sound, ….
_STANDING_FOR = tuple(
    f"{kind}_token_{end}" for kind in ("image", "video", "audio") for end in ("id", "index")
)


def _padding_id(config: Any) -> Any:
    """Return the token that pads text, the text part's where a config has parts.

    ``None`` if there is none, or it stands for something else as well.
    """
    parts = (getattr(config, "text_config", None), config)
    taken = [getattr(part, name, None) for part in parts for name in _STANDING_FOR]
    pad = getattr(parts[0], "pad_token_id", None)
    if pad is None:
        pad = getattr(config, "pad_token_id", None)
    return None if pad in taken else pad


def _is_said_of(first: torch.Tensor, value: Any) -> bool:
    """Whether an argument holds something for every token of the input."""
    integers = isinstance(value, torch.Tensor) and not value.is_floating_point()
    return integers and value.dim() >= 2 and value.shape[:2] == first.shape[:2]


def _mask_over(kwargs: Mapping[str, Any], first: torch.Tensor) -> str:
    """Return the name of the mask over the positions of *first*, which images have under other names."""
    for name, value in kwargs.items():
        named = name.endswith("_attention_mask") and isinstance(value, torch.Tensor)
        if named and first.dim() == 3 and value.shape == first.shape[:2]:
            return name
    return "attention_mask"


def _continue(
    slot: Any, node: Any, ctx: Context, kwargs: dict[str, Any], first: torch.Tensor, past: int
) -> dict[str, Any]:
    """A step whose cache holds the prompt: the mask and the positions may not know of it yet.

    Behind an embeddings module that adds positions, prompts have none and shift none.
    """
    mask, new = kwargs.get("attention_mask"), first.shape[1]
    where = kwargs.get("position_ids")
    if mask is None and ctx.prompt is not None and slot.site.placed is not None:
        # ``generate`` takes away a mask that hides nothing, and counts on from the ids that it was given.
        if isinstance(where, torch.Tensor):
            made = prompted(node, slot, first.shape[0])
            kwargs["position_ids"] = made.number(where)[..., -where.shape[-1] :]
        return kwargs
    if not isinstance(mask, torch.Tensor) or mask.dim() != 2:
        return kwargs
    if mask.shape[1] == past + new - _length(node):
        made = prompted(node, slot, first.shape[0])
        kwargs["attention_mask"] = made.widen(mask)
        kwargs.pop("cache_position", None)
        where = kwargs.get("position_ids")
        if isinstance(where, torch.Tensor) and slot.site.insert_after is None:
            kwargs["position_ids"] = made.number(where)[..., -where.shape[-1] :]
    return kwargs


def widen_outer(
    nodes: list[tuple[Any, Any]],
    module: nn.Module,
    ctx: Context,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Fit what a model around a prompted stack is given: labels per position, an encoder's mask."""
    kwargs = {**dict(zip(names_of_arguments(type(module)), args, strict=False)), **kwargs}
    hidden = kwargs.get("encoder_hidden_states")
    if hidden is None and kwargs.get("encoder_outputs") is not None:
        hidden = kwargs["encoder_outputs"][0]
        key = "attention_mask"
    else:
        key = "encoder_attention_mask"
    slot, node = nodes[0]
    length, at = _length(node), int(node.modules[0].after_first)
    mask = kwargs.get(key)
    if (
        isinstance(hidden, torch.Tensor)
        and isinstance(mask, torch.Tensor)
        and mask.dim() == 2
        and hidden.shape[1] == mask.shape[1] + length
    ):
        kwargs[key] = prompted(node, slot, mask.shape[0]).widen(mask)
    if getattr(getattr(module, "config", None), "is_encoder_decoder", False):
        return (), kwargs
    ids = first = kwargs.get("input_ids")
    first = first if first is not None else kwargs.get("inputs_embeds")
    labels = kwargs.get("labels")
    if (
        isinstance(first, torch.Tensor)
        and isinstance(labels, torch.Tensor)
        and not labels.is_floating_point()
        and labels.shape == first.shape[:2]
    ):
        ignored = labels.new_full((labels.shape[0], length), -100)
        kwargs["labels"] = torch.cat([labels[:, :at], ignored, labels[:, at:]], 1)
    for name in ("start_positions", "end_positions"):
        where = kwargs.get(name)
        if isinstance(where, torch.Tensor):
            kwargs[name] = torch.where(where >= at, where + length, where)
    cache = kwargs.get("past_key_values")
    if (
        type(module).__name__.endswith("ForSequenceClassification")
        and getattr(module, "base_model", None) is nodes[0][0].host
        and isinstance(ids, torch.Tensor)
        and (cache is None or not cache.get_seq_length())
    ):
        # Such a class looks for a row's last token in the ids, and then there in the longer output.
        pad = _padding_id(module.config)
        marks = ids.new_full((ids.shape[0], length), 1 if pad == 0 else 0)
        kwargs["input_ids"] = torch.cat([ids[:, :at], marks, ids[:, at:]], 1)
        ctx.cache[MARKED] = True
    return (), kwargs


def expect_growing_cache(model: Any, implementation: str | None) -> None:
    """Refuse a cache whose size and masks ``generate`` fixes before it calls the model.

    Raises:
        CompositionError: prompts that go in behind the embeddings module have no room in it.
    """
    if implementation is not None and "dynamic" not in implementation:
        raise CompositionError(
            f"Prompt tuning in {type(model).__name__} inserts prompts behind the embeddings module, and a "
            f"'{implementation}' cache is made before that, without room for them; use a dynamic cache."
        )
