"""The published pages in a real browser: what people do there, with a keyboard, a phone, no script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the pages need adapterhub[hub]")
pytest.importorskip("nh3", reason="the pages need adapterhub[hub]")

from adapterhub.hub import Hub
from adapterhub.hub.importer import import_cards
from adapterhub.hub.signing import ADAPTER, SIGNATURE_FILE, SigningKey, sign
from adapterhub.hub.static import build_site
from adapterhub.hub.storage import file_sha256
from tests.hub.browser import Browser, Navigated, serving
from tests.hub.conftest import LORA, make_adapter
from tests.hub.test_folder_reports import list_key, put, report

pytestmark = pytest.mark.slow

DEFECTS = Path(__file__).parent / "cards_with_defects"
PAGES = (
    "",
    "explore/",
    "languages/",
    "languages/en/",
    "models/",
    "models/bert-base-uncased/",
    "architectures/pfeiffer/",
    "people/ann/",
    "about/",
    "compare/?a=%40ann%2Fbert-mood&a=%40bob%2Fbert-mood",
    "search/",
    "adapters/",
    "tasks/text_task/mood/",
    "tasks/text_task/mood/diary/",
    "adapters/cat/lora/",
    "adapters/cat/lora/versions/",
    "adapters/cat/lora/files/",
    "adapters/ann/bert-mood/",
    "people/measurer-without-adapters/",
    "404.html",
)


@pytest.fixture(scope="module")
def address(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("browser")
    import_cards(DEFECTS, root / "hub")
    hub, key = Hub(root / "hub"), SigningKey.generate()
    for version, weights in (("1", (3.0, 4.0)), ("2", (6.0, 8.0))):
        adapter = make_adapter(root / version, config=LORA, weights=weights)
        files = {path.name: file_sha256(path)[0] for path in adapter.iterdir()}
        (adapter / SIGNATURE_FILE).write_bytes(sign(key, ADAPTER, "cat/lora", files).dumps())
        hub.publish(
            adapter, task="mood", subtask="diary", owner="cat", name="lora", version=version
        )
    list_key(hub, key, "cat")
    other = SigningKey.generate()
    list_key(hub, other, "measurer-without-adapters")
    put(hub, report(other, root / "2", "cat/lora", 0.75))
    build_site(hub, root / "site")
    with serving(root / "site") as url:
        yield url


@pytest.fixture
def browser(tab: Browser, address: str) -> Iterator[Browser]:
    tab.look()
    tab.open(address)
    tab.events.clear()
    yield tab
    complaints, foreign = tab.complaints(), [u for u in tab.requests() if not u.startswith(address)]
    assert complaints == []
    assert foreign == []


def _search(browser: Browser, address: str, query: str = "") -> None:
    browser.open(f"{address}search/{query}")
    browser.wait("document.getElementById('search').getAttribute('data-ready')")


def _ids(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('#results .row-id')].map(e => e.textContent)")


def test_explore_to_an_adapter(browser: Browser, address: str) -> None:
    browser.open(address + "explore/")
    browser.run(
        "const i = document.querySelector('#narrow'); i.value = 'mood'; i.dispatchEvent(new Event('input'))"
    )
    shown = (
        "[...document.querySelectorAll('.topic')].filter(e => !e.hidden && e.offsetParent).length"
    )
    assert browser.run(shown) == 1
    for text in ("Diary", "LoRA"):
        browser.run(
            f"[...document.querySelectorAll('main a')].find(a => a.textContent.startsWith({text!r})).click()"
        )
        browser.wait(f"document.title.includes({'Diary' if text == 'Diary' else '@cat/lora'!r})")
        browser.wait("document.readyState === 'complete'")
    assert browser.run("location.pathname") == "/adapters/cat/lora/"


def test_search_and_facets(browser: Browser, address: str) -> None:
    _search(browser, address, "?q=mood")
    assert len(_ids(browser)) == 4
    assert _ids(browser)[0] == "@cat/lora"
    browser.run("document.querySelector('input[name=architecture][value=pfeiffer]').click()")
    assert sorted(_ids(browser)) == ["@ann/bert-mood-two", "@bob/bert-mood"]
    assert browser.run("location.search") == "?q=mood&architecture=pfeiffer"
    # Values of one facet are alternatives, and the count beside each says what it would add.
    browser.run("document.querySelector('input[name=architecture][value=lora]').click()")
    assert len(_ids(browser)) == 3
    browser.run("document.querySelector('#chosen a').click()")
    assert _ids(browser) == ["@cat/lora"]
    browser.run("history.back()")
    browser.wait("document.querySelectorAll('#results .row').length === 3")
    browser.run(
        "const s = document.querySelector('[name=sort]'); s.value = 'score';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    assert "sort=score" in browser.run("location.search")


def test_search_forgives_and_explains(browser: Browser, address: str) -> None:
    _search(browser, address, "?q=dairy")  # diary
    assert len(_ids(browser)) == 4
    _search(browser, address, "?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    assert _ids(browser) == []
    assert browser.run("document.getElementById('nothing').offsetParent !== null")
    assert browser.run("document.querySelectorAll('main img').length") == 0


def test_the_browser_ranks_as_the_server(browser: Browser, address: str, tmp_path: Path) -> None:
    from adapterhub.hub.web import FolderSource, Query

    hub, _ = import_cards(DEFECTS, tmp_path / "hub")
    adapter = make_adapter(tmp_path / "a", config=LORA)
    hub.publish(adapter, task="mood", subtask="diary", owner="cat", name="lora")
    source = FolderSource(hub)
    for words in ("bert", "mood houlsby", "english wiki", "ann", "pfeifer", "topic rf2"):
        _search(browser, address, f"?q={words.replace(' ', '+')}")
        expected = [a.identifier for a in source.search(Query(words)).adapters]
        assert _ids(browser) == expected, words


def test_adapter_page_with_script(browser: Browser, address: str) -> None:
    browser.open(address + "adapters/ann/bert-mood/")
    tabs = "[...document.querySelectorAll('[role=tab]')].map(t => t.getAttribute('aria-selected'))"
    assert browser.run(tabs) == ["true", "false", "false"]
    browser.run("document.querySelector('[role=tab]').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run(tabs) == ["false", "true", "false"]
    visible = "[...document.querySelectorAll('.snippet')].filter(e => e.offsetParent).length"
    assert browser.run(visible) == 1
    assert browser.run("document.querySelectorAll('.code .copy').length") >= 3


def test_two_versions_compared(browser: Browser, address: str) -> None:
    browser.open(address + "adapters/cat/lora/versions/")
    browser.run("document.querySelector('[data-compare]').requestSubmit()")
    browser.wait("document.querySelector('#compared table')")
    text = browser.run("document.querySelector('#compared').textContent")
    assert "+100.0 %" in text


def test_side_by_side(browser: Browser, address: str) -> None:
    browser.open(address + "adapters/ann/bert-mood/")
    browser.run("document.querySelector('.side .button').click()")
    browser.wait("document.querySelectorAll('.sidebyside thead a').length === 4")
    assert browser.run("document.querySelectorAll('.sidebyside .differs').length") >= 3
    browser.open(address + "compare/?a=%3Cimg%20src%3Dx%3E")
    browser.wait("document.querySelector('#sidebyside .panel')")
    assert browser.run("document.querySelectorAll('main img').length") == 0


def test_a_page_that_moves_on_while_it_is_asked(browser: Browser, address: str) -> None:
    browser.open(address + "explore/")
    leave = f"location.href = {json.dumps(address)}"
    with pytest.raises(Navigated):
        browser.run(f"({leave}, new Promise(() => {{}}))")
    browser.wait(f"location.href === {json.dumps(address)}")


def test_without_script(browser: Browser, address: str) -> None:
    browser.look(script=False)
    browser.open(address + "adapters/ann/bert-mood/")
    # Scripts of the page are off; the test's own still run.
    assert browser.run("document.querySelectorAll('[role=tab]').length") == 0
    visible = "[...document.querySelectorAll('.snippet pre')].filter(e => e.offsetParent).length"
    assert browser.run(visible) == 3
    browser.open(address + "search/")
    assert browser.run("document.querySelectorAll('#results .row').length") == 7
    browser.look(script=True)


def test_the_keyboard_is_enough(browser: Browser, address: str) -> None:
    browser.open(address)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip"
    seen = []
    for _ in range(12):
        browser.press("Tab", 9)
        seen.append(
            browser.run("document.activeElement.name || document.activeElement.textContent.trim()")
        )
    assert "Explore" in seen
    assert "q" in seen


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (320, True)]
)
def test_nothing_sticks_out(browser: Browser, address: str, width: int, dark: bool) -> None:
    browser.look(width=width, dark=dark)
    for page in PAGES:
        browser.open(address + page)
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.run(over) <= 0, page


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing(browser: Browser, address: str, axe: str, dark: bool) -> None:
    browser.look(dark=dark)
    found = {}
    for page in PAGES:
        browser.open(address + page)
        if page == "search/":
            _search(browser, address, "?q=mood&task=mood")
        browser.run(f"{axe};0")
        violations = (
            "axe.run().then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes[0].html])))"
        )
        found[page] = json.loads(browser.run(violations))
    assert {page: lines for page, lines in found.items() if lines} == {}
