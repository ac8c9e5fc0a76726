"""Encoders of text: BERT and its kin, DistilBERT, ALBERT, DeBERTa, ModernBERT."""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Fused, PeerPaths, Row, StackRow, Sublayer
from adapterhub.architectures.table.modern import FFN, SELF


def _bert_attention(name: str) -> Sublayer:
    return Sublayer(
        q=f"{name}.self.query",
        k=f"{name}.self.key",
        v=f"{name}.self.value",
        o=f"{name}.output.dense",
        kv=f"{name}.self",
        out=f"{name}.output.dropout",
        residual=f"{name}.self.query",
        norm=f"{name}.output.LayerNorm",
    )


_BERT_FFN = Sublayer(
    up="intermediate.dense",
    down="output.dense",
    out="output.dropout",
    residual="intermediate.dense",
    norm="output.LayerNorm",
)
_BERT_PEER = PeerPaths(
    "encoder.layer",
    points={
        "self.out": "attention.output",
        "cross.out": "crossattention.output",
        "ffn.out": "output",
    },
    prefix={"self": "self_prefix", "cross": "cross_prefix"},
)
BERT = Row(
    "bert",
    (
        StackRow(
            "encoder",
            layers="encoder.layer",
            sublayers={
                "self": _bert_attention("attention"),
                "cross": _bert_attention("crossattention"),
                "ffn": _BERT_FFN,
            },
            embed="embeddings",
            cross_is_mh=True,
            peer=_BERT_PEER,
        ),
    ),
    peer_prefix="bert",
)


def _like_bert(model_type: str, prefix: str) -> Row:
    return replace(BERT, model_type=model_type, peer_prefix=prefix)


def _bert_with(model_type: str, prefix: str, **sublayers: Sublayer) -> Row:
    stack = BERT.stacks[0]
    changed = {**stack.sublayers, **sublayers}
    return Row(model_type, (replace(stack, sublayers=changed),), prefix)


def _without_cross(row: Row) -> Row:
    stack = row.stacks[0]
    kept = {name: sub for name, sub in stack.sublayers.items() if name != "cross"}
    return replace(row, stacks=(replace(stack, sublayers=kept),))


_DEBERTA = _without_cross(
    _bert_with(
        "deberta",
        "deberta",
        # The module's rows are q, k, v of the first head, then of the second, …; adapters of the peer change
        # its first, second and last third instead and were trained so.
        self=Sublayer(
            qkv=Fused("attention.self.in_proj"),
            o="attention.output.dense",
            kv="attention.self",
            out="attention.output.dropout",
            residual="attention.self.in_proj",
            norm="attention.output.LayerNorm",
        ),
    )
)
_DEBERTA_V2 = _without_cross(
    _bert_with(
        "deberta-v2",
        "deberta",
        self=replace(
            _bert_attention("attention"),
            q="attention.self.query_proj",
            k="attention.self.key_proj",
            v="attention.self.value_proj",
            residual="attention.self.query_proj",
        ),
    )
)

_XMOD = _bert_with(
    "xmod",
    "roberta",
    # The norms run outside of the output modules, on what the adapters made of output + residual.
    self=replace(_bert_attention("attention"), norm=None),
    cross=replace(_bert_attention("crossattention"), norm=None),
    # Its dropout runs a second time after the model's own language adapter.
    ffn=replace(_BERT_FFN, out="output.dense"),
)
_XMOD = replace(_XMOD, stacks=(replace(_XMOD.stacks[0], own_adapters="output.adapter_modules.*"),))

_ALBERT = Row(
    "albert",
    (
        StackRow(
            "encoder",
            layers="encoder.albert_layer_groups.*.albert_layers",
            sublayers={
                "self": Sublayer(
                    q="attention.query",
                    k="attention.key",
                    v="attention.value",
                    o="attention.dense",
                    kv="attention",
                    out="attention.output_dropout",
                    residual="attention.query",
                    norm="attention.LayerNorm",
                    swapped=True,
                ),
                "ffn": Sublayer(
                    up="ffn",
                    down="ffn_output",
                    out="ffn_output",
                    residual="ffn",
                    norm="full_layer_layer_norm",
                ),
            },
            embed="embeddings",
            peer=PeerPaths(
                "encoder.albert_layer_groups.*.albert_layers",
                points={"self.out": "attention.attention_adapters", "ffn.out": "output_adapters"},
            ),
        ),
    ),
    peer_prefix="albert",
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

_MODERNBERT = Row(
    "modernbert",
    (
        StackRow(
            "encoder",
            layers="layers",
            sublayers={
                # Adapters of the peer see the normalised input as the residual, and after the attention
                # the norm of the next sub-layer.
                "self": Sublayer(
                    qkv=Fused("attn.Wqkv"),
                    o="attn.Wo",
                    kv="attn",
                    out="attn.Wo",
                    residual="attn",
                    norm="mlp_norm",
                    norm_on="",
                ),
                "ffn": Sublayer(up="mlp.Wi", down="mlp.Wo", out="mlp.Wo", residual="mlp"),
            },
            embed="embeddings",
            peer=PeerPaths(
                "layers",
                points={"self.out": "attention_adapters", "ffn.out": "output_adapters"},
            ),
        ),
    ),
    peer_prefix="model",
)

_MPNET_SELF = Sublayer(
    q="attention.attn.q",
    k="attention.attn.k",
    v="attention.attn.v",
    o="attention.attn.o",
    kv="attention.attn",
    out="attention.dropout",
    residual="attention.attn.q",
    norm="attention.LayerNorm",
)
_XLNET = StackRow(
    "encoder",
    "layer",
    {
        # Its maps to queries, keys and values are three-dimensional parameters, no modules.
        "self": Sublayer(kv="rel_attn"),
        "ffn": Sublayer(
            up="ff.layer_1",
            down="ff.layer_2",
            out="ff.layer_2",
            residual="ff.layer_1",
            norm="ff.layer_norm",
        ),
    },
    embed=">layer.0",
    layout="positions first",
)
_LIKE_LLAMA = StackRow("encoder", "layers", {"self": SELF, "ffn": FFN}, embed="embed_tokens")
_PLAIN_BERT = replace(BERT.stacks[0], peer=None)

ROWS = (
    BERT,
    _like_bert("roberta", "roberta"),
    _like_bert("xlm-roberta", "roberta"),
    _like_bert("electra", "electra"),
    _like_bert("bert-generation", "bert"),
    _XMOD,
    _DEBERTA,
    _DEBERTA_V2,
    _ALBERT,
    _DISTILBERT,
    _MODERNBERT,
    Row("camembert", (_PLAIN_BERT,), "roberta"),
    Row(
        "mpnet",
        (replace(_PLAIN_BERT, sublayers={"self": _MPNET_SELF, "ffn": _BERT_FFN}),),
        "mpnet",
    ),
    Row("eurobert", (_LIKE_LLAMA,), "model"),
    Row("xlnet", (_XLNET,), "transformer"),
)
