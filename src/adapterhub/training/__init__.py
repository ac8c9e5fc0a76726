"""Training: from texts to a trained adapter and an honest table of results.

``tasks`` turns rated texts or a file into a task with train, validation and test sets, ``features`` makes
batches of it, ``trainer`` is the stock transformers ``Trainer`` with checkpoints of adapter size,
``recipes`` holds the settings that work, ``evaluate`` measures, ``plots`` draws.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "AdapterDrop": "adapterhub.training.adapter_drop",
    "AdapterTrainer": "adapterhub.training.trainer",
    "Seq2SeqAdapterTrainer": "adapterhub.training.trainer",
    "RichProgress": "adapterhub.training.progress",
    "lora_plus_groups": "adapterhub.training.lora_plus",
    "TextTask": "adapterhub.training.tasks",
    "load_task": "adapterhub.training.tasks",
    "DataError": "adapterhub.training.archive",
}

if TYPE_CHECKING:
    from adapterhub.training.adapter_drop import AdapterDrop
    from adapterhub.training.archive import DataError
    from adapterhub.training.lora_plus import lora_plus_groups
    from adapterhub.training.progress import RichProgress
    from adapterhub.training.tasks import TextTask, load_task
    from adapterhub.training.trainer import AdapterTrainer, Seq2SeqAdapterTrainer


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'adapterhub.training' has no attribute '{name}'")


__all__ = [
    "AdapterDrop",
    "AdapterTrainer",
    "DataError",
    "RichProgress",
    "Seq2SeqAdapterTrainer",
    "TextTask",
    "load_task",
    "lora_plus_groups",
]
