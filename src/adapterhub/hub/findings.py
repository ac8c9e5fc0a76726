"""What a check of a hub reports, one line of it at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from adapterhub.errors import HubError

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that a check noticed.

    Attributes:
        severity: ``error`` (wrong or unusable), ``warning`` (works, but should be mended) or
            ``note`` (repaired while reading, or merely worth knowing).
        code: Stable short name for scripts, e.g. ``checksum`` or ``unknown-task``.
        where: Path inside the hub.
        message: What is wrong, and what to do.
    """

    severity: Severity
    code: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.message} [{self.code}]"

    def to_json(self) -> dict[str, str]:
        """Return the four fields as a plain dictionary."""
        return asdict(self)


def raise_all(headline: str, problems: Sequence[str]) -> None:
    """Raise one :class:`HubError` that lists every problem; do nothing when there is none."""
    if problems:
        bullets = "\n".join(f"  - {problem}" for problem in dict.fromkeys(problems))
        raise HubError(f"{headline}\n{bullets}")
