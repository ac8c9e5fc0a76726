"""Encoders of images, and of images and text side by side: ViT, BEiT, Swin, DINO, CLIP, SigLIP."""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import PeerPaths, Row, StackRow, Sublayer

_VIT_ATTENTION = Sublayer(
    q="attention.q_proj|attention.attention.query",
    k="attention.k_proj|attention.attention.key",
    v="attention.v_proj|attention.attention.value",
    o="attention.o_proj|attention.output.dense",
    kv="attention.attention|attention",
    out="attention",
    residual="layernorm_before",
)
_VIT_FFN = Sublayer(
    up="mlp.fc1|intermediate.dense",
    down="mlp.fc2|output.dense",
    out="mlp|output.dropout",
    residual="layernorm_after",
)
_VIT_POINTS = {
    "self.q": "attention.attention.query",
    "self.k": "attention.attention.key",
    "self.v": "attention.attention.value",
    "self.o": "attention.output.dense",
    "self.kv": "attention.attention",
    "self.out": "attention_adapters",
    "ffn.up": "intermediate.dense",
    "ffn.down": "output.dense",
    "ffn.out": "output.output_adapters",
}
_VIT = Row(
    "vit",
    (
        StackRow(
            "encoder",
            layers="layers|encoder.layer",
            sublayers={"self": _VIT_ATTENTION, "ffn": _VIT_FFN},
            embed="embeddings",
            peer=PeerPaths("encoder.layer", points=_VIT_POINTS),
        ),
    ),
    peer_prefix="vit",
)

# The scales of both branches are parameters, so the place behind them is the one drop-path module that
# both branches go through.
_BEIT = Row(
    "beit",
    (
        StackRow(
            "encoder",
            layers="layers|encoder.layer",
            sublayers={
                "self": replace(_VIT_ATTENTION, out="drop_path"),
                "ffn": replace(_VIT_FFN, out="drop_path"),
            },
            embed="embeddings",
            peer=PeerPaths("encoder.layer", points={**_VIT_POINTS, "ffn.out": "output_adapters"}),
        ),
    ),
    peer_prefix="beit",
)


def _encoder(
    model_type: str,
    layers: str,
    attention: Sublayer,
    ffn: Sublayer,
    embed: str,
    prefix: str = "",
    prompted: bool = True,
) -> Row:
    """An encoder of images that the ``adapters`` library has no files for."""
    sublayers = {"self": attention, "ffn": ffn}
    stack = StackRow("encoder", layers, sublayers, embed=embed, prompted=prompted)
    return Row(model_type, (stack,), prefix or model_type)


# Windows are put together again behind the attention's own modules, so the place is the drop-path. Each
# stage has a width of its own.
_SWIN_ATTENTION = replace(
    _VIT_ATTENTION,
    q="attention.q_proj|attention.self.query",
    k="attention.k_proj|attention.self.key",
    v="attention.v_proj|attention.self.value",
    kv="attention.self|attention",
    out="drop_path",
)
_SWIN_FFN = replace(_VIT_FFN, out="mlp|output")
_DINO_ATTENTION = replace(_VIT_ATTENTION, out="layer_scale1", residual="norm1")
_DINO_FFN = Sublayer(
    up="mlp.up_proj|mlp.fc1|mlp.weights_in",
    gate="mlp.gate_proj",
    down="mlp.down_proj|mlp.fc2|mlp.weights_out",
    out="layer_scale2",
    residual="norm2",
)

CLIP_SUBLAYERS = {
    "self": Sublayer(
        q="self_attn.q_proj",
        k="self_attn.k_proj",
        v="self_attn.v_proj",
        o="self_attn.out_proj",
        kv="self_attn",
        out="self_attn",
        residual="layer_norm1",
    ),
    "ffn": Sublayer(up="mlp.fc1", down="mlp.fc2", out="mlp", residual="layer_norm2"),
}
_CLIP_EMBED = {"text": "embeddings", "vision": "pre_layrnorm"}


def _clip_stack(kind: str, root: str) -> StackRow:
    """One tower; *root* is its path with the dot, or ``""`` (a tower alone had one of its own once)."""
    roots = (root,) if root else ("", f"{kind}_model.")
    return StackRow(
        kind,
        layers="|".join(f"{root}encoder.layers" for root in roots),
        sublayers=CLIP_SUBLAYERS,
        embed="|".join(f"{root}{_CLIP_EMBED[kind]}" for root in roots),
        peer=PeerPaths(
            f"{root}encoder.layers",
            points={"self.out": "attention_adapters", "ffn.out": "output_adapters"},
            prefix={"self": f"clip_{kind}_model_self_prefix"},
            embed=root.removesuffix("."),
        ),
    )


ROWS = (
    _VIT,
    _BEIT,
    Row(
        "clip", (_clip_stack("text", "text_model."), _clip_stack("vision", "vision_model.")), "clip"
    ),
    Row("clip_text_model", (_clip_stack("text", ""),), "text_model"),
    Row("clip_vision_model", (_clip_stack("vision", ""),), "vision_model"),
    _encoder("deit", "layers|encoder.layer", _VIT_ATTENTION, _VIT_FFN, "embeddings"),
    _encoder("vit_mae", "layers|encoder.layer", _VIT_ATTENTION, _VIT_FFN, "embeddings", "vit"),
    # Its windows and merged patches have a place in a grid each, where prompts have none.
    _encoder(
        "swin", "encoder.layers.*.blocks", _SWIN_ATTENTION, _SWIN_FFN, "embeddings", prompted=False
    ),
    _encoder("dinov2", "encoder.layer", _DINO_ATTENTION, _DINO_FFN, "embeddings"),
    _encoder("dinov2_with_registers", "encoder.layer", _DINO_ATTENTION, _DINO_FFN, "embeddings"),
    _encoder("dinov3_vit", "model.layer|layer", _DINO_ATTENTION, _DINO_FFN, "embeddings"),
)
