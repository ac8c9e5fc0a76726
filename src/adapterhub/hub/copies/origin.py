"""What can be copied: the protocol of a source of adapters, and what one wants of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Note = Callable[[int], None]


@dataclass(frozen=True)
class Wanted:
    """A file on offer.

    Attributes:
        version, path: which file of the adapter it is.
        place: where the origin finds it.
        size: bytes; ``None`` if the origin does not say.
        sha256: what its content must have; ``None`` if the origin knows only *git_oid*.
        git_oid: the hash by which git knows the content.
    """

    version: str
    path: str
    place: str
    size: int | None = None
    sha256: str | None = None
    git_oid: str | None = None


@dataclass(frozen=True)
class Got:
    """A file that is here, checked: where, how large, and its hash."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Offer:
    """A card on offer.

    Attributes:
        path: its path in a hub folder, such as ``adapters/ada/nli.yaml``.
        stamp: changes when the card or one of its files does.
        about: what is known before it is fetched, by the names of :class:`Filter`; may be empty.
    """

    path: str
    stamp: str
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A card on its way.

    Attributes:
        files: what it needs.
        finish: called with what was fetched, by version and path; returns the cards to write by path,
            the adapter's own last.
        left_out: names of files that are not taken, with the reason.
    """

    files: Sequence[Wanted]
    finish: Callable[[Mapping[tuple[str, str], Got]], Mapping[str, bytes]]
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class Filter:
    """Which adapters are wanted; every property that is given must fit.

    Attributes:
        task: ``task`` or ``task/subtask``. model: id of the base model. owner: who published it.
        since: published at or after this time (ISO 8601; a date will do).
    """

    task: str = ""
    model: str = ""
    owner: str = ""
    since: str = ""

    def __bool__(self) -> bool:
        return bool(self.task or self.model or self.owner or self.since)

    def fits(self, about: Mapping[str, str]) -> bool:
        """Tell whether an adapter is wanted; what *about* does not say is not held against it."""
        task = about.get("task")
        if self.task and task is not None and self.task not in (task, task.partition("/")[0]):
            return False
        for mine, name in ((self.model, "model"), (self.owner, "owner")):
            there = about.get(name)
            if mine and there is not None and there.casefold() != mine.casefold():
                return False
        published = about.get("published")
        return not (self.since and published is not None and published < self.since)


#: No adapter is left out.
EVERYTHING = Filter()


class Origin(Protocol):
    """A hub that can be copied."""

    #: Its address or folder, for people.
    name: str

    def offers(self, wanted: Filter) -> Iterable[Offer]:
        """Yield what there is, sorted by path; what surely does not fit may be left out."""
        ...

    def draft(self, offer: Offer) -> Draft:
        """Say what a card needs.

        Raises:
            HubError: If it cannot be had, or is not acceptable.
        """
        ...

    def fetch(self, file: Wanted, target: Path, limit: int, note: Note) -> tuple[str, int]:
        """Bring a file to *target*, which may hold its beginning; return SHA-256 and size."""
        ...

    def about(self) -> Mapping[str, str]:
        """Return ``name`` and ``description`` of the hub, as far as known."""
        ...
