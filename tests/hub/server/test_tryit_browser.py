"""Trying adapters in a real browser: with script, without, side by side, on a phone.

``ADAPTERHUB_SCREENSHOTS=docs/img`` writes pictures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.browser import Browser, find_chromium
from tests.hub.server.conftest import Hub
from tests.hub.tinymodels import LABELS, make_adapters, make_models

pytestmark = pytest.mark.slow

_CARD = b"---\ntags:\n- adapterhub:sentiment/films\nlanguage: en\nlicense: mit\n---\n# Hello\n"
_PATIENCE = 120.0


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    if find_chromium() is None:
        pytest.skip("no Chromium here (apt-get install chromium, or set ADAPTERHUB_CHROMIUM)")
    folder = tmp_path_factory.mktemp("try")
    models = make_models(folder / "models")
    adapters = make_adapters(models, folder / "adapters")
    made = Hub(folder / "data", ADAPTERHUB_MODELS=str(models), ADAPTERHUB_RATE_TRIES="0")
    try:
        for name in ("lora-class", "bn-class", "ia3-tags"):
            files = {path.name: path.read_bytes() for path in adapters[name].iterdir()}
            made.published(f"admin/{name}", {**files, "README.md": _CARD})
        for _ in range(12):  # until the child has loaded its models
            path = "/api/hub/v1/repos/admin/lora-class/try"
            if made.ask("POST", path, {"text": "good"}).status == 200:
                break
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def tab(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    command = find_chromium()
    assert command is not None
    browser = Browser(command, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


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


def _picture(browser: Browser, name: str) -> None:
    folder = os.environ.get("ADAPTERHUB_SCREENSHOTS")
    if folder:
        browser.screenshot(Path(folder) / f"try-{name}.png")


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
        browser.run("document.querySelector('#try').scrollIntoView({block: 'center'})")
        _picture(browser, "tiny-phone" if dark else "tiny")
        browser.run(f"{axe};0")
        violations = (
            "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes[0].html])))"
        )
        assert json.loads(browser.run(violations)) == []
