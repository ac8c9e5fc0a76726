"""Trying adapters on a running hub: by the JSON API and by the forms of its pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.hub.server.conftest import Answer, Hub
from tests.hub.tinymodels import LABELS, make_adapters, make_models

pytestmark = pytest.mark.slow

PUBLISHED = ("lora-class", "bn-class", "ia3-tags", "headless", "llama-one", "llama-two")
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}


def _readme(task: str) -> bytes:
    return f"---\ntags:\n- adapterhub:{task}\nlanguage: en\nlicense: mit\n---\n# Hello\n".encode()


@pytest.fixture(scope="module")
def trying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with two base models and some adapters for them."""
    folder = tmp_path_factory.mktemp("try")
    models = make_models(folder / "models")
    adapters = make_adapters(models, folder / "adapters")
    hub = Hub(folder / "data", ADAPTERHUB_MODELS=str(models), ADAPTERHUB_RATE_TRIES="0")
    try:
        for name in PUBLISHED:
            files = {path.name: path.read_bytes() for path in adapters[name].iterdir()}
            hub.published(f"admin/{name}", {**files, "README.md": _readme("sentiment/films")})
        hub.create("admin/hidden", private=True)
        files = {path.name: path.read_bytes() for path in adapters["bn-class"].iterdir()}
        assert hub.commit("admin/hidden", files).status == 200
        _wait(hub)
        yield hub
    finally:
        hub.stop()


def _wait(hub: Hub) -> None:
    """Wait until the child has loaded its models: before, requests are told to come again."""
    for _ in range(12):
        if _try(hub, "admin/lora-class", "good").status == 200:
            return
    raise AssertionError(hub.log.read_text()[-2000:])


def _try(hub: Hub, repo: str, text: Any, token: str | None = None, **more: Any) -> Answer:
    return hub.ask("POST", f"/api/hub/v1/repos/{repo}/try", {"text": text, **more}, token=token)


def _form(hub: Hub, path: str, fields: Any, **headers: str) -> Answer:
    body = urlencode(fields).encode()
    return hub.ask("POST", path, body, token=None, headers={**FORM, **headers})


def test_what_can_be_tried_is_told(trying: Hub) -> None:
    found = trying.ask("GET", "/api/hub/v1/try", token=None).json
    assert [model["id"] for model in found["models"]] == ["tiny/bert", "tiny/llama"]
    assert found["limits"]["characters"] == 2000


def test_each_kind_of_adapter(trying: Hub) -> None:
    classes = _try(trying, "admin/lora-class", "the film is good").json
    assert classes["adapter"] == "@admin/lora-class"
    assert sorted(item["label"] for item in classes["labels"]) == sorted(LABELS)
    assert sum(item["probability"] for item in classes["labels"]) == pytest.approx(1)
    tags = _try(trying, "admin/ia3-tags", "Ada flew to London").json
    assert [(w["start"], w["end"]) for w in tags["words"]] == [(0, 3), (4, 8), (9, 11), (12, 18)]
    text = _try(trying, "admin/llama-one", "the film", max_new_tokens=3).json
    assert text["kind"] == "generation"
    longer = _try(trying, "admin/llama-one", "the film", max_new_tokens=8).json
    assert longer["text"].startswith(text["text"])


def test_several_side_by_side_share_a_batch(trying: Hub) -> None:
    names = ["admin/lora-class", "@admin/bn-class", "admin/nothing", "admin/hidden"]
    body = {"adapters": names, "text": "the film is dull"}
    one, two, three, four = trying.ask("POST", "/api/hub/v1/try", body, token=None).json["results"]
    assert one["batch"] == two["batch"] == {"rows": 2, "adapters": 2}
    alone = _try(trying, "admin/lora-class", "the film is dull").json
    for found, expected in zip(one["labels"], alone["labels"], strict=True):
        assert found["label"] == expected["label"]
        assert found["logit"] == pytest.approx(expected["logit"], abs=1e-5)
    # One that is hidden is as one that is not there.
    assert three["error"].replace("nothing", "hidden") == four["error"]
    with_rights = trying.ask("POST", "/api/hub/v1/try", body).json["results"][3]
    assert with_rights["kind"] == "classification"


@pytest.mark.parametrize(
    ("repo", "text", "status", "said"),
    [
        ("admin/nothing", "good", 404, "not found"),
        ("admin/hidden", "good", 404, "not found"),
        ("admin/headless", "good", 422, "no prediction head"),
        ("admin/lora-class", " \n", 400, "empty"),
        ("admin/lora-class", "x" * 2001, 400, "2000"),
        ("admin/lora-class", 5, 400, "text"),
        ("admin/lora-class", None, 400, "text"),
    ],
)
def test_what_is_refused(trying: Hub, repo: str, text: Any, status: int, said: str) -> None:
    answer = _try(trying, repo, text)
    assert answer.status == status, answer
    assert said in answer.json["error"]


