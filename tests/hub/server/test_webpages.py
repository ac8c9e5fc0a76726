"""The pages of a running server: what is on them, who sees what, what programs and caches get."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.hub.conftest import LORA, floats, safetensors_bytes
from tests.hub.server.conftest import Answer, Hub, adapter_files

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
DEFECTS = Path(__file__).parents[1] / "cards_with_defects"
README = b"""---
tags: ['adapterhub:%s', lora]
license: mit
language: sw
base_model: gpt2
model-index:
- name: x
  results:
  - task: {type: text-classification, name: Moods}
    dataset: {name: Diary, type: diary, split: test}
    metrics: [{type: accuracy, value: 0.875}]
---
# Title

Knows the %s of <script>alert(1)</script> people.

```bibtex
@article{mood, title={Moods}}
```
"""
PEFT = {
    "peft_type": "LORA",
    "base_model_name_or_path": "gpt2",
    "r": 4,
    "lora_alpha": 8,
    "task_type": "CAUSAL_LM",
}


def look(server: Hub, path: str, *, token: str | None = None, **headers: str) -> Answer:
    """Ask for a page as a browser does."""
    return server.ask("GET", path, token=token, headers={**BROWSER, **headers})


def twin(server: Hub, path: str, *, token: str | None = None) -> Any:
    """Ask for the twin of a page."""
    place, _, query = path.partition("?")
    answer = server.ask("GET", f"{place}index.json?{query}", token=token)
    assert answer.status == 200, answer
    return answer.json


def text(answer: Answer) -> str:
    assert answer.headers["content-type"] == "text/html; charset=utf-8", answer
    return answer.body.decode()


def ids(server: Hub, query: str, *, token: str | None = None) -> list[str]:
    found = twin(server, f"/search/?{query}", token=token)["found"]
    return [f"{item['owner']}/{item['name']}" for item in found["adapters"]]


def files(task: str = "mood/diary", word: str = "feelings", **options: Any) -> dict[str, bytes]:
    readme = README % (task.encode(), word.encode())
    return {**adapter_files(config=LORA, **options), "README.md": readme}


@pytest.fixture(scope="module")
def mood(shared_hub: Hub) -> str:
    name = shared_hub.new_name()
    shared_hub.published(name, files(word="quokkas"))
    return name


def test_a_fresh_hub_greets_with_how_to_publish(new_hub: Callable[..., Hub]) -> None:
    hub = new_hub(ADAPTERHUB_TITLE="Our adapters", ADAPTERHUB_ABOUT="All of ours.")
    page = text(look(hub, "/"))
    assert "This hub is empty" in page
    assert f"ADAPTERHUB_HUB={hub.url}" in page
    assert "Our adapters" in page
    assert "All of ours." in page
    assert "hf upload" in hub.ask("GET", "/", token=None).body.decode()
    for path in (
        "/explore/",
        "/languages/",
        "/models/",
        "/people/",
        "/search/",
        "/about/",
        "/compare/",
    ):
        assert look(hub, path).status == 200, path


def test_the_page_of_an_adapter(server: Hub, mood: str) -> None:
    page = text(look(server, f"/adapters/{mood}/"))
    assert f"@{mood}" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    detail = twin(server, f"/adapters/{mood}/")["detail"]
    adapter = detail["adapter"]
    assert (adapter["task"], adapter["subtask"], adapter["languages"]) == ("mood", "diary", ["sw"])
    assert (adapter["rank"], adapter["license"], adapter["status"]) == (8, "MIT", "checked")
    assert adapter["method"] == "lora"
    assert (adapter["metric"], adapter["score"]) == ("accuracy", 0.875)
    assert detail["evaluations"] == [
        {"task": "Moods", "dataset": "Diary", "split": "test", "metric": "accuracy", "value": 0.875}
    ]
    facts = {item["label"]: (item["fact"], item["claim"]) for item in detail["facts"]}
    assert facts["Base model"] == (
        "bert-base-uncased",
        "gpt2",
    )  # and the page says that they differ
    assert ">differs<" in page
    assert "@article{mood" in detail["citations"]["This adapter"]
    outcomes = {check["outcome"] for check in detail["checks"]}
    assert "ok" in outcomes
    assert "error" not in outcomes
    assert "Knows the quokkas of" in adapter["summary"]


def test_versions_with_differences_and_checks_of_each(server: Hub) -> None:
    name = server.new_name()
    server.create(name)
    first = server.commit(name, files(weights=(3.0, 4.0))).json["commitOid"]
    second = server.commit(name, files(weights=(6.0, 8.0))).json["commitOid"]
    held = server.commit(
        name, {}, extra=[{"key": "deletedFile", "value": {"path": "adapter.safetensors"}}]
    ).json
    assert held["status"] == "held"
    page = twin(server, f"/adapters/{name}/versions/?from={first[:8]}&to={second[:8]}")
    assert [version["name"] for version in page["detail"]["versions"]] == [first[:8], second[:8]]
    assert all(version["checks"] for version in page["detail"]["versions"])
    ratios = [change["ratio"] for change in page["chosen"]["changes"] if change["ratio"]]
    assert ratios == pytest.approx([1.0])
    assert "+100.0 %" in text(look(server, f"/adapters/{name}/versions/"))
    mine = twin(server, f"/adapters/{name}/", token=server.token)["detail"]
    assert mine["versions"][-1]["status"] == "held"
    assert "is held; others see" in mine["notices"][0]
    assert mine["adapter"]["version"] == second[:8]


def test_files_with_tensors_and_links_that_work(server: Hub, mood: str) -> None:
    page = twin(server, f"/adapters/{mood}/files/")
    (weights,) = page["weights"]
    assert weights["tensors"][0]["shape"] == [2]
    assert weights["tensors"][0]["norm"] == pytest.approx(1.25**0.5)
    for file in page["files"]:
        got = server.ask("GET", f"/{file['href']}", token=None)
        assert got.status == 200
        assert len(got.body) == file["size"]


def test_what_strangers_may_not_see_is_nowhere(server: Hub, mood: str) -> None:
    owner = "hermit"
    token = server.user(owner)
    private, held = f"{owner}/secret-thing", f"{owner}/held-thing"
    server.create(private, token=token, private=True)
    secret = files("wizardry/grimoire", "xylophones")
    assert server.commit(private, secret, token=token).json["status"] == "verified"
    server.create(held, token=token)
    assert (
        server.commit(held, {"README.md": secret["README.md"]}, token=token).json["status"]
        == "held"
    )
    for name in (private, held):
        for part in ("", "versions/", "files/"):
            hidden = look(server, f"/adapters/{name}/{part}")
            never = look(server, f"/adapters/{owner}/never-was/{part}")
            assert (hidden.status, never.status) == (404, 404)
            assert hidden.body.replace(name.encode(), b"") == never.body.replace(
                f"{owner}/never-was".encode(), b""
            )
        mine = look(server, f"/adapters/{name}/", token=token)
        assert mine.status == 200
        assert mine.headers["cache-control"] == "no-store"
        assert "etag" not in mine.headers
    assert "Private: only members" in text(look(server, f"/adapters/{private}/", token=token))
    assert "Nothing is published here yet" in text(look(server, f"/adapters/{held}/", token=token))
    for path in (
        "/",
        "/explore/",
        "/people/",
        "/models/",
        "/adapters/",
        "/search/",
        "/search/?q=xylophones",
    ):
        page = text(look(server, path))
        assert "secret-thing" not in page, path
        assert "wizardry" not in page.lower().replace("q=wizardry", ""), path
    assert look(server, "/people/hermit/").status == 404
    assert look(server, "/tasks/text_task/wizardry/").status == 404
    assert ids(server, "q=xylophones") == []
    assert set(ids(server, "q=xylophones", token=token)) == {private, held}
    assert "wizardry" not in json.dumps(twin(server, "/search/?q=wizzardry"))
    compared = twin(server, f"/compare/?a=@{private}&a=@{mood}")
    assert [item["name"] for item in compared["adapters"]] == [mood.split("/")[1]]
    other = server.user("stranger")
    assert look(server, f"/adapters/{private}/", token=other).status == 404


def test_gated_files_are_not_shown(server: Hub) -> None:
    name, guest = server.new_name(), server.user("guest")
    server.published(name, files())
    settings = server.ask("PUT", f"/api/models/{name}/settings", {"gated": "manual"})
    assert settings.status == 200, settings
    for token in (None, guest):
        page = twin(server, f"/adapters/{name}/files/", token=token)
        assert page["weights"] == []
        assert [file["href"] for file in page["files"]] == [None] * 3
        detail = twin(server, f"/adapters/{name}/", token=token)["detail"]
        assert detail["description"] == ""
        assert "ask for access" in detail["notices"][0]
    assert twin(server, f"/adapters/{name}/files/", token=server.token)["weights"]


def test_search_forgives_counts_and_sorts(server: Hub, mood: str) -> None:
    assert ids(server, "q=quokas") == [mood]
    assert ids(server, "q=quokkas&method=lora&language=sw&rank=8&license=MIT") == [mood]
    assert ids(server, "q=quokkas&method=seq_bn") == []
    counts = twin(server, "/search/?q=quokkas&method=seq_bn")["found"]["counts"]
    assert counts["method"] == {"lora": 1}
    assert len(ids(server, "per_page=1")) == 1
    server.ask("GET", f"/{mood}/resolve/main/adapter_config.json", token=None)
    models = server.ask("GET", "/api/models?search=quokas", token=None).json
    assert [item["id"] for item in models] == [mood]
    assert server.ask("GET", "/api/models?search=quokkas&author=nobody", token=None).json == []


def test_the_api_search_goes_on_in_pages(server: Hub) -> None:
    word = "Zyzzyva"
    names = [server.new_name() for _ in range(3)]
    for name in names:
        server.published(name, files(word=word))
    for sort in ("", "&sort=relevance"):
        found, path = [], f"/api/models?search={word}&limit=2{sort}"
        while path:
            answer = server.ask("GET", path, token=None)
            found += [item["id"] for item in answer.json]
            link = re.search(r"<[^>]*(/api/models[^>]*)>", answer.headers.get("link", ""))
            path = link[1] if link else ""
        assert sorted(found) == sorted(names)
    wrong = server.ask("GET", f"/api/models?search={word}&cursor=WyJiZXN0IiwgLTFd", token=None)
    assert wrong.status == 400


def test_addresses_lead_where_people_expect(server: Hub) -> None:
    name = server.new_name()
    server.published(name, files())
    short = look(server, f"/{name}")
    assert (short.status, short.headers["location"]) == (302, f"{server.url}/adapters/{name}/")
    assert look(server, "/explore").headers["location"] == f"{server.url}/explore/"
    assert look(server, "/admin").headers["location"] == f"{server.url}/people/admin/"
    moved = f"{name}-moved"
    body = {"fromRepo": name, "toRepo": moved, "type": "model"}
    assert server.ask("POST", "/api/repos/move", body).status == 200
    for former in (name, moved.upper()):
        answer = look(server, f"/adapters/{former}/")
        assert answer.status == 301
        target = urljoin(f"/adapters/{former}/", answer.headers["location"])
        assert target == f"/adapters/{moved}/"
    # Programs get what they got before there were pages.
    program = server.ask("GET", f"/{name}", token=None)
    assert program.status == 404
    assert program.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path", ["/no/such/page/here", "/adapters/a/b/c/d/", "/nobody/nothing/resolve/main/x"]
)
def test_nothing_is_a_page_for_people_only(server: Hub, path: str) -> None:
    page = look(server, path)
    assert page.status == 404
    assert "Nothing is here" in text(page)
    assert page.headers["cache-control"] == "no-store"
    assert server.ask("GET", "/api/models/no/such", token=None, headers=BROWSER).json["error"]


def test_no_answer_waits_for_an_acknowledgement(server: Hub) -> None:
    """Several requests over one connection: the second piece of an answer must not be held back."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    waits = []
    for _ in range(12):
        connection.request("GET", "/about/index.json")
        response = connection.getresponse()
        began = time.perf_counter()
        response.read()
        waits.append(time.perf_counter() - began)
    connection.close()
    assert sorted(waits)[2] < 0.02


