"""From one block to its sub-layers: self-attention, cross-attention, feed-forward network.

What can be read without running the model is read here. Two things cannot, and are guessed: whether
norms come before or after, and so which modules ``out`` and ``residual`` are. The probe settles
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import nn

from adapterhub.architectures.paths import find, join, parent_of
from adapterhub.architectures.rows import Fused, Sublayer
from adapterhub.architectures.structure import (
    CONCAT_NAMES,
    Attention,
    children_with_weights,
    expert_lists,
    find_attentions,
    inside,
    is_dropout,
    is_mixed_by_tensor,
    is_norm,
    linears,
    on_interface,
    scores_inline,
    widths,
)

_GATES = frozenset(
    {"gate_proj", "gate", "wi_0", "w1", "fc1_g", "linear_v", "gate_linear", "w_gate"}
)
_UPS = frozenset({"up_proj", "up", "wi_1", "w3", "fc1_x", "fc1", "up_linear", "w_up"})


@dataclass
class BlockParts:
    """The sub-layers of one block.

    Attributes:
        sublayers: by name.
        homes: the outermost module of each that holds nothing else; ``""``: none.
        notes: what was left out, and why.
    """

    sublayers: dict[str, Sublayer] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_block(
    block: nn.Module, norm_first: bool, ffn_homes: frozenset[str] = frozenset()
) -> BlockParts:
    """Find the sub-layers of *block*.

    Args:
        norm_first: whether the stack looks like a pre-LN one.
        ffn_homes: where other blocks of the stack have their feed-forward network (for hybrids).
    """
    parts = BlockParts()
    attentions = find_attentions(block)
    # Of several attentions, the one that is called "self" is that.
    for attention in sorted(attentions, key=lambda found: "self" not in found.core.lower()):
        _add_attention(parts, block, attention)
    hidden = attentions[0].hidden if attentions else _hidden_of(block)
    if not attentions:
        _add_mixer(parts, block, ffn_homes)
        if "self" not in parts.sublayers:
            parts.notes.append("no attention and no other mixer recognised")
    containers = (attention.container for attention in attentions)
    taken = [home for home in (*containers, *parts.homes.values()) if home]
    _add_ffn(parts, block, hidden, taken)
    _place_outputs(parts, block, norm_first)
    return parts


# -- attention and mixers --------------------------------------------------------------------------


def _add_attention(parts: BlockParts, block: nn.Module, attention: Attention) -> None:
    name = "cross" if attention.cross else "self"
    if name in parts.sublayers:
        parts.notes.append(f"{attention.core}: a further attention in the block, left out")
        return
    core = find(block, attention.core)
    assert core is not None
    qkv = None
    if attention.qkv is not None:
        qkv = Fused(attention.qkv) if _looks_concatenated(block, attention.qkv) else None
        if qkv is None:
            parts.notes.append(
                f"{attention.qkv}: a fused projection of unknown layout, so q, k and v are left out"
            )
    if not _takes_prefixes(core):
        parts.notes.append(
            f"{attention.core}: has no softmax over keys that could be seen, so kv (prefixes) is left out"
        )
    if attention.o is None:
        parts.notes.append(f"{attention.core}: output projection o not found")
    parts.sublayers[name] = Sublayer(
        q=attention.q,
        k=attention.k,
        v=attention.v,
        qkv=qkv,
        o=attention.o,
        k_v=None
        if attention.k_v is None
        else Fused(attention.k_v, parts=("k", "v"), layout="grouped"),
        kv=attention.core if _takes_prefixes(core) else None,
    )
    parts.homes[name] = attention.container


def _takes_prefixes(core: nn.Module) -> bool:
    return on_interface(core) or scores_inline(core)


def _looks_concatenated(block: nn.Module, path: str) -> bool:
    width = widths(find(block, path) or nn.Identity())
    name = path.rpartition(".")[2].lower()
    return width is not None and width[1] == 3 * width[0] and name in CONCAT_NAMES


def _hidden_of(block: nn.Module) -> int:
    """Width of the stream by the block's outermost norm (blocks without attention)."""
    for _, module in sorted(block.named_modules(), key=lambda item: item[0].count(".")):
        weight = getattr(module, "weight", None)
        if is_norm(module) and weight is not None:
            return int(weight.shape[-1])
    return next((width[0] for width in linears(block).values()), 0)


