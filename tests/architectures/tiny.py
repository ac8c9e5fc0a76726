"""Tiny models of many families, random weights, built from a config in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModel

_TEXT = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_ENCODER = {**_TEXT, "intermediate_size": 48, "max_position_embeddings": 40}
_DECODER = {**_ENCODER, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GROUPED = {**_DECODER, "num_key_value_heads": 2}
_HEADS = {"head_dim": 8, **_GROUPED}
_GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
_SEQ2SEQ = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}
_T5 = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
_IMAGE = {**_ENCODER, "image_size": 16, "patch_size": 8}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {
    **_DECODER,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
_TOWER = {k: _ENCODER[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads")}

#: Arguments of the config, by model type.
CONFIGS: dict[str, dict[str, Any]] = {
    # the table
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "distilbert": {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "gpt2": _GPT2,
    "llama": _GROUPED,
    "qwen3": _HEADS,
    "t5": _T5,
    "bart": _SEQ2SEQ,
    "vit": _IMAGE,
    "albert": {**_ENCODER, "embedding_size": 16, "num_hidden_groups": 2},
    "beit": {**_IMAGE, "layer_scale_init_value": 0.1, "use_relative_position_bias": True},
    "bert-generation": _ENCODER,
    "clip_text_model": _ENCODER,
    "clip_vision_model": {**_TOWER, "intermediate_size": 48, "image_size": 16, "patch_size": 8},
    "electra": {**_ENCODER, "embedding_size": 16},
    "gemma3_text": _HEADS,
    "gptj": {**_GPT2, "rotary_dim": 4},
    "mt5": _T5,
    "plbart": _SEQ2SEQ,
    "xmod": {**_ENCODER, "languages": ["en", "de"], "default_language": "en"},
    "cohere2": {**_HEADS, "layer_types": ["sliding_attention", "full_attention"]},
    "deepseek_v2": {**_LATENT, "n_group": None, "topk_group": None, "topk_method": "greedy"},
    "gemma": _HEADS,
    "olmo": _GROUPED,
    "olmo3": _GROUPED,
    "qwen2_moe": {
        **_GROUPED,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [0],
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "qwen3_moe": {
        **_HEADS,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [0],
        "moe_intermediate_size": 16,
    },
    "smollm3": _GROUPED,
    "starcoder2": _GROUPED,
    # the rest
    "bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "clip": {
        "text_config": {**_ENCODER, "projection_dim": 16},
        "vision_config": {**_TOWER, "intermediate_size": 48, "image_size": 16, "patch_size": 8},
    },
    "codegen": {**_GPT2, "rotary_dim": 4},
    "cohere": _GROUPED,
    "deberta": _ENCODER,
    "deberta-v2": {
        **_ENCODER,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "position_buckets": 8,
    },
    "deepseek_v3": _LATENT,
    "falcon": {**_TEXT, "ffn_hidden_size": 48, "multi_query": True},
    "falcon_mamba": {**_TEXT, "state_size": 4, "time_step_rank": 4},
    "fnet": {k: v for k, v in _ENCODER.items() if k != "num_attention_heads"},
    "gemma2": _HEADS,
    "glm4": {**_HEADS, "partial_rotary_factor": 0.5},
    "gpt_bigcode": {**_GPT2, "multi_query": True},
    "gpt_neox": _DECODER,
    "gpt_oss": {**_HEADS, **_EXPERTS},
    "granite": {**_GROUPED, "residual_multiplier": 0.22},
    "mbart": _SEQ2SEQ,
    "mistral": _GROUPED,
    "mixtral": {**_GROUPED, **_EXPERTS},
    "modernbert": {**_DECODER, "cls_token_id": 1, "sep_token_id": 2},
    "mpnet": _ENCODER,
    "olmo2": _GROUPED,
    "opt": {
        **{k: v for k, v in _DECODER.items() if k != "intermediate_size"},
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    },
    "phi": _DECODER,
    "phi3": _DECODER,
    "qwen2": _GROUPED,
    "roberta-prelayernorm": _ENCODER,
    "seed_oss": _HEADS,
    "umt5": _T5,
    "wav2vec2": {
        **_ENCODER,
        "conv_dim": (8, 8),
        "conv_kernel": (10, 8),
        "conv_stride": (5, 4),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
    "whisper": {
        **_SEQ2SEQ,
        "num_mel_bins": 8,
        "max_source_positions": 12,
        "max_target_positions": 40,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 3,
    },
    "xlm": {"vocab_size": 64, "emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "convnext": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "image_size": 32},
}


def tiny_model(model_type: str, auto: Any = AutoModel, **changes: Any) -> nn.Module:
    """Return a model of *model_type*; the same weights every time."""
    config = CONFIG_MAPPING[model_type](**{**CONFIGS[model_type], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return auto.from_config(config)
