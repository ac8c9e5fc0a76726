"""Decoders of text that the ``adapters`` library has no files for: GPT-NeoX, Falcon, Mixtral, Phi-3, ….

The detector finds most of these as well; a row spares the forward pass that confirms it, and says what
cannot be seen: how projections that hold several things are laid out.
"""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Fused, Row, StackRow, Sublayer, Variant

SELF = Sublayer(
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    kv="self_attn",
    out="self_attn",
    residual="input_layernorm",
)
FFN = Sublayer(
    up="mlp.up_proj",
    gate="mlp.gate_proj",
    down="mlp.down_proj",
    out="mlp",
    residual="post_attention_layernorm",
)
#: Where all blocks are mixtures of experts, only the output of the mixture is a place.
EXPERTS = Sublayer(out="mlp", residual="post_attention_layernorm")
#: Blocks whose two sub-layers share a norm, if they run side by side.
_PARALLEL = "post_attention_layernorm|input_layernorm"
_LOW_RANK = replace(
    SELF,
    q="self_attn.q_b_proj|self_attn.q_proj",
    k=None,
    v=None,
    k_v=Fused("self_attn.kv_b_proj", parts=("k", "v"), layout="grouped"),
)
_OLMO2 = (
    replace(SELF, out="post_attention_layernorm", residual="self_attn.q_proj"),
    replace(FFN, out="post_feedforward_layernorm", residual="mlp.gate_proj"),
)


def decoder(
    model_type: str,
    attention: Sublayer = SELF,
    ffn: Sublayer = FFN,
    layers: str = "layers",
    embed: str = "embed_tokens",
    prefix: str = "model",
) -> Row:
    stack = StackRow(
        "decoder", layers=layers, sublayers={"self": attention, "ffn": ffn}, embed=embed
    )
    return Row(model_type, (stack,), prefix)


def _grouped(name: str, residual: str, out: str | None = None) -> Sublayer:
    """An attention whose projection holds, head by head, a query, a key and a value."""
    return Sublayer(
        qkv=Fused(f"{name}.query_key_value", layout="grouped"),
        o=f"{name}.dense",
        kv=name,
        out=out or name,
        residual=residual,
    )


def _four_times(residual: str, out: str = "mlp") -> Sublayer:
    return Sublayer(up="mlp.dense_h_to_4h", down="mlp.dense_4h_to_h", out=out, residual=residual)


PHI3 = decoder(
    "phi3",
    replace(
        SELF, q=None, k=None, v=None, qkv=Fused("self_attn.qkv_proj"), out="resid_attn_dropout"
    ),
    Sublayer(
        gate_up=Fused("mlp.gate_up_proj", parts=("gate", "up")),
        down="mlp.down_proj",
        out="resid_mlp_dropout",
        residual="post_attention_layernorm",
    ),
)

_OPT_AFTER = (
    replace(
        SELF,
        o="self_attn.out_proj",
        residual="self_attn.q_proj",
        norm="self_attn_layer_norm",
    ),
    Sublayer(up="fc1", down="fc2", out="fc2", residual="fc1", norm="final_layer_norm"),
)
_OPT = decoder(
    "opt",
    replace(_OPT_AFTER[0], residual="self_attn_layer_norm", norm=None),
    replace(_OPT_AFTER[1], residual="final_layer_norm", norm=None),
    layers="decoder.layers",
    embed=">decoder.layers.0",
)
# One of its sizes has the norms behind the sums.
_OPT = replace(
    _OPT,
    variants=(
        Variant(
            "do_layer_norm_before",
            False,
            (
                replace(
                    _OPT.stacks[0], sublayers=dict(zip(("self", "ffn"), _OPT_AFTER, strict=True))
                ),
            ),
        ),
    ),
)

