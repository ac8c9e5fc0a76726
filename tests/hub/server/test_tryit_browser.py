"""Trying adapters of every kind in a real browser: with script, without, side by side, on a phone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import ROOT
from tests.hub.browser import Browser
from tests.hub.server.conftest import Hub
from tests.hub.server.test_tryit_kinds import kinds_hub
from tests.hub.tinymodels import LABELS

pytestmark = pytest.mark.slow

#: With this variable set, what the browser shows is saved below ``docs/img``.
SHOTS = os.environ.get("ADAPTERHUB_SCREENSHOTS")
_PATIENCE = 120.0
ADAPTERS = (
    "lora-class",
    "bn-class",
    "ia3-tags",
    "bert-answer",
    "bert-choice",
    "bert-parse",
    "bert-blank",
    "t5-one",
    "vit-class",
)


@pytest.fixture(scope="module")
def hub(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    made = kinds_hub(tmp_path_factory.mktemp("try"), ADAPTERS)
    yield made
    made.stop()


@pytest.fixture
def browser(tab: Browser, hub: Hub) -> Iterator[Browser]:
    tab.look()
    tab.open(f"{hub.url}/about/")
    tab.events.clear()
    yield tab
    assert tab.complaints() == []
    assert [url for url in tab.requests() if not url.startswith((hub.url, "data:"))] == []


def _type(browser: Browser, text: str) -> None:
    browser.run("document.querySelector('#try-text').focus()")
    browser.send("Input.insertText", text=text)


def _run(browser: Browser) -> None:
    """Send the form, and wait until there is another outcome than before."""
    browser.run("for (const old of document.querySelectorAll('.outcome')) old.dataset.old = 1")
    browser.run("document.querySelector('form[data-try] button').click()")
    browser.wait("document.querySelector('#outcome .outcome:not([data-old])')", _PATIENCE)


def _fill(browser: Browser, **fields: str | list[str]) -> None:
    """Type into the boxes of the form, as a visitor does."""
    for name, value in fields.items():
        for number, text in enumerate(value if isinstance(value, list) else [value]):
            box = f"document.querySelectorAll('form[data-try] [name={name}]')[{number}]"
            browser.run(f"{box}.focus(); {box}.select()")
            browser.send("Input.insertText", text=text)


def _choose(browser: Browser, path: Path) -> None:
    """Choose a file, as a visitor does in the window for it."""
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    found = browser.send("DOM.querySelector", nodeId=root, selector="input[type=file]")
    browser.send("DOM.setFileInputFiles", nodeId=found["nodeId"], files=[str(path)])


def _violations(browser: Browser, axe: str) -> Any:
    browser.run(f"{axe};0")
    asked = "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes[0].html])))"
    return json.loads(browser.run(asked))


def test_the_result_appears_below_the_form(browser: Browser, hub: Hub) -> None:
    browser.open(f"{hub.url}/adapters/admin/lora-class/")
    _type(browser, "the film is good")
    browser.run("document.querySelector('form[data-try] button').click()")
    browser.wait("document.querySelector('#outcome .shares')", _PATIENCE)
    assert browser.run("location.pathname") == "/adapters/admin/lora-class/"
    rows = "[...document.querySelectorAll('#outcome .shares tbody th')].map(e => e.textContent)"
    assert sorted(browser.run(rows)) == sorted(LABELS)
    # Another text: the keyboard is enough.
    browser.run("document.querySelector('#outcome .shares').dataset.old = 1")
    _type(browser, " Berlin great")
    browser.run("document.querySelector('form[data-try]').requestSubmit()")
    browser.wait("document.querySelector('#outcome .shares:not([data-old])')", _PATIENCE)


def test_without_script_a_page_shows_it(browser: Browser, hub: Hub) -> None:
    browser.look(script=False)
    browser.open(f"{hub.url}/adapters/admin/ia3-tags/")
    _type(browser, "Ada flew to London")
    browser.run("document.querySelector('form[data-try] button').click()")
    browser.wait("location.pathname === '/adapters/admin/ia3-tags/try/'", _PATIENCE)
    browser.wait("document.querySelector('.tagged')", _PATIENCE)
    shown = browser.run(
        "[...document.querySelector('.tagged').childNodes].map(n => n.firstChild ? n.firstChild"
        ".textContent : n.textContent).join('').replace(/ +/g, ' ').trim()"
    )
    assert shown == "Ada flew to London"
    assert browser.run("document.querySelector('#try-text').value") == "Ada flew to London"


def test_side_by_side_and_a_phone(browser: Browser, hub: Hub, axe: str) -> None:
    names = ("lora-class", "bn-class", "ia3-tags")
    query = "&".join(f"a=%40admin%2F{name}" for name in names)
    for width, dark in ((1280, False), (390, True)):
        browser.look(width=width, dark=dark)
        browser.open(f"{hub.url}/compare/?{query}")
        _type(browser, "Ada was great")
        browser.run("document.querySelector('form[data-try] button').click()")
        browser.wait("document.querySelectorAll('#outcome .outcome').length === 3", _PATIENCE)
        links = "[...document.querySelectorAll('#outcome h2 a')].map(e => new URL(e.href).pathname)"
        assert browser.run(links) == [f"/adapters/admin/{name}/" for name in names]
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(over) <= 0
        assert _violations(browser, axe) == []


_CONTEXT = "Ada flew to London . it was a great film"
#: Adapter -> what is typed, and what appears.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "bert-answer": ({"text": "was it great", "context": _CONTEXT}, ".shares tbody tr"),
    "bert-choice": ({"text": "the film is", "choice": ["good", "dull"]}, ".shares tbody tr"),
    "bert-parse": ({"text": "Ada flew to London"}, ".depends tbody tr"),
    "bert-blank": ({"text": "the ___ is good"}, ".tagged .tag"),
    "t5-one": ({"text": "a good film"}, ".tagged"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(browser: Browser, hub: Hub, axe: str, name: str) -> None:
    fields, expected = KINDS[name]
    browser.look(width=390, dark=name in ("bert-choice", "bert-parse"))
    browser.open(f"{hub.url}/adapters/admin/{name}/")
    _fill(browser, **fields)
    _run(browser)
    assert browser.run(f"document.querySelectorAll('#outcome {expected}').length") >= 1
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(over) <= 0
    assert _violations(browser, axe) == []


def test_an_image_without_script_and_with(browser: Browser, hub: Hub, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="images need Pillow")
    image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    for script in (False, True):
        browser.look(script=script)
        browser.open(f"{hub.url}/adapters/admin/vit-class/")
        _choose(browser, tmp_path / "red.png")
        browser.run("document.querySelector('form[data-try] button').click()")
        browser.wait(
            "document.querySelectorAll('#outcome .shares tbody tr').length === 3", _PATIENCE
        )
        assert browser.run("location.pathname").endswith("/try/") is not script


def test_choices_without_script_are_kept_in_the_form(browser: Browser, hub: Hub) -> None:
    browser.look(script=False)
    browser.open(f"{hub.url}/adapters/admin/bert-choice/")
    _fill(browser, text="the film is", choice=["good", "dull"])
    browser.run("document.querySelector('form[data-try] button').click()")
    browser.wait("document.querySelectorAll('#outcome .shares tbody tr').length === 2", _PATIENCE)
    kept = "[...document.querySelectorAll('[name=choice]')].map(e => e.value).join('|')"
    assert browser.run(kept) == "good|dull|||"


STORY = "Ada moved to London . Grace was born in Vienna . Alan moved to Rome ."
#: Picture -> adapters (several: side by side), what is typed, how it is looked at.
PICTURES: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "adapter": (["names"], {"text": "Grace flew from London to Vienna ."}, {}),
    "adapter-dark": (["names"], {"text": "Grace flew from London to Vienna ."}, {"dark": True}),
    "phone-dark": (
        ["names"],
        {"text": "Grace flew from London to Vienna ."},
        {"width": 390, "dark": True},
    ),
    "answer": (["answers"], {"text": "Where was Grace born ?", "context": STORY}, {}),
    "choice": (
        ["choices"],
        {
            "text": "It rained all day , so Ada took an",
            "choice": ["sandwich", "umbrella", "candle"],
        },
        {},
    ),
    "choice-phone-dark": (
        ["choices"],
        {"text": "Grace was hungry , so she ate a", "choice": ["sandwich", "umbrella", "taxi"]},
        {"width": 390, "dark": True},
    ),
    "parse-dark": (["grammar"], {"text": "Ada flew from Rome to Berlin ."}, {"dark": True}),
    "blank": (["blanks"], {"text": "Grace was born in ___ ."}, {}),
    "several": (["moods"], {"text": "the film was witty and awful ."}, {}),
    "rewrite": (
        ["german"],
        {"text": "Ada flew to Vienna and the film was very good .", "new_tokens": "24"},
        {},
    ),
    "image": (["colours"], {"image": "green.png"}, {}),
    "compare": (
        ["reviews-lora", "reviews-bn", "moods"],
        {"text": "the film was witty and boring ."},
        {},
    ),
}


def _measure(hub: Hub, token: str, models: Path, folder: Path) -> None:
    """Let somebody measure the two adapters for reviews, and publish what was found."""
    from adapterhub.hub.signing import SigningKey
    from tests.hub.toymodels import hard_reviews

    key = SigningKey.generate("ada")
    key.save(folder / "key.json")
    assert hub.ask("POST", "/api/hub/v1/keys", {"key": str(key.public)}, token=token).status == 201
    data = folder / "reviews.jsonl"
    data.write_text(
        "\n".join(json.dumps(line) for line in hard_reviews(400, random.Random(7), noise=0.08))
    )
    for name in ("reviews-lora", "reviews-bn"):
        words = [f"@ada/{name}", "--data", str(data), "--split", "test"]
        words += ["--model", str(models / "bert"), "--dataset", "reviews/toys"]
        words += ["--report", str(folder / f"{name}.json"), "--key", str(folder / "key.json")]
        subprocess.run(
            [sys.executable, "-m", "adapterhub.cli", "evaluate", *words, "--submit", hub.url],
            env={**os.environ, "HF_TOKEN": token, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0"},
            check=True,
            timeout=300,
        )


@pytest.mark.skipif(not SHOTS, reason="takes pictures with ADAPTERHUB_SCREENSHOTS=1")
def test_pictures(browser: Browser, tmp_path: Path) -> None:
    from tests.hub.toymodels import make_toys, save_image

    made = os.environ.get(
        "ADAPTERHUB_TOYS"
    )  # (a folder to keep them in, as learning takes minutes)
    place = Path(made) if made else tmp_path
    models, adapters = make_toys(place)
    hub = Hub(tmp_path / "data", ADAPTERHUB_MODELS=str(models), ADAPTERHUB_RATE_TRIES="0")
    try:
        token = hub.user("ada")
        for name, folder in adapters.items():
            task = name.partition("-")[0]
            card = f"---\ntags: ['adapterhub:{task}/toys']\nlanguage: en\nlicense: mit\n---\n"
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            readme = f"{card}# {name}\n\nLearnt from examples that were made up.\n".encode()
            hub.published(f"ada/{name}", {**files, "README.md": readme}, token=token)
        _measure(hub, token, models, tmp_path)
        for dark in (False, True):
            browser.look(height=720, dark=dark)
            browser.open(f"{hub.url}/tasks/text_task/reviews/toys/")
            assert browser.run("document.querySelectorAll('table tbody tr').length") >= 2
            browser.screenshot(ROOT / "docs" / "img" / f"try-board{'-dark' if dark else ''}.png")
        for name, (tried, fields, how) in PICTURES.items():
            browser.look(height=844 if "width" in how else 900, **how)
            names = [f"@ada/{adapter}" for adapter in tried]
            query = urlencode([("a", each) for each in names])
            page = f"compare/?{query}" if len(names) > 1 else f"adapters/ada/{tried[0]}/"
            browser.open(f"{hub.url}/{page}")
            if "image" in fields:
                save_image(tmp_path / fields["image"])
                _choose(browser, tmp_path / fields["image"])
            else:
                _fill(browser, **fields)
            _run(browser)
            browser.run("document.activeElement.blur()")
            browser.run("document.querySelector('#try').scrollIntoView({block: 'center'})")
            browser.screenshot(ROOT / "docs" / "img" / f"try-{name}.png")
    finally:
        hub.stop()
    browser.events.clear()  # (what was asked of the other hub)
