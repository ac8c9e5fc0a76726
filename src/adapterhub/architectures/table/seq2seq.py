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


def _scaled(model_type: str, pre_norm: bool = False) -> Row:
    """As BART, but what it embeds goes into the blocks without a norm."""
    encoder, decoder = _bart_like(model_type, pre_norm).stacks
    return Row(model_type, (replace(encoder, embed=">encoder.layers.0"), decoder), "model")


def _nllb_moe() -> Row:
    row = _scaled("nllb-moe", pre_norm=True)
    # A block has a dense network or a mixture; the decoder's attentions share one dropout.
    ffn = Sublayer(up="ffn.fc1", down="ffn.fc2", out="ff_dropout", residual="ff_layer_norm")
    encoder, decoder = row.stacks
    own = {"self": replace(encoder.sublayers["self"], out="attn_dropout"), "ffn": ffn}
    crossed = {**decoder.sublayers, "cross": _attention("cross_attention", True), "ffn": ffn}
    return replace(
        row, stacks=(replace(encoder, sublayers=own), replace(decoder, sublayers=crossed))
    )


def _longt5() -> Row:
    """T5 with an encoder that looks around itself, and perhaps at sums of what is further away."""
    encoder, decoder = _T5.stacks
    names = ("LocalSelfAttention", "TransientGlobalSelfAttention")
    local, far = (_t5_attention(0, name) for name in names)
    either = {
        point: f"{getattr(local, point)}|{getattr(far, point)}"
        for point in ("q", "k", "v", "o", "kv")
    }
    encoder = replace(
        encoder,
        sublayers={**encoder.sublayers, "self": replace(local, **either)},
        position_bias="|".join(f"0.layer.0.{name}" for name in names),
    )
    return Row("longt5", (encoder, decoder), "transformer")


ROWS = (
    replace(
        _T5,
        model_type="umt5",  # each layer has a position bias of its own
        stacks=tuple(replace(stack, position_bias=None) for stack in _T5.stacks),
    ),
    _longt5(),
    _scaled("marian"),
    _scaled("pegasus", pre_norm=True),
    _scaled("m2m_100", pre_norm=True),
    _nllb_moe(),
    _T5,
    replace(_T5, model_type="mt5"),
    _bart_like("bart"),
    _bart_like("mbart", pre_norm=True),
    _bart_like("plbart"),
    _whisper(),
)
