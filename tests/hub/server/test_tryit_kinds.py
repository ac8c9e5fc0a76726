"""Questions, choices, blanks, dependencies, other texts and images, on a running hub: API and forms."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.hub.server.conftest import Answer, Hub
from tests.hub.tinymodels import (
    make_adapters,
    make_models,
    make_more_adapters,
    make_more_models,
)

pytestmark = pytest.mark.slow

CONTEXT = "Ada flew to London and Berlin . it was a <b>great</b> film"
PUBLISHED = (
    "bert-answer",
    "bert-choice",
    "bert-parse",
    "bert-blank",
    "lora-class",
    "headless",
    "t5-one",
    "vit-class",
)
_HTML = {"Accept": "text/html"}
_FORM = {**_HTML, "Content-Type": "application/x-www-form-urlencoded"}


def kinds_hub(folder: Path, names: tuple[str, ...] = PUBLISHED) -> Hub:
    """Start a hub with four base models and adapters of these names."""
    models = make_models(folder / "models")
    more = make_more_models(folder / "more")
    adapters = make_adapters(models, folder / "adapters")
    adapters |= make_more_adapters(models, more, folder / "more-adapters")
    places = f"{models},{more}"
    hub = Hub(folder / "data", ADAPTERHUB_MODELS=places, ADAPTERHUB_RATE_TRIES="0")
    card = b"---\ntags:\n- adapterhub:kinds/all\nlanguage: en\nlicense: mit\n---\n# Hello\n"
    for name in names:
        files = {path.name: path.read_bytes() for path in adapters[name].iterdir()}
        hub.published(f"admin/{name}", {**files, "README.md": card})
    for _ in range(12):  # until the child has loaded its models
        path = "/api/hub/v1/repos/admin/lora-class/try"
        if hub.ask("POST", path, {"text": "good"}).status == 200:
            return hub
    raise AssertionError(hub.log.read_text()[-2000:])


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = kinds_hub(tmp_path_factory.mktemp("kinds"))
    yield hub
    hub.stop()


def _try(hub: Hub, name: str, **body: Any) -> Answer:
    return hub.ask("POST", f"/api/hub/v1/repos/admin/{name}/try", body, token=None)


def _form(hub: Hub, name: str, fields: Any) -> Answer:
    path = f"/adapters/admin/{name}/try/"
    return hub.ask("POST", path, urlencode(fields).encode(), token=None, headers=_FORM)


def _page(hub: Hub, name: str) -> str:
    return hub.ask("GET", f"/adapters/admin/{name}/", token=None, headers=_HTML).body.decode()


def _png(size: tuple[int, int] = (20, 20)) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="images need Pillow")
    target = io.BytesIO()
    image.new("RGB", size, "red").save(target, "PNG")
    return target.getvalue()


def test_a_question(kinds: Hub) -> None:
    found = _try(kinds, "bert-answer", text="was it great", context=CONTEXT).json
    best = found["answers"][0]
    assert best["text"] == CONTEXT[best["start"] : best["end"]]
    page = _page(kinds, "bert-answer")
    assert 'name="context"' in page
    assert 'maxlength="4000"' in page
    shown = _form(kinds, "bert-answer", {"text": "was it", "context": CONTEXT}).body.decode()
    assert '<span class="tagname">answer</span>' in shown
    assert "<b>great" not in shown
    assert "&lt;b&gt;great&lt;/b&gt;" in shown
    assert 'value="was it"' in shown


def test_choices(kinds: Hub) -> None:
    given = ["good", "bad film", "dull"]
    found = _try(kinds, "bert-choice", text="the film is", choices=given).json
    assert [item["label"] for item in found["choices"]] == given
    fields = [("text", "the film"), *(("choice", text) for text in ("good", "bad", "", "", ""))]
    shown = _form(kinds, "bert-choice", fields).body.decode()
    assert shown.count('<td class="barcell">') == 2
    assert _page(kinds, "bert-choice").count('name="choice"') == 5


def test_dependencies_blanks_and_other_texts(kinds: Hub) -> None:
    found = _try(kinds, "bert-parse", text="Ada flew to London").json
    assert [word["text"] for word in found["words"]] == ["Ada", "flew", "to", "London"]
    shown = _form(kinds, "bert-parse", {"text": "Ada flew"}).body.decode()
    assert '<table class="depends">' in shown
    found = _try(kinds, "bert-blank", text="the ___ is good").json
    assert len(found["blanks"][0]["words"]) == 5
    assert "Put <code>___</code> where a word is missing" in _page(kinds, "bert-blank")
    shown = _form(kinds, "bert-blank", {"text": "the ___ is good"}).body.decode()
    assert "filled in" in shown
    found = _try(kinds, "t5-one", text="a good film", max_new_tokens=5).json
    assert (found["kind"], found["continues"]) == ("generation", False)
    assert 'name="new_tokens"' in _page(kinds, "t5-one")


def test_kinds_share_a_batch_over_the_api(kinds: Hub) -> None:
    names = ["admin/bert-answer", "admin/lora-class", "admin/bert-parse", "admin/bert-blank"]
    body = {"adapters": names, "text": "is the film good", "context": CONTEXT}
    *good, blank = kinds.ask("POST", "/api/hub/v1/try", body, token=None).json["results"]
    assert [one["kind"] for one in good] == ["answer", "classification", "parse"]
    assert all(one["batch"] == {"rows": 4, "adapters": 4} for one in good)
    assert "put ___ where" in blank["error"]


def test_an_image(kinds: Hub) -> None:
    path, kind = "/api/hub/v1/repos/admin/vit-class/try/image", {"Content-Type": "image/png"}
    found = kinds.ask("POST", path, _png(), token=None, headers=kind)
    assert found.status == 200, found
    assert sum(i["probability"] for i in found.json["labels"]) == pytest.approx(1)
    for data, headers, status in (
        (_png((6000, 4000)), kind, 422),
        (b"\x89PNG\r\n\x1a\nno", kind, 422),
        (_png(), {"Content-Type": "image/svg+xml"}, 400),
        (b"", kind, 400),
        (bytes((2 << 20) + 1), kind, 413),
    ):
        assert kinds.ask("POST", path, data, token=None, headers=headers).status == status
    page = _page(kinds, "vit-class")
    assert 'enctype="multipart/form-data"' in page
    shown = _upload(kinds, _png())
    assert shown.status == 200
    assert "LABEL_0" in shown.body.decode()
    assert _upload(kinds, b"").status == 400
    assert _upload(kinds, bytes((2 << 20) + 1)).status == 413
    assert list((kinds.data / "staging").iterdir()) == []


def _upload(hub: Hub, data: bytes) -> Answer:
    edge = b"edge1234"
    body = (
        b"--" + edge + b'\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + data + b"\r\n--" + edge + b"--\r\n"
    )
    kind = {**_HTML, "Content-Type": f"multipart/form-data; boundary={edge.decode()}"}
    return hub.ask("POST", "/adapters/admin/vit-class/try/", body, token=None, headers=kind)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("bert-answer", {"text": "was it"}, "context is empty"),
        ("bert-answer", {"text": " ", "context": "a film"}, "question is empty"),
        ("bert-answer", {"text": "a", "context": "x" * 4001}, "4000"),
        ("bert-choice", {"text": "a", "choices": ["good"]}, "two to 5 choices"),
        ("bert-choice", {"text": "a", "choices": ["a"] * 6}, "at most 5"),
        ("bert-choice", {"text": "a", "choices": [1, 2]}, "choices[0]"),
        ("bert-choice", {"text": "a", "choices": "ab"}, "must be a list"),
        ("vit-class", {"text": "a"}, "the image is missing"),
    ],
)
def test_what_is_missing(kinds: Hub, name: str, body: dict[str, Any], said: str) -> None:
    answer = _try(kinds, name, **body)
    assert answer.status == 400, answer
    assert said in answer.json["error"]


def test_a_page_says_why_there_is_no_form(kinds: Hub) -> None:
    page = _page(kinds, "headless")
    assert "cannot be tried here: it has no prediction head" in page
    assert "data-try" not in page
    repo = kinds.new_name()
    kinds.published(repo)  # for a base model that is not here
    page = _page(kinds, repo.partition("/")[2])
    assert "cannot be tried here: this hub has no copy of bert-base-uncased" in page
    twin = kinds.ask("GET", "/adapters/admin/headless/index.json", token=None).json
    assert (twin["trial"]["form"], twin["trial"]["base_model"]) == ("", "tiny/bert")


def test_side_by_side_only_what_takes_the_same(kinds: Hub) -> None:
    names = ("bert-parse", "bert-answer", "lora-class", "vit-class")
    query = urlencode([("a", f"@admin/{name}") for name in names])
    page = kinds.ask("GET", f"/compare/?{query}", token=None, headers=_HTML).body.decode()
    assert 'hidden" name="a" value="@admin/lora-class"' in page
    assert 'hidden" name="a" value="@admin/bert-answer"' not in page
    assert 'hidden" name="a" value="@admin/vit-class"' not in page
