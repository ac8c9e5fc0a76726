"""Encoders of images, sounds and text that are parts of larger models: SigLIP, Qwen-VL, Idefics, ….

Each is a family of its own, because a model with a tower in it is as well the tower of its parts: LLaVA may
look through CLIP, SigLIP or Pixtral. :mod:`~adapterhub.architectures.table.multimodal` puts them together.
"""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Fused, Row, StackRow, Sublayer
from adapterhub.architectures.table.vision import CLIP_SUBLAYERS

#: Blocks with the names of Llama's norms, and CLIP's feed-forward network.
_SELF = Sublayer(
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    kv="self_attn",
    out="self_attn",
    residual="input_layernorm",
)
_FFN = Sublayer(up="mlp.fc1", down="mlp.fc2", out="mlp", residual="post_attention_layernorm")
_QWEN_SELF = Sublayer(qkv=Fused("attn.qkv"), o="attn.proj", kv="attn", out="attn", residual="norm1")


def _gated(residual: str, out: str = "mlp", home: str = "mlp", inner: str = "") -> Sublayer:
    return Sublayer(
        up=f"{home}.up_proj{inner}",
        gate=f"{home}.gate_proj{inner}",
        down=f"{home}.down_proj{inner}",
        out=out,
        residual=residual,
    )


def _tower(
    model_type: str,
    embed: str,
    attention: Sublayer = CLIP_SUBLAYERS["self"],
    ffn: Sublayer = CLIP_SUBLAYERS["ffn"],
    layers: str = "encoder.layers",
    name: str = "encoder",
    prefix: str = "vision_model",
    prompted: bool = True,
) -> Row:
    """A tower; no prompts where what comes out of it is taken by its place in a grid."""
    sublayers = {"self": attention, "ffn": ffn}
    stack = StackRow(name, layers, sublayers, embed=embed, prompted=prompted)
    return Row(model_type, (stack,), prefix)


def _dual(model_type: str) -> Row:
    """A model of text and images side by side, as CLIP."""
    stacks = (
        StackRow(
            kind,
            layers=f"{kind}_model.encoder.layers|{kind}_model.{kind}_model.encoder.layers",
            sublayers=CLIP_SUBLAYERS,
            embed=f"{kind}_model.embeddings|{kind}_model.{kind}_model.embeddings",
        )
        for kind in ("text", "vision")
    )
    return Row(model_type, tuple(stacks), model_type)


def _qwen(model_type: str, ffn: Sublayer, embed: str) -> Row:
    ffn = replace(ffn, residual="norm2")
    row = _tower(model_type, embed, _QWEN_SELF, ffn, "blocks", prompted=False)
    return replace(row, stacks=(replace(row.stacks[0], layout="packed"),))


_QWEN3_FFN = Sublayer(up="mlp.linear_fc1", down="mlp.linear_fc2", out="mlp")
_GEMMA_FFN = _gated("pre_feedforward_layernorm", "post_feedforward_layernorm", inner=".linear")


def _clipped(layers: str, o: str, inner: str) -> Sublayer:
    """An attention between norms of its own, whose projections may be wrapped by bounds."""
    return Sublayer(
        q=f"{layers}.q_proj{inner}",
        k=f"{layers}.k_proj{inner}",
        v=f"{layers}.v_proj{inner}",
        o=f"{o}{inner}",
        kv=layers,
    )


#: Conformers have two feed-forward networks, each of which adds a part of its output; the second is meant.
_GEMMA4_AUDIO = (
    replace(
        _clipped("self_attn", "self_attn.post", ".linear"),
        kv=None,
        out="norm_post_attn",
        residual="norm_pre_attn",
    ),
    Sublayer(
        up="feed_forward2.ffw_layer_1.linear",
        down="feed_forward2.ffw_layer_2.linear",
        out="feed_forward2.post_layer_norm",
        residual="feed_forward2.pre_layer_norm",
        norm="norm_out",
    ),
)
_GEMMA3N_AUDIO = (
    replace(
        _clipped("attention.attn", "attention.post", ""),
        kv=None,
        out="attention.post_norm",
        residual="attention.pre_attn_norm",
    ),
    Sublayer(
        up="ffw_layer_end.ffw_layer_1",
        down="ffw_layer_end.ffw_layer_2",
        out="ffw_layer_end.post_layer_norm",
        residual="ffw_layer_end",
        norm="norm",
    ),
)
_PHI4_AUDIO = (
    replace(_SELF, residual="layer_norm_att"),
    Sublayer(
        gate_up=Fused("feed_forward_out.gate_up_proj", parts=("up", "gate")),
        down="feed_forward_out.down_proj",
        out="feed_forward_out",
        residual="feed_forward_out.layer_norm",
        norm="layer_norm",
    ),
)