def test_other_base_models_and_what_is_not_verified(trying: Hub) -> None:
    repo = trying.new_name()
    trying.published(repo)  # for bert-base-uncased
    answer = _try(trying, repo, "good")
    assert answer.status == 422
    assert "bert-base-uncased, which this hub does not have" in answer.json["error"]
    held = trying.new_name()
    trying.create(held)
    trying.commit(held, {"README.md": b"# soon\n"})
    answer = _try(trying, held, "good", token=trying.token)
    assert answer.status == 422
    assert "not verified" in answer.json["error"]


def test_a_body_that_is_too_large(trying: Hub) -> None:
    answer = trying.ask(
        "POST", "/api/hub/v1/repos/admin/lora-class/try", b'{"text": "' + b"x" * 70_000 + b'"}'
    )
    assert answer.status == 413


def test_the_form_works_without_script(trying: Hub) -> None:
    page = trying.ask(
        "GET", "/adapters/admin/lora-class/", token=None, headers={"Accept": "text/html"}
    )
    html = page.body.decode()
    action = re.search(r'<form class="trybox" method="post" action="([^"]+)"', html)
    assert action is not None
    assert action[1].endswith("adapters/admin/lora-class/try/")
    answer = _form(trying, "/adapters/admin/lora-class/try/", {"text": "the <b>film</b> is good"})
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    shown = answer.body.decode()
    assert "the &lt;b&gt;film&lt;/b&gt; is good" in shown
    assert "<b>film" not in shown
    assert all(label in shown for label in LABELS)
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    back = trying.ask(
        "GET", "/adapters/admin/lora-class/try/", token=None, headers={"Accept": "text/html"}
    )
    assert back.status == 302
    assert back.headers["location"].endswith("/adapters/admin/lora-class/#try")


def test_a_page_has_a_form_only_where_there_is_something_to_see(trying: Hub) -> None:
    for name, there in (("ia3-tags", True), ("llama-one", True), ("headless", False)):
        page = trying.ask(
            "GET", f"/adapters/admin/{name}/", token=None, headers={"Accept": "text/html"}
        )
        assert (b"data-try" in page.body) is there, name
    twin = trying.ask("GET", "/adapters/admin/llama-one/index.json", token=None).json
    assert twin["trial"] == {
        "base_model": "tiny/llama",
        "generates": True,
        "characters": 2000,
        "new_tokens": 64,
        "form": "continue",
        "context": 0,
        "choices": 0,
        "choice": 0,
        "image": 0,
        "reason": "",
    }


def test_side_by_side_by_form(trying: Hub) -> None:
    fields = [("a", "@admin/lora-class"), ("a", "@admin/ia3-tags"), ("text", "Ada is good")]
    shown = _form(trying, "/compare/try/", fields).body.decode()
    assert "Computed in one batch with 2 adapters" in shown
    page = trying.ask(
        "GET",
        "/compare/?" + urlencode([("a", "@admin/lora-class"), ("a", "@admin/bn-class")]),
        token=None,
        headers={"Accept": "text/html"},
    ).body.decode()
    assert 'name="a" value="@admin/lora-class"' in page
    assert "tensors that differ most" in page


@pytest.mark.parametrize(
    ("path", "fields", "headers", "status"),
    [
        ("/adapters/admin/lora-class/try/", {"text": ""}, {}, 400),
        ("/adapters/admin/lora-class/try/", {"text": "x" * 2001}, {}, 400),
        ("/adapters/admin/llama-one/try/", {"text": "a", "new_tokens": "1000"}, {}, 400),
        ("/adapters/admin/headless/try/", {"text": "good"}, {}, 422),
        ("/adapters/admin/hidden/try/", {"text": "good"}, {}, 400),
        ("/adapters/admin/lora-class/try/", {"text": "a"}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/adapters/admin/lora-class/try/", {"text": "a"}, {"Content-Type": "text/plain"}, 400),
        ("/compare/try/", {"text": "a"}, {}, 400),
    ],
)
def test_forms_that_are_refused(
    trying: Hub, path: str, fields: dict[str, str], headers: dict[str, str], status: int
) -> None:
    answer = _form(trying, path, fields, **headers)
    assert answer.status == status, answer.body[-800:]
    assert b"<html" in answer.body


def test_a_hub_without_models_says_so(server: Hub) -> None:
    repo = server.new_name()
    server.published(repo)
    answer = _try(server, repo, "good")
    assert answer.status == 422
    assert "no base models" in answer.json["error"]
    page = server.ask("GET", f"/adapters/{repo}/", token=None, headers={"Accept": "text/html"})
    assert b"data-try" not in page.body


def test_the_log_has_no_text_of_visitors(trying: Hub) -> None:
    _try(trying, "admin/lora-class", "Berlin xyzzy-secret")
    _form(trying, "/adapters/admin/lora-class/try/", {"text": "xyzzy-secret"})
    log = trying.log.read_text()
    assert '"path": "/adapters/admin/lora-class/try/"' in log
    assert "xyzzy-secret" not in log
    assert json.loads(log.splitlines()[-1])["status"] == 200
