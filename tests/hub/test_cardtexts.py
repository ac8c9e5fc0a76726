"""Odd claims of a card are named: languages, links, results."""

from __future__ import annotations

import time

import pytest

from adapterhub.hub.verify.cardtexts import language_warnings, link_warnings, result_warnings
from adapterhub.hub.verify.files import card_problems


@pytest.mark.parametrize(
    "value",
    [
        *(None, "en", "multilingual", "code", False, "de-x-mine"),
        ["en", "pt-BR", "zh-Hant-TW", "sl-rozaj", "es-419", "yue"],
    ],
)
def test_languages(value: object) -> None:
    assert language_warnings(value) == []


@pytest.mark.parametrize("value", ["english", "en_US", "e", "en, de", "Deutsch", ["en", "x y"]])
def test_no_languages(value: object) -> None:
    (warning,) = language_warnings(value)
    assert "BCP 47" in warning


@pytest.mark.parametrize(
    "text",
    [
        "[a](https://example.org/x?y=1) [b](#there) [c](docs/x.md) <https://example.org>",
        "[mail](mailto:a@b.org) note: this and http: that",
        "[ref]: https://example.org\n`x = [1](2)`",
    ],
)
def test_links(text: str) -> None:
    assert link_warnings(text) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a](javascript:alert(1))", "left out"),
        ("[a](JaVaScript&#58;alert(1))", "left out"),
        ("[a](java&#9;script:x)", "left out"),
        ("<data:text/html,x>", "left out"),
        ('<a href = "vbscript:x">', "left out"),
        ("![a](file:///etc/passwd)", "left out"),
        ("[a]: ftp://example.org/x", "left out"),
        ("[a](http://127.0.0.1/)", "others cannot reach"),
        ("[a](http://169.254.169.254/latest/meta-data)", "others cannot reach"),
        ("[a](https://[::1]/)", "others cannot reach"),
        ("[a](http://10.1.2.3:8080/x)", "others cannot reach"),
        ("[a](http://printer.local/)", "others cannot reach"),
        ("[a](http://localhost./)", "others cannot reach"),
        ("<img src=http://localhost/x>", "others cannot reach"),
    ],
)
def test_odd_links(text: str, message: str) -> None:
    (warning,) = link_warnings(text)
    assert message in warning


def test_links_are_found_in_short_time() -> None:
    began = time.monotonic()
    for text in ("[" * 100_000, "](" * 50_000, "<a:" * 50_000, "href=" * 50_000):
        link_warnings(text)
    assert len(link_warnings("[a](javascript:x) " * 5000)) == 1
    assert time.monotonic() - began < 20


def index(dataset: object, *metrics: object) -> list[dict[str, object]]:
    return [{"name": "x", "results": [{"dataset": dataset, "metrics": list(metrics)}]}]


def test_results() -> None:
    good = index({"name": "SST-2", "type": "glue", "split": "test"}, {"type": "f1", "value": 0.9})
    assert result_warnings(good) == []
    assert result_warnings(None) == []
    for wrong, message in (
        ({"a": 1}, "needs, for each model"),
        (index(None), "needs, for each model"),
        (index({"name": "x"}, {"type": "f1", "value": 1}), "name no split"),
        (index({"split": "test"}, {"type": "f1", "value": 1}), "does not name its data set"),
        (index({"name": "x", "split": "a"}, {"value": 1}), "names no metric"),
        (index({"name": "x", "split": "a"}, {"type": "f1", "value": "1"}), "is not a number"),
        (index({"name": "x", "split": "a"}, {"type": "f1", "value": True}), "is not a number"),
    ):
        assert message in result_warnings(wrong)[0], wrong


def test_all_is_said_about_the_readme() -> None:
    text = "---\nlanguage: english\nlicense: mine\n---\n[x](javascript:1)\n"
    problems, warnings, _ = card_problems(text)
    assert problems == []
    assert len(warnings) == 3
    assert all(line.startswith("README.md: ") for line in warnings)