def _add_mixer(parts: BlockParts, block: nn.Module, ffn_homes: frozenset[str]) -> None:
    """In a block without attention: the part that mixes positions by other means."""
    candidates = [(n, c) for n, c in children_with_weights(block) if n not in ffn_homes]
    mixing = [name for name, child in candidates if is_mixed_by_tensor(child)]
    names = mixing or (
        [name for name, _ in candidates] if ffn_homes and len(candidates) == 1 else []
    )
    if names:
        parts.sublayers["self"] = Sublayer(out=names[0])
        parts.homes["self"] = names[0]
        parts.notes.append(
            f"{names[0]}: mixes positions without q, k, v; only its output is a place"
        )


# -- feed-forward ----------------------------------------------------------------------------------


def _add_ffn(parts: BlockParts, block: nn.Module, hidden: int, taken: list[str]) -> None:
    experts = [
        path for path in expert_lists(block) if not any(inside(path, home) for home in taken)
    ]
    own = {
        path: width
        for path, width in linears(block).items()
        if not any(inside(path, home) for home in [*taken, *experts])
        and path not in _attention_paths(parts)
    }
    if experts:
        home = _outermost(block, experts[0], taken)
        parts.notes.append(f"{experts[0]}: a mixture of experts, so up, gate and down are left out")
        parts.sublayers["ffn"] = Sublayer(out=home)
        parts.homes["ffn"] = home
        return
    up, gate, down = _projections(own, hidden)
    if down is None or up is None:
        if own:
            parts.notes.append(f"feed-forward network not recognised among {', '.join(own)}")
        return
    if own[up][1] == 2 * own[down][0]:
        parts.notes.append(f"{up}: gate and up in one projection, taken as up")
    home = _common(up, down)
    parts.sublayers["ffn"] = Sublayer(up=up, gate=gate, down=down)
    parts.homes["ffn"] = _outermost(block, home, taken) if home else ""


def _attention_paths(parts: BlockParts) -> set[str]:
    found = set()
    for sub in parts.sublayers.values():
        found |= {p for p in (sub.q, sub.k, sub.v, sub.o, sub.qkv.path if sub.qkv else None) if p}
    return found


def _projections(
    own: dict[str, tuple[int, int]], hidden: int
) -> tuple[str | None, str | None, str | None]:
    """Return (up, gate, down) by widths, and by name where widths leave it open."""
    downs = [p for p, (wide, out) in own.items() if out == hidden and wide != hidden]
    downs = downs or [p for p, (_, out) in own.items() if out == hidden][1:]
    down = next((p for p in downs if own[p][0] > hidden), downs[0] if downs else None)
    if down is None:
        return None, None, None
    inner, home = own[down][0], parent_of(down)
    ups = [
        p
        for p, (into, out) in own.items()
        if into == hidden and out in (inner, 2 * inner) and p != down
    ]
    near = [p for p in ups if parent_of(p) == home]
    ups = near or ups
    named = [p for p in ups if p.rpartition(".")[2].lower() in _GATES]
    if len(ups) < 2:
        return (ups[0] if ups else None), None, down
    if len(named) == 1:
        return next(p for p in ups if p not in named), named[0], down
    by_name = [p for p in ups if p.rpartition(".")[2].lower() in _UPS]
    up = by_name[0] if by_name else ups[-1]
    return up, next(p for p in ups if p != up), down


def _common(first: str, second: str) -> str:
    shared = []
    for one, two in zip(first.split("."), second.split("."), strict=False):
        if one != two:
            break
        shared.append(one)
    return ".".join(shared)


