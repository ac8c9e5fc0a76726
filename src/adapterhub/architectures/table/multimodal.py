"""Models made of models: vision-language models, and pairs of two checkpoints.

A part is as its own family has it, whichever that is. Prompts go before the text: the models count on how
many positions come out of a tower.
"""

from __future__ import annotations

from dataclasses import replace

from adapterhub.architectures.rows import Part, Row, StackRow, Sublayer
from adapterhub.architectures.table.modern import FFN, PHI3, SELF

#: Layers of the decoder are numbered from 0 again, and each part has prefix pools of its own, as in files
#: of the ``adapters`` library. The decoder's input is not the model's.
ENCODER_DECODER = (
    Part("encoder", "encoder", renumber=True),
    Part("decoder", "decoder", renumber=True, embedded=False),
)


def _with_tower(
    model_type: str,
    vision: str = "vision_tower",
    text: str = "language_model",
    audio: str = "",
    *,
    own: tuple[str, str] = ("", ""),
    between: tuple[Part, ...] = (),
) -> Row:
    """Images, perhaps sounds, and text behind them; *own*: families of the vision and the text part."""
    parts = [Part("vision", vision, own[0], prompted=False)]
    if audio:
        parts.append(Part("audio", audio, prompted=False))
    return Row(
        model_type, (), "model", parts=(*parts, *between, Part("text", text, own[1], placed=True))
    )


def _qwen(model_type: str) -> Row:
    own = (f"{model_type}_vision", f"{model_type}_text")
    return _with_tower(model_type, "visual", own=own)


_RESAMPLER = Part(
    "resampler", "connector.perceiver_resampler", "idefics2_perceiver", prompted=False
)
_IDEFICS = Row(
    "idefics",
    (
        StackRow("text", "layers", {"self": SELF, "ffn": FFN}, "embed_tokens", placed=True),
        StackRow(
            "gated",
            "gated_cross_attn_layers",
            {
                "cross": Sublayer(
                    q="cross_attn.q_proj",
                    k="cross_attn.k_proj",
                    v="cross_attn.v_proj",
                    o="cross_attn.o_proj",
                    kv="cross_attn",
                    out="cross_attn",
                    residual="input_layernorm",
                ),
                "ffn": FFN,
            },
            prompted=False,
        ),
    ),
    "model",
    parts=(Part("vision", "vision_model", "idefics_vision", prompted=False),),
)
_FEATURES = "embed_tokens_extend"
_PHI4 = Row(
    "phi4_multimodal",
    (replace(PHI3.stacks[0], name="text", placed=True),),
    "model",
    parts=(
        Part("vision", f"{_FEATURES}.image_embed.img_processor", prompted=False),
        Part("audio", f"{_FEATURES}.audio_embed.encoder", prompted=False),
    ),
)

ROWS = (
    _with_tower("llava"),
    _with_tower("llava_next"),
    _with_tower("llava_onevision"),
    _with_tower("paligemma"),
    _with_tower("gemma3"),
    _with_tower("gemma3n", audio="audio_tower"),
    _with_tower("gemma4", audio="audio_tower"),
    _with_tower("idefics2", "vision_model", "text_model", between=(_RESAMPLER,)),
    _with_tower("idefics3", "vision_model", "text_model"),
    _with_tower("smolvlm", "vision_model", "text_model"),
    # (a head included, which its text model has)
    _with_tower("llama4", "vision_model", "language_model.model"),
    _with_tower("mllama", "vision_model"),
    _IDEFICS,
    _PHI4,
    _qwen("qwen2_vl"),
    _qwen("qwen2_5_vl"),
    _qwen("qwen3_vl"),
    _qwen("qwen3_vl_moe"),
    _qwen("qwen3_5"),
    *(Row(f"{kind}encoder-decoder", parts=ENCODER_DECODER) for kind in ("", "vision-", "speech-")),
    Row(
        "vision-text-dual-encoder",
        parts=(Part("vision", "vision_model"), Part("text", "text_model")),
    ),
)
