"""The declarative form of a model family: a :class:`Row`.

All module paths are relative: those of a :class:`Sublayer` to the block, those of a
:class:`StackRow` to the base model. ``"a|b"`` lists alternatives, the first that exists is taken
(paths move between releases of transformers). ``"groups.*.layers"`` in ``layers`` means the layers of
all groups, numbered through.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fused:
    """One projection that computes several points at once.

    Attributes:
        path: the module, relative to the block.
        parts: which points it holds, in the order of its output: of ``q``, ``k``, ``v`` or ``gate``, ``up``.
        layout: ``"concat"``: the parts lie one after the other on the last axis of the output;
            ``"grouped"``: for every key-value head in turn its queries, its key, its value.
        blocks: the output consists of so many pieces of equal width, each laid out like that.
    """

    path: str
    parts: tuple[str, ...] = ("q", "k", "v")
    layout: str = "concat"
    blocks: int = 1


@dataclass(frozen=True)
class Sublayer:
    """Modules of one attention or feed-forward sub-layer; ``None`` where there is no such module.

    Attributes:
        q, k, v, o: projections of an attention; or ``qkv`` for a fused one.
        k_v: one projection of keys and values (the second one of a low-rank attention).
        kv: the attention module that calls the attention function (keys and values pass there).
        up, gate, down: projections of a feed-forward network; or ``gate_up`` for a fused one.
        out: the module whose output enters the residual addition. One that two sub-layers share
            (a dropout, say) means its call after the sub-layer's own ``residual`` module ran.
        residual: the module whose first positional input *is* the residual (a norm in pre-LN
            models, the first projection in post-LN ones).
        residual_plus: a module whose output is added to that, as adapters of the peer see the residual
            of the second of two parallel sub-layers.
        norm: the layer norm that adapters apply to output + residual.
        norm_on: what the model itself applies ``norm`` to: ``"sum"``: output + residual (post-LN models);
            ``"output"``: the output alone (sandwich norms); ``""``: something else.
        swapped: adapters take the residual for the output and the output for the residual, as existing
            adapters of the family were trained.
        sees_sum: an adapter that looks at output + residual does; ``False``: at the output alone, as
            existing adapters of the family were trained.
    """

    q: str | None = None
    k: str | None = None
    v: str | None = None
    o: str | None = None
    qkv: Fused | None = None
    k_v: Fused | None = None
    kv: str | None = None
    up: str | None = None
    gate: str | None = None
    down: str | None = None
    gate_up: Fused | None = None
    out: str | None = None
    residual: str | None = None
    residual_plus: str | None = None
    norm: str | None = None
    norm_on: str = "sum"
    swapped: bool = False
    sees_sum: bool = True


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
        root: path of the model inside the base model that the stack's prefix pools belong to.
    """

    layers: str
    points: dict[str, str] = field(default_factory=dict)
    prefix: dict[str, str] = field(default_factory=lambda: {"self": "self_prefix"})
    embed: str = ""
    intermediate: str = "up"
    output: str = "down"
    root: str = ""


@dataclass(frozen=True)
class StackRow:
    """One stack of equal blocks.

    Attributes:
        name: ``encoder``, ``decoder``, …
        layers: path of the block list, relative to the base model.
        sublayers: by name: ``self``, ``cross``, ``ffn``.
        embed: the module whose output is the embedded input; ``">path"``: the module whose first
            input it is.
        invertible: the module whose output invertible adapters act on, if not ``embed``.
        position_bias: the attention module (relative to the block list) that owns a relative
            position bias shared by the stack's self-attentions.
        cross_is_mh: the cross-attention follows the ``mh_adapter`` flag rather than ``cross_adapter``.
        renumber: its layers are numbered from 0 again instead of on from the stack before.
        prompted: prompts may be put before its input.
        placed: the base model reads more out of its ids than embeddings, so prompts take places among them.
        layout: how hidden states lie in its blocks: ``""``: (batch, positions, width); ``"packed"``: the
            positions of all rows one after the other, (positions, width); ``"positions first"``:
            (positions, batch, width); ``"streams"``: blocks hand on several streams, (streams, batch,
            positions, width), and act on the first.
        own_adapters: adapters that the model was published with, relative to a block, ``*`` being any name;
            what they return is added to the hidden states.
        peer: names in the peer's files; ``None``: as here.
    """

    name: str
    layers: str
    sublayers: dict[str, Sublayer]
    embed: str | None = None
    invertible: str | None = None
    position_bias: str | None = None
    cross_is_mh: bool = False
    renumber: bool = False
    prompted: bool = True
    placed: bool = False
    layout: str = ""
    own_adapters: str | None = None
    peer: PeerPaths | None = None


@dataclass(frozen=True)
class Variant:
    """What a family's stacks are in models whose config says so, where paths alone cannot tell.

    Attributes:
        field, value: of the config.
        stacks: instead of the row's own.
    """

    field: str
    value: bool | int | str
    stacks: tuple[StackRow, ...]


@dataclass(frozen=True)
class Part:
    """A whole model of another family inside a model, with a config of its own.

    Attributes:
        name: of its stack here; one with several stacks has them as ``name_stack``.
        path: where it is, relative to the base model.
        family: ``model_type`` of its row; default: what its own config says.
        renumber: its layers are numbered from 0 again instead of on from the part before.
        embedded: what it embeds is the model's input.
        prompted: prompts may be put before its input; not where the model counts on how many positions
            come out of it.
        placed: see :class:`StackRow`.
    """

    name: str
    path: str
    family: str = ""
    renumber: bool = False
    embedded: bool = True
    prompted: bool = True
    placed: bool = False


@dataclass(frozen=True)
class Row:
    """A model family.

    Attributes:
        model_type: ``config.model_type``.
        stacks: in the order in which layers are numbered through (encoder first).
        peer_prefix: base-model prefix in the peer's files, without the dot.
        source: ``table``, ``detected`` or ``user``.
        parts: models inside it, whose stacks come before its own; a family may leave open which ones.
        variants: the first that fits the model's config gives the stacks.
    """

    model_type: str
    stacks: tuple[StackRow, ...] = ()
    peer_prefix: str = ""
    source: str = "table"
    parts: tuple[Part, ...] = ()
    variants: tuple[Variant, ...] = ()
