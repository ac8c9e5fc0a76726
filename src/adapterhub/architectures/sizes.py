"""How wide things are: projections, hidden states, keys and values, parts of fused projections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from adapterhub.architectures.paths import find, locate, parent_of, which
from adapterhub.architectures.rows import Fused, Sublayer
from adapterhub.errors import ArchitectureError

_HEAD_DIM = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size", "dim_head")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "nhead")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "kv_heads")
_HIDDEN = ("hidden_size", "d_model", "dim", "n_embd", "emb_dim", "embed_dim")


class Part(NamedTuple):
    """Where one part of a fused projection is.

    Attributes:
        start, stop: on the last axis of each piece. ``blocks``: of so many equal pieces.
    """

    start: int
    stop: int
    blocks: int

    @property
    def width(self) -> int:
        """Features of the part in all pieces together."""
        return self.blocks * (self.stop - self.start)


class KVShape(NamedTuple):
    """Shape of the keys and values of one position: heads, features of a key, features of a value."""

    heads: int
    key_dim: int
    value_dim: int


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
    """Whether the module stores its weight as (in, out): transformers' Conv1D, and embeddings."""
    if isinstance(module, nn.Embedding):
        return True
    return hasattr(module, "nf") and not hasattr(module, "out_features")


def hidden_size(config: Any) -> int | None:
    """Return the width of the residual stream that a config names, if it names one."""
    try:
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
    except ValueError:  # several text models in one
        text = config
    for source in (config, text):
        if isinstance(width := _first(source, _HIDDEN), int):
            return width
    return None


def block_width(block: nn.Module, sublayers: Iterable[Sublayer]) -> int | None:
    """Return the width of the residual stream in one block, by what it projects back to it."""
    for sub in sublayers:
        for path in (sub.o, sub.down):
            host = locate(block, path)
            if host is not None and not isinstance(host, nn.Embedding):
                return linear_widths(host, str(path))[1]
    for sub in sublayers:
        for path in (sub.residual, sub.norm, sub.out):
            weight = getattr(locate(block, path), "weight", None)
            if weight is not None and weight.dim() == 1:
                return int(weight.shape[0])
    return None


def embedding_width(host: nn.Module, default: int) -> int:
    """Return the width of what an embedding module puts out."""
    if isinstance(width := getattr(host, "embedding_dim", None), int):
        return width
    norms = [m for m in host.children() if "norm" in type(m).__name__.lower()]
    weight = getattr(norms[-1], "weight", None) if norms else None
    if weight is None and "norm" in type(host).__name__.lower():
        weight = getattr(host, "weight", None)
    return int(weight.shape[-1]) if weight is not None else default


def kv_shape(attention: nn.Module, hidden: int, k_width: int | None) -> KVShape:
    """Return the shape of an attention's keys and values.

    Args:
        hidden: width of the residual stream. ``k_width``: of the key projection, if there is one.
    """
    config = getattr(attention, "config", None)
    key_dim, value_dim = (getattr(attention, n, None) for n in ("qk_head_dim", "v_head_dim"))
    if isinstance(key_dim, int) and isinstance(value_dim, int):  # low-rank attention
        heads = _first(attention, _HEADS) or _first(config, _HEADS) or 1
        return KVShape(int(heads), key_dim, value_dim)
    dim = _first(attention, _HEAD_DIM)
    if not isinstance(dim, int):
        heads = _first(attention, _HEADS) or _first(config, _HEADS) or 1
        dim = getattr(config, "head_dim", None) or hidden // int(heads)
    if k_width is not None:
        return KVShape(k_width // dim, dim, dim)
    return KVShape(kv_heads(attention), dim, dim)


def kv_heads(attention: nn.Module) -> int:
    """Return how many heads an attention's keys have."""
    config = getattr(attention, "config", None)
    found = _first(attention, _KV_HEADS)
    if not isinstance(found, int) and _first(attention, _HEADS) is not None:
        groups = getattr(attention, "num_key_value_groups", 1)
        found = int(_first(attention, _HEADS)) // int(groups)
    return found or _first(config, _KV_HEADS) or _first(config, _HEADS) or 1


def fused_parts(block: nn.Module, fused: Fused, hidden: int) -> dict[str, Part]:
    """Return where each part of a fused projection of *block* is.

    Raises:
        ArchitectureError: the layout does not fit the module's width.
    """
    path = str(which(block, fused.path))
    host = find(block, path)
    assert host is not None
    width = linear_widths(host, path)[1]
    pieces, narrow = fused.blocks, None
    sizes: dict[str, int] = {}
    if fused.parts == ("k", "v"):
        shape = kv_shape(find(block, parent_of(path)) or block, hidden, None)
        pieces *= shape.heads if fused.layout == "grouped" else 1
        v_width = shape.value_dim * shape.heads // pieces
        sizes = {"k": width // pieces - v_width, "v": v_width}
    elif "k" in fused.parts:
        shape = kv_shape(find(block, parent_of(path)) or block, hidden, None)
        per_piece = 1 if fused.layout == "grouped" else shape.heads
        pieces *= shape.heads if fused.layout == "grouped" else 1
        narrow = per_piece * shape.key_dim // fused.blocks
    piece, left = divmod(width, pieces)
    sizes = sizes or dict.fromkeys(fused.parts, piece // len(fused.parts))
    if narrow is not None and sizes != dict.fromkeys(fused.parts, narrow):
        sizes = {p: narrow if p in "kv" else piece - 2 * narrow for p in fused.parts}
    if fused.layout not in ("concat", "grouped"):
        raise ArchitectureError(
            f"Unknown layout '{fused.layout}' of {path}; known: concat, grouped."
        )
    if left or sum(sizes.values()) != piece or min(sizes.values()) <= 0:
        raise ArchitectureError(
            f"{path}: {width} features are not {'+'.join(fused.parts)} in layout '{fused.layout}'; "
            "correct the row (`adapterhub inspect`)."
        )
    found, start = {}, 0
    for point in fused.parts:
        found[point] = Part(start, start + sizes[point], pieces)
        start += sizes[point]
    return found


def _first(source: Any, names: Iterable[str]) -> Any:
    return next((v for n in names if isinstance(v := getattr(source, n, None), int)), None)