def _outermost(block: nn.Module, path: str, taken: list[str]) -> str:
    """Climb from *path* to the outermost module below *block* that holds no other sub-layer."""
    while (parent := parent_of(path)) and not any(inside(home, parent) for home in taken):
        path = parent
    return path


# -- out, residual, norm ---------------------------------------------------------------------------


def _place_outputs(parts: BlockParts, block: nn.Module, norm_first: bool) -> None:
    norms = [name for name, child in block.named_children() if is_norm(child)]
    assigned = _assign_norms(norms, list(parts.sublayers))
    for name, sub in parts.sublayers.items():
        home = parts.homes.get(name, "")
        before, after = assigned.get(name, (None, None))
        last = sub.o or sub.down
        first = sub.q or (sub.qkv.path if sub.qkv else None) or sub.gate or sub.up
        if sub.gate and sub.up:  # the one that is registered, and as a rule called, first
            first = min((sub.gate, sub.up), key=list(linears(block)).index)
        local = _local_wiring(block, last, home, norm_first)
        if local is not None:
            out, inner_norm, pre = local
            parts.sublayers[name] = replace(
                sub,
                out=out,
                residual=inner_norm if pre else first,
                norm=None if pre else inner_norm,
            )
        elif before and after:
            parts.sublayers[name] = replace(sub, out=after, residual=before)
        else:
            out = _plain_output(block, last, home)
            residual = before if norm_first or first is None else first
            norm = None if norm_first else before
            parts.sublayers[name] = replace(sub, out=out or sub.out, residual=residual, norm=norm)


def _local_wiring(
    block: nn.Module, last: str | None, home: str, norm_first: bool
) -> tuple[str, str, bool] | None:
    """Find a norm of the sub-layer's own: (out, norm, whether it comes first)."""
    if last is None:
        return None
    beside = parent_of(last)  # an output module with projection, dropout and norm: post-LN
    norm, dropout = _norm_and_dropout(block, beside)
    if beside and norm and beside != home:
        return dropout or last, norm, False
    norm, dropout = _norm_and_dropout(block, home)  # a wrapper around the whole sub-layer
    if home and norm:
        inner = next((p for p in _ancestors(last) if parent_of(p) == home), last)
        if norm_first or beside == home or dropout:
            return dropout or inner, norm, norm_first
        return inner, norm, False
    return None


def _norm_and_dropout(block: nn.Module, path: str) -> tuple[str | None, str | None]:
    module = find(block, path)
    if module is None:
        return None, None
    names = list(module.named_children())
    norms = [n for n, c in names if is_norm(c) and not n.lower().startswith(("q_", "k_", "kv_"))]
    drops = [name for name, child in names if is_dropout(child)]
    return (
        join(path, norms[-1]) if norms else None,
        join(path, drops[-1]) if drops else None,
    )


def _ancestors(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _plain_output(block: nn.Module, last: str | None, home: str) -> str | None:
    if home:
        return home
    if last is None:
        return None
    beside = parent_of(last)
    _, dropout = _norm_and_dropout(block, beside) if beside else (None, None)
    return dropout or last


def _assign_norms(
    norms: list[str], sublayers: list[str]
) -> dict[str, tuple[str | None, str | None]]:
    """Pair the block's own norms with its sub-layers: (before, after)."""
    given: dict[str, tuple[str | None, str | None]] = {}
    order = [name for name in ("self", "cross", "ffn") if name in sublayers]
    crossing = [n for n in norms if any(word in n.lower() for word in ("cross", "encoder", "enc_"))]
    if "cross" in order and len(crossing) == 1:
        given["cross"] = (crossing[0], None)
        order.remove("cross")
        norms = [n for n in norms if n not in crossing]
    if len(norms) == 2 * len(order):
        pairs = zip(norms[::2], norms[1::2], strict=True)
        given.update(dict(zip(order, pairs, strict=True)))
    elif len(norms) == 1:
        given.update(dict.fromkeys(order, (norms[0], None)))
    else:
        given.update({name: (norm, None) for name, norm in zip(order, norms, strict=False)})
    return given
