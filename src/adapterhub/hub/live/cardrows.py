"""Cards in the database: a collection of cards, imported into a server, as one catalogue.

A card is kept as its folder has it (path and content), so a collection goes in and out unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.catalogue import (
    LAYOUT,
    SUFFIXES,
    Catalogue,
    build_card,
    card_paths,
    catalogue_of,
    kind_of,
)
from adapterhub.hub.check import check
from adapterhub.hub.findings import Finding
from adapterhub.hub.names import member_path_problems
from adapterhub.hub.store import changes
from adapterhub.hub.store.models import CardRow

_AT_ONCE = 500
_LONGEST = 255
#: Stands for the root of cards that are in no folder; nothing is there.
NOWHERE = Path("/nonexistent/cards-of-the-database")


class CardCollection:
    """The cards of a server, with what a hub folder offers to :class:`~..web.folder.FolderSource`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.path = NOWHERE
        self.name = "cards"

    def check(self, *, files: bool = True) -> list[Finding]:
        """Return what is wrong with these cards; their files are not here."""
        return check(self.catalogue, files=False)


def load(session: Session) -> CardCollection:
    """Read all cards."""
    rows = session.execute(select(CardRow.path, CardRow.data).order_by(CardRow.path))
    return CardCollection(catalogue_of(NOWHERE, {row[0]: row[1] for row in rows}))


def cards_of_folder(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the cards of a hub folder by path, and why some cannot be taken.

    Those of adapters whose files are in the folder are left out: these become repositories, by the way
    of any other push.
    """
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for _, path in card_paths(folder):
        where = path.relative_to(folder).as_posix()
        try:
            card = cardfile.load(path)
        except (HubError, OSError) as error:
            problems.append(f"{where}: {error}")
            continue
        wrong = problems_of({where: card})
        problems += wrong
        if not wrong and not _has_files(card):
            found[where] = card
    return found, problems


def _has_files(card: Mapping[str, Any]) -> bool:
    versions = card.get("files")
    return any(
        isinstance(item, Mapping) and item.get("members")
        for item in (versions if isinstance(versions, list) else ())
    )


def problems_of(cards: Mapping[str, Any]) -> list[str]:
    """Return why some cards cannot be taken over; empty if they can."""
    folders = {folder: depth for folder, _, depth in LAYOUT}
    found = []
    for path, card in cards.items():
        parts = path.split("/")
        if len(path) > _LONGEST or member_path_problems(path):
            found.append(f"{path[:100]!a} cannot be the path of a card")
        elif folders.get(parts[0]) != len(parts) - 2 or PurePosixPath(path).suffix not in SUFFIXES:
            found.append(f"{path} is not where a card lies, e.g. adapters/OWNER/NAME.yaml")
        elif not isinstance(card, dict):
            found.append(f"{path} is not a mapping")
        elif parts[0] != "adapter_types":
            record, findings = build_card(kind_of(path), path, card)
            found += [f"{path}: {f.message}" for f in findings if f.severity == "error"]
            if record is None and not findings:
                found.append(f"{path} cannot be used")
    return found


def replace(session: Session, cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Put these cards in the place of all that there are; every process of the hub takes notice."""
    session.execute(delete(CardRow))
    _insert(session, cards)


def merge(
    session: Session, cards: Mapping[str, Mapping[str, Any]], removed: Iterable[str] = ()
) -> None:
    """Add cards, each in the place of one with the same path, and remove others."""
    gone = [*cards, *removed]
    for first in range(0, len(gone), _AT_ONCE):
        some = gone[first : first + _AT_ONCE]
        session.execute(delete(CardRow).where(CardRow.path.in_(some)))
    _insert(session, cards)


def _insert(session: Session, cards: Mapping[str, Mapping[str, Any]]) -> None:
    if cards:
        rows = [{"path": path, "data": dict(data)} for path, data in sorted(cards.items())]
        session.execute(insert(CardRow), rows)
    changes.note(session, None)
