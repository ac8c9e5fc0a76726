"""Prompts before the input: longer embeddings, and masks, positions and labels to go with them.

Where the model adds positions and norms inside one embeddings module, prompts are inserted behind it (they
get none of that, as in the ``adapters`` library); elsewhere they join the token embeddings, and the model is
called with ``inputs_embeds``. A decoding step with a cache inserts nothing: the prompt is in the cache,
and only the mask is widened for it.
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

from adapterhub.context import Context
from adapterhub.engine.places import give_places
from adapterhub.errors import CompositionError

#: In a context's cache: the ids have places for the prompts, for the model around them to count.
MARKED = "ids with places for prompts"


class Prompted:
    """What was inserted into the input of one stack.

    Attributes:
        prompt: (batch, p, width).
        valid: (batch, p) bool or ``None`` (all).
        at: position they were inserted at, 0 or 1.
        mask, longer: the attention mask before and after.
        total: length of the input with them.
    """

    __slots__ = ("at", "longer", "mask", "prompt", "total", "valid")

    def __init__(self, prompt: torch.Tensor, valid: torch.Tensor | None, at: int) -> None:
        self.prompt, self.valid, self.at = prompt, valid, at
        self.mask: Any = None
        self.longer: Any = None
        self.total = -1

    def insert(self, h: torch.Tensor) -> torch.Tensor:
        """Return *h* (batch, n, width) with the prompts in it."""
        return torch.cat([h[:, : self.at], self.prompt.to(h.dtype), h[:, self.at :]], 1)

    def widen(self, mask: torch.Tensor) -> torch.Tensor:
        """Return a mask (batch, n) with ones, or what is valid, at the prompts."""
        rows, length = self.prompt.shape[:2]
        seen = mask.new_ones(rows, length) if self.valid is None else self.valid.to(mask.dtype)
        return torch.cat([mask[:, : self.at], seen, mask[:, self.at :]], 1)

    def widen_square(self, mask: Any, h: Any) -> Any:
        """Make room in a mask (batch or 1, heads or 1, queries, keys) for the prompts that *h* has already.

        Prompts are seen by all, and see what the first position sees. Anything else is returned as it is.
        """
        known = isinstance(h, torch.Tensor) and h.dim() == 3
        length = h.shape[1] - self.prompt.shape[1] if known else -1
        if not isinstance(mask, torch.Tensor) or mask.dim() != 4 or mask.shape[-1] != length:
            return mask
        prompts, at = self.prompt.shape[1], self.at
        seen = mask.new_zeros(*mask.shape[:-1], prompts)
        seen = seen.logical_not() if mask.dtype == torch.bool else seen
        mask = torch.cat([mask[..., :at], seen, mask[..., at:]], -1)
        if mask.shape[-2] == length:
            more = mask[..., :1, :].expand(*mask.shape[:-2], prompts, -1)
            mask = torch.cat([mask[..., :at, :], more, mask[..., at:, :]], -2)
        return mask

    def without(self, value: Any) -> Any:
        """Return what the embeddings are given (a mask, ids, …) without places for prompts in it."""
        if value is None or not isinstance(value, torch.Tensor):
            return value
        if value is self.longer:
            return self.mask
        if value.dim() < 2 or value.is_floating_point() or value.shape[1] != self.total:
            return value
        length = self.prompt.shape[1]
        return torch.cat([value[:, : self.at], value[:, self.at + length :]], 1)

    def number(self, where: torch.Tensor) -> torch.Tensor:
        """Return positions (..., batch or 1, n) counted on behind the prompts that a row really has."""
        length = self.prompt.shape[1]
        if self.valid is None:
            start = torch.arange(length, device=where.device).expand(*where.shape[:-1], -1)
            later = where + length
        else:
            start = (self.valid.cumsum(1) - 1).clamp_min(0)
            later = where + self.valid.sum(1, keepdim=True)
            start = start.expand(*later.shape[:-1], -1)
        start = start.to(where.dtype) + self.at
        first = where[..., : self.at].expand(*later.shape[:-1], -1)
        return torch.cat([first, start, later[..., self.at :].to(where.dtype)], -1)


def prompted(node: Any, slot: Any, batch: int) -> Prompted:
    """Evaluate the plan of a prompt slot for *batch* rows."""
    weight = next(m for m in node.modules).embedding
    empty = weight.new_empty(batch, 0, weight.shape[1])
    state = node.run(node.family.begin(empty, None), slot)
    after = {module.after_first for module in node.modules}
    if len(after) > 1:
        raise CompositionError(
            "Prompts with combine='prefix' and 'prefix_after_bos' cannot share a batch; use one of them."
        )
    return Prompted(state.prompt, state.valid, int(after.pop()))


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
    given = dict(zip(_names(type(owner)), args, strict=False))
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
    if uneven and _ignores_mask(type(owner)):
        raise CompositionError(
            f"Prompts of different length in one batch need an attention mask, and {type(owner).__name__} "
            "ignores its mask; use prompts of one length, without rows that have none."
        )
    if uneven and _pools_and_measures(owner):
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
    if uneven and _numbers_itself(owner):
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
    numbered = "position_ids" in _names(type(owner))
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


def _padding_id(config: Any) -> Any:
    """Return the token that pads text: the text part's, where a config has parts."""
    parts = (getattr(config, "text_config", None), config)
    return next(
        (i for part in parts if (i := getattr(part, "pad_token_id", None)) is not None), None
    )


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


def _pools_and_measures(owner: nn.Module) -> bool:
    """Whether a model pools its first position, and looks at distances between positions as they lie."""
    pooled = getattr(owner, "pooler", None) is not None
    return pooled and any("relative_attention_bias" in name for name, _ in owner.named_modules())


def _numbers_itself(owner: nn.Module) -> bool:
    """Whether a model adds embeddings of positions that a call cannot name."""
    own = any("position" in name for name, _ in owner.named_children())
    return own and "position_ids" not in _names(type(owner))


@functools.cache
def _forward_of(cls: type) -> ast.AST:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(cls.forward)))  # type: ignore[attr-defined]
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def counts_by_mask(cls: type) -> bool:
    """Whether a forward pass numbers positions by the mask (OPT), and so leaves hidden prompts out itself.

    Engines ask when they plan, so that the answer is known when dynamo, which cannot read sources, comes by.
    """
    found = _BY_MASK.get(cls)
    if found is None:
        source = ast.unparse(_forward_of(cls))
        found = _BY_MASK[cls] = re.search(r"cumsum\([^)]*mask", source) is not None
    return found


@functools.cache
def _ignores_mask(cls: type) -> bool:
    """Whether a forward pass does no more with its mask than to ask whether there is one (RWKV)."""
    asked, read = 0, 0
    for node in ast.walk(_forward_of(cls)):
        if isinstance(node, ast.Name) and node.id == "attention_mask":
            read += 1
        if isinstance(node, ast.Compare) and ast.unparse(node).startswith("attention_mask is"):
            asked += 1
    return "attention_mask" in _names(cls) and read == asked


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
    kwargs = {**dict(zip(_names(type(module)), args, strict=False)), **kwargs}
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
        begun = cache.has_previous_state
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
    if "position_ids" not in _names(type(model)):
        return None
    return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)


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


_NAMES: dict[type, tuple[str, ...]] = {}
_BY_MASK: dict[type, bool] = {}


def _names(cls: type) -> tuple[str, ...]:
    """Return the names of the positional arguments of a model class's forward."""
    found = _NAMES.get(cls)
    if found is None:
        found = _NAMES[cls] = tuple(inspect.signature(cls.forward).parameters)[1:]  # type: ignore[attr-defined]
    return found
