"""Encoders of speech, and of speech and text: wav2vec 2.0 and its kin, SeamlessM4T."""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Row, StackRow, Sublayer, Variant

_SELF = Sublayer(
    q="attention.q_proj",
    k="attention.k_proj",
    v="attention.v_proj",
    o="attention.out_proj",
    kv="attention",
    out="dropout",
    residual="attention.q_proj",
    norm="layer_norm",
)
_FFN = Sublayer(
    up="feed_forward.intermediate_dense",
    down="feed_forward.output_dense",
    out="feed_forward",
    residual="feed_forward.intermediate_dense",
    norm="final_layer_norm",
)


def _wav2vec2(model_type: str, attention: Sublayer = _SELF) -> Row:
    """An encoder whose norms come after the sums or, with the same modules, before the sub-layers."""

    def stacks(attention: Sublayer, ffn: Sublayer) -> tuple[StackRow, ...]:
        return (
            StackRow(
                "encoder",
                "encoder.layers",
                {"self": attention, "ffn": ffn},
                embed=">encoder.layers.0",
                invertible="encoder.dropout",
            ),
        )

    before = stacks(
        replace(attention, residual="layer_norm", norm=None),
        replace(_FFN, residual="final_layer_norm", norm=None),
    )
    variants = (Variant("do_stable_layer_norm", True, before),)
    return Row(model_type, stacks(attention, _FFN), model_type, variants=variants)


def _attention(name: str, residual: str, out: str, o: str = "out_proj") -> Sublayer:
    return Sublayer(
        q=f"{name}.q_proj|{name}.linear_q",
        k=f"{name}.k_proj|{name}.linear_k",
        v=f"{name}.v_proj|{name}.linear_v",
        o=f"{name}.{o}|{name}.linear_out",
        kv=name,
        out=out,
        residual=residual,
    )


def _seamless(model_type: str) -> Row:
    """Two encoders, of text and of speech, before one decoder of text.

    A second pair makes units of sound of the text; its decoder writes them one after the other in the first
    version, and all at once, with convolutions, in the second.
    """
    ffn = Sublayer(up="ffn.fc1", down="ffn.fc2", out="ffn_dropout", residual="ffn_layer_norm")
    self_attention = _attention("self_attn", "self_attn_layer_norm", "attn_dropout")
    encoder = {"self": self_attention, "ffn": ffn}
    decoder = {
        # One dropout module runs after both attentions, so the places are their outputs.
        "self": replace(self_attention, out="self_attn"),
        "cross": _attention("cross_attention", "cross_attention_layer_norm", "cross_attention"),
        "ffn": ffn,
    }
    units = decoder
    if model_type.endswith("v2"):
        after = {"residual": "self_attn.q_proj", "norm": "self_attn_layer_norm"}
        units = {"self": replace(decoder["self"], **after)}
    speech = {
        "self": _attention("self_attn", "self_attn_layer_norm", "self_attn_dropout"),
        # The second of two networks, each of which adds half of its output.
        "ffn": Sublayer(
            up="ffn2.intermediate_dense",
            down="ffn2.output_dense",
            out="ffn2",
            residual="ffn2_layer_norm",
            norm="final_layer_norm",
        ),
    }
    return Row(
        model_type,
        (
            StackRow("text", "text_encoder.layers", encoder, embed=">text_encoder.layers.0"),
            StackRow(
                "audio",
                "speech_encoder.encoder.layers",
                speech,
                embed=">speech_encoder.encoder.layers.0",
                prompted=False,  # its blocks are given masks of chunks
            ),
            StackRow("decoder", "text_decoder.layers", decoder),
            StackRow("t2u_encoder", "t2u_model.model.encoder.layers", encoder, prompted=False),
            StackRow("t2u_decoder", "t2u_model.model.decoder.layers", units, prompted=False),
        ),
    )


ROWS = (
    _wav2vec2("wav2vec2"),
    _wav2vec2("hubert"),
    # Its attention hands its weights to a function of torch and does not run its projections by itself.
    _wav2vec2("wavlm", replace(_SELF, residual="attention")),
    _wav2vec2("data2vec-audio"),
    _seamless("seamless_m4t"),
    _seamless("seamless_m4t_v2"),
)
