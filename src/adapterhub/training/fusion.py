"""Looking into AdapterFusion: how much attention goes to which adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from adapterhub.training.features import MAX_LENGTH, collator


@torch.no_grad()
def mean_attention(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    batch_size: int = 64,
    max_length: int = MAX_LENGTH,
) -> np.ndarray:
    """Return the mean attention over all tokens of *texts*: (layers, adapters), rows sum to 1.

    Padding does not count. Several places in one layer are averaged.

    Args:
        model: with exactly one active fusion.
    """
    collate, device = collator(tokenizer), next(model.parameters()).device
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, float] = {}
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    for start in range(0, len(encoded), batch_size):
        batch = collate([{"input_ids": ids} for ids in encoded[start : start + batch_size]])
        output = model(
            **{key: value.to(device) for key, value in batch.items()},
            output_adapter_fusion_attentions=True,
        )
        mask = batch["attention_mask"].numpy().astype(np.float64)
        (layers,) = output.adapter_fusion_attentions.values()
        for layer, places in layers.items():
            for weights in places.values():
                total = (np.asarray(weights, dtype=np.float64) * mask[..., None]).sum((0, 1))
                sums[layer] = sums.get(layer, 0.0) + total
                counts[layer] = counts.get(layer, 0.0) + mask.sum()
    return np.stack([sums[layer] / counts[layer] for layer in sorted(sums)])