def _two_stages(
    model_type: str, first: str, second: str, attention: Sublayer, ffn: Sublayer
) -> Row:
    stacks = (
        StackRow(name, layers, {"self": attention, "ffn": ffn}, f">{layers}.0", prompted=False)
        for name, layers in (("local", first), ("global", second))
    )
    return Row(model_type, tuple(stacks), "vision_model")


ROWS = (
    _dual("siglip"),
    _dual("siglip2"),
    *(
        _tower(
            f"{family}_{kind}_model",
            f"embeddings|{kind}_model.embeddings",
            layers=f"encoder.layers|{kind}_model.encoder.layers",
            prefix=f"{kind}_model",
        )
        for family in ("siglip", "siglip2")
        for kind in ("text", "vision")
    ),
    _tower("idefics_vision", "pre_layrnorm"),
    _tower("idefics2_vision", "embeddings"),
    _tower("idefics3_vision", "embeddings"),
    _tower("smolvlm_vision", "embeddings"),
    _tower("phi4_multimodal_vision", "embeddings", prompted=False),
    _tower(
        "pixtral",
        "ln_pre",
        replace(
            _SELF,
            q="attention.q_proj",
            k="attention.k_proj",
            v="attention.v_proj",
            o="attention.o_proj",
            kv="attention",
            out="attention",
            residual="attention_norm",
        ),
        _gated("ffn_norm", "feed_forward", "feed_forward"),
        layers="transformer.layers",
        prompted=False,
    ),
    _qwen("qwen2_vl_vision", CLIP_SUBLAYERS["ffn"], "patch_embed"),
    _qwen("qwen2_5_vl_vision", _gated(""), "patch_embed"),
    _qwen("qwen3_vl_vision", _QWEN3_FFN, ">blocks.0"),
    _qwen("qwen3_vl_moe_vision", _QWEN3_FFN, ">blocks.0"),
    _qwen("qwen3_5_vision", _QWEN3_FFN, ">blocks.0"),
    _tower(
        "llama4_vision_model", ">model.layers.0", _SELF, _FFN, layers="model.layers", prompted=False
    ),
    _tower(
        "gemma4_vision",
        "patch_embedder",
        replace(
            _clipped("self_attn", "self_attn.o_proj", ".linear"),
            out="post_attention_layernorm",
            residual="input_layernorm",
        ),
        _GEMMA_FFN,
        prefix="vision_tower",
        prompted=False,
    ),
    _tower(
        "gemma4_audio",
        ">layers.0",
        *_GEMMA4_AUDIO,
        layers="layers",
        prefix="audio_tower",
        prompted=False,
    ),
    _tower(
        "gemma3n_audio",
        ">conformer.0",
        *_GEMMA3N_AUDIO,
        layers="conformer",
        prefix="",
        prompted=False,
    ),
    _tower(
        "phi4_multimodal_audio",
        ">encoders.0",
        *_PHI4_AUDIO,
        layers="encoders",
        prefix="",
        prompted=False,
    ),
    _tower(
        "idefics2_perceiver",  # what it is given is not its input: latent vectors of its own are
        ">layers.0",
        replace(_SELF, residual="input_latents_norm"),
        _gated("post_attention_layernorm"),
        layers="layers",
        prefix="",
        prompted=False,
    ),
    _two_stages(
        "mllama_vision_model", "transformer.layers", "global_transformer.layers", _SELF, _FFN
    ),
)
