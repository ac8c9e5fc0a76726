"""The table of model families: where is X in model Y? One row a family, nothing else.

Paths were read from transformers 5.x sources; a test resolves every row on a tiny model of its family.
"""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Fused, PeerPaths, Row, StackRow, Sublayer
from adapterhub.errors import ConfigError

_BERT_SELF = Sublayer(
    q="attention.self.query",
    k="attention.self.key",
    v="attention.self.value",
    o="attention.output.dense",
    kv="attention.self",
    out="attention.output.dropout",
    residual="attention.self.query",
    norm="attention.output.LayerNorm",
)
_BERT_CROSS = Sublayer(
    q="crossattention.self.query",
    k="crossattention.self.key",
    v="crossattention.self.value",
    o="crossattention.output.dense",
    kv="crossattention.self",
    out="crossattention.output.dropout",
    residual="crossattention.self.query",
    norm="crossattention.output.LayerNorm",
)
_BERT_FFN = Sublayer(
    up="intermediate.dense",
    down="output.dense",
    out="output.dropout",
    residual="intermediate.dense",
    norm="output.LayerNorm",
)
_BERT = Row(
    "bert",
    (
        StackRow(
            "encoder",
            layers="encoder.layer",
            sublayers={"self": _BERT_SELF, "cross": _BERT_CROSS, "ffn": _BERT_FFN},
            embed="embeddings",
            cross_is_mh=True,
            peer=PeerPaths(
                "encoder.layer",
                points={
                    "self.out": "attention.output",
                    "cross.out": "crossattention.output",
                    "ffn.out": "output",
                },
                prefix={"self": "self_prefix", "cross": "cross_prefix"},
            ),
        ),
    ),
    peer_prefix="bert",
)

_DISTILBERT = Row(
    "distilbert",
    (
        StackRow(
            "encoder",
            layers="transformer.layer",
            sublayers={
                "self": Sublayer(
                    q="attention.q_lin",
                    k="attention.k_lin",
                    v="attention.v_lin",
                    o="attention.out_lin",
                    kv="attention",
                    out="attention",
                    residual="attention.q_lin",
                    norm="sa_layer_norm",
                ),
                "ffn": Sublayer(
                    up="ffn.lin1",
                    down="ffn.lin2",
                    out="ffn",
                    residual="ffn.lin1",
                    norm="output_layer_norm",
                ),
            },
            embed="embeddings",
            peer=PeerPaths(
                "transformer.layer",
                points={"self.out": "attention_adapters", "ffn.out": "output_adapters"},
                prefix={"self": "self"},
            ),
        ),
    ),
    peer_prefix="distilbert",
)

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
                points={
                    "self.out": "attention_adapters",
                    "cross.out": "cross_attention_adapters",
                    "ffn.out": "output_adapters",
                },
                prefix={"self": "self_prefix", "cross": "cross_prefix"},
            ),
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
_LLAMA_POINTS = {"self.out": "attention_adapters", "ffn.out": "output_adapters"}
_LLAMA = Row(
    "llama",
    (
        StackRow(
            "decoder",
            layers="layers",
            sublayers={"self": _LLAMA_SELF, "ffn": _LLAMA_FFN},
            embed="embed_tokens",
            # The peer has these two the other way round on Llama; files follow it.
            peer=PeerPaths("layers", points=_LLAMA_POINTS, intermediate="down", output="up"),
        ),
    ),
    peer_prefix="model",
)
_QWEN3 = Row(
    "qwen3",
    (replace(_LLAMA.stacks[0], peer=PeerPaths("layers", points=_LLAMA_POINTS)),),
    peer_prefix="model",
)


def _t5_attention(index: int, name: str) -> Sublayer:
    attention = f"layer.{index}.{name}"
    return Sublayer(
        q=f"{attention}.q",
        k=f"{attention}.k",
        v=f"{attention}.v",
        o=f"{attention}.o",
        kv=attention,
        out=f"layer.{index}.dropout",
        residual=f"layer.{index}.layer_norm",
    )


def _t5_ffn(index: int) -> Sublayer:
    ffn = f"layer.{index}"
    return Sublayer(
        up=f"{ffn}.DenseReluDense.wi|{ffn}.DenseReluDense.wi_1",
        gate=f"{ffn}.DenseReluDense.wi_0",
        down=f"{ffn}.DenseReluDense.wo",
        out=f"{ffn}.dropout",
        residual=f"{ffn}.layer_norm",
    )


