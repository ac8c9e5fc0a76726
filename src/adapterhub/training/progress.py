"""Progress of a training as a Rich bar."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback


def make_progress(console: Console | None = None) -> Progress:
    """Return progress bars in the project's look: what, how far, time spent and left, last result."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class RichProgress(TrainerCallback):
    """One bar for the steps of a training; evaluations show as a note behind it.

    Args:
        description: what stands before the bar.
        progress: bars to add to, already started; default: own bars on standard error.
    """

    def __init__(self, description: str = "training", progress: Progress | None = None) -> None:
        self.description = description
        self._given = progress
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._loss: float | None = None
        self._score = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        if not state.is_world_process_zero:
            return
        self._progress = (
            self._given if self._given is not None else make_progress(Console(stderr=True))
        )
        if self._given is None:
            self._progress.start()
        self._task = self._progress.add_task(
            self.description, total=state.max_steps, completed=state.global_step, note=""
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        self._update(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the last loss and the last score."""
        logs = logs or {}
        self._loss = logs.get("loss", self._loss)
        if "eval_accuracy" in logs:
            self._score = f"validation {100 * logs['eval_accuracy']:.1f} %"
        elif "eval_loss" in logs:
            self._score = f"validation loss {logs['eval_loss']:.3f}"
        self._update(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self._update(state.global_step)
        self.close()

    def close(self) -> None:
        """Stop bars of our own; safe to call again, for trainings that end with an exception."""
        if self._progress is not None and self._given is None:
            self._progress.stop()
        self._progress = self._task = None

    def _update(self, step: int) -> None:
        if self._progress is None or self._task is None:
            return
        loss = "" if self._loss is None else f"loss {float(self._loss):.3f}"
        note = " · ".join(part for part in (loss, self._score) if part)
        self._progress.update(self._task, completed=step, note=f"[dim]{note}")