def test_caches_are_told_what_they_may_keep(server: Hub, mood: str) -> None:
    path = f"/adapters/{mood}/"
    first = look(server, path)
    assert first.headers["cache-control"] == "public, no-cache"
    assert "Cookie" in first.headers["vary"]
    again = look(server, path, **{"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    for name in ("content-security-policy", "cache-control", "etag", "vary"):
        assert again.headers[name] == first.headers[name]
    assert server.commit(mood, {"note.md": b"new\n"}).json["status"] == "verified"
    assert look(server, path, **{"If-None-Match": first.headers["etag"]}).status == 200
    packed = look(server, path, **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == look(server, path).body
    own = look(server, path, token=server.token, **{"Accept-Encoding": "gzip"})
    assert own.headers["cache-control"] == "no-store"
    assert (
        "content-encoding" not in own.headers
    )  # it holds what is secret, beside a stranger's words
    style = re.search(r'href="[./]*(assets/site\.[^"]+)"', text(look(server, path)))
    assert style is not None
    asset = look(server, f"/{style[1]}")
    assert "immutable" in asset.headers["cache-control"]
    head = server.ask("HEAD", path, token=None, headers=BROWSER)
    assert (head.status, head.body) == (200, b"")


def test_cards_become_pages(new_hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub = new_hub()
    env = {**os.environ, "HF_TOKEN": hub.token, "ADAPTERHUB_HUB": hub.url}
    env.pop("HF_HUB_OFFLINE", None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "adapterhub.cli", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    done = run("hub", "import", str(DEFECTS), "--to", hub.url)
    # The collection has two cards that cannot be used; all others are taken.
    assert (done.returncode, done.stderr.count("not taken over")) == (1, 2), done
    assert "adapters/bob/incomplete.yaml" in done.stderr
    page = twin(hub, "/adapters/ann/bert-mood/")["detail"]
    assert page["adapter"]["status"] == "elsewhere"
    assert page["adapter"]["task_name"] != "mood"
    assert page["versions"][0]["url"]
    everything = twin(hub, "/search/?per_page=100")["found"]
    found = run("search", "moood", "--json")
    assert found.returncode == 0, found.stderr
    assert "bert-mood" in [item["name"] for item in json.loads(found.stdout)]
    assert "@ann/bert-mood" in run("search", "mood", "--architecture", "pfeiffer").stdout
    nothing = run("search", "nothinglikethis")
    assert (nothing.returncode, "Nothing at" in nothing.stderr) == (1, True)
    code = (
        "import json, adapterhub\n"
        "info = adapterhub.get_adapter_info('@ann/bert-mood')\n"
        "print(json.dumps([len(adapterhub.list_adapters()), info.model_name, info.task,\n"
        "    bool(info.adapter_config), adapterhub.get_adapter_info('@no/body')]))"
    )
    asked = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == [
        everything["total"],
        "bert-base-uncased",
        "mood",
        True,
        None,
    ]
    refused = hub.ask(
        "PUT", "/api/hub/v1/cards", {"cards": {}}, token=hub.user("somebody", "admin")
    )
    assert refused.status == 403
    wrong = hub.ask("PUT", "/api/hub/v1/cards", {"cards": {"tasks/x/y.yaml": {}}})
    assert wrong.status == 422
    assert "tasks/x/y.yaml" in wrong.json["error"]


def test_a_peft_adapter(server: Hub) -> None:
    name = server.new_name()
    weights = {"base_model.model.h.0.q.lora_A.weight": ("F32", [4, 2], floats(*range(8)))}
    server.published(
        name,
        {
            "adapter_config.json": json.dumps(PEFT).encode(),
            "adapter_model.safetensors": safetensors_bytes(weights),
        },
    )
    page = twin(server, f"/adapters/{name}/")
    adapter = page["detail"]["adapter"]
    assert (adapter["format"], adapter["rank"], adapter["settings"]) == ("peft", 4, "r=4, alpha=8")
    titles = [snippet["title"] for snippet in page["snippets"]]
    assert titles[0] == "PEFT"
    assert "transformers" in titles
    for snippet in page["snippets"]:
        assert name in snippet["code"]
        compile(snippet["code"], snippet["title"], "exec")