_T5 = Row(
    "t5",
    (
        StackRow(
            "encoder",
            layers="encoder.block",
            sublayers={"self": _t5_attention(0, "SelfAttention"), "ffn": _t5_ffn(1)},
            # The stack's dropout runs twice a forward, so the place is the input of its first block.
            embed=">encoder.block.0",
            position_bias="0.layer.0.SelfAttention",
            peer=PeerPaths(
                "encoder.block",
                points={"self.out": "layer.0", "ffn.out": "layer.1"},
                prefix={"self": "encoder_prefix"},
                embed="encoder",
            ),
        ),
        StackRow(
            "decoder",
            layers="decoder.block",
            sublayers={
                "self": _t5_attention(0, "SelfAttention"),
                "cross": _t5_attention(1, "EncDecAttention"),
                "ffn": _t5_ffn(2),
            },
            position_bias="0.layer.0.SelfAttention",
            peer=PeerPaths(
                "decoder.block",
                points={"self.out": "layer.0", "cross.out": "layer.1", "ffn.out": "layer.2"},
                prefix={"self": "self_prefix", "cross": "cross_prefix"},
            ),
        ),
    ),
    peer_prefix="transformer",
)


def _bart_attention(name: str, norm: str) -> Sublayer:
    return Sublayer(
        q=f"{name}.q_proj",
        k=f"{name}.k_proj",
        v=f"{name}.v_proj",
        o=f"{name}.out_proj",
        kv=name,
        out=name,
        residual=f"{name}.q_proj",
        norm=norm,
    )


_BART_FFN = Sublayer(up="fc1", down="fc2", out="fc2", residual="fc1", norm="final_layer_norm")
_BART_POINTS = {
    "self.out": "attention_adapters",
    "cross.out": "cross_attention_adapters",
    "ffn.out": "output_adapters",
}
_BART = Row(
    "bart",
    (
        StackRow(
            "encoder",
            layers="encoder.layers",
            sublayers={
                "self": _bart_attention("self_attn", "self_attn_layer_norm"),
                "ffn": _BART_FFN,
            },
            embed="encoder.layernorm_embedding",
            peer=PeerPaths(
                "encoder.layers",
                points=_BART_POINTS,
                prefix={"self": "encoder_prefix"},
                embed="encoder",
            ),
        ),
        StackRow(
            "decoder",
            layers="decoder.layers",
            sublayers={
                "self": _bart_attention("self_attn", "self_attn_layer_norm"),
                "cross": _bart_attention("encoder_attn", "encoder_attn_layer_norm"),
                "ffn": _BART_FFN,
            },
            peer=PeerPaths(
                "decoder.layers",
                points=_BART_POINTS,
                prefix={"self": "self_prefix", "cross": "cross_prefix"},
            ),
        ),
    ),
    peer_prefix="model",
)

_VIT = Row(
    "vit",
    (
        StackRow(
            "encoder",
            layers="layers|encoder.layer",
            sublayers={
                "self": Sublayer(
                    q="attention.q_proj|attention.attention.query",
                    k="attention.k_proj|attention.attention.key",
                    v="attention.v_proj|attention.attention.value",
                    o="attention.o_proj|attention.output.dense",
                    kv="attention|attention.attention",
                    out="attention",
                    residual="layernorm_before",
                ),
                "ffn": Sublayer(
                    up="mlp.fc1|intermediate.dense",
                    down="mlp.fc2|output.dense",
                    out="mlp|output.dropout",
                    residual="layernorm_after",
                ),
            },
            embed="embeddings",
            peer=PeerPaths(
                "encoder.layer",
                points={
                    "self.q": "attention.attention.query",
                    "self.k": "attention.attention.key",
                    "self.v": "attention.attention.value",
                    "self.o": "attention.output.dense",
                    "self.kv": "attention.attention",
                    "self.out": "attention_adapters",
                    "ffn.up": "intermediate.dense",
                    "ffn.down": "output.dense",
                    "ffn.out": "output.output_adapters",
                },
            ),
        ),
    ),
    peer_prefix="vit",
)

TABLE: dict[str, Row] = {
    row.model_type: row
    for row in (
        _BERT,
        replace(_BERT, model_type="roberta", peer_prefix="roberta"),
        replace(_BERT, model_type="xlm-roberta", peer_prefix="roberta"),
        _DISTILBERT,
        _GPT2,
        _LLAMA,
        _QWEN3,
        _T5,
        _BART,
        _VIT,
    )
}


def row_for(model_type: str) -> Row | None:
    """Return the row of a model family, or ``None`` where the detector has to look."""
    return TABLE.get(model_type)


def register_row(row: Row, *, replace_existing: bool = False) -> None:
    """Add a family to the table, e.g. a row printed by ``adapterhub inspect`` and reviewed.

    Raises:
        ConfigError: the family is there already and *replace_existing* is False.
    """
    if row.model_type in TABLE and not replace_existing:
        raise ConfigError(
            f"The table has a row for '{row.model_type}' already; pass replace_existing=True to replace it."
        )
    TABLE[row.model_type] = row
