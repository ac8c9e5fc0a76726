"""What heads return, and parts of a batch of what base models return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from transformers.utils.generic import ModelOutput

T = TypeVar("T", bound=ModelOutput)


@dataclass
class MultiHeadOutput(ModelOutput):
    """The outputs of several heads.

    ``output[0]`` is the first head's output, ``output["loss"]`` the field of that name.

    Args:
        loss: scalar, the sum of the heads' losses; ``None`` if no head had labels.
        head_outputs: one output a head, in the order of the heads. A head that no row of the batch
            belongs to has an output of no rows, and no loss.
        past_key_values: the base model's cache, for the whole batch, if it made one.

    Attributes:
        rows: where each head had rows of its own (``BatchSplit``, ``Route``, ``MultiTask``): one tensor a
            head, (its rows,) int64, their numbers in the batch; else ``None``.
    """

    loss: torch.Tensor | None = None
    head_outputs: tuple[Any, ...] | None = None
    past_key_values: Any = None

    #: (No field: it is about the batch, not a result; the Trainer gathers all fields.)
    rows: ClassVar[tuple[torch.Tensor, ...] | None] = None

    @property
    def logits(self) -> torch.Tensor:
        """All heads' logits as one tensor, (sum of batches, …): below each other, head after head;
        where heads had rows of their own (:attr:`rows`), in the order of the rows.

        Raises:
            ValueError: the heads' logits differ in more than the batch, or a row had no head.
        """
        parts = [output.logits for output in self.head_outputs or ()]
        if len({tuple(part.shape[1:]) for part in parts}) != 1:
            raise ValueError(
                f"The heads' logits have shapes {[list(part.shape) for part in parts]}, so they do "
                "not form one tensor; use head_outputs[i].logits."
            )
        if self.rows is None:
            return torch.vstack(parts)
        rows = torch.cat(self.rows)
        order = rows.argsort()
        if rows.numel() and not torch.equal(rows[order], torch.arange(len(rows)).to(rows)):
            raise ValueError(
                "Some rows of the batch have no head, so the logits do not form one tensor; use "
                "head_outputs[i].logits, which are of the rows in rows[i]."
            )
        return torch.cat(parts)[order]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        return (self.head_outputs or ())[key]


def combine(
    outputs: list[Any], base: Any, rows: tuple[torch.Tensor, ...] | None = None
) -> MultiHeadOutput:
    """Return the heads' *outputs* on that of the *base* model as one, with the sum of losses."""
    losses = [
        loss for loss in (getattr(output, "loss", None) for output in outputs) if loss is not None
    ]
    total: Any = sum(losses[1:], losses[0]) if losses else None
    cache = base.get("past_key_values")
    made = MultiHeadOutput(loss=total, head_outputs=tuple(outputs), past_key_values=cache)
    if rows is not None:
        made.__dict__["rows"] = rows
    return made


def fill(kind: type[T], base: Any, **own: Any) -> T:
    """Make a *kind* of output from a head's *own* fields and those of the base model's output."""
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]  # (fields() is not traceable)
    passed = {key: value for key, value in base.items() if key in known and key not in own}
    return kind(**own, **passed)


def rows(value: Any, index: slice | torch.Tensor, total: int) -> Any:
    """Return the rows *index* of everything in *value* whose first axis is a batch of *total*.

    Looks into model outputs and tuples; leaves anything else (caches) as it is.
    """
    if isinstance(value, torch.Tensor):
        return value[index] if value.dim() and value.shape[0] == total else value
    if isinstance(value, ModelOutput):
        return type(value)(**{key: rows(item, index, total) for key, item in value.items()})
    if type(value) in (tuple, list):
        return type(value)(rows(item, index, total) for item in value)
    return value
