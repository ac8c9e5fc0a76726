"""Tasks out of rated texts and out of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.training.archive import DataError
from adapterhub.training.tasks import Examples, file_task, load_task, parse_ratings, polarity_task

# Ten made-up lines in the form of the real files.
SAMPLE = "\r\n".join(
    [
        "1\t2.26666666667\tA quiet, radiant film &amp; a fine cast.",
        "2\t-3.1\tTedious   from the first scene to the last.",
        "3\t0.45\tIt is a film about bees.",
        "4\t-0.5\tNot quite as clever as it thinks.",
        "5\t0.5\tPleasant enough.",
        "6_1\t-1.25\tThe battery died &amp;amp; nobody answered.",
        "6_2\t1.25\tSturdy, quick and quiet.",
        "6_3\t-1.2\tthe BATTERY died &amp; nobody answered.",
        "7\t3.0\tSo happy today :)",
        "8\t-2.0\tSo happy today :)",
        "",
    ]
)


def test_parses_ratings_entities_and_spaces() -> None:
    rows = parse_ratings(SAMPLE)
    assert len(rows) == 10
    assert rows[0] == (2.26666666667, "A quiet, radiant film & a fine cast.")
    assert rows[1] == (-3.1, "Tedious from the first scene to the last.")
    assert rows[5][1] == "The battery died & nobody answered."


@pytest.mark.parametrize(
    "line", ["1\tgood\ttext", "1\t2.0", "1\t5.0\ttext", "1\t1\ttext\tmore", "1\tnan\tx"]
)
def test_a_malformed_line_is_named(line: str) -> None:
    with pytest.raises(DataError, match="Line 2"):
        parse_ratings(f"1\t1.0\tfine\n{line}\n")


def everything(task: object) -> dict[str, int]:
    """Return all texts of a task with their labels; fails if one occurs twice."""
    rows: dict[str, int] = {}
    for part in (task.train, task.validation, task.test):  # type: ignore[attr-defined]
        for text, label in zip(part.texts, part.labels, strict=True):
            assert text not in rows
            rows[text] = label
    return rows


def test_polarity_drops_neutral_repeated_and_contradicting_texts() -> None:
    rows = everything(polarity_task("toy", SAMPLE))
    assert "It is a film about bees." not in rows
    assert "So happy today :)" not in rows, "it has both labels"
    assert sum("battery" in text.lower() for text in rows) == 1
    assert rows["Pleasant enough."] == 1
    assert rows["Not quite as clever as it thinks."] == 0
    assert len(rows) == 6


@given(
    st.lists(st.tuples(st.floats(-4, 4), st.text("abcd ", max_size=6)), max_size=60),
    st.integers(0, 3),
)
def test_splits_never_share_a_text_and_ignore_the_order(
    pairs: list[tuple[float, str]], seed: int
) -> None:
    lines = [f"{i}\t{rating}\t{text}" for i, (rating, text) in enumerate(pairs)]
    task = polarity_task("x", "\n".join(lines), seed=seed)
    rows = everything(task)
    again = everything(polarity_task("x", "\n".join(reversed(lines)), seed=seed))
    assert rows == again
    assert len(task.test) == len(rows) // 5
    assert len(task.validation) == len(rows) // 10


def test_another_seed_splits_otherwise() -> None:
    content = "\n".join(f"{i}\t{(-1) ** i * 2}\ttext {i}" for i in range(50))
    first, second = (polarity_task("x", content, seed=seed).test for seed in (1, 2))
    assert first != second
    assert first == polarity_task("x", content, seed=1).test


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_a_file_is_a_task(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"my data.{suffix}"
    rows = [(f"text, {i} “é”", "10" if i % 3 else "9") for i in range(30)]
    if suffix == "jsonl":
        lines = [json.dumps({"body": text, "class": int(label)}) for text, label in rows]
    else:
        mark = "," if suffix == "csv" else "\t"
        lines = [f"body{mark}class", *(f'"{text}"{mark}{label}' for text, label in rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    task = load_task(path, text_column="body", label_column="class")
    assert task.name == "my-data"
    assert task.label_names == ("9", "10"), "numbers in the order of numbers"
    assert everything(task) == {text: int(label == "10") for text, label in rows}
    assert task.id2label == {0: "9", 1: "10"}


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("texts,label\nhello,1\n")
    with pytest.raises(DataError, match="Did you mean 'texts'"):
        file_task(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\na,1\nb,2\n", "10 and 2 are the least"),
        ("a.jsonl", "{broken", "line 1: not JSON"),
        ("a.jsonl", "[1]", "an object expected|a JSON object expected"),
        ("a.xml", "<a/>", "only .csv"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load_task(path)


def test_an_unknown_task_answers_with_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'movies'"):
        load_task("movie")


def test_majority() -> None:
    from adapterhub.training.tasks import TextTask

    part = Examples(("a", "b", "c", "d"), (1, 1, 1, 0))
    assert TextTask("x", ("n", "p"), part, part, part).majority() == 0.75
