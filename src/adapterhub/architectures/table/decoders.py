"""Decoders of text: GPT-2, GPT-J, and the Llama-like majority."""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Fused, PeerPaths, Row, StackRow, Sublayer

_POINTS = {
    "self.out": "attention_adapters",
    "cross.out": "cross_attention_adapters",
    "ffn.out": "output_adapters",
}

_GPT2 = Row(
    "gpt2",
    (
        StackRow(
            "decoder",
            layers="h",
            sublayers={
                "self": Sublayer(
                    qkv=Fused("attn.c_attn"),
                    o="attn.c_proj",
                    kv="attn",
                    out="attn",
                    residual="ln_1",
                ),
                "cross": Sublayer(
                    q="crossattention.q_attn",
                    o="crossattention.c_proj",
                    kv="crossattention",
                    out="crossattention",
                    residual="ln_cross_attn",
                ),
                "ffn": Sublayer(up="mlp.c_fc", down="mlp.c_proj", out="mlp", residual="ln_2"),
            },
            embed="drop",
            peer=PeerPaths(
                "h",
                points=_POINTS,
                prefix={"self": "self_prefix", "cross": "cross_prefix"},
            ),
        ),
    ),
    peer_prefix="transformer",
)

_GPTJ = Row(
    "gptj",
    (
        StackRow(
            "decoder",
            layers="h",
            sublayers={
                "self": Sublayer(
                    q="attn.q_proj",
                    k="attn.k_proj",
                    v="attn.v_proj",
                    o="attn.out_proj",
                    kv="attn",
                    out="attn",
                    residual="ln_1",
                ),
                "ffn": Sublayer(
                    up="mlp.fc_in",
                    down="mlp.fc_out",
                    out="mlp",
                    residual="ln_1",
                    residual_plus="attn",  # in the peer the attention is added before the second adapter
                ),
            },
            embed="drop",
            peer=PeerPaths("h", points=_POINTS),
        ),
    ),
    peer_prefix="transformer",
)

_LLAMA_SELF = Sublayer(
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    kv="self_attn",
    out="self_attn",
    residual="input_layernorm",
)
_LLAMA_FFN = Sublayer(
    up="mlp.up_proj",
    gate="mlp.gate_proj",
    down="mlp.down_proj",
    out="mlp",
    residual="post_attention_layernorm",
)


def _llama_like(
    model_type: str,
    attention: Sublayer = _LLAMA_SELF,
    ffn: Sublayer = _LLAMA_FFN,
    swapped: bool = False,
) -> Row:
    peer = PeerPaths("layers", points=_POINTS)
    if swapped:  # the peer has these two the other way round; files follow it
        peer = replace(peer, intermediate="down", output="up")
    stack = StackRow(
        "decoder",
        layers="layers",
        sublayers={"self": attention, "ffn": ffn},
        embed="embed_tokens",
        peer=peer,
    )
    return Row(model_type, (stack,), "model")


#: Adapters of the peer act before the norms on the sub-layers' outputs.
_SANDWICH_SELF = replace(_LLAMA_SELF, norm="post_attention_layernorm", norm_on="output")
_SANDWICH_FFN = replace(
    _LLAMA_FFN,
    residual="pre_feedforward_layernorm",
    norm="post_feedforward_layernorm",
    norm_on="output",
)

_PHI = _llama_like(
    "phi",
    replace(_LLAMA_SELF, o="self_attn.dense"),
    Sublayer(up="mlp.fc1", down="mlp.fc2", out="mlp", residual="input_layernorm", sees_sum=False),
)

ROWS = (
    _GPT2,
    _GPTJ,
    _llama_like("llama", swapped=True),
    _llama_like("mistral", swapped=True),
    _llama_like("qwen2"),
    _llama_like("qwen3"),
    _llama_like("gemma2", _SANDWICH_SELF, _SANDWICH_FFN),
    _llama_like("gemma3_text", _SANDWICH_SELF, _SANDWICH_FFN),
    _PHI,
)
