"""The site as a folder: complete, the same every time, no dead link, nobody's files touched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

pytest.importorskip("jinja2", reason="the pages need adapterhub[hub]")
pytest.importorskip("nh3", reason="the pages need adapterhub[hub]")

from adapterhub.cli.app import build_app
from adapterhub.errors import HubError
from adapterhub.hub import Hub
from adapterhub.hub.importer import import_cards
from adapterhub.hub.static import build_site, dead_links
from adapterhub.hub.static.workflow import WORKFLOW_PATH
from adapterhub.hub.storage import file_sha256
from tests.hub.conftest import make_adapter, snapshot

DEFECTS = Path(__file__).parent / "cards_with_defects"
SITE = "https://hub.example.org/x/"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("static")
    hub, _ = import_cards(DEFECTS, root / "hub")
    adapter = make_adapter(root / "a", head=True)
    hub.publish(adapter, task="mood", subtask="diary", owner="cat", name="mine", license="MIT")
    return hub.path


@pytest.fixture(scope="module")
def built(filled: Path) -> Path:
    out = filled.parent / "site"
    build_site(Hub(filled), out, base_url=SITE)
    return out


def test_every_page_and_twin_is_written(built: Path) -> None:
    for path in ("", "explore/", "search/", "adapters/cat/mine/", "languages/de/", "about/"):
        assert (built / path / "index.html").is_file()
        assert json.loads((built / path / "index.json").read_bytes())["path"] == path
    assert (built / "404.html").read_text().count('href="/x/') > 5
    assert f"<loc>{SITE}adapters/cat/mine/</loc>" in (built / "sitemap.xml").read_text()


def test_files_are_served_whole(filled: Path, built: Path) -> None:
    card = Hub(filled).resolve("@cat/mine")
    for member in card.version.members:
        path = built / "adapters" / "cat" / "mine" / "download" / "1" / member.path
        assert file_sha256(path) == (member.sha256, member.size)


def test_old_clients_find_their_indexes(built: Path) -> None:
    index = json.loads((built / "dist" / "v2" / "index" / "bert-base-uncased.json").read_bytes())
    entry = json.loads((built / "dist" / "v2" / index["en"]["wiki"]["default"]).read_bytes())
    assert entry["files"]["1"]["url"] == "https://example.org/e.zip"


def test_the_same_hub_gives_the_same_bytes(filled: Path, built: Path, tmp_path: Path) -> None:
    build_site(Hub(filled), tmp_path / "again", base_url=SITE)
    assert snapshot(tmp_path / "again") == snapshot(built)


def test_a_second_build_writes_what_changed(filled: Path, tmp_path: Path) -> None:
    copy = tmp_path / "hub"
    shutil.copytree(filled, copy)
    first = build_site(Hub(copy), tmp_path / "site")
    assert build_site(Hub(copy), tmp_path / "site").written == 0
    (copy / "adapters" / "bob" / "bert-en.yaml").unlink()
    third = build_site(Hub(copy), tmp_path / "site")
    assert 0 < third.written < first.written
    assert third.removed >= 6
    assert not (tmp_path / "site" / "adapters" / "bob" / "bert-en").exists()
    assert third.pages < first.pages


def test_nothing_of_others_is_touched(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(HubError, match="no earlier build"):
        build_site(Hub(filled), tmp_path)
    with pytest.raises(HubError, match=r"not empty|belongs to the hub"):
        build_site(Hub(filled), filled)
    with pytest.raises(HubError, match="belongs to the hub"):
        build_site(Hub(filled), filled / "adapters" / "new")
    with pytest.raises(HubError, match="no address"):
        build_site(Hub(filled), tmp_path / "s", base_url="example.org")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_manifest_cannot_delete_elsewhere(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    out = tmp_path / "site"
    out.mkdir()
    (out / ".adapterhub-site").write_text("../mine.txt\n/etc/hosts\nold.html\n")
    (out / "old.html").write_text("old")
    build_site(Hub(filled), out)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (out / "old.html").exists()


def test_no_card_writes_outside(filled: Path, tmp_path: Path) -> None:
    """A card in a pull request may name files and versions as it likes."""
    copy = tmp_path / "in" / "hub"
    shutil.copytree(filled, copy)
    card = copy / "adapters" / "cat" / "mine.yaml"
    text = card.read_text().replace("version: '1'", "version: '..'")
    card.write_text(text.replace("path: adapter.safetensors", "path: ../../../../../../evil"))
    before = {path for path in tmp_path.rglob("*") if copy not in path.parents}
    build_site(Hub(copy), tmp_path / "in" / "out" / "site")
    new = {path for path in tmp_path.rglob("*") if copy not in path.parents} - before
    site = tmp_path / "in" / "out"
    assert all(site == path or site in path.parents for path in new)
    assert "Overview" in (site / "site" / "adapters" / "cat" / "mine" / "index.html").read_text()


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "index.html").write_text(
        '<a href="a/">1</a><a href="a/b/">2</a><a href="nowhere/">3</a><a href="a/#here">4</a>'
        '<a href="a/#gone">5</a><a href="https://elsewhere.example/">6</a><img src="x.png">'
        '<a href="https://me.example/s/a/">7</a><a href="https://me.example/s/c/">8</a>'
    )
    (tmp_path / "a" / "index.html").write_text(
        '<p id="here"><a href="../">up</a><a href="../../">out</a>'
    )
    (tmp_path / "a" / "b" / "index.html").write_text(
        '<a href="../../index.html">u</a><a href="#x">x</a>'
    )
    dead = {line.rpartition(": ")[2] for line in dead_links(tmp_path, "https://me.example/s/")}
    assert dead == {"nowhere/", "a/#gone", "x.png", "https://me.example/s/c/", "../../", "#x"}


def test_a_dead_link_fails_the_build(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapterhub.hub.web import links

    monkeypatch.setattr(links, "ABOUT", "moved/")
    with pytest.raises(HubError, match=r"moved/"):
        build_site(Hub(filled), tmp_path / "site")


def test_the_search_index_holds_every_adapter(filled: Path, built: Path) -> None:
    data = json.loads((built / "search-index.json").read_bytes())
    columns = data["columns"]
    ids = [columns["id"]["values"][at] for at in columns["id"]["at"]]
    assert sorted(ids) == sorted(entry.identifier for entry in Hub(filled).catalogue.entries)
    assert ids[0] == "@cat/mine"  # the one whose files are here
    assert all(len(column["at"]) == data["count"] for column in columns.values())
    assert data["labels"]["language"]["de"] == "German"


def test_commands(filled: Path, tmp_path: Path) -> None:
    app, runner = build_app(), CliRunner()
    made = runner.invoke(app, ["hub", "init", str(tmp_path / "new")])
    assert made.exit_code == 0
    workflow = yaml.safe_load((tmp_path / "new" / WORKFLOW_PATH).read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["check"]["steps"]]
    assert any("hub check" in step for step in steps)
    # The commands of the workflow are real ones, with their real options.
    lines = [line.strip() for step in steps for line in step.splitlines()]
    for line in lines:
        if line.startswith("adapterhub "):
            # The shell leaves out an option whose variable is empty.
            words = re.sub(r"\$\{INDEX_KEY:\+[^}]*\}", "", line).split()[1:]
            words = [str(filled) if word == "." else word for word in words]
            words = [str(tmp_path / "site") if word == "site" else word for word in words]
            result = runner.invoke(app, words)
            # The fixture's hub has two cards that cannot be read, and check says so.
            assert result.exit_code == (1 if "check" in words else 0), result.output
    assert "no dead link" in result.output
    again = runner.invoke(app, ["hub", "import", str(DEFECTS), "--to", str(tmp_path / "imported")])
    assert again.exit_code == 1
    assert "unusable" in again.output
    assert "whole-number" in again.output
    wrong = runner.invoke(
        app, ["hub", "import", str(tmp_path / "none"), "--to", str(tmp_path / "y")]
    )
    assert (wrong.exit_code, "holds no cards" in wrong.output) == (1, True)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs |= {value for name, value in attrs if name == "href" and value}


@pytest.mark.slow
def test_the_real_collection(shared: Path, tmp_path: Path) -> None:
    cards = shared / "hub_cards"
    if not cards.is_dir():
        pytest.skip(f"no copy of the original cards in {shared}")
    hub, _ = import_cards(cards, tmp_path / "hub")
    built = build_site(hub, tmp_path / "site")  # raises if a link is dead
    assert built.largest[0] < 150_000
    for owner, stem in hub.catalogue.adapters:
        assert (built.root / "adapters" / owner / stem / "index.html").is_file()
    for type_, task, subtask in hub.catalogue.subtasks:
        assert (built.root / "tasks" / type_ / task / subtask / "index.html").is_file()
    # Every page can be reached by links from the first, without a script.
    reached, waiting = set(), ["index.html"]
    follow: Callable[[Path], set[str]] = lambda path: _links(path, built.root)  # noqa: E731
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name.endswith("index.html"):
            waiting += follow(built.root / name)
    pages = {p.relative_to(built.root).as_posix() for p in built.root.rglob("index.html")}
    assert pages <= reached


def _links(path: Path, root: Path) -> set[str]:
    from urllib.parse import unquote, urlsplit

    parser = _Text()
    parser.feed(path.read_text())
    found = set()
    for href in parser.hrefs:
        parts = urlsplit(href)
        if parts.scheme:
            continue
        target = (path.parent / unquote(parts.path)).resolve()
        target = target / "index.html" if target.is_dir() else target
        if target.is_file():
            found.add(target.relative_to(root.resolve()).as_posix())
    return found
