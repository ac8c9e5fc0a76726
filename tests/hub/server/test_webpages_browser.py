"""The pages of a running server in a real browser: explore, search, facets, an adapter, on all screens."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.hub.browser import Browser
from tests.hub.conftest import LORA, SEQ_BN, floats, safetensors_bytes
from tests.hub.server.conftest import Hub, adapter_files

pytestmark = pytest.mark.slow

#: With this variable set, what the browser shows is saved below ``docs/img``.
SHOTS = os.environ.get("ADAPTERHUB_SCREENSHOTS")
ADAPTER = "adapters/ukp/roberta-base-sst-2-seq-bn/"
PAGES = (
    "",
    "explore/",
    "languages/",
    "languages/en/",
    "models/",
    "models/roberta-base/",
    "architectures/",
    "people/ukp/",
    "about/",
    "compare/?a=%40ukp%2Froberta-base-sst-2-seq-bn&a=%40ukp%2Fgpt2-imdb-lora",
    "search/?q=sentiment",
    "adapters/",
    "tasks/text_task/sentiment/",
    "tasks/text_task/sentiment/sst-2/",
    ADAPTER,
    ADAPTER + "versions/",
    ADAPTER + "files/",
    "no/such/page/here",
)
_TASKS = {
    "sentiment": ("Sentiment analysis", "Whether a text is meant well or badly."),
    "nli": ("Natural language inference", "Whether one sentence follows from another."),
    "ner": ("Named entity recognition", "Names of people, places and organisations in a text."),
    "qa": ("Question answering", "The part of a text that answers a question."),
}
_DATA = {
    ("sentiment", "sst-2"): ("SST-2", "Sentences from film reviews."),
    ("sentiment", "imdb"): ("IMDb", "Long film reviews."),
    ("nli", "rte"): ("RTE", "Recognising textual entailment."),
    ("nli", "mnli"): ("MultiNLI", "Sentence pairs from ten genres."),
    ("ner", "conll2003"): ("CoNLL 2003", "News in English."),
    ("qa", "squad2"): ("SQuAD 2.0", "Questions about Wikipedia, some without an answer."),
}
_README = """---
tags: ['adapterhub:{task}/{data}', '{method}']
license: {license}
language: {language}
base_model: {model}
model-index:
- name: {name}
  results:
  - task: {{type: text-classification, name: {task}}}
    dataset: {{name: {data}, type: {data}, split: validation}}
    metrics: [{{type: accuracy, value: {score}}}]
---
# {name}

{about}

## How it was trained

Ten epochs with a learning rate of 1e-4, batches of 32, the best of three seeds by the score on the
validation set. The base model stayed as it was.

| epochs | rate | seed |
|---|---|---|
| 10 | 1e-4 | 42 |

