"""Tiny models whose weights follow from their names, the same in every version of every library."""

from __future__ import annotations

import zlib
from typing import Any

import torch
import transformers as tf

LLAMA = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 40,
    "max_position_embeddings": 20,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "num_labels": 3,
}
GPT2 = {
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "vocab_size": 40,
    "n_positions": 20,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 20,
    "num_layers": 1,
    "num_heads": 2,
    "vocab_size": 40,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
    "feed_forward_proj": "gated-gelu",
}
CONFIGS: dict[str, Any] = {
    "LlamaForCausalLM": lambda: tf.LlamaConfig(**LLAMA),
    "BertForSequenceClassification": lambda: tf.BertConfig(**BERT),
    "BertModel": lambda: tf.BertConfig(**BERT),
    "GPT2LMHeadModel": lambda: tf.GPT2Config(**GPT2),
    "T5ForConditionalGeneration": lambda: tf.T5Config(**T5),
}


def values(name: str, shape: Any, std: float = 0.3) -> torch.Tensor:
    """Return a random tensor that follows from a name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator) * std


def make(kind: str, biases: bool = True) -> Any:
    """Return a model of class *kind*; with biases that matter, if it has any."""
    model = getattr(tf, kind)(CONFIGS[kind]()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or (biases and name.endswith("bias")):
                parameter.copy_(values(name, parameter.shape))
    return model


def inputs(kind: str) -> dict[str, torch.Tensor]:
    """Return a batch for a model of class *kind*."""
    ids = torch.tensor([[5, 9, 33, 4, 17, 8], [31, 7, 12, 30, 6, 2]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if kind.startswith("T5"):
        batch["decoder_input_ids"] = ids[:, :4]
    return batch


def outcome(model: Any, kind: str) -> torch.Tensor:
    """Return the model's first output: logits, or hidden states of a base model."""
    with torch.no_grad():
        output = model(**inputs(kind))
    return (output.logits if "logits" in output else output[0]).contiguous()
