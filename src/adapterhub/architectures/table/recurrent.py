"""Models whose positions mix by a state instead of, or besides, attention: Mamba, RWKV, Jamba.

Where there are no queries, keys and values, methods that ask for them have no place; what a block adds to
the residual is a place in every one of them. Mamba's output projection is none: its fused kernels read
that weight without running the module.
"""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Fused, Row, StackRow, Sublayer
from adapterhub.architectures.table.modern import EXPERTS, FFN, SELF, decoder


def _mixers(model_type: str, projection: Sublayer) -> Row:
    """Blocks that are nothing but a mixer, which is a gated network with a convolution and a state in it."""
    ffn = replace(projection, out="mixer", residual="norm")
    stack = StackRow("decoder", "layers", {"ffn": ffn}, embed="embeddings")
    return Row(model_type, (stack,), "backbone")


_GATED = Sublayer(gate_up=Fused("mixer.in_proj", parts=("up", "gate")))

_RWKV = Row(
    "rwkv",
    (
        StackRow(
            "decoder",
            layers="blocks",
            sublayers={
                # The receptance chooses what of the state comes out, as a query does.
                "self": Sublayer(
                    q="attention.receptance",
                    k="attention.key",
                    v="attention.value",
                    o="attention.output",
                    out="attention",
                    residual="ln1",
                ),
                "ffn": Sublayer(
                    up="feed_forward.key",
                    gate="feed_forward.receptance",
                    down="feed_forward.value",
                    out="feed_forward",
                    residual="ln2",
                ),
            },
            embed="embeddings",
        ),
    ),
    "rwkv",
)

ROWS = (
    _mixers("mamba", _GATED),
    _mixers("falcon_mamba", _GATED),
    # Its projection holds the state's inputs and steps as well.
    _mixers("mamba2", Sublayer(up="mixer.in_proj")),
    _RWKV,
    decoder(
        "jamba",
        replace(SELF, out="mamba|self_attn"),
        Sublayer(
            up="feed_forward.up_proj",
            gate="feed_forward.gate_proj",
            down="feed_forward.down_proj",
            out="feed_forward",
            residual="pre_ff_layernorm",
        ),
    ),
    decoder("qwen3_next", replace(SELF, out="linear_attn|self_attn"), EXPERTS),
    decoder("qwen3_5_text", replace(SELF, out="linear_attn|self_attn"), FFN),
)
