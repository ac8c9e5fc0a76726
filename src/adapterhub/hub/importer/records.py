"""What an import did, one record for each value that it changed or found odd."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Action = Literal["repaired", "kept", "failed"]

#: What each code stands for; the log repeats those that occur, so that it explains itself.
CODES: Mapping[str, str] = {
    "ambiguous-before": "an identifier without configuration that several adapters share",
    "blanks": "blanks around a value",
    "conflict": "a card was edited here after an earlier import, and was left alone",
    "default-chosen": "several adapters for one task and base model; one is marked as the default",
    "default-order": "the published default follows from the order of files on somebody's disk",
    "dependency": "a dependency in one of the three spellings in use",
    "duplicate": "two cards with one identity; the second gets a name of its own",
    "email": "an address without a top-level domain, or several in one value",
    "empty-text": "empty text that means 'not given'",
    "file-name": "a file whose name differs from the id inside",
    "file-suffix": ".yml for .yaml",
    "format": "a link or address that no program can use",
    "handle": "an account given as an address or with an @",
    "head-class": "a model class is given, but no prediction head",
    "language": "a language by name or in another spelling than its BCP-47 tag",
    "metric-case": "a metric in another case",
    "no-hidden-size": "the width of the base model is not stated",
    "no-license": "states no licence",
    "odd-identifier": "an id with a quote, blank or slash",
    "owner-respected": "the old index ignored the owner and gave somebody else's adapter",
    "plain-http": "an archive that is only to be had without encryption",
    "score-unit": "a score whose unit is not stated",
    "shared-id": "a subtask id that several tasks use",
    "template-comments": "left-over comments of the template",
    "unusable": "a card that cannot be read; its file is kept as it is",
    "unused": "a card that no adapter refers to",
    "value": "a value in another form",
    "version-name": "a version written as a number; it is a name",
    "weights-elsewhere": "the files are not in this hub, only at an address that was not tried",
    "whole-number": "2.0 for 2, which has another configuration hash",
}


@dataclass(frozen=True)
class Record:
    """One value of one card.

    Attributes:
        code: kind of defect, a key of ``CODES``.
        action: ``repaired``, ``kept`` (tolerated as it is) or ``failed``.
        source: path of the card in the collection that was imported.
        field: where in the card, e.g. ``files[0].url``; empty for the card as a whole.
        before, after: the value; *after* is ``None`` where it was taken out or did not change.
        message: in words, where the values do not say it all.
    """

    code: str
    action: Action
    source: str
    field: str = ""
    before: Any = None
    after: Any = None
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set as plain data."""
        every = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {key: value for key, value in every.items() if value not in (None, "")}


@dataclass
class ImportLog:
    """What there was, what became of it, and every record.

    Attributes:
        source: what the collection calls itself (the name of its folder).
        cards: source path to path in this hub; every card of the source is a key.
        hashes: path in this hub to the SHA-256 of what was written there.
        counts: number of cards by kind, and of versions.
        records: in order of source path.
        indexes: number of index files written.
    """

    source: str
    cards: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    indexes: int = 0

    def add(self, *records: Record) -> None:
        """Append records."""
        self.records += records

    def summary(self) -> dict[str, dict[str, int]]:
        """Count the records by action and code."""
        pairs = Counter((record.action, record.code) for record in self.records)
        result: dict[str, dict[str, int]] = {}
        for (action, code), number in sorted(pairs.items()):
            result.setdefault(action, {})[code] = number
        return result

    def dumps(self) -> bytes:
        """Return the log as JSON; the same import gives the same bytes."""
        records = sorted(self.records, key=lambda r: (r.source, r.code, r.field, r.message))
        data = {
            "format": 1,
            "source": self.source,
            "counts": self.counts,
            "summary": self.summary(),
            "codes": {code: CODES[code] for code in sorted({r.code for r in records})},
            "index_files": self.indexes,
            "cards": dict(sorted(self.cards.items())),
            "sha256": dict(sorted(self.hashes.items())),
            "records": [record.to_json() for record in records],
        }
        return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
