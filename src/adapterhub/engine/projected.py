"""Attentions that hand their weights to a function of torch instead of running their projections.

WavLM calls ``multi_head_attention_forward`` with the weights of its modules, so no hook on these ever runs.
While an adapter is at one of them, that call is answered by the same computation with the modules run, one
after the other, and prefixes before keys and values. Without an active adapter nothing is different.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from adapterhub.context import local
from adapterhub.errors import CompositionError

# (Read here: dynamo cannot follow Signature.bind.)
_PARAMETERS = inspect.signature(F.multi_head_attention_forward).parameters
_NAMES = tuple(_PARAMETERS)
_DEFAULTS = {name: p.default for name, p in _PARAMETERS.items() if p.default is not p.empty}
_WEIGHTS = ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj_weight")


class Projected(TorchFunctionMode):
    """Answers the calls of one attention module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not F.multi_head_attention_forward:
            return func(*args, **(kwargs or {}))
        given = {**_DEFAULTS, **dict(zip(_NAMES, args, strict=False)), **(kwargs or {})}
        return attended(self.module, given)


def attended(module: Any, given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what ``multi_head_attention_forward`` does for the arguments *given*, by running modules.

    Raises:
        CompositionError: a weight is that of no module, or an argument that is not provided for.
    """
    q_proj, k_proj, v_proj, o_proj = (_owner(module, given[name]) for name in _WEIGHTS)
    other = [
        name for name in ("bias_k", "bias_v", "static_k", "static_v") if given[name] is not None
    ]
    if other or given["add_zero_attn"] or given["is_causal"]:
        raise CompositionError(
            f"{type(module).__name__} attends in a way that adapters cannot follow ({', '.join(other)})."
        )
    heads = given["num_heads"]
    x, y, z = (given[name].transpose(0, 1) for name in ("query", "key", "value"))
    q, k, v = (
        projection(h).unflatten(-1, (heads, -1)).transpose(1, 2)
        for projection, h in ((q_proj, x), (k_proj, y), (v_proj, z))
    )
    mask = _mask(given, q, k.shape[2])
    k, v, seen = _with_prefix(module, x, k, v, q.shape[2])
    length = k.shape[2] - mask.shape[-1]
    if length:
        left = (
            mask.new_zeros(1) if seen is None else mask.new_zeros(1).masked_fill(~seen, -torch.inf)
        )
        mask = torch.cat([left.expand(*mask.shape[:-1], length), mask], -1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
    weights = scores.softmax(-1)
    dropped = F.dropout(weights, given["dropout_p"], given["training"])
    output = o_proj((dropped @ v).transpose(1, 2).flatten(2)).transpose(0, 1)
    if not given["need_weights"]:
        return output, None
    weights = weights[..., length:]
    return output, weights.mean(1) if given["average_attn_weights"] else weights


def _owner(module: nn.Module, weight: torch.Tensor | None) -> nn.Module:
    for child in module.children():
        if weight is not None and child._parameters.get("weight") is weight:
            return child
    raise CompositionError(
        f"{type(module).__name__} attends with a weight that is not that of one of its modules, so adapters "
        "cannot act there."
    )


def _mask(given: dict[str, Any], q: torch.Tensor, keys: int) -> torch.Tensor:
    """Return what is added to the scores: (batch, heads, queries, keys)."""
    rows, heads, queries = q.shape[:3]
    added = q.new_zeros(rows, heads, queries, keys)
    for name in ("attn_mask", "key_padding_mask"):
        mask = given[name]
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = q.new_zeros(mask.shape).masked_fill(mask, -torch.inf)
        if name == "key_padding_mask":
            mask = mask[:, None, None]
        elif mask.dim() == 3:
            mask = mask.view(rows, heads, queries, keys)
        added = added + mask
    return added


def _with_prefix(
    module: Any, x: torch.Tensor, k: torch.Tensor, v: torch.Tensor, queries: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return keys and values with the active prefixes, and what is visible of these."""
    site = module._modules.get("adapterhub")
    slot = None if site is None else site._modules.get("kv")
    if slot is None:
        return k, v, None
    ctx = local.ctx
    node = slot.node if ctx.override is None else ctx.override.get(slot.index, slot.node)
    if node is None:
        return k, v, None
    state = node.run(node.family.begin(k, x, queries), slot)
    seen = state.valid
    if seen is not None:
        seen = seen[:, None] if seen.dim() == 3 else seen[:, None, None]
    return torch.cat([state.k, k], 2), torch.cat([state.v, v], 2), seen
