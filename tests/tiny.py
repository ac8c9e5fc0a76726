"""Tiny models with random weights, for tests."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf


def bert(cls: Any = None, **changes: Any) -> Any:
    options = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "vocab_size": 60,
        "max_position_embeddings": 40,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    torch.manual_seed(0)
    return (cls or tf.BertModel)(tf.BertConfig(**{**options, **changes})).eval()


def gpt2(cls: Any = None) -> Any:
    torch.manual_seed(0)
    config = tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=40)
    return (cls or tf.GPT2Model)(config).eval()


def llama(cls: Any = None) -> Any:
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
        vocab_size=60,
    )
    return (cls or tf.LlamaForCausalLM)(config).eval()


def t5(cls: Any = None) -> Any:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 40,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 60,
        "decoder_start_token_id": 0,
        "eos_token_id": 21,
    }
    return (cls or tf.T5ForConditionalGeneration)(tf.T5Config(**options)).eval()


def vit(cls: Any = None) -> Any:
    torch.manual_seed(0)
    config = tf.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        image_size=16,
        patch_size=8,
    )
    return (cls or tf.ViTModel)(config).eval()


def randomize(model: Any, *names: str, std: float = 0.2) -> None:
    """Give the named adapters weights with an effect."""
    generator = torch.Generator().manual_seed(1)
    for name in names:
        for parameter in model.adapter_handle.iter_parameters(name):
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def tokens(rows: int = 3, length: int = 7, vocabulary: int = 60) -> torch.Tensor:
    return torch.randint(2, vocabulary, (rows, length), generator=torch.Generator().manual_seed(2))


def run(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(ids, **options)[0]
