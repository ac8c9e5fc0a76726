"""A base model with one trained adapter and its head, ready to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapterhub.errors import CheckpointError
from adapterhub.training.base_models import base_model_path, load_base
from adapterhub.training.evaluate import predict_logits


@dataclass
class Classifier:
    """A model with an active adapter and head.

    Attributes:
        labels: names of the classes, in the order of the logits.
    """

    model: Any
    tokenizer: Any
    name: str
    labels: tuple[str, ...]

    def logits(self, texts: Sequence[str], **options: Any) -> torch.Tensor:
        """Return (texts, classes)."""
        return predict_logits(self.model, self.tokenizer, texts, **options)[0]

    def classify(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return for each text its ``label``, ``probability`` and ``logits``."""
        return verdicts(texts, self.logits(texts), self.labels) if texts else []


def verdicts(
    texts: Sequence[str], logits: torch.Tensor, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what (texts, classes) logits say about each text."""
    probabilities = logits.softmax(-1)
    return [
        {
            "text": text,
            "label": labels[int(row.argmax())],
            "probability": float(row.max()),
            "logits": [float(value) for value in raw],
        }
        for text, row, raw in zip(texts, probabilities, logits, strict=True)
    ]


def load_classifier(base: str | Path, folder: Path) -> Classifier:
    """Load a base model and put a trained adapter with its classification head in.

    Args:
        base: folder of the base model or a short name.
        folder: of the adapter.

    Raises:
        CheckpointError: no such adapter, it does not fit, or it has no classification head.
    """
    model, tokenizer = load_base(base_model_path(base))
    name = model.load_adapter(folder)
    if name not in model.heads:
        raise CheckpointError(
            f"The adapter in {folder} has no prediction head, so it cannot classify."
        )
    model.set_active_adapters(name)
    model.active_head = name
    model.eval()
    return Classifier(model, tokenizer, name, head_labels(model, name))


def head_labels(model: Any, name: str) -> tuple[str, ...]:
    """Return the class names of a classification head, in the order of its logits."""
    config = model.heads[name].config
    ids = config.get("label2id") or {f"LABEL_{i}": i for i in range(config["num_labels"])}
    return tuple(sorted(ids, key=lambda label: ids[label]))
