"""Keys and values: adapters inside the attention function.

An attention module of transformers looks up its function by ``config._attn_implementation``. While a
prefix is active at an attention, that one module sees its config through a :class:`ConfigView` that
answers ``"adapterhub"``; :func:`attend` then adds the prefix and calls the function that the model's
own config names. Masks, cache and the other layers' choice of backend stay as they were.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from adapterhub.context import local
from adapterhub.engine.evaluate import run_on_keys
from adapterhub.errors import CompositionError

NAME = "adapterhub"
_BACKENDS: dict[tuple[type, str], Callable[..., Any]] = {}


class ConfigView:
    """A config seen through: all attributes are those of *base*, but the attention implementation."""

    def __init__(self, base: Any) -> None:
        self.__dict__["base"] = base
        self.__dict__["_attn_implementation"] = NAME

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "base":
            raise AttributeError(name)
        return getattr(self.base, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.base, name, value)

    @staticmethod
    def install(module: nn.Module) -> _Installed:
        base = module.config
        for name in {"eager", "sdpa"} - {base._attn_implementation}:  # type: ignore[union-attr]
            with contextlib.suppress(CompositionError):  # not all models have both
                backend(type(module), name)
        backend(type(module), base._attn_implementation)  # type: ignore[union-attr, arg-type]
        module.config = ConfigView(base)  # type: ignore[assignment]
        return _Installed(module)


class _Installed:
    """Undo of :meth:`ConfigView.install`, with the interface of a hook handle."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def remove(self) -> None:
        view = self.module.config
        if isinstance(view, ConfigView):
            self.module.config = view.base


def uses_interface(attention: nn.Module) -> bool:
    """Whether the module's file dispatches through the attention interface, so that prefixes can act."""
    return any(
        hasattr(sys.modules.get(cls.__module__), "ALL_ATTENTION_FUNCTIONS")
        for cls in type(attention).__mro__
    ) and hasattr(attention, "config")


