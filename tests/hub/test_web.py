"""The pages from a folder: what is on them, what strangers' text can do there, what programs get."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the pages need adapterhub[hub]")
pytest.importorskip("nh3", reason="the pages need adapterhub[hub]")

from adapterhub.hub import Hub
from adapterhub.hub.importer import import_cards
from adapterhub.hub.web import FolderSource, Query, Site
from adapterhub.hub.web.compare import compare
from adapterhub.hub.web.source import Tensor, Version
from adapterhub.hub.web.tensorview import tensors_of
from adapterhub.hub.web.text import file_size, markdown, number, plain, safe_link, segment
from tests.hub.conftest import LORA, floats, make_adapter, safetensors_bytes

DEFECTS = Path(__file__).parent / "cards_with_defects"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub with the cards of the fixture and two versions of an adapter with files."""
    root = tmp_path_factory.mktemp("pages")
    shutil.copytree(DEFECTS, root / "cards")
    hub, _ = import_cards(root / "cards", root / "hub")
    for number_, weights in ((1, (3.0, 4.0)), (2, (6.0, 8.0))):
        adapter = make_adapter(root / f"a{number_}", config=LORA, weights=weights)
        hub.publish(
            adapter,
            task="mood",
            subtask="diary",
            owner="cat",
            name="lora",
            version=str(number_),
            metrics={"accuracy": {1: 0.81, 2: 0.82}[number_]},
            license="MIT",
            language="en",
            description="# Title\n\nSome *text* <script>alert(1)</script>\n\n| a | b |\n|---|---|\n| 1 | 2 |",
        )
    return hub.path


@pytest.fixture(scope="module")
def site(folder: Path) -> Site:
    return Site(FolderSource(Hub(folder), "https://hub.example.org/x/"))


def _html(site: Site, path: str, query: str = "") -> str:
    answer = site.answer(path, query)
    assert (answer.status, answer.content_type) == (200, "text/html; charset=utf-8"), path
    return answer.body.decode()


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "input", "br", "hr", "rect", "circle", "path"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(f"{tag} at {self.getpos()}")


def test_every_page_is_there_sound_and_small(site: Site) -> None:
    paths = list(site.paths())
    assert len(paths) == len(set(paths)) > 40
    for path in paths:
        text = _html(site, path)
        elements = _Elements(text)
        assert not elements.unbalanced, path
        tags = [tag for tag, _ in elements.found]
        assert tags.count("h1") == 1, path
        assert tags.count("main") == 1
        assert len(text) < 150_000
        ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        twin = site.answer(path + "index.json")
        assert twin.content_type == "application/json"
        assert json.loads(twin.body)["path"] == path


def test_nothing_runs_and_nothing_is_fetched(site: Site) -> None:
    """No inline script or style, no element of a stranger, no address outside but in links."""
    for path in site.paths():
        for tag, attributes in _Elements(_html(site, path)).found:
            assert not any(name.startswith("on") or name == "style" for name in attributes), path
            assert tag not in {"style", "iframe", "object", "embed", "img", "base", "b"}
            if tag in {"script", "link"} and attributes.get("rel") != "canonical":
                address = attributes.get("src") or attributes.get("href") or ""
                assert not address.startswith(("http", "//")), path
            if tag == "a":
                href = attributes.get("href") or ""
                assert not re.match(r"(?i)\s*(javascript|data|vbscript):", href)
                if href.startswith("http"):
                    assert "noopener" in (attributes.get("rel") or "")
    headers = site.answer("").headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy


def test_an_adapter_with_files(site: Site) -> None:
    text = _html(site, "adapters/cat/lora/")
    assert "Format verified" in text
    assert "<em>text</em>" in text
    assert "<script>alert" not in text
    assert "https://hub.example.org/x/adapters/cat/lora/download/2/" in text
    data = json.loads(site.answer("adapters/cat/lora/index.json").body)
    detail = data["detail"]
    assert detail["adapter"]["parameters"] == 2
    assert detail["adapter"]["score"] == 0.82
    assert {check["outcome"] for check in detail["checks"]} == {"ok"}
    facts = {fact["label"]: (fact["fact"], fact["claim"]) for fact in detail["facts"]}
    assert facts["Method"] == ("lora", "lora")
    assert facts["Prediction head"] == ("no", "no")
    compile(data["snippets"][0]["code"], "snippet", "exec")