```bibtex
@inproceedings{{{task}2026,
  title  = {{An adapter for {data}}},
  author = {{Lovelace, Ada}},
  year   = {{2026}},
}}
```
"""


def _weights(scale: float, rank: int = 8) -> bytes:
    tensors = {}
    for layer in range(3):
        for part, shape in (("down", [rank, 16]), ("up", [16, rank])):
            name = f"roberta.encoder.layer.{layer}.output.adapters.a.{part}.weight"
            values = [scale * ((i * 37 + layer) % 19 - 9) / 9 for i in range(rank * 16)]
            tensors[name] = ("F32", shape, floats(*values))
    return safetensors_bytes(tensors)


def _adapter(task: str, data: str, model: str, method: str, **more: Any) -> dict[str, bytes]:
    config = {"lora": LORA, "seq_bn": SEQ_BN}[method]
    found = adapter_files(config=config, model=model)
    found["adapter.safetensors"] = _weights(more.get("scale", 1.0))
    found["README.md"] = _README.format(
        task=task,
        data=data,
        model=model,
        method=method,
        name=f"{_DATA[task, data][0]} for {model}",
        license=more.get("license", "apache-2.0"),
        language=more.get("language", "en"),
        score=more.get("score", 0.9),
        about=more.get(
            "about", f"Trained on {_DATA[task, data][0]}: {_DATA[task, data][1].lower()}"
        ),
    ).encode()
    return found


def fill(hub: Hub) -> None:
    """Put into a hub what the pages can show."""
    cards: dict[str, Any] = {}
    for task, (name, about) in _TASKS.items():
        card = {"task": task, "displayname": name, "description": about}
        cards[f"tasks/text_task/{task}.yaml"] = card
    for (task, data), (name, about) in _DATA.items():
        cards[f"subtasks/text_task/{task}_{data}.yaml"] = {
            "task": task,
            "subtask": data,
            "displayname": name,
            "description": about,
            "language": "en",
            "metric": {"name": "accuracy", "higher_is_better": True},
        }
    assert hub.ask("PUT", "/api/hub/v1/cards", {"cards": cards}).status == 200
    tokens = {name: hub.user(name) for name in ("ukp", "ada", "mlki")}
    models = ("roberta-base", "bert-base-uncased", "gpt2")
    number = 0
    for (task, data), model, method in (
        (place, model, method)
        for place in _DATA
        for model in models
        for method in ("seq_bn", "lora")
    ):
        number += 1
        if number % 3 == 0 and (task, data) != ("sentiment", "sst-2"):
            continue
        owner = ("ukp", "ada", "ukp", "mlki")[number % 4]
        owner = "ukp" if data in ("sst-2", "imdb") else owner
        name = f"{owner}/{model}-{data}-{method.replace('_', '-')}"
        score = round(0.8 + (number * 7 % 15) / 100, 3)
        hub.published(name, _adapter(task, data, model, method, score=score), token=tokens[owner])
    first = "ukp/roberta-base-sst-2-seq-bn"
    better = _adapter("sentiment", "sst-2", "roberta-base", "seq_bn", scale=1.2, score=0.947)
    assert hub.commit(first, better, token=tokens["ukp"]).json["status"] == "verified"
    for path in ("adapter_config.json",) * 3:
        hub.ask("GET", f"/{first}/resolve/main/{path}", token=None)


@pytest.fixture(scope="module")
def hub(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    made = Hub(
        tmp_path_factory.mktemp("live") / "data",
        ADAPTERHUB_TITLE="Example hub",
        ADAPTERHUB_ABOUT="Adapters of a small group, to find, check and load.",
    )
    fill(made)
    yield made
    made.stop()


@pytest.fixture
def browser(tab: Browser, hub: Hub) -> Iterator[Browser]:
    tab.look()
    tab.open(f"{hub.url}/")
    tab.events.clear()
    yield tab
    foreign = [url for url in tab.requests() if not url.startswith(hub.url)]
    assert foreign == []
    assert [line for line in tab.complaints() if "404" not in line] == []


def _go(browser: Browser, hub: Hub, path: str) -> None:
    browser.open(f"{hub.url}/{path}")


def _ids(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('#results .row-id')].map(e => e.textContent)")


def _click(browser: Browser, text: str, then: str) -> None:
    browser.run(
        f"[...document.querySelectorAll('main a')]"
        f".find(a => a.textContent.trim().startsWith({text!r})).click()"
    )
    browser.wait(f"location.pathname.endsWith({then!r}) && document.readyState === 'complete'")


def test_from_a_task_to_an_adapter(browser: Browser, hub: Hub) -> None:
    _go(browser, hub, "explore/")
    _click(browser, "SST-2", "/sentiment/sst-2/")
    assert browser.run("document.querySelectorAll('.group').length") == 3
    _click(browser, "@ukp/roberta-base-sst-2-seq-bn", f"/{ADAPTER}")
    assert "SST-2" in browser.run("document.querySelector('h1').textContent")
    assert browser.run("document.querySelectorAll('[role=tab]').length") == 2


def test_search_with_facets_and_orders(browser: Browser, hub: Hub) -> None:
    _go(browser, hub, "search/?q=sentimant+gpt2")
    assert len(_ids(browser)) > 2
    assert all("@ukp/gpt2-" in name for name in _ids(browser))
    browser.run("document.querySelector('input[name=dataset][value=\"sentiment/sst-2\"]').click()")
    browser.wait("location.search.includes('dataset=') && document.readyState === 'complete'")
    assert set(_ids(browser)) == {"@ukp/gpt2-sst-2-lora", "@ukp/gpt2-sst-2-seq-bn"}
    browser.run("document.querySelector('input[name=method][value=lora]').click()")
    browser.wait("location.search.includes('method=') && document.readyState === 'complete'")
    assert _ids(browser) == ["@ukp/gpt2-sst-2-lora"]
    browser.run("document.querySelector('#chosen a').click()")
    browser.wait("!location.search.includes('dataset=') && document.readyState === 'complete'")
    assert browser.run("document.querySelectorAll('#chosen a').length") == 1
    assert _ids(browser) == ["@ukp/gpt2-sst-2-lora"]
    _go(browser, hub, "search/?q=sentiment&sort=score")
    assert _ids(browser)[0] == "@ukp/roberta-base-sst-2-seq-bn"


def test_without_script(browser: Browser, hub: Hub) -> None:
    browser.look(script=False)
    _go(browser, hub, "search/?q=sentiment&rank=8")
    assert _ids(browser)
    assert browser.run("!!document.querySelector('.apply button').offsetParent")
    browser.run("document.querySelector('input[name=model]').checked = true")
    browser.run("document.getElementById('search').requestSubmit()")
    browser.wait("location.search.includes('model=')")
    _go(browser, hub, ADAPTER)
    shown = "[...document.querySelectorAll('.snippet pre')].filter(e => e.offsetParent).length"
    assert browser.run(shown) == 2
    browser.look(script=True)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (320, False)])
def test_nothing_sticks_out(browser: Browser, hub: Hub, width: int, dark: bool) -> None:
    browser.look(width=width, dark=dark)
    for page in PAGES:
        _go(browser, hub, page)
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(over) <= 0, page


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(browser: Browser, hub: Hub, axe: str, dark: bool) -> None:
    browser.look(dark=dark)
    found = {}
    for page in PAGES:
        _go(browser, hub, page)
        browser.run(f"{axe};0")
        violations = (
            "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes[0].html])))"
        )
        found[page] = json.loads(browser.run(violations))
    assert {page: lines for page, lines in found.items() if lines} == {}


@pytest.mark.skipif(not SHOTS, reason="takes pictures with ADAPTERHUB_SCREENSHOTS=1")
def test_pictures(browser: Browser, hub: Hub) -> None:
    shots: list[tuple[str, str, dict[str, Any]]] = [
        ("home", "", {}),
        ("home-dark", "", {"dark": True}),
        ("explore", "explore/", {}),
        ("search", "search/?q=sentimant&language=en", {}),
        ("search-dark", "search/?q=sentimant&language=en", {"dark": True}),
        ("adapter", ADAPTER, {}),
        ("adapter-dark", ADAPTER, {"dark": True}),
        ("versions", ADAPTER + "versions/", {}),
        ("phone", ADAPTER, {"width": 390, "height": 844}),
        ("phone-search-dark", "search/?q=sentimant", {"width": 390, "height": 844, "dark": True}),
    ]
    for name, path, how in shots:
        browser.look(**how)
        _go(browser, hub, path)
        browser.screenshot(ROOT / "docs" / "img" / f"live-{name}.png")
