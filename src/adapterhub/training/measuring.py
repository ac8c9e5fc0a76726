"""Runs an adapter with its head over a file of labelled examples and measures what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adapterhub.errors import CheckpointError, did_you_mean
from adapterhub.training import metrics
from adapterhub.training.archive import DataError
from adapterhub.training.base_models import base_model_path, load_base
from adapterhub.training.features import collator
from adapterhub.training.metrics import Measurement
from adapterhub.training.tasks import Examples, TextTask, read_records

_KINDS = {"classification": "classification", "tagging": "tagging"}
_TEXT_KEYS = ("text", "sentence", "sentence1", "tokens")
_PAIR_KEYS = ("text_pair", "sentence2")
_LABEL_KEYS = ("label", "labels", "tags", "ner_tags")


@dataclass(frozen=True)
class Columns:
    """In which columns of a file the examples are; empty: by the usual names."""

    text: str = ""
    pair: str = ""
    label: str = ""


@dataclass(frozen=True)
class LabelledData:
    """Examples as a file has them.

    Attributes:
        name: of the file, without its ending.
        sha256: of the file.
        texts: a text, a pair of texts, or (for tagging) a list of words, each.
        labels: as written: names or numbers; a list of them for tagging.
    """

    name: str
    sha256: str
    texts: tuple[Any, ...]
    labels: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.texts)


def read_data(path: Path, columns: Columns | None = None) -> LabelledData:
    """Read a ``.jsonl``, ``.csv`` or ``.tsv`` file (perhaps with ``.gz``) of examples.

    Words and tags of a sentence are lists in JSON, and parted by blanks in a table.

    Raises:
        DataError: If it cannot be read, a column is missing, or a record has none of its values.
    """
    columns = columns or Columns()
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        records = list(read_records(path))
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not records:
        raise DataError(f"{path} has no records.")
    names = [str(key) for key in records[0]]
    text = _column(path, names, columns.text, _TEXT_KEYS, "text")
    label = _column(path, names, columns.label, _LABEL_KEYS, "label")
    pair = columns.pair or next((key for key in _PAIR_KEYS if key in names), "")
    if pair:
        pair = _column(path, names, pair, (), "text_pair")
    texts, labels = [], []
    for number, record in enumerate(records, start=1):
        values = [record.get(key) for key in (text, label, *([pair] if pair else []))]
        if any(value is None or value == "" for value in values):
            raise DataError(
                f"{path}, record {number}: a value of {text}, {label} or {pair} is missing"
            )
        texts.append((str(values[0]), str(values[2])) if pair else values[0])
        labels.append(values[1])
    name = path.name.removesuffix(".gz").rpartition(".")[0]
    return LabelledData(name, digest, tuple(texts), tuple(labels))


def _column(path: Path, names: Sequence[str], given: str, usual: Sequence[str], what: str) -> str:
    if given and given not in names:
        raise DataError(
            f"{path} has no column '{given}'; it has: {', '.join(names)}.{did_you_mean(given, names)}"
        )
    found = given or next((key for key in usual if key in names), "")
    if not found:
        raise DataError(f"{path}: which column is the {what}? It has: {', '.join(names)}.")
    return found


def task_data(task: TextTask, split: str) -> LabelledData:
    """Return one part of a task; its hash is that of the texts and labels as JSON lines."""
    examples: Examples = getattr(task, split)
    labels = [task.label_names[label] for label in examples.labels]
    pairs = zip(examples.texts, labels, strict=True)
    lines = "\n".join(json.dumps(pair, ensure_ascii=True) for pair in pairs)
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return LabelledData(task.name, digest, examples.texts, tuple(labels))


@dataclass
class Subject:
    """A base model with the adapter and the head that are to be measured."""

    model: Any
    tokenizer: Any
    name: str
    base_path: Path
    max_length: int = 256
    head: Any = field(init=False)

    def __post_init__(self) -> None:
        self.head = self.model.heads[self.name]
        positions = getattr(self.model.config, "max_position_embeddings", None)
        self.max_length = min(self.max_length, positions or self.max_length)

    @property
    def kind(self) -> str:
        """``classification``, ``regression`` or ``tagging``."""
        kind = _KINDS.get(self.head.head_type, "")
        if not kind:
            raise CheckpointError(
                f"The head is of the type {self.head.head_type}; evaluated can be: {', '.join(_KINDS)}."
            )
        regression = kind == "classification" and self.head.config["num_labels"] == 1
        return "regression" if regression else kind

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return list(self.head.labels().values())


def load_subject(base: str | Path, folder: Path, *, max_length: int = 256) -> Subject:
    """Load a base model (a folder or a short name) with the adapter and head in *folder*.

    Raises:
        CheckpointError: If it does not fit, or has no head that can be measured.
    """
    path = base_model_path(base)
    model, tokenizer = load_base(path)
    name = model.load_adapter(str(folder))
    if name not in model.heads:
        raise CheckpointError(
            f"The adapter in {folder} has no prediction head, so there is nothing to measure."
        )
    model.set_active_adapters(name)
    model.active_head = name
    model.eval()
    return Subject(model, tokenizer, name, path, max_length)


def measure(
    subject: Subject,
    data: LabelledData,
    names: Sequence[str] = (),
    *,
    batch_size: int = 32,
    on_batch: Callable[[int], None] | None = None,
) -> list[Measurement]:
    """Measure an adapter on all examples of *data*.

    Args:
        names: metrics; default: all that fit the head.
        on_batch: called with the number of examples done by each batch.

    Raises:
        MetricError: If a metric does not fit the head. DataError: If a label is unknown to the head.
    """
    kind = subject.kind
    wanted = metrics.require_metrics(kind, names)
    if kind == "tagging":
        return _measure_tags(subject, data, wanted, batch_size, on_batch)
    texts = [text if isinstance(text, tuple) else str(text) for text in data.texts]
    # (Labels first: a wrong one should not be told after an hour of work.)
    if kind == "regression":
        gold = [_as_number(label, index) for index, label in enumerate(data.labels, start=1)]
        rows = _logits(subject, _encode(subject, texts), batch_size, on_batch)
        said = {index: float(row[0]) for index, row in rows}
        return metrics.of_numbers(wanted, gold, [said[index] for index in range(len(texts))])
    labels = subject.labels
    true = [_as_class(label, labels, index) for index, label in enumerate(data.labels, start=1)]
    rows = _logits(subject, _encode(subject, texts), batch_size, on_batch)
    classes = {index: int(row.argmax()) for index, row in rows}
    predicted = [classes[index] for index in range(len(texts))]
    return metrics.of_classes(wanted, true, predicted, len(labels))


def _measure_tags(
    subject: Subject,
    data: LabelledData,
    wanted: Sequence[str],
    batch_size: int,
    on_batch: Callable[[int], None] | None,
) -> list[Measurement]:
    names = subject.labels
    words = [_as_list(text, index) for index, text in enumerate(data.texts, start=1)]
    tags = [_as_list(label, index) for index, label in enumerate(data.labels, start=1)]
    gold = []
    for index, (one, two) in enumerate(zip(words, tags, strict=True), start=1):
        if len(one) != len(two):
            raise DataError(f"record {index} has {len(one)} words and {len(two)} tags")
        gold.append([names[_as_class(tag, names, index)] for tag in two])
    encoded = [
        subject.tokenizer(
            [str(word) for word in sentence],
            is_split_into_words=True,
            truncation=True,
            max_length=subject.max_length,
        )
        for sentence in words
    ]
    first = [_first_positions(item.word_ids()) for item in encoded]
    # Words beyond the longest input get no tag from the model: they count as O, or the first tag.
    nothing = "O" if "O" in names else names[0]
    predicted = [[nothing] * len(sentence) for sentence in words]
    for index, row in _logits(subject, encoded, batch_size, on_batch):
        chosen = row.argmax(-1).tolist()
        for word, position in first[index].items():
            predicted[index][word] = names[chosen[position]]
    return metrics.of_tags(wanted, gold, predicted)


def _first_positions(word_ids: Sequence[int | None]) -> dict[int, int]:
    found: dict[int, int] = {}
    for position, word in enumerate(word_ids):
        if word is not None:
            found.setdefault(word, position)
    return found


def _encode(subject: Subject, texts: Sequence[Any]) -> list[Any]:
    options = {"truncation": True, "max_length": subject.max_length}
    return [
        subject.tokenizer(*(text if isinstance(text, tuple) else (text,)), **options)
        for text in texts
    ]


def _logits(
    subject: Subject,
    encoded: Sequence[Any],
    batch_size: int,
    on_batch: Callable[[int], None] | None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (number of the example, its logits), texts of like length together."""
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]["input_ids"]))
    collate, device = collator(subject.tokenizer), next(subject.model.parameters()).device
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = collate([dict(encoded[index]) for index in chosen])
        with torch.inference_mode():
            output = subject.model(**{key: value.to(device) for key, value in batch.items()})
        yield from zip(chosen, output.logits.float().cpu(), strict=True)
        if on_batch is not None:
            on_batch(len(chosen))


def _as_class(label: Any, names: Sequence[str], index: int) -> int:
    """Return the class of a label: by its name, else by its number."""
    if str(label) in names:
        return names.index(str(label))
    text = str(label)
    if text.isdigit() and int(text) < len(names):
        return int(text)
    raise DataError(
        f"record {index}: the head does not know the label {text[:60]!r}; it knows: "
        f"{', '.join(names[:20])}.{did_you_mean(text, names)}"
    )


def _as_number(label: Any, index: int) -> float:
    try:
        return float(label)
    except (TypeError, ValueError) as error:
        raise DataError(f"record {index}: the label {str(label)[:60]!r} is not a number") from error


def _as_list(value: Any, index: int) -> list[Any]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and value:
        return value
    raise DataError(f"record {index}: a list of words or tags is expected, not {str(value)[:60]!r}")
