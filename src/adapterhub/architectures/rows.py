"""The declarative form of a model family: a :class:`Row`.

All module paths are relative: those of a :class:`Sublayer` to the block, those of a
:class:`StackRow` to the base model. ``"a|b"`` lists alternatives, the first that exists is taken
(paths move between releases of transformers); ``"*"`` in ``layers`` is not needed: it names the list.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fused:
    """One projection that computes several of q, k, v at once.

    Attributes:
        path: the module, relative to the block.
        parts: which points it holds, in the order of its output.
        layout: ``"concat"``: the parts lie one after the other on the last axis of the output.
    """

    path: str
    parts: tuple[str, ...] = ("q", "k", "v")
    layout: str = "concat"


@dataclass(frozen=True)
class Sublayer:
    """Modules of one attention or feed-forward sub-layer; ``None`` where there is no such module.

    Attributes:
        q, k, v, o: projections of an attention; or ``qkv`` for a fused one.
        kv: the attention module that calls the attention function (keys and values pass there).
        up, gate, down: projections of a feed-forward network.
        out: the module whose output enters the residual addition.
        residual: the module whose first positional input *is* the residual (a norm in pre-LN
            models, the first projection in post-LN ones).
        norm: the layer norm applied to the sum (post-LN models), which adapters may call.
    """

    q: str | None = None
    k: str | None = None
    v: str | None = None
    o: str | None = None
    qkv: Fused | None = None
    kv: str | None = None
    up: str | None = None
    gate: str | None = None
    down: str | None = None
    out: str | None = None
    residual: str | None = None
    norm: str | None = None


@dataclass(frozen=True)
class PeerPaths:
    """Where the files of the ``adapters`` library have this stack's modules.

    Attributes:
        layers: path of the block list in those files.
        points: ``{"self.out": path}`` relative to the block, for every point whose path there differs
            from the path in the row.
        prefix: ``{"self": key}``: names of the prefix pools by sub-layer.
        embed: where ``invertible_adapters`` hangs, relative to the base model (``""``: itself).
        intermediate, output: the points that ``intermediate_lora`` and ``output_lora`` mean.
    """

    layers: str
    points: dict[str, str] = field(default_factory=dict)
    prefix: dict[str, str] = field(default_factory=lambda: {"self": "self_prefix"})
    embed: str = ""
    intermediate: str = "up"
    output: str = "down"


@dataclass(frozen=True)
class StackRow:
    """One stack of equal blocks.

    Attributes:
        name: ``encoder``, ``decoder``, …
        layers: path of the block list, relative to the base model.
        sublayers: by name: ``self``, ``cross``, ``ffn``.
        embed: the module whose output is the embedded input; ``">path"``: the module whose first
            input it is.
        position_bias: the attention module (relative to the block list) that owns a relative
            position bias shared by the stack's self-attentions.
        cross_is_mh: the cross-attention follows the ``mh_adapter`` flag rather than ``cross_adapter``.
        peer: names in the peer's files; ``None``: as here.
    """

    name: str
    layers: str
    sublayers: dict[str, Sublayer]
    embed: str | None = None
    position_bias: str | None = None
    cross_is_mh: bool = False
    peer: PeerPaths | None = None


@dataclass(frozen=True)
class Row:
    """A model family.

    Attributes:
        model_type: ``config.model_type``.
        stacks: in the order in which layers are numbered through (encoder first).
        peer_prefix: base-model prefix in the peer's files, without the dot.
        source: ``table``, ``detected`` or ``user``.
    """

    model_type: str
    stacks: tuple[StackRow, ...]
    peer_prefix: str = ""
    source: str = "table"
