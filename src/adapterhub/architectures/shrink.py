"""Configs cut down to build at once: :func:`shrink`."""

from __future__ import annotations

import contextlib
from typing import Any

#: Divisible by three, four, six and eight, as splits of the hidden size like to be.
_HIDDEN, _HEADS, _KV_HEADS, _HEAD_DIM, _INNER = 96, 4, 2, 24, 128

#: Upper bounds by name of a config's field. What is smaller already stays.
_CAPS: dict[str, int] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "dim", "n_embd", "embed_dim", "embedding_size"), _HIDDEN
    ),
    **dict.fromkeys(("emb_dim", "n_embed", "projection_dim", "encoder_hidden_size"), _HIDDEN),
    **dict.fromkeys(("word_embed_proj_dim", "hidden_dim", "embedding_dim"), _HIDDEN),
    **dict.fromkeys(("cross_attention_hidden_size", "lru_width", "out_hidden_size"), _HIDDEN),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), _HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), _HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), _KV_HEADS),
    **dict.fromkeys(("encoder_num_attention_heads", "decoder_num_attention_heads"), _HEADS),
    **dict.fromkeys(("encoder_num_key_value_heads", "decoder_num_key_value_heads"), _HEADS),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers", "depth"), 2),
    **dict.fromkeys(("encoder_num_hidden_layers", "decoder_num_hidden_layers"), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "n_inner", "ffn_hidden_size"), _INNER),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size"), _INNER),
    **dict.fromkeys(("shared_expert_intermediate_size", "block_ffn_hidden_size"), _INNER),
    **dict.fromkeys(
        ("head_dim", "d_kv", "attention_head_size", "v_head_dim", "kv_channels"), _HEAD_DIM
    ),
    **dict.fromkeys(("global_head_dim",), 2 * _HEAD_DIM),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "n_mamba_heads"), _HEADS),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size", "mamba_ssm_state_size"), 16),
    **dict.fromkeys(("hidden_size_per_layer_input",), _HIDDEN),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "index_head_dim", "index_n_heads"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_top_k", "top_k_experts", "moe_k"), 2),
    **dict.fromkeys(("num_experts_per_token", "num_selected_experts", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_expert_group"), 1),
    **dict.fromkeys(("n_groups", "mamba_n_groups", "mamba_ngroups"), 2),
    **dict.fromkeys(("image_size",), 32),
    **dict.fromkeys(("patch_size",), 8),
    **dict.fromkeys(("max_source_positions",), 32),
    **dict.fromkeys(("coordinate_size", "shape_size"), _HIDDEN // 6),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 256),
    **dict.fromkeys(("max_target_positions",), 256),
}
_VOCABULARY = 160
#: Stand-ins for fields that a default config leaves open.
_DEFAULTS = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "head_dim": _HEAD_DIM,
    "default_language": None,
}
#: Fields that say what each layer is, one entry a layer.
_PER_LAYER = ("layer_types", "layers_block_type", "block_types", "_block_types", "mlp_layer_types")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")


def shrink(config: Any) -> Any:
    """Return *config* with widths, depths and vocabularies cut down in place, sub-configs too.

    Enough for most families; a few constrain their sizes further and then fail to build.
    """
    fields = vars(config)
    layers = _depth(config)
    staged = isinstance(_get(config, "depths"), list | tuple)
    for name, value in list(fields.items()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            shrink(value)
        elif (
            isinstance(value, bool)
            or not isinstance(value, int)
            or (name == "num_layers" and staged)
        ):
            continue
        elif name in _CAPS and value > _CAPS[name]:
            _set(config, name, _CAPS[name])
        elif "vocab_size" in name and value > _VOCABULARY and "type" not in name:
            _set(config, name, _VOCABULARY)
        elif name.endswith(("_token_id", "_token_index")) and value >= _VOCABULARY:
            _set(config, name, _VOCABULARY - 1)
    if "vocab_size" in fields and config.vocab_size is None:
        config.vocab_size = _VOCABULARY
        config.pad_token_id = 1 if _get(config, "pad_token_id") is None else config.pad_token_id
    for name, default in _DEFAULTS.items():
        if name in fields and fields[name] is None and default is not None:
            _set(config, name, default)
    _shrink_attention(config)
    if not staged:
        _shrink_layers(config, layers)
    _shrink_stages(config)
    _shrink_states(config)
    return config


def _get(config: Any, name: str) -> Any:
    """Return a field; ``None`` where there is none, or where it differs by layer."""
    with contextlib.suppress(Exception):
        return getattr(config, name, None)
    return None


def _set(config: Any, name: str, value: Any) -> None:
    with contextlib.suppress(AttributeError, ValueError, TypeError):  # derived or checked fields
        setattr(config, name, value)


def _depth(config: Any) -> int | None:
    return next((v for n in _LAYERS if isinstance(v := _get(config, n), int)), None)


def _shrink_attention(config: Any) -> None:
    if isinstance(_get(config, "kv_lora_rank"), int):
        config.num_key_value_heads = config.num_attention_heads
        config.qk_head_dim = config.qk_nope_head_dim + config.qk_rope_head_dim
        if "head_dim" in vars(config):  # the width that is rotated
            rope = _get(config, "rope_parameters") or {}
            share = rope.get("partial_rotary_factor") or 1.0
            _set(config, "head_dim", int(config.qk_rope_head_dim / share))
    rope = _get(config, "rope_parameters") or _get(config, "rope_scaling")
    for settings in rope.values() if _is_nested(rope) else (rope,):
        hidden = _get(config, "hidden_size")
        if isinstance(settings, dict) and isinstance(hidden, int):
            # Rotary embeddings in three dimensions share the width of a head; others do not look at it.
            heads = _get(config, "num_attention_heads") or _HEADS
            dim = _get(config, "head_dim") or hidden // heads
            half = int(dim * settings.get("partial_rotary_factor", 1.0)) // 2
            settings["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]


def _is_nested(rope: Any) -> bool:
    return isinstance(rope, dict) and bool(rope) and all(isinstance(v, dict) for v in rope.values())


def _shrink_layers(config: Any, before: int | None) -> None:
    """Keep one layer of every kind, so that hybrids show all they have."""
    layers = _depth(config)
    if layers is None:
        return
    for name in _PER_LAYER:
        kinds = _get(config, name)
        if isinstance(kinds, list) and kinds and name in vars(config):
            unique = list(dict.fromkeys(map(str, kinds)))
            other = {"mamba": "attention", "linear_attention": "full_attention"}
            if len(unique) == 1 and unique[0] in other:  # the default of hybrids that can have both
                unique.append(other[unique[0]])
            layers = max(layers, len(unique))
            _set(config, "num_hidden_layers", layers)
            _set(config, name, (unique * layers)[:layers])
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == before and name not in _PER_LAYER:
            _set(config, name, value[:layers])
    if isinstance(names := _get(config, "stage_names"), list) and len(names) != layers + 1:
        # A backbone hands out the outputs of stages; let it be the last layer that there is.
        _set(config, "stage_names", ["stem", *(f"stage{i + 1}" for i in range(layers))])
        _set(config, "_out_features", [f"stage{layers}"])
        _set(config, "_out_indices", [layers])
    if isinstance(_get(config, "attn_layer_period"), int):
        config.attn_layer_period, config.attn_layer_offset = 2, 1
    if hasattr(config, "attn_layer_indices"):
        config.attn_layer_indices = [layers - 1]
    if isinstance(_get(config, "hybrid_override_pattern"), str):
        pattern = "".join(dict.fromkeys(config.hybrid_override_pattern))
        _set(config, "hybrid_override_pattern", pattern)
        _set(config, "num_hidden_layers", len(pattern))
    if isinstance(_get(config, "first_k_dense_replace"), int):
        config.first_k_dense_replace = 1


def _shrink_stages(config: Any) -> None:
    """Backbones in stages: fewer blocks a stage, windows that fit a small image."""
    depths = _get(config, "depths")
    if isinstance(depths, list | tuple):
        _set(config, "depths", [min(depth, 2) for depth in depths])
    if isinstance(_get(config, "window_size"), int) and isinstance(depths, list | tuple):
        _set(config, "window_size", 2)
        _set(config, "image_size", 64)


def _shrink_states(config: Any) -> None:
    """State-space mixers: heads times width have to be the expanded hidden size."""
    hidden = _get(config, "hidden_size")
    expand = _get(config, "mamba_expand") or _get(config, "expand")
    if not isinstance(expand, int | float) or not isinstance(hidden, int):
        return
    inner = int(expand * hidden)
    for heads, width in (
        ("mamba_n_heads", "mamba_d_head"),
        ("n_mamba_heads", "mamba_headdim"),
        ("mamba_num_heads", "mamba_head_dim"),
    ):
        if isinstance(_get(config, heads), int) and hasattr(config, width):
            _set(config, heads, _HEADS)
            _set(config, width, inner // _HEADS)
    plain = "num_attention_heads" not in vars(config) and "head_dim" in vars(config)
    if plain and isinstance(_get(config, "num_heads"), int):
        _set(config, "head_dim", inner // config.num_heads)
    if isinstance(_get(config, "mamba_d_ssm"), int):
        _set(config, "mamba_d_ssm", inner)
