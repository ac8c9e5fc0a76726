"""What adapters made of a text as pages show it, and how tensors and results are put side by side."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the pages need adapterhub[hub]")

from adapterhub.hub.web.leaderboards import measured_boards, order_of
from adapterhub.hub.web.normtable import norm_rows
from adapterhub.hub.web.source import (
    Adapter,
    Dataset,
    Detail,
    File,
    Measured,
    Result,
    Tensor,
    Version,
)
from adapterhub.hub.web.trial import Asked, Blank, Piece, Share, marked, outcome_of, pieces_of


def _words(text: str, tags: str) -> list[dict[str, Any]]:
    found, at = [], 0
    for word, tag in zip(text.split(), tags.split(), strict=True):
        start = text.index(word, at)
        at = start + len(word)
        found.append(
            {"start": start, "end": at, "label": tag, "probability": 0.5 + len(found) / 10}
        )
    return found


def test_stretches_of_tags() -> None:
    text = "  Ada Lovelace flew  to New York , London"
    tags = "B-PER I-PER O O B-LOC I-LOC O B-LOC"
    pieces = pieces_of(_words(text, tags), text)
    assert "".join(piece.text for piece in pieces) == text
    tagged = [piece for piece in pieces if piece.label]
    assert tagged == [
        Piece("Ada Lovelace", "PER", 1, 0.5),
        Piece("New York", "LOC", 2, 0.9),
        Piece("London", "LOC", 2, 1.2),
    ]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X B-X", ["a", "b"]),
        ("I-X I-Y", ["a", "b"]),
        ("NOUN NOUN", ["a", "b"]),
        ("O I-X", ["b"]),
        ("O O", []),
    ],
)
def test_what_does_not_go_on_a_stretch(tags: str, expected: list[str]) -> None:
    assert [
        piece.text for piece in pieces_of(_words("a b", tags), "a b") if piece.label
    ] == expected


def test_outcomes() -> None:
    bad = outcome_of({"adapter": "x/y", "error": "no head"}, Asked("a"))
    assert (bad.identifier, bad.error, bad.kind) == ("@x/y", "no head", "")
    shares = [{"label": "yes", "probability": 0.7}, {"label": "no", "probability": 0.2}]
    good = outcome_of(
        {
            "adapter": "@x/y",
            "kind": "classification",
            "labels": shares,
            "of": 5,
            "cut": True,
            "batch": {"rows": 3, "adapters": 2},
        },
        Asked("a"),
    )
    assert [(s.label, s.probability) for s in good.shares] == [("yes", 0.7), ("no", 0.2)]
    assert (good.others, good.cut, good.rows, good.adapters) == (3, True, 3, 2)


_REST: dict[str, Any] = {"adapter": "x/y", "cut": False, "batch": {"rows": 1, "adapters": 1}}


def test_an_answer_is_marked_in_its_context() -> None:
    context = "Ada flew to London."
    found = [{"start": 12, "end": 18, "text": "London", "probability": 0.6}]
    outcome = outcome_of(
        {**_REST, "kind": "answer", "answers": found, "none": 0.3}, Asked("Where?", context)
    )
    assert [(p.text, p.label) for p in outcome.pieces] == [
        ("Ada flew to ", ""),
        ("London", "answer"),
        (".", ""),
    ]
    assert outcome.shares == [Share("London", 0.6), Share("", 0.3)]
    # That there is none is likelier: nothing is marked.
    outcome = outcome_of(
        {**_REST, "kind": "answer", "answers": found, "none": 0.7}, Asked("Where?", context)
    )
    assert outcome.pieces == [Piece(context)]
    assert outcome.shares[0] == Share("", 0.7)


def test_blanks_and_choices_and_dependencies() -> None:
    words = [{"label": "big", "probability": 0.5}, {"label": "red", "probability": 0.1}]
    blanks = [{"start": 2, "end": 5, "words": words}, {"start": 6, "end": 8, "words": words[::-1]}]
    outcome = outcome_of({**_REST, "kind": "blanks", "blanks": blanks}, Asked("a ___ __!"))
    assert "".join(p.text for p in outcome.pieces) == "a big red!"
    assert [p.label for p in outcome.pieces if p.label] == ["1", "2"]
    assert outcome.blanks[1] == Blank(2, [Share("red", 0.1), Share("big", 0.5)])
    choices = [{"label": x, "probability": p} for x, p in (("a", 0.2), ("b", 0.7), ("c", 0.1))]
    outcome = outcome_of({**_REST, "kind": "choice", "choices": choices}, Asked("?"))
    assert (outcome.best, [s.label for s in outcome.shares]) == (1, ["a", "b", "c"])
    parsed = [
        {"text": "Ada", "head": 2, "relation": "nsubj", "probability": 1.0},
        {"text": "flew", "head": 0, "relation": "root", "probability": 1.0},
    ]
    outcome = outcome_of({**_REST, "kind": "parse", "words": parsed}, Asked("Ada flew"))
    assert [(d.word, d.head, d.head_number) for d in outcome.dependencies] == [
        ("Ada", "flew", 2),
        ("flew", None, 0),
    ]


def test_what_is_marked() -> None:
    assert marked("abc", []) == [Piece("abc")]
    assert marked("", []) == []
    assert [p.text for p in marked("abc", [(0, 1, "A"), (2, 3, "C")])] == ["A", "b", "C"]


def _adapter(name: str, **more: Any) -> Adapter:
    values: dict[str, Any] = {
        "owner": "ann",
        "name": name,
        "type": "text_task",
        "task": "mood",
        "subtask": "diary",
        "task_name": "Mood",
        "subtask_name": "Diary",
        "base_model": "bert",
        "model_type": "bert",
        "architecture": "lora",
        "method": "lora",
        "version": "1",
    }
    return Adapter(**{**values, **more})


class _Source:
    """Just what these functions ask for."""

    def __init__(self, tensors: dict[str, list[Tensor]], results: list[Result]) -> None:
        self._tensors, self._results = tensors, results

    def tensors(self, file: File) -> list[Tensor] | None:
        return self._tensors.get(file.sha256)

    def measured_results(self, *place: Any) -> list[Result]:
        return self._results

    def datasets(self, *place: Any) -> list[Dataset]:
        return [Dataset("text_task", "mood", "diary", "The diary")]


def _detail(name: str) -> Detail:
    files = (File("adapter.safetensors", 1, name),)
    return Detail(_adapter(name), "Ann", versions=(Version("1", files=files),))


def test_tensors_are_aligned_whatever_the_adapter_was_saved_as() -> None:
    def saved(as_: str, *norms: float) -> list[Tensor]:
        return [
            Tensor(f"bert.layer.{i}.loras.{as_}.lora_A", "F32", (2, 3), norm)
            for i, norm in enumerate(norms)
        ]

    source: Any = _Source(
        {"one": saved("sst", 1.0, 5.0, 2.0), "two": saved("a2", 1.0, 1.0, 3.0)}, []
    )
    rows, count = norm_rows(source, [_detail("one"), _detail("two")])
    assert count == 3
    assert [(row.label, row.values) for row in rows] == [
        ("bert.layer.1.loras.*.lora_A", ("5", "1")),
        ("bert.layer.2.loras.*.lora_A", ("2", "3")),
        ("bert.layer.0.loras.*.lora_A", ("1", "1")),
    ]
    assert norm_rows(source, [_detail("one")]) == ([], 0)
    assert norm_rows(source, [_detail("one"), _detail("gone")]) == ([], 0)


def _result(name: str, value: float, metric: str, higher: bool, **more: Any) -> Result:
    adapter = _adapter(name, **more)
    values: dict[str, Any] = {
        "dataset": "mood/diary",
        "data": "diary",
        "data_sha256": "ab" * 32,
        "split": "test",
        "examples": 1500,
        "metric": metric,
        "value": value,
        "standard_error": 0.01,
        "higher_is_better": higher,
        "signed_by": "ann",
        "key": "k",
        "evaluated": "2026-01-01T00:00:00Z",
        "base_model": adapter.base_model,
        "version": "1",
        "current": True,
        "href": "",
    }
    return Result(adapter, "1", metric, value, Measured(**values))


def test_boards_rank_by_value_in_the_right_direction_and_sort_as_asked() -> None:
    results = [
        _result("a", 0.5, "accuracy", True, base_model="z"),
        _result("b", 0.9, "accuracy", True, base_model="y"),
        _result("c", 0.5, "accuracy", True, base_model="x"),
        _result("a", 2.0, "mse", False),
        _result("b", 1.0, "mse", False),
    ]
    source: Any = _Source({}, results)
    accuracy, mse = measured_boards(source, "text_task", "mood", "diary", "value")
    assert [r.adapter.name for r in accuracy.results] == ["b", "a", "c"]
    assert accuracy.ranks == [1, 2, 2]
    assert [r.adapter.name for r in mse.results] == ["b", "a"]
    assert accuracy.data == "test, 1,500 examples, data ababababab"
    by_model, _ = measured_boards(source, "text_task", "mood", "diary", "model", limit=2)
    assert [r.adapter.base_model for r in by_model.results] == ["x", "y"]
    assert (by_model.ranks, by_model.total) == ([2, 1], 3)


def test_unknown_orders_are_that_by_value() -> None:
    assert order_of({"sort": ["model"]}) == "model"
    assert order_of({"sort": ["__class__"]}) == "value"
    assert order_of({}) == "value"