def test_a_conflict_between_files_and_card_is_shown(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "hub"
    shutil.copytree(folder, copy)
    card = copy / "adapters" / "cat" / "lora.yaml"
    card.write_text(card.read_text().replace("prediction_head: false", "prediction_head: true"))
    text = _html(Site(FolderSource(Hub(copy))), "adapters/cat/lora/")
    assert text.count(">differs<") == 1


def test_a_damaged_file_is_shown(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "hub"
    shutil.copytree(folder, copy)
    source = FolderSource(Hub(copy))
    detail = source.detail("cat", "lora")
    assert detail is not None
    file = next(f for f in detail.versions[1].files if f.path == "adapter.safetensors")
    blob = copy / "blobs" / "sha256" / file.sha256[:2] / file.sha256
    blob.write_bytes(blob.read_bytes()[:-4] + b"\0\0\0\0")
    checks = {c.name: c.outcome for c in FolderSource(Hub(copy)).detail("cat", "lora").checks}  # type: ignore[union-attr]
    assert checks["Checksums are those of the card"] == "error"
    blob.unlink()
    damaged = FolderSource(Hub(copy)).detail("cat", "lora")
    assert damaged is not None
    assert damaged.adapter.status == "problem"
    assert "Check failed" in _html(Site(FolderSource(Hub(copy))), "adapters/cat/lora/")


def test_an_adapter_whose_files_are_elsewhere(site: Site) -> None:
    text = _html(site, "adapters/ann/bert-mood/")
    assert "Files elsewhere" in text
    assert "&lt;b&gt;Author&lt;/b&gt;" in text
    assert "onerror" not in text.replace("&lt;img src=x onerror=alert(1)&gt;", "")
    assert '<a href="../../../adapters/bob/bert-en/">' in text  # what it needs
    data = json.loads(site.answer("adapters/ann/bert-mood/index.json").body)
    titles = [snippet["title"] for snippet in data["snippets"]]
    assert titles == ["adapterhub", "adapters", "Archive"]
    for snippet in data["snippets"]:
        if snippet["language"] == "python":
            compile(snippet["code"], "snippet", "exec")


@pytest.mark.slow
def test_snippets_run_as_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both snippets of our library: from the published pages, and from the folder."""
    from transformers import BertConfig, BertModel

    from adapterhub import AutoAdapterModel
    from adapterhub.hub.static import build_site
    from tests.hub.browser import serving

    monkeypatch.chdir(tmp_path)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        vocab_size=20,
    )
    BertModel(config).save_pretrained("tiny-bert")
    model = AutoAdapterModel.from_pretrained("tiny-bert")
    model.add_adapter("mood", config="seq_bn")
    model.save_adapter("saved", "mood")
    hub = Hub.init(tmp_path / "hub", name="hub")
    hub.publish(
        "saved", task="mood", subtask="diary", owner="cat", name="it", base_model="tiny-bert"
    )
    (tmp_path / "site").mkdir()
    with serving(tmp_path / "site") as address:
        (tmp_path / "site" / ".adapterhub-site").write_text("")
        build_site(hub, tmp_path / "site", base_url=address)
        page = json.loads(
            (tmp_path / "site" / "adapters" / "cat" / "it" / "index.json").read_text()
        )
        python = [item["code"] for item in page["snippets"] if item["language"] == "python"]
        assert len(python) == 2
        for code in python:
            names: dict = {}
            exec(code, names)
            assert names["name"] == "mood"
            assert "mood" in str(names["model"].active_adapters)


def test_snippets_for_a_server(site: Site) -> None:
    from dataclasses import replace

    from adapterhub.hub.web.snippets import snippets

    hub = replace(site.source.hub(), endpoint="https://live.example.org")
    detail = site.source.detail("cat", "lora")
    assert detail is not None
    ours, theirs = snippets(hub, detail)
    assert (ours.title, theirs.title) == ("adapterhub", "adapters")
    assert 'os.environ["ADAPTERHUB_HUB"] = "https://live.example.org"' in ours.code
    assert 'load_adapter("@cat/lora")' in ours.code
    assert 'load_adapter("cat/lora", use_safetensors=True)' in theirs.code
    peft = replace(detail, adapter=replace(detail.adapter, format="peft"))
    only, plain_, ours_ = snippets(hub, peft)
    assert (plain_.title, ours_.title) == ("transformers", "adapterhub")
    compile(plain_.code, "snippet", "exec")
    assert "AutoPeftModel" in only.code
    evil = replace(detail, adapter=replace(detail.adapter, base_model='x")\nimport os#'))
    for snippet in (*snippets(hub, evil), only):
        compile(snippet.code, "snippet", "exec")
        assert "\nimport os#" not in snippet.code


def test_versions_and_tensors(site: Site) -> None:
    text = _html(site, "adapters/cat/lora/versions/", "from=1&to=2")
    assert "+100.0 %" in text  # the norm went from 5 to 10
    assert "norm 5" in text
    same = _html(site, "adapters/cat/lora/versions/", "from=1&to=1")
    assert "Nothing differs." in same
    tensors = _html(site, "adapters/cat/lora/files/")
    assert "bert.encoder.layer.0.output.adapters.a.w" in tensors
    assert ">10<" in tensors


def test_search_narrows_counts_and_sorts(site: Site) -> None:
    found = site.source.search(Query.parse("task=mood"))
    assert found.total == 4
    assert found.counts["status"] == {"elsewhere": 3, "checked": 1}
    both = site.source.search(Query.parse("task=mood&status=checked"))
    assert [adapter.identifier for adapter in both.adapters] == ["@cat/lora"]
    # Values of the chosen facet are counted as if it were not chosen; those of others are narrowed.
    assert both.counts["status"] == {"elsewhere": 3, "checked": 1}
    assert both.counts["owner"] == {"cat": 1}
    either = site.source.search(Query.parse("owner=cat&owner=bob"))
    assert either.total == 3
    best = site.source.search(Query.parse("sort=score")).adapters
    assert [adapter.score for adapter in best[:2]] == [91.5, 0.82]
    text = _html(site, "search/", "q=mood+lora&status=checked")
    assert "@cat/lora" in text
    assert 'value="checked" checked' in text
    assert "@ann/bert-mood" not in text
    nothing = _html(site, "search/", "q=bert-mod-two")
    assert "Nothing fits" in nothing


def test_side_by_side(site: Site) -> None:
    text = _html(site, "compare/", "a=@cat/lora&a=@ann/bert-mood&a=@no/body&a=<b>&a=@bob/bert-mood")
    table = text[text.index("<table") :]
    assert "@cat/lora" in table
    assert "@ann/bert-mood" in table
    assert "@no/body" not in table
    assert "@bob/bert-mood" not in table  # the fifth
    assert "config.r<" in table
    data = json.loads(site.answer("compare/index.json", "a=@ann/bert-mood&a=@bob/bert-mood").body)
    labels = [row["label"] for row in data["rows"]]
    assert "config.non_linearity" in labels  # swish and relu
    assert "config.residual_before_ln" not in labels  # the same in both
    assert "compare/?a=%40ann%2Fbert-mood&amp;a=" in _html(site, "adapters/ann/bert-mood/")


def test_query_strings_of_strangers(site: Site) -> None:
    query = Query.parse("q=%3Cscript%3E&page=99999999999&sort=evil&task=a&task=a&nonsense=1&page=x")
    assert (query.words, query.sort, query.chosen) == ("<script>", "", {"task": ("a",)})
    text = _html(
        site, "search/", "q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&language=%3Cb%3E&page=9999"
    )
    assert "<script>alert" not in text
    assert "<b>" not in text
    again = Query.parse(Query.parse("q=a+b&task=x&language=y&sort=score&page=3").encode())
    assert (again.words, again.page, again.sort) == ("a b", 3, "score")


@pytest.mark.parametrize(
    "path",
    [
        "nothing/",
        "adapters/cat/nobody/",
        "adapters/page-1/",
        "adapters/page-99/",
        "tasks/text_task/none/",
        "languages/xx-none/",
        "models/none/",
        "people/nobody/",
        "../",
        "adapters/cat/lora/evil/",
        "adapters/cat/lora",
        "%00/",
    ],
)
def test_what_is_not_there(site: Site, path: str) -> None:
    answer = site.answer(path)
    assert answer.status == 404
    assert b"Nothing is here" in answer.body


def test_languages_and_leaderboards(site: Site) -> None:
    german = _html(site, "languages/de/")
    assert "@ann/bert-mood" in german
    board = _html(site, "tasks/text_task/mood/diary/")
    assert board.index("91.50") < board.index("0.82") < board.index("0.81")
    empty = _html(site, "tasks/text_task/idle/")
    assert "No adapter for this yet" in empty


def test_an_empty_hub_greets(hub: Hub) -> None:
    site = Site(FolderSource(hub))
    assert "Publish the first adapter" in _html(site, "")
    for path in site.paths():
        _html(site, path)


def test_an_odd_id_has_a_page(hub: Hub) -> None:
    tasks = hub.path / "tasks" / "text_task"
    tasks.mkdir(parents=True)
    (tasks / "odd.yaml").write_text("task: 'a/b\" c'\ndisplayname: Odd\ndescription: d\n")
    site = Site(FolderSource(hub))
    paths = [path for path in site.paths() if path.startswith("tasks/")]
    assert paths == ["tasks/text_task/a~b%22%20c/"]
    assert "<h1>Odd" in _html(site, paths[0])


def test_assets_are_named_by_their_content(site: Site) -> None:
    text = _html(site, "")
    name = re.findall(r"assets/(site\.[0-9a-f]{10}\.css)", text)[0]
    answer = site.answer(f"assets/{name}")
    assert (answer.status, answer.content_type) == (200, "text/css")
    assert "immutable" in answer.headers["Cache-Control"]
    assert site.answer("assets/../site.py").status == 404


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "[x](java\nscript:alert(1))",
        "![x](https://evil.example/pixel.png)",
        '<a href="https://x" onclick="alert(1)">x</a>',
        "<iframe src=https://evil.example>",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "<svg/onload=alert(1)>",
        '<https://ok.example/"onmouseover=alert(1)>',
        "[a]: javascript:alert(1)\n\n[a]",
    ],
)
def test_markdown_of_strangers(evil: str) -> None:
    elements = _Elements(str(markdown(evil))).found
    for tag, attributes in elements:
        assert tag in {"p", "a", "code", "em"}
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "https://").startswith("https://")


def test_markdown_keeps_what_is_harmless() -> None:
    html = str(markdown("# A\n\n- **b** [c](https://d.example)\n\n`<e>`"))
    assert "<h3>A</h3>" in html
    assert "<strong>b</strong>" in html
    assert 'rel="nofollow noopener noreferrer ugc"' in html
    assert "<code>&lt;e&gt;</code>" in html


def test_small_texts() -> None:
    assert plain("# T\n\nOne *two*. Three!\n\n| a |\n|---|") == "One two. Three!"
    assert plain("word " * 100, 20) == "word word word…"
    assert safe_link("https://a.example/b") == "https://a.example/b"
    assert [safe_link(u) for u in ("javascript:x", "//a.example", "", None, "http://a b")] == [
        None
    ] * 5
    assert [segment(t) for t in ("a/b c", "..", "a\0b", "1.0")] == ["a~b%20c", "~..", "a~b", "1.0"]
    assert [number(v) for v in (None, 1234567, 0.9, 86.65, 81.0, 0.12345)] == [
        "–",
        "1,234,567",
        "0.90",
        "86.65",
        "81",
        "0.1235",
    ]
    assert [file_size(v) for v in (None, 12, 3_600_000)] == ["–", "12 B", "3.6 MB"]


def test_norms_of_every_type(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    bf16 = b"".join(floats(v)[2:] for v in (3.0, 4.0))
    tensors = {
        "l.10.w": ("F32", [2], floats(3.0, 4.0)),
        "l.9.w": ("BF16", [2, 1], bf16),
        "i": ("I64", [1], b"\1" + b"\0" * 7),
    }
    path.write_bytes(safetensors_bytes(tensors))
    assert tensors_of(path) == (
        Tensor("i", "I64", (1,), None),
        Tensor("l.9.w", "BF16", (2, 1), 5.0),
        Tensor("l.10.w", "F32", (2,), 5.0),
    )
    path.write_bytes(b"no")
    assert tensors_of(path) == ()


def test_compare_names_what_differs() -> None:
    old = Version("1", score=1.0, metrics={"f1": 0.5}, url="https://a", sha256="x")
    new = Version("2", score=1.0, metrics={"em": 0.5}, url="https://b", sha256="x")
    assert [(c.label, c.before, c.after) for c in compare(old, new)] == [
        ("em", None, "0.50"),
        ("f1", "0.50", None),
        ("Address", "https://a", "https://b"),
    ]
