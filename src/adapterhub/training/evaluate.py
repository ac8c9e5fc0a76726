"""Measuring: how often a model is right, how sure that is, and what it cost."""

from __future__ import annotations

import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from adapterhub.training.features import MAX_LENGTH, collator


@dataclass(frozen=True)
class Score:
    """Accuracy on *count* examples, as a share of 1, with the standard error of a share."""

    accuracy: float
    count: int

    @property
    def standard_error(self) -> float:
        """sqrt(p (1 - p) / n): the error that comes from testing on n examples only."""
        return (
            math.sqrt(self.accuracy * (1 - self.accuracy) / self.count) if self.count else math.nan
        )

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.1f} ± {100 * self.standard_error:.1f}"


@dataclass(frozen=True)
class Result:
    """What one training gave and cost.

    Attributes:
        test, validation: accuracy after the last step (nothing was chosen on the test set).
        trainable, total: numbers of parameters.
        megabytes: size of what has to be kept on disk, in 10^6 bytes.
        seconds_per_step: mean over training steps, without evaluations and the first three steps.
        peak_memory: resident memory of the process at its highest, in 10^6 bytes.
        curve: (step, validation accuracy).
    """

    task: str
    method: str
    seed: int
    steps: int
    learning_rate: float
    test: Score
    validation: Score
    trainable: int
    total: int
    megabytes: float
    seconds_per_step: float
    seconds: float
    peak_memory: float
    curve: list[tuple[int, float]] = field(default_factory=list)

    @property
    def trainable_share(self) -> float:
        """Trained parameters as a share of the base model's and the head's."""
        return self.trainable / self.total

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        data = asdict(self)
        data["test"]["standard_error"] = self.test.standard_error
        data["validation"]["standard_error"] = self.validation.standard_error
        data["trainable_share"] = self.trainable_share
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """Return the result that :meth:`to_json` wrote."""
        known = {name: data[name] for name in cls.__dataclass_fields__}
        for name in ("test", "validation"):
            known[name] = Score(data[name]["accuracy"], data[name]["count"])
        known["curve"] = [(int(step), float(value)) for step, value in data["curve"]]
        return cls(**known)


def accuracy(logits: torch.Tensor, labels: Sequence[int]) -> Score:
    """Return the accuracy of (examples, classes) logits."""
    right = (logits.argmax(-1) == torch.as_tensor(labels)).sum().item()
    return Score(right / max(1, len(labels)), len(labels))


def compute_accuracy(prediction: Any) -> dict[str, float]:
    """Metric function for the Trainer: ``{"accuracy": share}``."""
    logits = (
        prediction.predictions[0]
        if isinstance(prediction.predictions, tuple)
        else prediction.predictions
    )
    return {"accuracy": float((logits.argmax(-1) == prediction.label_ids).mean())}


@torch.no_grad()
def predict_logits(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    batch_size: int = 64,
    max_length: int = MAX_LENGTH,
    on_batch: Callable[[int], None] | None = None,
) -> list[torch.Tensor]:
    """Return the logits of every active head: a list of (texts, classes), one entry without Parallel.

    Texts are batched by length and the results put back in order. The model's training mode is restored.

    Args:
        on_batch: called with the number of texts done by each batch.
    """
    encoded = (
        tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"] if texts else []
    )
    order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
    collate, device = collator(tokenizer), next(model.parameters()).device
    was_training = model.training
    model.eval()
    rows: list[list[torch.Tensor]] = []
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = collate([{"input_ids": encoded[index]} for index in chosen])
            output = model(**{key: value.to(device) for key, value in batch.items()})
            heads = getattr(output, "head_outputs", None) or [output]
            rows.append([head.logits.float().cpu() for head in heads])
            if on_batch is not None:
                on_batch(len(chosen))
    finally:
        model.train(was_training)
    if not rows:
        return []
    back = torch.tensor(order).argsort()
    return [torch.cat(parts)[back] for parts in zip(*rows, strict=True)]


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return (trainable, all) parameters."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def megabytes(folder: Path) -> float:
    """Return the size of all files below *folder* in 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


class StepTimes(TrainerCallback):
    """Collects the seconds of each training step; evaluations in between do not count."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._since = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._since)

    def mean(self, warm_up: int = 3) -> float:
        """Return the mean without the first *warm_up* steps."""
        kept = self.seconds[warm_up:] or self.seconds
        return sum(kept) / len(kept) if kept else math.nan


class PeakMemory:
    """``with PeakMemory() as peak:`` samples the resident memory of this process; ``peak.megabytes``.

    Where ``/proc`` is missing, the process's maximum so far is used instead.
    """

    def __init__(self, interval: float = 0.02) -> None:
        self.interval = interval
        self.megabytes = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        release_memory()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.megabytes = max(self.megabytes, resident_megabytes())

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self.megabytes = max(self.megabytes, resident_megabytes())


def resident_megabytes() -> float:
    """Return the resident memory of this process now, in 10^6 bytes."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, IndexError):
        return peak_megabytes()


def peak_megabytes() -> float:
    """Return the highest resident memory of this process so far, in 10^6 bytes."""
    try:
        import resource
    except ImportError:  # not on Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


def release_memory() -> None:
    """Give freed memory back to the system, so that the next measurement starts low."""
    gc.collect()
    try:
        import ctypes

        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass  # only glibc has it
