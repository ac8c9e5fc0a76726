"""Base models with random weights and no dropout, made from a configuration alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers as tf


@dataclass(frozen=True)
class Spec:
    """Shape of a model and of its standard batch.

    Attributes:
        kind: ``"bert"`` (sequence classification) or ``"qwen"`` (causal language model).
        layers, hidden, heads, kv_heads, inner, vocabulary: of the model.
        rows, length: of the batch.
    """

    name: str
    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    rows: int
    length: int


SPECS = {
    spec.name: spec
    for spec in (
        Spec("tiny", "bert", 4, 64, 4, 4, 256, 1000, 1, 16),
        Spec("mini", "bert", 6, 384, 12, 12, 1536, 30522, 8, 128),
        Spec("bert", "bert", 12, 768, 12, 12, 3072, 30522, 8, 128),
        Spec("qwen", "qwen", 8, 512, 8, 2, 1408, 8000, 4, 64),
    )
}


def with_layers(spec: Spec, layers: int) -> Spec:
    """Return *spec* with another number of layers."""
    return replace(spec, layers=layers)


def build(spec: Spec) -> Any:
    """Return the base model, in eval mode; the same weights at every call."""
    torch.manual_seed(0)
    if spec.kind == "bert":
        config: Any = tf.BertConfig(
            vocab_size=spec.vocabulary,
            hidden_size=spec.hidden,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            intermediate_size=spec.inner,
            max_position_embeddings=512,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=2,
            attn_implementation="sdpa",
        )
        return tf.BertForSequenceClassification(config).eval()
    config = tf.Qwen2Config(
        vocab_size=spec.vocabulary,
        hidden_size=spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        intermediate_size=spec.inner,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        initializer_range=0.05,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="sdpa",
    )
    return tf.Qwen2ForCausalLM(config).eval()


def twin(model: Any, share: bool = True) -> Any:
    """Copy a model; with *share* the copy uses the very same parameters (they must stay frozen)."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters()} if share else {})


def batch(
    spec: Spec, rows: int | None = None, length: int | None = None, labels: bool = False
) -> dict[str, torch.Tensor]:
    """Return inputs of the standard or another size, without padding."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows or spec.rows, length or spec.length)
    ids = torch.randint(5, spec.vocabulary, shape, generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if labels and spec.kind == "bert":
        inputs["labels"] = torch.randint(0, 2, shape[:1], generator=generator)
    elif labels:
        inputs["labels"] = ids.clone()
    return inputs
