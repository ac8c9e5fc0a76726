"""The losses of the heads, as in transformers' own classification models."""

from __future__ import annotations

import torch
from torch.nn import functional as F

#: Labels with this value do not count.
IGNORED = -100


def classification_loss(
    logits: torch.Tensor, labels: torch.Tensor | None, count: int
) -> torch.Tensor | None:
    """Cross-entropy, or the mean squared error when there is one label (regression).

    Args:
        logits: (batch, count). labels: (batch,) class ids, or floats for regression; ``None``: no
            loss.
    """
    if labels is None:
        return None
    if count == 1:
        return F.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
    return F.cross_entropy(logits.view(-1, count), labels.view(-1))


def multilabel_loss(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor | None:
    """Binary cross-entropy of each label on its own; both (batch, count), labels 0 or 1."""
    if labels is None:
        return None
    return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


def token_loss(
    logits: torch.Tensor, labels: torch.Tensor | None, mask: torch.Tensor | None
) -> torch.Tensor | None:
    """Cross-entropy over the tokens that are neither padding nor labelled -100.

    Args:
        logits: (batch, length, count). labels: (batch, tokens); where ``tokens < length``, the
            positions in front (of a prompt) do not count. mask: (batch, tokens), 0 for padding, or
            ``None``.
    """
    if labels is None:
        return None
    if mask is not None and mask.shape == labels.shape:
        labels = labels.masked_fill(mask != 1, IGNORED)
    if labels.shape[1] < logits.shape[1]:
        labels = F.pad(labels, (logits.shape[1] - labels.shape[1], 0), value=IGNORED)
    return F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORED
    )


def span_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start: torch.Tensor | None,
    end: torch.Tensor | None,
) -> torch.Tensor | None:
    """Mean of the cross-entropies of start and end; positions outside of the input do not count.

    Args:
        start_logits, end_logits: (batch, length). start, end: (batch,) or (batch, 1) positions.
    """
    if start is None or end is None:
        return None
    outside = start_logits.shape[1]
    parts = [
        F.cross_entropy(logits, where.reshape(-1).clamp(0, outside), ignore_index=outside)
        for logits, where in ((start_logits, start), (end_logits, end))
    ]
    return (parts[0] + parts[1]) / 2


def vocabulary_loss(
    logits: torch.Tensor, labels: torch.Tensor | None, shift: bool
) -> torch.Tensor | None:
    """Cross-entropy over the tokens that are not labelled -100.

    Args:
        logits: (batch, length, vocabulary). labels: (batch, tokens); where ``tokens < length``, the
            positions in front (of a prompt) do not count. shift: the token at each position is
            predicted at the one before it.
    """
    if labels is None:
        return None
    if labels.shape[1] < logits.shape[1]:
        labels = F.pad(labels, (logits.shape[1] - labels.shape[1], 0), value=IGNORED)
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).to(torch.promote_types(logits.dtype, torch.float32)),
        labels.reshape(-1).to(logits.device),
        ignore_index=IGNORED,
    )
