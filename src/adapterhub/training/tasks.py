"""Text classification tasks: where the texts are, what the labels mean, which rows are for what.

Four polarity tasks are built in (movies, tweets, products, editorials); any CSV or JSON-lines file with
a text and a label column is a task as well.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterhub.errors import did_you_mean
from adapterhub.training.archive import DOMAINS, DataError, fetch_archive, read_domain

POLARITY = ("negative", "positive")
SPLIT_SEED = 42


@dataclass(frozen=True)
class Examples:
    """Texts and their class numbers, in the same order."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TextTask:
    """One text classification task.

    Attributes:
        name: short name; also the name of the adapter and of the head trained for it.
        label_names: what the class numbers mean, in their order.
        train, validation, test: disjoint sets of examples; no text occurs twice.
        source: where the texts come from, for people.
    """

    name: str
    label_names: tuple[str, ...]
    train: Examples
    validation: Examples
    test: Examples
    source: str = ""

    @property
    def id2label(self) -> dict[int, str]:
        """Class number to name, as transformers wants it."""
        return dict(enumerate(self.label_names))

    def majority(self) -> float:
        """Return the accuracy on the test set of always answering its most frequent class."""
        labels = self.test.labels
        return max(labels.count(i) for i in range(len(self.label_names))) / max(1, len(labels))


def load_task(
    source: str | Path,
    text_column: str = "text",
    label_column: str = "label",
    cache: Path | None = None,
) -> TextTask:
    """Return a built-in task by its name, or a task made of a CSV or JSON-lines file.

    Args:
        source: ``movies``, ``tweets``, ``products``, ``editorials``, or a ``.csv``, ``.tsv`` or
            ``.jsonl`` file.
        text_column, label_column: names of the columns of a file.
        cache: folder for downloads; default: see :func:`~adapterhub.training.archive.cache_folder`.

    Raises:
        DataError: there is no such task or file, or the file is malformed.
    """
    if str(source) in DOMAINS:
        return polarity_task(str(source), read_domain(fetch_archive(cache), str(source)))
    path = Path(source).expanduser()
    if path.is_file():
        return file_task(path, text_column, label_column)
    raise DataError(
        f"There is no task or file '{source}'.{did_you_mean(str(source), DOMAINS)} "
        f"Built-in tasks: {', '.join(DOMAINS)}; or give a .csv, .tsv or .jsonl file."
    )


def parse_ratings(content: str) -> list[tuple[float, str]]:
    """Parse lines of ``id TAB mean rating (-4…4) TAB text`` into (rating, text).

    HTML entities are resolved (twice: some texts were escaped twice) and runs of spaces collapsed.

    Raises:
        DataError: a line has another form; the message has its number.
    """
    rows = []
    for number, line in enumerate(content.replace("\r\n", "\n").split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.split("\t")
        try:
            rating = float(cells[1])
            text = " ".join(html.unescape(html.unescape(cells[2])).split())
        except (IndexError, ValueError) as error:
            raise DataError(
                f"Line {number} is not 'id, rating, text' with tabs: {line[:80]!r}"
            ) from error
        if len(cells) != 3 or not -4 <= rating <= 4:
            raise DataError(
                f"Line {number}: three cells and a rating in -4…4 expected: {line[:80]!r}"
            )
        if text:
            rows.append((rating, text))
    return rows


def polarity_task(
    name: str, content: str, neutral_below: float = 0.5, seed: int = SPLIT_SEED
) -> TextTask:
    """Make a two-class task of rated texts: positive or negative, the undecided ones dropped.

    Args:
        name: name of the task.
        content: text of a ratings file, see :func:`parse_ratings`.
        neutral_below: texts with a mean rating nearer to 0 than this are dropped.
        seed: of the split.
    """
    rows = [
        (text, int(rating > 0))
        for rating, text in parse_ratings(content)
        if abs(rating) >= neutral_below
    ]
    return _split(name, POLARITY, rows, seed, "vaderSentiment 3.3.2 (MIT), Hutto & Gilbert 2014")


def file_task(
    path: Path, text_column: str = "text", label_column: str = "label", seed: int = SPLIT_SEED
) -> TextTask:
    """Make a task of one file; its rows are split 70/10/20 into train, validation and test.

    Raises:
        DataError: a column is missing, or there are fewer than two labels or ten rows.
    """
    records = list(read_records(path))
    rows: list[tuple[str, str]] = []
    for number, record in enumerate(records, start=1):
        missing = [
            column for column in (text_column, label_column) if record.get(column) in (None, "")
        ]
        if missing:
            raise DataError(
                f"{path}, record {number}: no value for column '{missing[0]}'; "
                f"it has: {', '.join(map(str, record))}.{did_you_mean(missing[0], map(str, record))}"
            )
        rows.append((str(record[text_column]).strip(), str(record[label_column])))
    names = sorted({label for _, label in rows}, key=_natural)
    if len(names) < 2 or len(rows) < 10:
        raise DataError(
            f"{path} has {len(rows)} rows and {len(names)} labels; 10 and 2 are the least."
        )
    numbered = [(text, names.index(label)) for text, label in rows]
    return _split(_name_of(path), tuple(names), numbered, seed, str(path.name))


def read_records(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the records of a ``.csv``, ``.tsv`` or ``.jsonl`` file, perhaps compressed (``.gz``).

    Raises:
        DataError: another kind of file, or a line that is no record.
    """
    packed = path.suffix.lower() == ".gz"
    kind = Path(path.stem if packed else path.name).suffix.lower()
    newline = "" if kind != ".jsonl" else None
    opener: Any = gzip.open if packed else open
    with opener(path, "rt", encoding="utf-8", newline=newline) as handle:
        if kind in (".csv", ".tsv"):
            yield from csv.DictReader(handle, delimiter="\t" if kind == ".tsv" else ",")
        elif kind in (".jsonl", ".ndjson"):
            for number, line in enumerate(handle, start=1):
                if line.strip():
                    yield _json_record(path, number, line)
        else:
            raise DataError(f"{path}: only .csv, .tsv and .jsonl files are read.")


def _json_record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {number}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: a JSON object expected.")
    return record


def _natural(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def _name_of(path: Path) -> str:
    cleaned = "".join(c if c.isalnum() or c in "-_" else "-" for c in path.stem)
    return cleaned.strip("-") or "task"


def _split(
    name: str, label_names: Sequence[str], rows: Sequence[tuple[str, int]], seed: int, source: str
) -> TextTask:
    """Split 70/10/20 in an order that depends on nothing but the texts and the seed.

    A text that occurs again, up to case and spaces, is kept once; one that has two labels is dropped.
    """
    labels: dict[str, set[int]] = {}
    first: dict[str, str] = {}
    for text, label in rows:
        key = " ".join(text.casefold().split())
        labels.setdefault(key, set()).add(label)
        first.setdefault(key, text)
    keys = [key for key in first if len(labels[key]) == 1]
    keys.sort(key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
    test, validation = len(keys) // 5, len(keys) // 10

    def examples(part: Sequence[str]) -> Examples:
        return Examples(tuple(first[key] for key in part), tuple(min(labels[key]) for key in part))

    return TextTask(
        name,
        tuple(label_names),
        train=examples(keys[test + validation :]),
        validation=examples(keys[test : test + validation]),
        test=examples(keys[:test]),
        source=source,
    )
