"""What heads return, and parts of a batch of what base models return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers.utils.generic import ModelOutput

T = TypeVar("T", bound=ModelOutput)


@dataclass
class MultiHeadOutput(ModelOutput):
    """The outputs of several heads.

    ``output[0]`` is the first head's output, ``output["loss"]`` the field of that name.

    Args:
        loss: scalar, the sum of the heads' losses; ``None`` if no head had labels.
        head_outputs: one output a head, in the order of the heads.
        past_key_values: the base model's cache, for the whole batch, if it made one.
    """

    loss: torch.Tensor | None = None
    head_outputs: tuple[Any, ...] | None = None
    past_key_values: Any = None

    @property
    def logits(self) -> torch.Tensor:
        """All heads' logits below each other: (sum of batches, num_labels).

        Raises:
            ValueError: the heads' logits differ in more than the batch.
        """
        parts = [output.logits for output in self.head_outputs or ()]
        if len({tuple(part.shape[1:]) for part in parts}) != 1:
            raise ValueError(
                f"The heads' logits have shapes {[list(part.shape) for part in parts]}, so they do "
                "not form one tensor; use head_outputs[i].logits."
            )
        return torch.vstack(parts)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        return (self.head_outputs or ())[key]


def combine(outputs: list[Any], base: Any) -> MultiHeadOutput:
    """Return the heads' *outputs* on that of the *base* model as one, with the sum of losses."""
    losses = [
        loss for loss in (getattr(output, "loss", None) for output in outputs) if loss is not None
    ]
    total: Any = sum(losses[1:], losses[0]) if losses else None
    cache = base.get("past_key_values")
    return MultiHeadOutput(loss=total, head_outputs=tuple(outputs), past_key_values=cache)


def fill(kind: type[T], base: Any, **own: Any) -> T:
    """Make a *kind* of output from a head's *own* fields and those of the base model's output."""
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]  # (fields() is not traceable)
    passed = {key: value for key, value in base.items() if key in known and key not in own}
    return kind(**own, **passed)


def rows(value: Any, start: int, stop: int, total: int) -> Any:
    """Return rows *start* to *stop* of everything in *value* whose first axis is a batch of
    *total*.

    Looks into model outputs and tuples; leaves anything else (caches) as it is.
    """
    if isinstance(value, torch.Tensor):
        return value[start:stop] if value.dim() and value.shape[0] == total else value
    if isinstance(value, ModelOutput):
        return type(value)(**{key: rows(item, start, stop, total) for key, item in value.items()})
    if type(value) in (tuple, list):
        return type(value)(rows(item, start, stop, total) for item in value)
    return value
