"""From a row and a model to real modules: :func:`resolve`.

Everything an engine or a method needs to know about a model is read here once: which module is
where, how wide it is, how a fused projection is laid out, which layer number a block has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from adapterhub.architectures.rows import Row, StackRow, Sublayer
from adapterhub.architectures.sites import SiteKey
from adapterhub.architectures.table import row_for
from adapterhub.errors import ArchitectureError, did_you_mean


@dataclass(frozen=True, eq=False)
class ResolvedSite:
    """One place in one model.

    Attributes:
        key: its canonical name.
        host: the module whose output is adapted (for ``kv``: the attention module).
        layer_id: block number counted through all stacks (encoder first), as ``leave_out`` counts.
        in_features, out_features: widths at the host's input and output (``out``, ``embed``: both
            the hidden size; a part of a fused projection: that part's width).
        slice: for a part of a fused projection its ``(start, stop)`` on the last axis, else ``None``.
        fused_parts: all parts of that projection, in output order; empty for a plain one.
        residual: module whose first input is the residual, for ``out`` sites.
        norm: layer norm after the residual addition, for ``out`` sites of post-LN models.
        kv_heads, head_dim: shape of one key or value position, for ``kv`` sites.
        bias_host: the attention module that owns the stack's relative position bias.
        peer_path: path in the peer's files, relative to the base model.
        at_input: the place is the host's first input rather than its output.
    """

    key: SiteKey
    host: nn.Module
    path: str
    layer_id: int
    in_features: int
    out_features: int
    slice: tuple[int, int] | None = None
    fused_parts: tuple[str, ...] = ()
    residual: nn.Module | None = None
    norm: nn.Module | None = None
    kv_heads: int = 0
    head_dim: int = 0
    bias_host: nn.Module | None = None
    peer_path: str = ""
    peer_prefix_key: str = ""
    cross_is_mh: bool = False
    at_input: bool = False


@dataclass(eq=False)
class ResolvedModel:
    """All sites of one model.

    Attributes:
        row: the row it was resolved from.
        base: the base model (without head); ``base_path`` is its path in the model given ("" if the same).
        sites: by key, in layer order.
        layers: all blocks, in numbering order.
        hidden_size: width of the residual stream.
    """

    row: Row
    base: nn.Module
    base_path: str
    hidden_size: int
    sites: dict[SiteKey, ResolvedSite] = field(default_factory=dict)
    layers: list[nn.Module] = field(default_factory=list)
    stack_of_layer: list[StackRow] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def select(
        self, sublayer: str | None = None, point: str | None = None, stack: str | None = None
    ) -> Iterator[ResolvedSite]:
        """Yield the sites that match all arguments given, in layer order."""
        for key, site in self.sites.items():
            if (
                (sublayer is None or key.sublayer == sublayer)
                and (point is None or key.point == point)
                and (stack is None or key.stack == stack)
            ):
                yield site

    def device(self) -> torch.device:
        """Device of the base model's first parameter."""
        return next(self.base.parameters()).device


def base_model_of(model: nn.Module) -> tuple[nn.Module, str]:
    """Return the base model inside *model* and its attribute name ("" if it is *model* itself)."""
    prefix = getattr(model, "base_model_prefix", "")
    inner = getattr(model, prefix, None) if prefix else None
    if isinstance(inner, nn.Module) and inner is not model:
        return inner, prefix
    return model, ""


def resolve(model: nn.Module, row: Row | None = None) -> ResolvedModel:
    """Find every site of *model*.

    Args:
        model: any Hugging Face model, with or without a head.
        row: the family's row; default: from the table, else detected.

    Raises:
        ArchitectureError: no row and nothing detected, or a path of the row is not in the model.
    """
    base, base_path = base_model_of(model)
    config = getattr(base, "config", None)
    model_type = getattr(config, "model_type", None) or type(model).__name__
    row = row or row_for(model_type) or _detect(model)
    hidden = _hidden_size(config, base)
    result = ResolvedModel(row, base, base_path, hidden)
    for stack in row.stacks:
        blocks = _find(base, stack.layers)
        if blocks is None:
            result.absent.append(stack.layers)
            continue
        for index, block in enumerate(_children(blocks)):
            for name, sublayer in stack.sublayers.items():
                _resolve_sublayer(result, stack, index, block, name, sublayer)
            result.layers.append(block)
            result.stack_of_layer.append(stack)
        embed = (stack.embed or "").removeprefix(">") or None
        if (host := _find(base, embed)) is not None:
            key = SiteKey(stack.name, None, None, "embed")
            peer = stack.peer.embed if stack.peer else ""
            width = _embedding_width(host, hidden)
            result.sites[key] = ResolvedSite(
                key,
                host,
                _which(base, embed),
                -1,
                width,
                width,
                peer_path=peer,
                at_input=stack.embed != embed,
            )
    if not result.sites:
        raise ArchitectureError(
            f"{type(model).__name__}: none of the block lists {result.absent} of the row for "
            f"'{row.model_type}' is in this model; run `adapterhub inspect` on it and pass row=."
        )
    return result


def _detect(model: nn.Module) -> Row:
    from adapterhub.architectures.probe import detect_and_probe  # reads this module's helpers

    return detect_and_probe(model).corrected


