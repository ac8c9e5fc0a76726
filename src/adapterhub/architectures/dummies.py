"""Small stand-ins: inputs that most models accept, and configs cut down to build at once."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

BATCH, LENGTH = 2, 8

#: Upper bounds by name of a config's field. What is smaller already stays.
_CAPS: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "d_model", "dim", "n_embd", "embed_dim", "embedding_size"), 32),
    **dict.fromkeys(
        ("emb_dim", "n_embed", "projection_dim", "encoder_hidden_size", "word_embed_proj_dim"), 32
    ),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(
        ("intermediate_size", "d_ff", "hidden_dim", "ffn_dim", "n_inner", "ffn_hidden_size"), 48
    ),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size"), 48),
    **dict.fromkeys(("shared_expert_intermediate_size", "block_ffn_hidden_size"), 48),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "v_head_dim", "kv_channels"), 8),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_headdim", "mamba_d_state"), 16),
    **dict.fromkeys(
        ("cross_attention_hidden_size", "hidden_size_per_layer_input", "lru_width"), 32
    ),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_top_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("image_size",), 32),
    **dict.fromkeys(("patch_size",), 8),
    **dict.fromkeys(("max_source_positions",), 32),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "max_target_positions", "n_ctx"), 256
    ),
}
_VOCABULARY = 160
#: Stand-ins for fields that a default config leaves open.
_DEFAULTS = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
}


def shrink(config: Any) -> Any:
    """Return *config* with widths, depths and vocabularies cut down in place, sub-configs too.

    Enough for most families; a few constrain their sizes further and then fail to build.
    """
    for name, value in list(vars(config).items()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            shrink(value)
        elif isinstance(value, bool) or not isinstance(value, int):
            continue
        elif name in _CAPS and value > _CAPS[name]:
            setattr(config, name, _CAPS[name])
        elif name.endswith("vocab_size") and value > _VOCABULARY and "type" not in name:
            setattr(config, name, _VOCABULARY)
        elif name.endswith(("_token_id", "_token_index")) and value >= _VOCABULARY:
            setattr(config, name, _VOCABULARY - 1)
    if "vocab_size" in vars(config) and config.vocab_size is None:
        config.vocab_size = _VOCABULARY
        config.pad_token_id = (
            1 if getattr(config, "pad_token_id", 1) is None else config.pad_token_id
        )
    for name, default in _DEFAULTS.items():
        if name in vars(config) and getattr(config, name) is None:
            setattr(config, name, default)
    if isinstance(getattr(config, "kv_lora_rank", None), int):
        config.num_key_value_heads = config.num_attention_heads
        config.qk_head_dim = config.qk_nope_head_dim + config.qk_rope_head_dim
    layers = getattr(config, "num_hidden_layers", None)
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list) and isinstance(layers, int) and len(kinds) != layers:
        # One block of every kind, so that hybrids show all they have.
        unique = list(dict.fromkeys(kinds))
        config.num_hidden_layers = max(layers, len(unique))
        config.layer_types = (unique * layers)[: config.num_hidden_layers]
    if isinstance(getattr(config, "first_k_dense_replace", None), int):
        config.first_k_dense_replace = 1
    return config


def dummy_inputs(model: nn.Module) -> dict[str, Any]:
    """Return inputs for one forward of *model*: a batch of two, made from its config and signature.

    Token ids avoid special tokens; nothing is drawn from the global random number generator.
    """
    parameters = inspect.signature(model.forward).parameters
    names = set(parameters)
    main = getattr(model, "main_input_name", "input_ids")
    config = getattr(model, "config", None)
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    made: dict[str, Any] = {}

    def floats(*shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=generator)
        return values.to(parameter.device, parameter.dtype)

    if "input_ids" in names:
        ids = _token_ids(config, generator)
        made["input_ids"] = ids.to(parameter.device)
        if "attention_mask" in names:
            made["attention_mask"] = torch.ones_like(made["input_ids"])
    required = (
        parameters["pixel_values"].default is inspect.Parameter.empty
        if "pixel_values" in names
        else False
    )
    if "pixel_values" in names and (main == "pixel_values" or required or _is_dual(config)):
        made["pixel_values"] = floats(BATCH, *_image_shape(config))
    if main == "input_features" and main in names:
        positions, mels = (
            getattr(config, "max_source_positions", None),
            getattr(config, "num_mel_bins", None),
        )
        if mels and positions:  # log-mel spectrogram of a fixed length, features first
            made["input_features"] = floats(BATCH, int(mels), 2 * int(positions))
        else:
            features = (
                _first(config, "input_feat_per_channel", "feature_projection_input_dim") or 80
            )
            made["input_features"] = floats(BATCH, 64, int(features))
    if main == "input_values" and main in names:
        mels, frames = getattr(config, "num_mel_bins", None), getattr(config, "max_length", None)
        spectrogram = (
            isinstance(mels, int) and isinstance(frames, int) and not hasattr(config, "conv_dim")
        )
        made["input_values"] = (
            floats(BATCH, frames or 0, mels or 0) if spectrogram else floats(BATCH, 4000)
        )
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        made["decoder_input_ids"] = _token_ids(config, generator).to(parameter.device)
    if "use_cache" in names:
        made["use_cache"] = False
    return made


def _token_ids(config: Any, generator: torch.Generator) -> torch.Tensor:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    vocabulary = _first(text, "vocab_size") or _first(config, "vocab_size") or 32
    special = {
        value
        for source in (config, text)
        for name, value in vars(source).items()
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    }
    usable = [i for i in range(min(vocabulary, 4096)) if i not in special] or [0]
    drawn = torch.randint(len(usable), (BATCH, LENGTH), generator=generator)
    return torch.tensor(usable)[drawn]


def _is_dual(config: Any) -> bool:
    """Whether the model takes text and images side by side (rather than images as tokens)."""
    names = vars(config) if config is not None else {}
    tokens = any(name.startswith("image_token") for name in names)
    towers = {"text_config", "vision_config"} <= set(names)
    patches = {"vocab_size", "patch_size", "image_size", "num_channels"} <= set(names)
    return (towers or patches) and not tokens


def _image_shape(config: Any) -> tuple[int, ...]:
    vision = getattr(config, "vision_config", None) or config
    size = _first(vision, "image_size") or _first(config, "image_size") or 224
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = _first(vision, "num_channels", "in_channels", "in_chans") or 3
    return channels, height, width


def _first(config: Any, *names: str) -> Any:
    return next((v for n in names if (v := getattr(config, n, None)) is not None), None)