def backend(cls: type, name: str) -> Callable[..., Any]:
    """Return the attention function *name* as the file that defines *cls* would find it."""
    key = (cls, name)
    found = _BACKENDS.get(key)
    if found is None:
        for base in cls.__mro__:
            home = sys.modules.get(base.__module__)
            if hasattr(home, "ALL_ATTENTION_FUNCTIONS"):
                break
        else:
            raise CompositionError(
                f"{cls.__name__} does not use transformers' attention interface."
            )
        eager = getattr(home, "eager_attention_forward", None)
        found = eager if name == "eager" else home.ALL_ATTENTION_FUNCTIONS.get(name, eager)  # type: ignore[union-attr]
        if found is None:
            raise CompositionError(f"{cls.__name__} has no attention function '{name}'.")
        _BACKENDS[key] = found
    return found


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The attention function ``"adapterhub"``: prepend the active prefixes, then attend as usual.

    Args:
        query, key, value: (batch, heads, length, head_dim), keys and values after rotary embedding and
            cache.
        attention_mask: ``None``, 2-D (flash), or (batch, 1, queries, keys) boolean or additive.
    """
    slot: Any = module._modules[NAME]._modules["kv"]  # type: ignore[union-attr]
    config: Any = module.config
    # Another thread may have ended the setup that needed the view after this one looked it up.
    base = config.base if isinstance(config, ConfigView) else config
    implementation: str = base._attn_implementation
    function = _BACKENDS.get((type(module), implementation)) or backend(
        type(module), implementation
    )
    ctx = local.ctx
    node = slot.node if ctx.override is None else ctx.override.get(slot.index, slot.node)
    if slot.site.layout:  # rows that are packed are attended to one after the other
        noted = ctx.residuals.get(slot.index)
    else:
        noted = ctx.residuals.pop(slot.index, None)
    if node is None:
        return function(module, query, key, value, attention_mask, **kwargs)
    family = node.family
    state = run_on_keys(node, slot, key, family.begin(key, noted, query.shape[2]))
    prefix = state.k.shape[2]
    if not prefix:
        return function(module, query, key, value, attention_mask, **kwargs)
    if (
        times := key.shape[1] // state.k.shape[1]
    ) > 1:  # keys of groups, repeated by the module itself
        state = state._replace(
            k=state.k.repeat_interleave(times, 1), v=state.v.repeat_interleave(times, 1)
        )
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    queries = query.shape[2]
    if attention_mask is None and implementation == "sdpa" and causal and queries > 1:
        # sdpa without a mask means top-left causal; beyond the queries the cache is still empty.
        key, value = key[:, :, :queries], value[:, :, :queries]
        keys = key.shape[2]
        attention_mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()[
            None, None
        ]
        if kwargs.get("position_bias") is not None:
            kwargs["position_bias"] = kwargs["position_bias"][..., :queries]
    bias = kwargs.get("position_bias")
    if bias is not None:
        kwargs["position_bias"] = _bias_of_rows(_extend_bias(slot, bias, prefix, ctx), state.valid)
    mask = _extend_mask(
        ctx, attention_mask, prefix, state.valid, query, key.shape[2], implementation
    )
    key = torch.cat([state.k, key], 2)
    value = torch.cat([state.v, value], 2)
    output, weights = function(module, query, key, value, mask, **kwargs)
    return output, None if weights is None else weights[..., prefix:]


def _extend_mask(
    ctx: Any,
    mask: Any,
    prefix: int,
    valid: torch.Tensor | None,
    query: torch.Tensor,
    keys: int,
    implementation: str,
) -> Any:
    if mask is None:
        if valid is None:
            return None
        seen = valid.new_ones(*valid.shape[:-1], keys)
        full = torch.cat([valid, seen], -1)
        if implementation.startswith("flash"):
            return _for_all_queries(full)
        full = _by_query(full)
        return full if implementation == "sdpa" else _additive(full, query.dtype)
    if not isinstance(mask, torch.Tensor):
        raise CompositionError(
            f"Prefix tuning cannot extend a {type(mask).__name__} (attention implementation "
            f"'{implementation}'); load the model with attn_implementation='sdpa' or 'eager'."
        )
    share = valid is None and not torch.compiler.is_compiling()
    if share and (kept := ctx.cache.get(("mask", id(mask), prefix))) is not None:
        return kept[1]
    if mask.dim() == 2:
        left = mask.new_ones(mask.shape[0], prefix)
        if valid is not None:
            left = _for_all_queries(valid).to(mask.dtype)
        extended = torch.cat([left.expand(mask.shape[0], -1), mask], 1)
    else:
        rows = mask.shape[0] if valid is None else max(mask.shape[0], valid.shape[0])
        shape = (rows, mask.shape[1], mask.shape[2], prefix)
        if mask.dtype == torch.bool:
            left = mask.new_ones(1) if valid is None else _by_query(valid)
        else:
            left = mask.new_zeros(1) if valid is None else _additive(_by_query(valid), mask.dtype)
        if valid is not None and valid.dim() == 3 and mask.shape[2] == 1 < valid.shape[1]:
            mask = mask.expand(
                -1, -1, valid.shape[1], -1
            )  # padding alone, the same for all queries
            shape = (*shape[:2], valid.shape[1], prefix)
        extended = torch.cat([left.expand(shape), mask.expand(rows, -1, -1, -1)], -1)
    if share:  # all layers get the same mask object: extend it once; keeping it keeps its id unique
        ctx.cache["mask", id(mask), prefix] = (mask, extended)
    return extended


def _by_query(valid: torch.Tensor) -> torch.Tensor:
    """Return what is visible as (batch, 1, queries or 1, columns)."""
    return valid[:, None] if valid.dim() == 3 else valid[:, None, None, :]


def _for_all_queries(valid: torch.Tensor) -> torch.Tensor:
    if valid.dim() == 3:
        raise CompositionError(
            "Split over prefixes gives each position a mask of its own, which flash attention does not take; "
            "load the model with attn_implementation='sdpa' or 'eager'."
        )
    return valid


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    zero = torch.zeros(1, dtype=dtype, device=visible.device)
    return torch.where(visible, zero, torch.finfo(dtype).min)


def _extend_bias(slot: Any, bias: torch.Tensor, prefix: int, ctx: Any) -> torch.Tensor:
    """Widen a relative position bias (T5) to prefix + keys columns.

    The peer numbers the memory from the first prefix position while queries keep their numbers, and
    adapters were trained with that: column m has the bias of distance m - i. So the model's own
    columns come first and *prefix* further ones follow.
    """
    owner: Any = slot.site.bias_host
    if owner is None or not _has_prefix(owner, ctx):
        # Cross-attention has no bias. And where the layer that numbers the memory has no prefix (leave_out),
        # the peer's bias does not fit the longer memory and is dropped: adapters were trained so.
        return bias.new_zeros(*bias.shape[:-1], bias.shape[-1] + prefix)
    kept = ctx.cache.get(("bias", id(bias), prefix))
    if kept is not None and not torch.compiler.is_compiling():
        return kept[1]
    queries, keys = bias.shape[-2:]
    seen = ctx.cache.pop(("seen", slot.index), 0)
    extended = _computed_bias(owner, queries, keys + prefix, bias.device, seen)
    extended = extended.to(bias.dtype)
    if not torch.compiler.is_compiling():
        ctx.cache["bias", id(bias), prefix] = (bias, extended)
    return extended


def _computed_bias(
    owner: Any, queries: int, keys: int, device: torch.device, seen: Any
) -> torch.Tensor:
    """Return the bias of *owner* for queries that come after *seen* others, (1, heads, queries, keys)."""
    names = inspect.signature(owner.compute_bias).parameters
    if "past_seen_tokens" in names:
        return owner.compute_bias(queries, keys, device=device, past_seen_tokens=seen)
    where = torch.arange(queries, device=device) + seen
    return owner.compute_bias(queries, keys, device=device, cache_position=where)


def bias_change(
    slot: Any, scores: torch.Tensor, prefix: int, valid: torch.Tensor | None, ctx: Any
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return what a relative position bias becomes with a prefix, where the model adds its own itself.

    Args:
        scores: (batch, heads, queries, keys), with the model's own bias.
        prefix: number of prefix positions. valid: as for :func:`_bias_of_rows`.

    Returns:
        The bias of the prefix's columns, and what has to be added to *scores*; ``None``: the attention has
        no bias.
    """
    owner: Any = slot.site.bias_host
    if owner is None:
        return None
    queries, keys = scores.shape[-2:]
    seen = ctx.cache.pop(("seen", slot.index), 0)
    extended = _computed_bias(owner, queries, keys + prefix, scores.device, seen).to(scores.dtype)
    own = extended[..., :keys]
    if not _has_prefix(owner, ctx):  # see _extend_bias
        return extended.new_zeros(*extended.shape[:-1], prefix), -own
    of_rows = _bias_of_rows(extended, valid)
    return of_rows[..., :prefix], of_rows[..., prefix:] - own


def _bias_of_rows(bias: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """Give each row the bias of its own prefix: its memory is numbered without what it does not see.

    Args:
        bias: (1 or batch, heads, queries, prefix + keys).
        valid: (batch, prefix) or (batch, queries, prefix) bool; ``None``: all rows have the whole prefix.
    """
    if valid is None:
        return bias
    heads, queries, total = bias.shape[1:]
    shown = valid if valid.dim() == 3 else valid[:, None].expand(-1, queries, -1)
    rows = shown.shape[0]
    shown = torch.cat([shown, shown.new_ones(rows, queries, total - shown.shape[2])], 2)
    columns = (shown.int().cumsum(2) - 1).clamp_min(0).long()
    return bias.expand(rows, -1, -1, -1).gather(-1, columns[:, None].expand(-1, heads, -1, -1))


def _has_prefix(attention: nn.Module, ctx: Any) -> bool:
    site: Any = attention._modules.get(NAME)
    slot = site._modules.get("kv") if site is not None else None
    if slot is None:
        return False
    return (
        slot.node if ctx.override is None else ctx.override.get(slot.index, slot.node)
    ) is not None


AttentionInterface.register(NAME, attend)