def _resolve_sublayer(
    result: ResolvedModel, stack: StackRow, index: int, block: nn.Module, name: str, sub: Sublayer
) -> None:
    layer_id = len(result.layers)
    layers_path = _which(result.base, stack.layers)
    peer_layers = stack.peer.layers if stack.peer else layers_path
    peer_points = stack.peer.points if stack.peer else {}
    bias_host = None
    if stack.position_bias and name == "self":
        bias_host = _find(_find(result.base, stack.layers), stack.position_bias)

    def add(point: str, path: str, host: nn.Module, **extra: Any) -> None:
        key = SiteKey(stack.name, index, name, point)
        local = peer_points.get(f"{name}.{point}", path)
        result.sites[key] = ResolvedSite(
            key,
            host,
            f"{layers_path}.{index}.{path}",
            layer_id,
            peer_path=f"{peer_layers}.{index}.{local}",
            cross_is_mh=stack.cross_is_mh,
            **extra,
        )

    for point in ("q", "k", "v", "o", "up", "gate", "down"):
        path = getattr(sub, point)
        host = _find(block, path)
        if host is not None:
            width_in, width_out = linear_widths(host, f"{stack.name}.{index}.{path}")
            add(point, _which(block, path), host, in_features=width_in, out_features=width_out)
    if sub.qkv is not None and (host := _find(block, sub.qkv.path)) is not None:
        if sub.qkv.layout != "concat":
            raise ArchitectureError(f"Unknown layout '{sub.qkv.layout}' of {sub.qkv.path}.")
        width_in, width_out = linear_widths(host, sub.qkv.path)
        part = width_out // len(sub.qkv.parts)
        for number, point in enumerate(sub.qkv.parts):
            span = (number * part, (number + 1) * part)
            add(
                point,
                _which(block, sub.qkv.path),
                host,
                in_features=width_in,
                out_features=part,
                slice=span,
                fused_parts=sub.qkv.parts,
            )
    attention = _find(block, sub.kv)
    if attention is not None:
        heads, dim = _kv_shape(result, SiteKey(stack.name, index, name, "k"), attention)
        key_name = (stack.peer.prefix if stack.peer else {}).get(name, f"{name}_prefix")
        add(
            "kv",
            _which(block, sub.kv),
            attention,
            in_features=result.hidden_size,
            out_features=heads * dim,
            kv_heads=heads,
            head_dim=dim,
            bias_host=bias_host,
            peer_prefix_key=key_name,
        )
    out = _find(block, sub.out)
    if out is not None:
        width = result.hidden_size
        add(
            "out",
            _which(block, sub.out),
            out,
            in_features=width,
            out_features=width,
            residual=_find(block, sub.residual),
            norm=_find(block, sub.norm),
        )


def linear_widths(module: nn.Module, where: str) -> tuple[int, int]:
    """Return (in, out) widths of a linear-like module (nn.Linear, Conv1D, quantised linears)."""
    width_in, width_out = (
        getattr(module, "in_features", None),
        getattr(module, "out_features", None),
    )
    if isinstance(width_in, int) and isinstance(width_out, int):
        return width_in, width_out
    if hasattr(module, "nx") and hasattr(module, "nf"):  # transformers' Conv1D: weight is (in, out)
        return int(module.nx), int(module.nf)  # type: ignore[arg-type]
    raise ArchitectureError(
        f"{where} is a {type(module).__name__}, which has no in_features/out_features; "
        "only linear-like modules can host a projection site."
    )


def transposed(module: nn.Module) -> bool:
    """Whether the module stores its weight as (in, out), as transformers' Conv1D does."""
    return hasattr(module, "nf") and not hasattr(module, "out_features")


def _kv_shape(result: ResolvedModel, k_key: SiteKey, attention: nn.Module) -> tuple[int, int]:
    config = getattr(attention, "config", None)
    for name in ("head_dim", "attention_head_size", "key_value_proj_dim"):
        dim = getattr(attention, name, None)
        if isinstance(dim, int):
            break
    else:
        heads = getattr(config, "num_attention_heads", 1)
        dim = getattr(config, "head_dim", None) or result.hidden_size // heads
    k_site = result.sites.get(k_key)
    if k_site is not None:
        return k_site.out_features // dim, dim
    heads = getattr(config, "num_key_value_heads", None) or getattr(
        config, "num_attention_heads", 1
    )
    return heads, dim


def _hidden_size(config: Any, base: nn.Module) -> int:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for source in (config, text):
        for name in ("hidden_size", "d_model", "dim", "n_embd"):
            value = getattr(source, name, None)
            if isinstance(value, int):
                return value
    raise ArchitectureError(f"{type(base).__name__}: its config names no hidden size.")


def _embedding_width(host: nn.Module, hidden: int) -> int:
    width = getattr(host, "embedding_dim", None)
    return width if isinstance(width, int) else hidden


def _children(blocks: nn.Module) -> Iterator[nn.Module]:
    return iter(blocks.children())


def _alternatives(path: str) -> list[str]:
    return [part.strip() for part in path.split("|")]


def _find(root: nn.Module | None, path: str | None) -> nn.Module | None:
    if root is None or path is None:
        return None
    for option in _alternatives(path):
        module: Any = root
        for part in option.split("."):
            module = module._modules.get(part) if isinstance(module, nn.Module) else None
            if module is None:
                break
        if module is not None:
            return module
    return None


def _which(root: nn.Module, path: str | None) -> str:
    for option in _alternatives(path or ""):
        if _find(root, option) is not None:
            return option
    raise ArchitectureError(
        f"{type(root).__name__} has none of {path}.{did_you_mean(str(path), [])}"
    )