_SANDWICH = (
    replace(SELF, out="post_attention_layernorm"),
    replace(FFN, out="post_feedforward_layernorm", residual="pre_feedforward_layernorm"),
)
_LLAMA4_FFN = Sublayer(
    up="feed_forward.up_proj",
    gate="feed_forward.gate_proj",
    down="feed_forward.down_proj",
    out="feed_forward",
    residual="post_attention_layernorm",
)
_MLLAMA_CROSS = Sublayer(
    q="cross_attn.q_proj",
    k="cross_attn.k_proj",
    v="cross_attn.v_proj",
    o="cross_attn.o_proj",
    kv="cross_attn",
    out="cross_attn",
    residual="input_layernorm",
)
_GEMMA3N = decoder("gemma3n_text", *_SANDWICH)
_GEMMA3N = replace(_GEMMA3N, stacks=(replace(_GEMMA3N.stacks[0], placed=True, layout="streams"),))
_GEMMA4 = decoder("gemma4_text", *_SANDWICH)
_GEMMA4 = replace(_GEMMA4, stacks=(replace(_GEMMA4.stacks[0], placed=True),))
_MLLAMA_TEXT = decoder("mllama_text_model", prefix="language_model")

ROWS = (
    decoder("gemma"),
    decoder("granite"),
    decoder("olmo"),
    decoder("smollm3"),
    decoder("olmo2", *_OLMO2),
    decoder("olmo3", *_OLMO2),
    decoder("cohere", ffn=replace(FFN, residual="input_layernorm")),
    decoder("cohere2", ffn=replace(FFN, residual="input_layernorm")),
    decoder("mixtral", ffn=EXPERTS),
    decoder("gpt_oss", ffn=EXPERTS),
    decoder("olmoe", ffn=EXPERTS),
    decoder("phimoe", ffn=EXPERTS),
    decoder("granitemoe", ffn=replace(EXPERTS, out="block_sparse_moe")),
    decoder("stablelm", ffn=replace(FFN, out="dropout", residual=_PARALLEL)),
    decoder("llama4_text", ffn=_LLAMA4_FFN),
    _GEMMA3N,
    _GEMMA4,
    decoder("qwen2_vl_text"),
    decoder("qwen2_5_vl_text"),
    decoder("qwen3_vl_text"),
    decoder("qwen3_vl_moe_text"),
    # Their blocks may have a dense network or a mixture.
    decoder("qwen2_moe"),
    decoder("qwen3_moe"),
    decoder("deepseek_v2", _LOW_RANK),
    decoder("deepseek_v3", _LOW_RANK),
    decoder(
        "starcoder2",
        ffn=Sublayer(
            up="mlp.c_fc", down="mlp.c_proj", out="mlp", residual="post_attention_layernorm"
        ),
    ),
    PHI3,
    _OPT,
    decoder(
        "gpt_neox",
        _grouped("attention", "input_layernorm", out="post_attention_dropout"),
        _four_times("post_attention_layernorm", out="post_mlp_dropout"),
        embed="emb_dropout",
        prefix="gpt_neox",
    ),
    decoder(
        "bloom",
        _grouped("self_attention", "input_layernorm", out="self_attention.dense"),
        _four_times("post_attention_layernorm", out="mlp.dense_4h_to_h"),
        layers="h",
        embed="word_embeddings_layernorm",
        prefix="transformer",
    ),
    decoder(
        "falcon",  # with one key-value head for all, or one for each group of queries, or for each query
        _grouped("self_attention", "ln_attn|input_layernorm"),
        _four_times("ln_mlp|post_attention_layernorm|input_layernorm"),
        layers="h",
        embed="word_embeddings",
        prefix="transformer",
    ),
    decoder(
        "codegen",  # trained on four devices: each piece has its queries, values and keys
        Sublayer(
            qkv=Fused("attn.qkv_proj", parts=("q", "v", "k"), blocks=4),
            o="attn.out_proj",
            kv="attn",
            out="attn",
            residual="ln_1",
        ),
        Sublayer(up="mlp.fc_in", down="mlp.fc_out", out="mlp", residual="ln_1"),
        layers="h",
        embed="drop",
        prefix="transformer",
    ),
    decoder(
        "mpt",
        Sublayer(
            qkv=Fused("attn.Wqkv"),
            o="attn.out_proj",
            kv="attn",
            out="resid_attn_dropout",
            residual="norm_1",
        ),
        Sublayer(up="ffn.up_proj", down="ffn.down_proj", out="ffn.down_proj", residual="norm_2"),
        layers="blocks",
        embed="wte",
        prefix="transformer",
    ),
    replace(
        _MLLAMA_TEXT,
        stacks=(
            replace(
                _MLLAMA_TEXT.stacks[0],
                sublayers={**_MLLAMA_TEXT.stacks[0].sublayers, "cross": _MLLAMA_CROSS},
            ),
        ),
    ),
)
