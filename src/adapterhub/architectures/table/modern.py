"""Decoders of text that the ``adapters`` library has no files for: GPT-NeoX, Falcon, Mixtral, Phi-3, ….

The detector finds most of these as well; a row spares the forward pass that confirms it, and says what
cannot be seen: how projections that hold several things are laid out.
"""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Fused, Row, StackRow, Sublayer

_SELF = Sublayer(
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    kv="self_attn",
    out="self_attn",
    residual="input_layernorm",
)
_FFN = Sublayer(
    up="mlp.up_proj",
    gate="mlp.gate_proj",
    down="mlp.down_proj",
    out="mlp",
    residual="post_attention_layernorm",
)
#: Where all blocks are mixtures of experts, only the output of the mixture is a place.
_EXPERTS = Sublayer(out="mlp", residual="post_attention_layernorm")
_LOW_RANK = replace(
    _SELF,
    q="self_attn.q_b_proj|self_attn.q_proj",
    k=None,
    v=None,
    k_v=Fused("self_attn.kv_b_proj", parts=("k", "v"), layout="grouped"),
)
_OLMO2 = (
    replace(_SELF, out="post_attention_layernorm", residual="self_attn.q_proj"),
    replace(_FFN, out="post_feedforward_layernorm", residual="mlp.gate_proj"),
)


def _decoder(
    model_type: str,
    attention: Sublayer = _SELF,
    ffn: Sublayer = _FFN,
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


ROWS = (
    _decoder("gemma"),
    _decoder("granite"),
    _decoder("olmo"),
    _decoder("smollm3"),
    _decoder("olmo2", *_OLMO2),
    _decoder("olmo3", *_OLMO2),
    _decoder("cohere", ffn=replace(_FFN, residual="input_layernorm")),
    _decoder("cohere2", ffn=replace(_FFN, residual="input_layernorm")),
    _decoder("mixtral", ffn=_EXPERTS),
    _decoder("gpt_oss", ffn=_EXPERTS),
    # Their blocks may have a dense network or a mixture.
    _decoder("qwen2_moe"),
    _decoder("qwen3_moe"),
    _decoder("deepseek_v2", _LOW_RANK),
    _decoder("deepseek_v3", _LOW_RANK),
    _decoder(
        "starcoder2",
        ffn=Sublayer(
            up="mlp.c_fc", down="mlp.c_proj", out="mlp", residual="post_attention_layernorm"
        ),
    ),
    _decoder(
        "phi3",
        replace(
            _SELF, q=None, k=None, v=None, qkv=Fused("self_attn.qkv_proj"), out="resid_attn_dropout"
        ),
        Sublayer(
            gate_up=Fused("mlp.gate_up_proj", parts=("gate", "up")),
            down="mlp.down_proj",
            out="resid_mlp_dropout",
            residual="post_attention_layernorm",
        ),
    ),
    _decoder(
        "opt",
        replace(_SELF, o="self_attn.out_proj", residual="self_attn_layer_norm"),
        Sublayer(up="fc1", down="fc2", out="fc2", residual="final_layer_norm"),
        layers="decoder.layers",
        embed=">decoder.layers.0",
    ),
    _decoder(
        "gpt_neox",
        _grouped("attention", "input_layernorm", out="post_attention_dropout"),
        _four_times("post_attention_layernorm", out="post_mlp_dropout"),
        embed="emb_dropout",
        prefix="gpt_neox",
    ),
    _decoder(
        "bloom",
        _grouped("self_attention", "input_layernorm", out="self_attention.dense"),
        _four_times("post_attention_layernorm", out="mlp.dense_4h_to_h"),
        layers="h",
        embed="word_embeddings_layernorm",
        prefix="transformer",
    ),
    _decoder(
        "falcon",  # with one key-value head for all, or one for each group of queries, or for each query
        _grouped("self_attention", "ln_attn|input_layernorm"),
        _four_times("ln_mlp|post_attention_layernorm|input_layernorm"),
        layers="h",
        embed="word_embeddings",
        prefix="transformer",
    ),
    _decoder(
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
)
