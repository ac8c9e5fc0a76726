"""The search of large published sites: an index in parts gives what the server's search gives."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the pages need adapterhub[hub]")
pytest.importorskip("nh3", reason="the pages need adapterhub[hub]")

from adapterhub.hub import Hub
from adapterhub.hub.importer import import_cards
from adapterhub.hub.static import build_site, searchparts
from adapterhub.hub.web import FolderSource, Query
from adapterhub.hub.web.query import FACETS, SORTS
from tests.hub.browser import Browser, serving
from tests.hub.conftest import LORA, make_adapter

DEFECTS = Path(__file__).parent / "cards_with_defects"
WORDS = ("mood", "mood diary", "bert", "dairy", "ann", "nothing-of-that", "lora", "german d", "a")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FolderSource:
    root = tmp_path_factory.mktemp("parts")
    import_cards(DEFECTS, root / "hub")
    hub = Hub(root / "hub")
    for number in range(12):
        adapter = make_adapter(root / str(number), config=LORA, weights=(3.0, number + 1.0))
        hub.publish(
            adapter,
            task="mood",
            subtask=f"set{number // 3}",
            owner=f"cat{number % 3}",
            name=f"lora-{number}",
            new_task=True,
        )
    return FolderSource(hub)


def parts_of(source: FolderSource, patch: pytest.MonkeyPatch) -> dict[str, bytes]:
    patch.setattr(searchparts, "LARGE", 0)
    patch.setattr(searchparts, "_HOLDERS", 60)
    return searchparts.search_files(source)


def test_parts_hold_what_the_source_says(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = parts_of(source, monkeypatch)
    head = json.loads(files["search-index.json"])
    read = {name.removeprefix(head["folder"]): data for name, data in files.items()}
    everything = source.search(Query(sort="best", page_size=10_000)).adapters
    rows = [
        row
        for number in range(-(-head["count"] // head["rows"]))
        for row in json.loads(read[f"rows-{number}.json"])
    ]
    assert [row["id"] for row in rows] == [adapter.identifier for adapter in everything]
    assert head["words"] > 3
    for name in FACETS:
        part = json.loads(read[f"facet-{name}.json"])
        data = base64.b64decode(part["at"])
        codes = [int.from_bytes(data[i : i + 2], "little") for i in range(0, len(data), 2)]
        counted: dict[str, int] = {}
        for code in codes:
            for value in part["values"][code]:
                counted[value] = counted.get(value, 0) + 1
        assert counted == source.search(Query(page_size=1)).counts[name]


def test_the_same_hub_gives_the_same_parts(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parts_of(source, monkeypatch) == parts_of(source, monkeypatch)


def test_a_small_hub_has_one_file(source: FolderSource) -> None:
    assert list(searchparts.search_files(source)) == ["search-index.json"]


@pytest.mark.parametrize("steps", [[0], [127], [128], [1, 2, 300, 70_000], [0, 16_384, 2_097_152]])
def test_numbers_are_packed_as_the_script_unpacks_them(steps: list[int]) -> None:
    pairs = [(number, 1 + i % 10) for i, number in enumerate(steps)]
    data, at, number, found = searchparts._packed(pairs), 0, 0, []
    while at < len(data):
        scale = 1
        while data[at] & 128:
            number += (data[at] & 127) * scale
            scale *= 128
            at += 1
        number += data[at] * scale
        found.append((number, data[at + 1]))
        at += 2
    assert found == pairs


@pytest.fixture(scope="module")
def address(
    chromium: str, source: FolderSource, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    site = tmp_path_factory.mktemp("parts-site")
    shutil.rmtree(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searchparts, "LARGE", 0)
        patch.setattr(searchparts, "_HOLDERS", 60)
        build_site(source._hub, site)  # type: ignore[arg-type]
    with serving(site) as url:
        yield url


@pytest.fixture
def browser(tab: Browser) -> Browser:
    tab.look()
    return tab


def drawn(browser: Browser, address: str, query: str) -> list[str]:
    browser.open(f"{address}search/{query}")
    browser.wait("document.getElementById('search').getAttribute('data-ready')")
    return browser.run("[...document.querySelectorAll('#results .row-id')].map(e => e.textContent)")


@pytest.mark.slow
def test_the_script_ranks_and_sorts_as_the_server(
    browser: Browser, address: str, source: FolderSource
) -> None:
    for words in WORDS:
        expected = [a.identifier for a in source.search(Query(words)).adapters]
        assert drawn(browser, address, f"?q={words.replace(' ', '+')}") == expected, words
    for sort in SORTS:
        expected = [a.identifier for a in source.search(Query("mood", sort=sort)).adapters]
        assert drawn(browser, address, f"?q=mood&sort={sort}") == expected, sort
    chosen = {"architecture": ("lora",), "dataset": ("mood/set1", "mood/set2")}
    expected = [a.identifier for a in source.search(Query(chosen=chosen)).adapters]
    query = "?architecture=lora&dataset=mood%2Fset1&dataset=mood%2Fset2"
    assert drawn(browser, address, query) == expected
    assert browser.run("document.getElementById('total').textContent").startswith(
        f"{len(expected)} "
    )


@pytest.mark.slow
def test_only_what_is_needed_is_fetched(browser: Browser, address: str) -> None:
    fetched = (
        "performance.getEntriesByType('resource').map(e => e.name.split('/').pop())"
        ".filter(n => /json|bin/.test(n)).sort()"
    )
    drawn(browser, address, "")
    assert browser.run(fetched) == ["search-index.json"]
    # A facet that is opened is counted then.
    drawn(browser, address, "?q=mood")
    before = set(browser.run(fetched))
    assert "facet-size.json" not in before
    browser.run("document.querySelector('[data-facet=size]').open = true")
    browser.wait("document.querySelector('[data-facet=size] input')")
    assert set(browser.run(fetched)) - before == {"facet-size.json"}
