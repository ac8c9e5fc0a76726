"""What one check says about one file, or about a commit as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True)
class Result:
    """The outcome of one check.

    Attributes:
        name: Which check.
        version: Its version; another version may come to another conclusion.
        outcome: ``ok``, ``warning`` (published all the same), ``error``, or ``skipped`` (not checked).
        message: What is wrong and what to do; several lines for several things.
        data: What the check learnt on the way and others need.
    """

    name: str
    version: int
    outcome: Severity = "ok"
    message: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether this stands in the way of publication."""
        return self.outcome == "error"


def result(
    name: str, version: int, errors: Sequence[str] = (), warnings: Sequence[str] = (), **data: Any
) -> Result:
    """Make a result of lists of errors and warnings."""
    outcome: Severity = "error" if errors else "warning" if warnings else "ok"
    return Result(name, version, outcome, "\n".join([*errors, *warnings]), data)


def errors(results: Iterable[Result]) -> list[str]:
    """Return the lines of all results that failed."""
    return [line for item in results if item.failed for line in item.message.split("\n")]
