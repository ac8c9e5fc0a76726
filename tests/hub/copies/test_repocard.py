"""The card of a repository, whatever its README says."""

from __future__ import annotations

from typing import Any

import pytest

from adapterhub.hub import cardfile
from adapterhub.hub.cards import Member
from adapterhub.hub.catalogue import catalogue_of
from adapterhub.hub.copies.repocard import RepoState, RepoVersion, card_of, task_cards
from adapterhub.hub.live.cardrows import NOWHERE
from adapterhub.hub.live.places import Architectures
from adapterhub.hub.repairs import clean_card
from adapterhub.hub.schema import schema_problems
from tests.hub.conftest import SEQ_BN

CARDS = catalogue_of(
    NOWHERE,
    {
        "tasks/text_task/nli.yaml": {"task": "nli"},
        "architectures/pfeiffer.yaml": {"name": "pfeiffer", "config": SEQ_BN},
    },
)


def card(front: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Return the card of a repository with one version, checked against the schema."""
    found = {
        "format": "adapterhub",
        "base_model": "bert-base-uncased",
        "model_type": "bert",
        "method": "seq_bn",
        "config": SEQ_BN,
        "parameters": {"F32": 2},
        "card": front,
        "tags": front.get("tags") if isinstance(front.get("tags"), list) else [],
        **facts,
    }
    version = RepoVersion("v1", "2026-11-21T00:00:00Z", [Member("a", 1, "0" * 64)], found)
    made = card_of(RepoState("ada", "x", [version]), CARDS, Architectures(CARDS))
    cleaned, _ = clean_card(cardfile.loads(cardfile.dumps(made)))
    assert schema_problems("adapter", cleaned) == []
    for path, other in task_cards(made, CARDS).items():
        kind = "task" if path.startswith("tasks/") else "subtask"
        assert schema_problems(kind, other) == []
    return made


def test_what_a_readme_says() -> None:
    own = {
        "author": "Ada L.",
        "url": "https://example.org/",
        "citation": "@misc{a}",
        "default": True,
        "dependencies": ["@bob/other"],
    }
    found = card({"tags": ["adapterhub:nli/mnli"], "adapterhub": own})
    assert (found["task"], found["subtask"]) == ("nli", "mnli")
    assert found["config"]["using"] == "pfeiffer"
    assert (found["author"], found["default"]) == ("Ada L.", True)
    assert found["dependencies"] == [{"key": "@bob/other"}]
    assert found["files"][0]["parameters"] == 2


def test_where_nobody_says_anything() -> None:
    found = card({})
    assert (found["task"], found["subtask"], found["author"]) == ("other", "not-stated", "ada")


@pytest.mark.parametrize(
    "own",
    [
        "text",
        ["a"],
        {"url": "javascript:alert(1)"},
        {"url": ["x"], "author": {"a": 1}, "citation": 7, "dependencies": {"a": 1}},
        {"author": "x" * 10_000, "citation": "y" * 100_000, "url": "https://" + "z" * 9000},
        {"type": "../../etc", "default": "yes"},
    ],
    ids=str,
)
def test_nonsense_in_a_readme_does_no_harm(own: Any) -> None:
    found = card({"adapterhub": own})
    assert found["type"] == "text_task"
    assert not str(found.get("url", "")).startswith("javascript")


@pytest.mark.parametrize(
    "tag", ["adapterhub:../../x/y", "adapterhub:a b/c", "adapterhub:/", "x" * 500]
)
def test_odd_task_tags(tag: str) -> None:
    found = card({"tags": [tag]})
    for path in task_cards(found, CARDS):
        assert ".." not in path
        assert path.count("/") == 2


def test_results_that_are_no_numbers_are_left_out() -> None:
    metrics = [
        {"type": "accuracy", "value": 0.5},
        {"type": "f1", "value": "high"},
        {"type": "loss", "value": float("inf")},
        {"value": 1},
        "text",
    ]
    index = [{"results": [{"metrics": metrics}, "text", {"metrics": 5}]}, 3]
    assert card({"model-index": index})["files"][0]["metrics"] == {"accuracy": 0.5}
