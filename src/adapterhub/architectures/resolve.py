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
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from adapterhub.architectures.paths import Block, blocks_at, find, locate, which
from adapterhub.architectures.rows import Fused, Row, StackRow, Sublayer
from adapterhub.architectures.sites import SiteKey
from adapterhub.architectures.sizes import (
    block_width,
    embedding_width,
    fused_parts,
    hidden_size,
    kv_shape,
    linear_widths,
    transposed,
)
from adapterhub.architectures.structure import (
    hands_over_weights,
    on_interface,
    scores_inline,
)
from adapterhub.architectures.table import row_for
from adapterhub.errors import ArchitectureError


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
        blocks: the last axis consists of so many equal pieces, and ``slice`` is within each of them.
        fused_parts: all parts of that projection, in output order; empty for a plain one.
        residual: module whose first input is the residual, for ``out`` sites.
        residual_plus: module whose output is added to the residual.
        norm, norm_on, swapped, sees_sum: see :class:`~adapterhub.architectures.rows.Sublayer`.
        repeated: two sub-layers of the block share the host; its call after ``residual`` ran is meant.
        layout: how hidden states lie here, see :class:`~adapterhub.architectures.rows.StackRow`.
        kv_heads, head_dim, value_dim: shape of one key and one value position, for ``kv`` sites.
        bias_host: the attention module that owns the stack's relative position bias.
        peer_path: path in the peer's files, relative to the base model.
        peer_prefix_key, peer_root: name of the prefix pool in files, and what it hangs on.
        at_input: the place is the host's first input rather than its output.
        insert_after: for ``prompt`` sites, the embeddings module behind whose output prompts are inserted;
            ``None``: they join the token embeddings, and the model sees ``inputs_embeds``.
        insert_before: for ``prompt`` sites without tokens, the block before whose input they are inserted.
        blocks_after: for ``prompt`` sites with ``insert_before``, the blocks that run with the prompts.
        handed_by: the attention that hands the host's weight to a function instead of running the host.
        placed: for ``prompt`` sites where prompts take places among the ids, the token embeddings.
    """

    key: SiteKey
    host: nn.Module
    path: str
    layer_id: int
    in_features: int
    out_features: int
    slice: tuple[int, int] | None = None
    blocks: int = 1
    fused_parts: tuple[str, ...] = ()
    residual: nn.Module | None = None
    residual_plus: nn.Module | None = None
    norm: nn.Module | None = None
    norm_on: str = "sum"
    swapped: bool = False
    sees_sum: bool = True
    repeated: bool = False
    layout: str = ""
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    bias_host: nn.Module | None = None
    peer_path: str = ""
    peer_prefix_key: str = ""
    peer_root: str = ""
    cross_is_mh: bool = False
    at_input: bool = False
    insert_after: nn.Module | None = None
    insert_before: nn.Module | None = None
    placed: nn.Module | None = None
    blocks_after: tuple[nn.Module, ...] = ()
    handed_by: nn.Module | None = None


@dataclass(eq=False)
class ResolvedModel:
    """All sites of one model.

    Attributes:
        row: the row it was resolved from.
        base: the base model (without head); ``base_path`` is its path in the model given ("" if the same).
        sites: by key, in layer order.
        layers: all blocks, in numbering order.
        hidden_size: width of the residual stream (of the first stack, where stacks differ).
        absent: block lists of the row that this model does not have.
        model: the model given, with its head.
    """

    row: Row
    base: nn.Module
    base_path: str
    hidden_size: int
    sites: dict[SiteKey, ResolvedSite] = field(default_factory=dict)
    layers: list[nn.Module] = field(default_factory=list)
    stack_of_layer: list[StackRow] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    model: nn.Module | None = None
    _found: set[str] = field(default_factory=set)

    def extras(self, kind: str) -> list[ResolvedSite]:
        """Return places that are looked up on demand, adding them to :attr:`sites`.

        Args:
            kind: ``"tokens"`` (token embeddings), ``"vocabulary"`` (the model's own map to it),
                ``"norm"`` (normalisations in blocks) or ``"experts"`` (mixtures kept as 3-D parameters).
        """
        from adapterhub.architectures.extras import KINDS

        if kind not in self._found:
            self._found.add(kind)
            self.sites.update((site.key, site) for site in KINDS[kind](self))
        wanted = {"tokens": (None, kind), "vocabulary": (None, kind), "experts": ("ffn", kind)}
        sublayer, point = wanted.get(kind, (kind, None))
        return [
            site
            for key, site in self.sites.items()
            if key.sublayer == sublayer and point in (None, key.point)
        ]

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
    if isinstance(inner, nn.Module) and inner is not model and not _is_base(model):
        return inner, prefix
    if (
        prefix and inner is None and not _is_base(model)
    ):  # a class whose prefix is another one's (Llama 4)
        inside = [pair for pair in model.named_children() if _is_base(pair[1])]
        if len(inside) == 1 and type(inside[0][1].config) is type(model.config):  # type: ignore[arg-type]
            return inside[0][1], inside[0][0]
    return model, ""


def _is_base(model: nn.Module) -> bool:
    """Whether transformers has the class of *model* as the base of its type, whatever is called so inside."""
    known: Any = MODEL_MAPPING_NAMES.get(
        getattr(getattr(model, "config", None), "model_type", ""), ()
    )
    return type(model).__name__ in ((known,) if isinstance(known, str) else known)


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
    row = row_of(model) if row is None else _expanded(base, row)
    hidden = hidden_size(config) or _first_width(base, row)
    if hidden is None:
        raise ArchitectureError(f"{type(base).__name__}: its config names no hidden size.")
    result = ResolvedModel(row, base, base_path, hidden, model=model)
    number = 0
    for stack in row.stacks:
        blocks = blocks_at(base, stack.layers)
        if not blocks:
            result.absent.append(stack.layers)
            continue
        number = 0 if stack.renumber else number
        for index, block in enumerate(blocks):
            _BlockResolver(result, stack, index, block, number).resolve()
            result.layers.append(block.module)
            result.stack_of_layer.append(stack)
            number += 1
        _resolve_embed(result, stack, blocks[0])
    if not result.sites:
        raise ArchitectureError(
            f"{type(model).__name__}: none of the block lists {result.absent} of the row for "
            f"'{row.model_type}' is in this model; run `adapterhub inspect` on it and pass row=."
        )
    return result


def row_of(model: nn.Module) -> Row:
    """Return the row of *model*: from the table, put together from its parts' rows, or detected."""
    base, _ = base_model_of(model)
    config = getattr(base, "config", None)
    model_type = getattr(config, "model_type", None) or type(model).__name__
    if (row := row_for(model_type)) is not None:
        return _expanded(base, row)
    from adapterhub.architectures.nested import nested_row  # reads this module
    from adapterhub.architectures.probe import detect_and_probe

    return nested_row(base) or detect_and_probe(model).corrected


def _expanded(base: nn.Module, row: Row) -> Row:
    from adapterhub.architectures.nested import expanded  # reads this module

    return expanded(base, row)


def _first_width(base: nn.Module, row: Row) -> int | None:
    for stack in row.stacks:
        for block in blocks_at(base, stack.layers):
            if (width := block_width(block.module, stack.sublayers.values())) is not None:
                return width
    return None


class _BlockResolver:
    """Finds the sites of one block.

    Args:
        result: where they go. ``stack``, ``index``, ``block``: what is looked at.
        number: the block's layer number.
    """

    def __init__(
        self, result: ResolvedModel, stack: StackRow, index: int, block: Block, number: int
    ) -> None:
        self.result, self.stack, self.index, self.block = result, stack, index, block
        self.module, self.number = block.module, number
        self.width = block_width(self.module, stack.sublayers.values()) or result.hidden_size
        peer = stack.peer
        self.peer_path = block.renamed(peer.layers) if peer else block.path
        self.peer_points = peer.points if peer else {}

    def resolve(self) -> None:
        """Add every site of the block to the result."""
        outs = [locate(self.module, sub.out) for sub in self.stack.sublayers.values()]
        for name, sub in self.stack.sublayers.items():
            for point in ("q", "k", "v", "o", "up", "gate", "down"):
                self._projection(name, point, getattr(sub, point))
            for fused in (sub.qkv, sub.k_v, sub.gate_up):
                if fused is not None and which(self.module, fused.path) is not None:
                    self._fused(name, fused)
            self._keys_and_values(name, sub)
            self._output(name, sub, outs)
        self._whole()

    def add(self, name: str, point: str, path: str, **extra: Any) -> None:
        """Add one site. *extra* are fields of :class:`ResolvedSite`; widths default to the block's."""
        key = SiteKey(self.stack.name, self.index, name, point)
        host = find(self.module, path)
        assert host is not None
        peer = self.peer_points.get(f"{name}.{point}", path)
        extra = {"in_features": self.width, "out_features": self.width, **extra}
        self.result.sites[key] = ResolvedSite(
            key,
            host,
            f"{self.block.path}.{path}",
            self.number,
            peer_path=f"{self.peer_path}.{peer}",
            cross_is_mh=self.stack.cross_is_mh,
            layout="" if self.stack.layout == "streams" else self.stack.layout,
            **extra,
        )

    def _projection(self, name: str, point: str, path: str | None) -> None:
        found = which(self.module, path)
        if found is None:
            return
        host: Any = find(self.module, found)
        width_in, width_out = linear_widths(host, f"{self.block.path}.{found}")
        owner = find(self.module, found.rpartition(".")[0])
        by = owner if owner is not None and hands_over_weights(owner) else None
        self.add(name, point, found, in_features=width_in, out_features=width_out, handed_by=by)

    def _fused(self, name: str, fused: Fused) -> None:
        path = str(which(self.module, fused.path))
        host: Any = find(self.module, path)
        width_in, _ = linear_widths(host, f"{self.block.path}.{path}")
        for point, part in fused_parts(self.module, fused, self.width).items():
            self.add(
                name,
                point,
                path,
                in_features=width_in,
                out_features=part.width,
                slice=(part.start, part.stop),
                blocks=part.blocks,
                fused_parts=fused.parts,
            )

    def _keys_and_values(self, name: str, sub: Sublayer) -> None:
        path = which(self.module, sub.kv)
        attention = find(self.module, path)
        if path is None or attention is None:
            return
        by = attention if hands_over_weights(attention) else None
        if not (on_interface(attention) or scores_inline(attention) or by is not None):
            return  # hybrids have other mixers under the same name
        stack, bias_host = self.stack, None
        if stack.position_bias and name == "self":
            holder = self.block.path.rpartition(".")[0]
            bias_host = locate(find(self.result.base, holder), stack.position_bias)
        k_site = self.result.sites.get(SiteKey(stack.name, self.index, name, "k"))
        shape = kv_shape(attention, self.width, k_site.out_features if k_site else None)
        self.add(
            name,
            "kv",
            path,
            out_features=shape.heads * shape.key_dim,
            kv_heads=shape.heads,
            head_dim=shape.key_dim,
            value_dim=shape.value_dim,
            bias_host=bias_host,
            handed_by=by,
            peer_prefix_key=(stack.peer.prefix if stack.peer else {}).get(name, f"{name}_prefix"),
            peer_root=stack.peer.root if stack.peer else "",
        )

    def _output(self, name: str, sub: Sublayer, outs: list[nn.Module | None]) -> None:
        path = which(self.module, sub.out)
        if path is None:
            return
        self.add(
            name,
            "out",
            path,
            residual=locate(self.module, sub.residual),
            residual_plus=locate(self.module, sub.residual_plus),
            norm=locate(self.module, sub.norm),
            norm_on=sub.norm_on,
            swapped=sub.swapped,
            sees_sum=sub.sees_sum,
            repeated=sum(1 for other in outs if other is find(self.module, path)) > 1,
        )

    def _whole(self) -> None:
        """Add the place after the whole block."""
        key = SiteKey(self.stack.name, self.index, "layer", "out")
        self.result.sites[key] = ResolvedSite(
            key,
            self.module,
            self.block.path,
            self.number,
            self.width,
            self.width,
            layout=self.stack.layout,
            peer_path=f"{self.peer_path}.reft_layer",
        )


def _resolve_embed(result: ResolvedModel, stack: StackRow, first: Block) -> None:
    """Add the places at the embedded input of a stack: ``embed`` and ``prompt``."""
    embed = (stack.embed or "").removeprefix(">") or None
    host = locate(result.base, embed)
    at_input = stack.embed != embed
    place = stack.invertible or embed
    acted = locate(result.base, place)
    if acted is not None:
        key = SiteKey(stack.name, None, None, "embed")
        at_block = at_input and not stack.invertible
        width = block_width(first.module, stack.sublayers.values()) or result.hidden_size
        if not at_block:
            width = embedding_width(acted, width)
        result.sites[key] = ResolvedSite(
            key,
            acted,
            str(which(result.base, place)),
            -1,
            width,
            width,
            peer_path=stack.peer.embed if stack.peer else "",
            layout=stack.layout if at_block else "",
            at_input=at_block,
        )
    _resolve_prompt(result, stack, None if at_input else host)


def _resolve_prompt(result: ResolvedModel, stack: StackRow, embed: nn.Module | None) -> None:
    """Add the place of prompts before the input of a stack, unless it is a decoder behind an encoder."""
    behind = stack.name == "decoder" and len(result.row.stacks) > 1
    if behind or not stack.prompted:
        return
    owner: Any = result.base
    if stack.placed:
        embed = owner.get_input_embeddings()
    else:
        owner = owner_of(result.base, stack.layers, embed)
    try:
        tokens = owner.get_input_embeddings()
    except (AttributeError, NotImplementedError, ValueError):
        tokens = None
    width = getattr(tokens, "embedding_dim", None)
    rotary = any("rotary" in type(module).__name__.lower() for module in owner.modules())
    around = embed is not None and embed is not tokens
    if tokens is not None and around:
        around = any(module is tokens for module in embed.modules())  # type: ignore[union-attr]
    if not (around and (width is None or not rotary)):
        embed = None
    config: Any = getattr(owner, "config", None)
    before, blocks = None, ()
    if embed is not None:
        width = getattr(config, "embedding_size", None) or result.hidden_size
    elif not isinstance(width, int):  # pictures and sounds: in front of the first block
        blocks = tuple(place.module for place in blocks_at(result.base, stack.layers))
        before = blocks[0]
        width = block_width(before, stack.sublayers.values()) or result.hidden_size
    at_tokens = embed is None and before is None
    before_it = {other.layers for other in result.stack_of_layer if other is not stack}
    follows = any(owner_of(result.base, layers) is owner for layers in before_it)
    taken = any(site.host is owner for site in result.select(point="prompt"))
    if follows and (taken or not at_tokens):
        return  # it reads what comes out of another stack, unless it alone reads the owner's tokens
    if any("RelativePositionBias" in type(module).__name__ for module in owner.modules()):
        return  # a table of distances between image patches has no place for a prompt
    key = SiteKey(stack.name, None, None, "prompt")
    result.sites[key] = ResolvedSite(
        key,
        owner,
        "",
        -1,
        int(width),  # type: ignore[arg-type]
        int(width),  # type: ignore[arg-type]
        peer_path=f"{stack.name}_prompt_tuning"
        if result.stack_of_layer[0] is not stack
        else "prompt_tuning",
        insert_after=embed,
        insert_before=before,
        placed=tokens if stack.placed else None,
        blocks_after=blocks,
    )


def owner_of(base: nn.Module, path: str, holding: nn.Module | None = None) -> Any:
    """Return the innermost PreTrainedModel on the way to *path*, one around *holding* if that is given."""
    owner: Any = base
    module: Any = base
    for part in blocks_at(base, path)[0].path.split("."):
        module = module._modules[part]
        around = holding is None or any(inner is holding for inner in module.modules())
        if isinstance(module, PreTrainedModel) and around:
            owner = module
    return owner


__all__ = [
    "ResolvedModel",
    "ResolvedSite",
    "base_model_of",
    "linear_widths",
    "resolve",
    "row_of",
    "transposed",
]
