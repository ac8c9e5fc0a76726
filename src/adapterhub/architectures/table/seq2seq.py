"""Encoder-decoders: T5, BART and Whisper, with their kin."""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import PeerPaths, Row, StackRow, Sublayer


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


def _attention(name: str, pre_norm: bool) -> Sublayer:
    norm = f"{name}_layer_norm"
    return Sublayer(
        q=f"{name}.q_proj",
        k=f"{name}.k_proj",
        v=f"{name}.v_proj",
        o=f"{name}.out_proj",
        kv=name,
        out=name,
        residual=norm if pre_norm else f"{name}.q_proj",
        norm=None if pre_norm else norm,
    )


def _bart_like(model_type: str, pre_norm: bool = False, prefix: str = "model") -> Row:
    norm = "final_layer_norm"
    ffn = Sublayer(
        up="fc1",
        down="fc2",
        out="fc2",
        residual=norm if pre_norm else "fc1",
        norm=None if pre_norm else norm,
    )
    points = {
        "self.out": "attention_adapters",
        "cross.out": "cross_attention_adapters",
        "ffn.out": "output_adapters",
    }
    encoder = StackRow(
        "encoder",
        layers="encoder.layers",
        sublayers={"self": _attention("self_attn", pre_norm), "ffn": ffn},
        embed="encoder.layernorm_embedding",
        peer=PeerPaths(
            "encoder.layers", points=points, prefix={"self": "encoder_prefix"}, embed="encoder"
        ),
    )
    decoder = StackRow(
        "decoder",
        layers="decoder.layers",
        sublayers={
            "self": _attention("self_attn", pre_norm),
            "cross": _attention("encoder_attn", pre_norm),
            "ffn": ffn,
        },
        peer=PeerPaths(
            "decoder.layers",
            points=points,
            prefix={"self": "self_prefix", "cross": "cross_prefix"},
        ),
    )
    return Row(model_type, (encoder, decoder), prefix)


def _whisper() -> Row:
    encoder, decoder = _bart_like("whisper", pre_norm=True).stacks
    # Invertible adapters of the peer act after the encoder's final norm.
    encoder = replace(encoder, embed=">encoder.layers.0", invertible="encoder.layer_norm")
    return Row("whisper", (encoder, decoder), "model")


ROWS = (
    _T5,
    replace(_T5, model_type="mt5"),
    _bart_like("bart"),
    _bart_like("mbart", pre_norm=True),
    _bart_like("plbart"),
    _whisper(),
)
