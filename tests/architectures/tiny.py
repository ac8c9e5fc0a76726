"""Tiny models of many families, random weights, built from a config in milliseconds."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedModel

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

_PATCHES = {**_TOWER, "intermediate_size": 48, "image_size": 16, "patch_size": 8}
_CLIP_VISION = {"model_type": "clip_vision_model", **_PATCHES}
_SIGLIP_TEXT = {**_ENCODER, "projection_size": 32}
_QWEN_VISION = {"depth": 2, "num_heads": 4, "patch_size": 8, "spatial_merge_size": 2}
_QWEN3_VISION = {
    **_QWEN_VISION,
    "hidden_size": 32,
    "intermediate_size": 48,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}
_ROTATED = {
    **_HEADS,
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
}
_QWEN_EXPERTS = {
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
_LINEAR = {
    **_HEADS,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_GEMMA3N = {
    **_HEADS,
    "vocab_size_per_layer_input": 64,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "laurel_rank": 4,
    "layer_types": ["sliding_attention", "full_attention"],
    "intermediate_size": [48, 48],
    "activation_sparsity_pattern": [0.0, 0.0],
}
_GEMMA4 = {
    **_HEADS,
    "vocab_size_per_layer_input": 64,
    "hidden_size_per_layer_input": 8,
    "global_head_dim": 16,
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention"],
}
_LLAMA4 = {
    **_HEADS,
    **_EXPERTS,
    "intermediate_size_mlp": 48,
    "moe_layers": [1],
    "layer_types": ["full_attention"] * 2,
}
_MLLAMA_TEXT = {
    **_GROUPED,
    "num_hidden_layers": 3,
    "cross_attention_layers": [1],
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
_MLLAMA_VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_global_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vision_output_dim": 64,
    "intermediate_layers_indices": [0],
    "image_size": 16,
    "patch_size": 8,
    "max_num_tiles": 1,
    "supported_aspect_ratios": [[1, 1]],
}
_LLAVA = {
    "text_config": {"model_type": "llama", **_GROUPED},
    "vision_config": {"model_type": "siglip_vision_model", **_PATCHES, "vision_use_head": False},
    "image_token_index": 60,
}
_PERCEIVER = {
    "hidden_size": 32,
    "resampler_n_latents": 4,
    "resampler_depth": 2,
    "resampler_n_heads": 4,
    "resampler_head_dim": 8,
    "num_key_value_heads": 2,
}
_PHI4_AUDIO = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_blocks": 2,
    "num_attention_heads": 4,
    "ext_pw_out_channel": 32,
    "depthwise_separable_out_channel": 32,
    "nemo_conv_channels": 32,
    "nemo_final_size": 2,
    "input_size": 16,
    "kernel_size": 3,
    "bias_max_distance": 8,
    "audio_token_id": 61,
}
_GEMMA_AUDIO = {"hidden_size": 32, "input_feat_size": 16}
_GEMMA4_VISION = {**_HEADS, "num_hidden_layers": 2, "patch_size": 8, "pooling_kernel_size": 2}
_STATES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
_START = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 2}
_CROSSED = {"is_decoder": True, "add_cross_attention": True}
_WAVES = {
    **_ENCODER,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (5, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
_SEAMLESS = {
    "vocab_size": 64,
    "hidden_size": 32,
    **{f"{kind}_layers": 2 for kind in ("encoder", "decoder", "speech_encoder")},
    **{f"{kind}_attention_heads": 4 for kind in ("encoder", "decoder", "speech_encoder")},
    **{f"{kind}_ffn_dim": 48 for kind in ("encoder", "decoder")},
    "speech_encoder_intermediate_size": 48,
    "feature_projection_input_dim": 16,
    "num_adapter_layers": 1,
    "max_position_embeddings": 40,
    "t2u_vocab_size": 64,
    "t2u_variance_predictor_embed_dim": 32,
    "t2u_variance_predictor_hidden_dim": 32,
    "variance_predictor_kernel_size": 3,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "t2u_encoder_layers": 1,
    "t2u_decoder_layers": 1,
    "t2u_encoder_attention_heads": 4,
    "t2u_decoder_attention_heads": 4,
    "t2u_encoder_ffn_dim": 48,
    "t2u_decoder_ffn_dim": 48,
    "upsample_initial_channel": 16,
    "upsample_rates": (2, 2),
    "upsample_kernel_sizes": (4, 4),
    "unit_embed_dim": 8,
    "unit_hifi_gan_vocab_size": 64,
    "lang_embed_dim": 8,
    "spkr_embed_dim": 8,
    "vocoder_num_langs": 3,
    "vocoder_num_spkrs": 3,
    "char_vocab_size": 64,
}

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
    # towers
    **dict.fromkeys(("deit", "dinov2", "dinov2_with_registers", "dinov3_vit"), _IMAGE),
    **dict.fromkeys(("siglip_vision_model", "idefics2_vision", "idefics3_vision"), _PATCHES),
    **dict.fromkeys(("smolvlm_vision", "phi4_multimodal_vision"), _PATCHES),
    **{
        key: {**_ENCODER, "projection_size": 32}
        for key in ("siglip_text_model", "siglip2_text_model")
    },
    "siglip2_vision_model": {**_PATCHES, "num_patches": 4},
    "vit_mae": {**_IMAGE, "mask_ratio": 0.0},
    "swin": {
        "embed_dim": 16,
        "depths": [1, 2],
        "num_heads": [2, 4],
        "window_size": 2,
        "image_size": 16,
        "patch_size": 2,
        "drop_path_rate": 0.0,
    },
    "pixtral": {**_PATCHES, "head_dim": 8},
    "qwen2_vl_vision": {**_QWEN_VISION, "embed_dim": 32, "hidden_size": 32},
    "qwen2_5_vl_vision": {
        **_QWEN_VISION,
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 32,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    },
    **dict.fromkeys(("qwen3_vl_vision", "qwen3_vl_moe_vision", "qwen3_5_vision"), _QWEN3_VISION),
    "llama4_vision_model": {
        **_PATCHES,
        "intermediate_size": 128,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
        "vision_output_dim": 32,
    },
    "mllama_vision_model": _MLLAMA_VISION,
    "phi4_multimodal_audio": _PHI4_AUDIO,
    "idefics2_perceiver": _PERCEIVER,
    "gemma3n_audio": {**_GEMMA_AUDIO, "conf_num_hidden_layers": 2, "conf_num_attention_heads": 4},
    "gemma4_audio": {**_GEMMA_AUDIO, "num_hidden_layers": 2, "num_attention_heads": 4},
    "gemma4_vision": _GEMMA4_VISION,
    "siglip": {"text_config": _SIGLIP_TEXT, "vision_config": _PATCHES},
    "siglip2": {"text_config": _SIGLIP_TEXT, "vision_config": {**_PATCHES, "num_patches": 4}},
    # speech
    **dict.fromkeys(("wav2vec2", "hubert", "wavlm"), _WAVES),
    "data2vec-audio": {**_WAVES, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3},
    **dict.fromkeys(("seamless_m4t", "seamless_m4t_v2"), _SEAMLESS),
    # states
    **{key: {**_STATES, "time_step_rank": 4} for key in ("mamba", "falcon_mamba")},
    "mamba2": {**_STATES, "num_heads": 4, "head_dim": 16, "n_groups": 2, "chunk_size": 4},
    "rwkv": {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "attention_hidden_size": 32,
        "intermediate_size": 48,
    },
    "jamba": {
        **_GROUPED,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "qwen3_next": {**_LINEAR, **_QWEN_EXPERTS, "num_experts": 4},
    "qwen3_5_text": _LINEAR,
    # more text
    "camembert": _ENCODER,
    "mpnet": _ENCODER,
    "eurobert": _GROUPED,
    "xlnet": {"vocab_size": 64, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "longt5": {**_T5, "local_radius": 3},
    "umt5": _T5,
    "marian": {**_SEQ2SEQ, **_START},
    "pegasus": _SEQ2SEQ,
    "m2m_100": _SEQ2SEQ,
    "nllb-moe": {
        **_SEQ2SEQ,
        "num_experts": 4,
        "encoder_sparse_step": 2,
        "decoder_sparse_step": 2,
        "expert_capacity": 16,
    },
    "mpt": {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 40},
    "stablelm": _GROUPED,
    "granitemoe": {**_GROUPED, **_EXPERTS},
    "phimoe": {**_GROUPED, **_EXPERTS},
    "olmoe": {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "gemma3n_text": _GEMMA3N,
    "gemma4_text": _GEMMA4,
    "llama4_text": _LLAMA4,
    **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text"), _ROTATED),
    "qwen3_vl_moe_text": {**_ROTATED, **_QWEN_EXPERTS, "num_experts": 4, "decoder_sparse_step": 2},
    "mllama_text_model": _MLLAMA_TEXT,
    # models of models
    **{key: {**_LLAVA, "vision_config": _CLIP_VISION} for key in ("llava", "llava_next")},
    "llava_onevision": {**_LLAVA, "text_config": {"model_type": "qwen2", **_GROUPED}},
    "paligemma": {**_LLAVA, "text_config": {"model_type": "gemma", **_HEADS}, "projection_dim": 32},
    "gemma3": {
        "text_config": _HEADS,
        "vision_config": _PATCHES,
        "mm_tokens_per_image": 4,
        "image_token_id": 60,
    },
    "gemma4": {
        "text_config": _GEMMA4,
        "image_token_id": 60,
        "vision_config": _GEMMA4_VISION,
    },
    "idefics": {
        **_DECODER,
        "vision_config": {**_PATCHES, "embed_dim": 32, "num_attention_heads": 4},
        "perceiver_config": {"use_resampler": False},
        "alpha_initializer": "ones",
        "cross_layer_interval": 1,
    },
    "idefics2": {
        "text_config": {"model_type": "mistral", **_GROUPED},
        "vision_config": _PATCHES,
        "perceiver_config": _PERCEIVER,
        "image_token_id": 60,
    },
    **{
        key: {
            "text_config": {"model_type": "llama", **_GROUPED},
            "vision_config": _PATCHES,
            "scale_factor": 2,
            "image_token_id": 60,
        }
        for key in ("idefics3", "smolvlm")
    },
    "llama4": {
        "pad_token_id": 0,  # early releases want it there
        "text_config": _LLAMA4,
        "vision_config": {
            **_PATCHES,
            "intermediate_size": 128,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
            "vision_output_dim": 32,
        },
        "image_token_index": 60,
    },
    "mllama": {
        "text_config": _MLLAMA_TEXT,
        "vision_config": _MLLAMA_VISION,
        "image_token_index": 60,
    },
    "phi4_multimodal": {
        **_GROUPED,
        "num_key_value_heads": 4,
        "vision_config": {**_PATCHES, "image_token_id": 60, "crop_size": 16},
        "audio_config": _PHI4_AUDIO,
    },
    "qwen2_vl": {
        "text_config": _ROTATED,
        "vision_config": {**_QWEN_VISION, "embed_dim": 32, "hidden_size": 32},
        "image_token_id": 60,
    },
    "qwen2_5_vl": {
        "text_config": _ROTATED,
        "vision_config": {
            **_QWEN_VISION,
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": 32,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        "image_token_id": 60,
    },
    **{
        name: {"text_config": text, "vision_config": _QWEN3_VISION, "image_token_id": 60}
        for name, text in (
            ("qwen3_vl", _ROTATED),
            ("qwen3_5", _LINEAR),
            ("qwen3_vl_moe", {**_ROTATED, **_QWEN_EXPERTS, "num_experts": 4}),
        )
    },
    "encoder-decoder": {
        "encoder": {"model_type": "bert", **_ENCODER},
        "decoder": {"model_type": "gpt2", **_GPT2, **_CROSSED},
    },
    "vision-encoder-decoder": {
        "encoder": {"model_type": "vit", **_IMAGE},
        "decoder": {"model_type": "bert", **_ENCODER, **_CROSSED},
    },
    "speech-encoder-decoder": {
        "encoder": {"model_type": "wav2vec2", **_WAVES},
        "decoder": {"model_type": "bert", **_ENCODER, **_CROSSED},
    },
    "vision-text-dual-encoder": {
        "text_config": {"model_type": "bert", **_ENCODER},
        "vision_config": {"model_type": "vit", **_IMAGE},
        "projection_dim": 16,
    },
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
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no '{model_type}'")
    options = copy.deepcopy(CONFIGS[model_type])  # (early releases take pieces out of nested ones)
    config = CONFIG_MAPPING[model_type](**{**options, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if auto is not AutoModel or type(config) in MODEL_MAPPING:
            return auto.from_config(config)
        return model_class(config)._from_config(config)


def model_class(config: Any) -> Any:
    """Return the class of a model that is only made as a part of others."""
    home = type(config).__module__.replace(".configuration_", ".modeling_")
    fitting = [
        cls
        for cls in vars(importlib.import_module(home)).values()
        if isinstance(cls, type)
        and issubclass(cls, PreTrainedModel)
        and cls.config_class is type(config)
        and "PreTrained" not in cls.__name__.removesuffix("PretrainedModel")
        and cls.__module__ == home
    ]
    return min(fitting, key=lambda cls: (cls.__name__.endswith("Head"), len(cls.__name__)))
