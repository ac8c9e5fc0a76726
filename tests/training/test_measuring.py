"""Adapters measured on files: what is read, and that the values are those of the model."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from adapterhub.errors import AdapterHubError
from adapterhub.training.archive import DataError
from adapterhub.training.measuring import Columns, load_subject, measure, read_data
from adapterhub.training.metrics import MetricError
from tests.hub.tinymodels import LABELS, TAGS, make_adapters, make_models

TEXTS = ["the film is good", "a bad film", "Ada flew to London", "it was great .", "dull", "a film"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def adapters(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_adapters(models, tmp_path_factory.mktemp("adapters"))


def _jsonl(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_files_of_every_kind_are_read(tmp_path: Path) -> None:
    plain = _jsonl(tmp_path / "a.jsonl", [{"text": "good", "label": "positive"}])
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    table = tmp_path / "b.csv"
    table.write_text('sentence,label\n"good, or so",1\n')
    pairs = _jsonl(tmp_path / "c.jsonl", [{"sentence1": "a", "sentence2": "b", "label": 2.5}])
    assert read_data(plain).texts == ("good",)
    found = read_data(packed)
    assert (found.name, found.texts, found.labels) == ("a", ("good",), ("positive",))
    assert found.sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert read_data(table).texts == ("good, or so",)
    assert read_data(pairs).texts == (("a", "b"),)


@pytest.mark.parametrize(
    ("records", "columns", "said"),
    [
        ([], Columns(), "no records"),
        ([{"words": "a", "label": 1}], Columns(), "which column is the text"),
        ([{"text": "a", "label": 1}], Columns(label="labell"), "Did you mean 'label'"),
        ([{"text": "a", "label": 1}, {"text": "", "label": 1}], Columns(), "record 2"),
    ],
)
def test_files_that_are_not_right(
    tmp_path: Path, records: list[dict[str, object]], columns: Columns, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read_data(_jsonl(tmp_path / "x.jsonl", records), columns)


def test_classes(models: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    subject = load_subject(models / "bert", adapters["lora-class"])
    assert (subject.kind, subject.labels) == ("classification", LABELS)
    said = []
    for text in TEXTS:
        output = subject.model(**subject.tokenizer(text, return_tensors="pt"))
        said.append(int(output.logits.argmax()))
    # Four as the model says, two not: by name, by number, and mixed.
    gold = [*said[:4], (said[4] + 1) % 3, (said[5] + 1) % 3]
    labels = [LABELS[g] if i % 2 else g for i, g in enumerate(gold)]
    records = [{"text": t, "label": g} for t, g in zip(TEXTS, labels, strict=True)]
    data = read_data(_jsonl(tmp_path / "films.jsonl", records))
    done: list[int] = []
    (found,) = measure(subject, data, ["accuracy"], batch_size=4, on_batch=done.append)
    assert found.value == pytest.approx(4 / 6)
    assert (found.count, sum(done)) == (6, 6)
    assert [m.metric for m in measure(subject, data)] == [
        "accuracy",
        "macro_f1",
        "micro_f1",
        "matthews",
    ]
    with pytest.raises(MetricError, match="pearson"):
        measure(subject, data, ["pearson"])
    bad = read_data(_jsonl(tmp_path / "bad.jsonl", [{"text": "a", "label": "positiv"}]))
    with pytest.raises(DataError, match="Did you mean 'positive'"):
        measure(subject, bad)


def test_tags(models: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    subject = load_subject(models / "bert", adapters["ia3-tags"])
    words = ["Ada", "flew", "to", "London"]
    encoded = subject.tokenizer(words, is_split_into_words=True, return_tensors="pt")
    said = subject.model(**encoded).logits[0].argmax(-1).tolist()
    gold = [*said[:3], (said[3] + 1) % 5]
    record = {"tokens": words, "tags": [TAGS[tag] for tag in gold]}
    data = read_data(_jsonl(tmp_path / "names.jsonl", [record]))
    (found,) = measure(subject, data, ["token_accuracy"])
    assert found.value == pytest.approx(3 / 4)


def test_numbers(models: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    subject = load_subject(models / "bert", adapters["bn-number"])
    assert subject.kind == "regression"
    said = [
        subject.model(**subject.tokenizer(text, return_tensors="pt")).logits.item()
        for text in TEXTS
    ]
    records = [{"text": t, "label": 2 * n + 1} for t, n in zip(TEXTS, said, strict=True)]
    data = read_data(_jsonl(tmp_path / "numbers.jsonl", records))
    found = {m.metric: m.value for m in measure(subject, data)}
    assert found["pearson"] == pytest.approx(1, abs=1e-4)
    assert found["spearman"] == pytest.approx(1)


def test_without_a_head_there_is_nothing_to_measure(
    models: Path, adapters: dict[str, Path]
) -> None:
    with pytest.raises(AdapterHubError, match="no prediction head"):
        load_subject(models / "bert", adapters["headless"])
