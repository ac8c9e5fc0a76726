"""Signed evaluation reports on a running hub: sent, verified, shown, ranked, withdrawn."""

from __future__ import annotations

import copy
import hashlib
import re
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.hub.reports import Report, SignedReport, Value
from adapterhub.hub.signing import SigningKey
from tests.hub.server.conftest import Answer, Hub, adapter_files

DATA = "ab" * 32


def _readme(task: str) -> bytes:
    return f"---\ntags:\n- adapterhub:{task}\n---\n# Hello\n".encode()


class Reporter:
    """A user with a key."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub, self.name = hub, name
        self.token = hub.user(name)
        self.key = SigningKey.generate(name)
        made = hub.ask("POST", "/api/hub/v1/keys", {"key": str(self.key.public)}, token=self.token)
        assert made.status == 201, made

    def sign(self, repo: str, files: dict[str, bytes], value: float = 0.9, **changes: Any) -> Any:
        wanted = ("adapter_config.json", "adapter.safetensors")
        report = Report(
            **{
                "repo": repo,
                "files": {name: hashlib.sha256(files[name]).hexdigest() for name in wanted},
                "base_model": "bert-base-uncased",
                "data_name": "films",
                "data_sha256": DATA,
                "split": "test",
                "examples": 500,
                "results": (
                    Value("accuracy", value, 0.01),
                    Value("mse", 1 - value, 0.02, higher_is_better=False),
                ),
                "dataset": "sentiment/films",
                **changes,
            }
        )
        return SignedReport.make(report, self.key).to_json()

    def send(self, repo: str, body: Any) -> Answer:
        return self.hub.ask("POST", f"/api/hub/v1/repos/{repo}/reports", body, token=self.token)


@pytest.fixture(scope="module")
def ada(shared_hub: Hub) -> Reporter:
    return Reporter(shared_hub, "ada-measures")


@pytest.fixture(scope="module")
def ben(shared_hub: Hub) -> Reporter:
    return Reporter(shared_hub, "ben-measures")


def _publish(hub: Hub, task: str, **options: Any) -> tuple[str, dict[str, bytes]]:
    repo = hub.new_name()
    files = {**adapter_files(**options), "README.md": _readme(task)}
    hub.published(repo, files)
    return repo, files


def _page(hub: Hub, path: str) -> str:
    answer = hub.ask("GET", path, token=None, headers={"Accept": "text/html"})
    assert answer.status == 200, answer
    return answer.body.decode()


def test_a_report_of_a_stranger_is_taken_and_shown(server: Hub, ada: Reporter) -> None:
    repo, files = _publish(server, "sentiment/films")
    body = ada.sign(repo, files, 0.8125)
    sent = ada.send(repo, body)
    assert sent.status == 201, sent
    again = ada.send(repo, body)
    assert (again.status, again.json["id"]) == (200, sent.json["id"])
    (found,) = server.ask("GET", f"/api/hub/v1/repos/{repo}/reports", token=None).json
    assert found["signer"] == "ada-measures"
    assert found["current"] is True
    assert found["report"] == body["report"]
    # Whoever doubts it gets all that is needed to verify it.
    whole = server.ask(
        "GET", f"/api/hub/v1/repos/{repo}/reports/{sent.json['id']}", token=None
    ).json
    SignedReport.from_json(whole).verify()
    page = _page(server, f"/adapters/{repo}/")
    assert "Measured results" in page
    assert "@ada-measures" in page
    assert "0.8125" in page
    twin = server.ask("GET", f"/adapters/{repo}/index.json", token=None).json
    assert [(m["metric"], m["signed_by"]) for m in twin["measured"]] == [
        ("accuracy", "ada-measures"),
        ("mse", "ada-measures"),
    ]


def test_what_is_not_taken(server: Hub, ada: Reporter, ben: Reporter) -> None:
    repo, files = _publish(server, "sentiment/films")
    good = ada.sign(repo, files)
    forged = copy.deepcopy(good)
    forged["report"]["results"][0]["value"] = 0.99
    others = {**files, "adapter.safetensors": b"other"}
    for reporter, body, status, said in (
        (ben, good, 403, "not registered as one of yours"),
        (ada, forged, 422, "changed after it was signed"),
        (ada, {"report": good["report"]}, 422, "report, signature"),
        (ada, ada.sign(repo, others), 422, "no verified version"),
        (ada, ada.sign(repo, files, base_model="bert-large"), 422, "the report used bert-large"),
        (ada, ada.sign("admin/elsewhere", files), 400, "is about admin/elsewhere"),
        (ada, {**good, "more": "x" * 70_000}, 413, "64 KB"),
        (ada, [1], 400, "JSON object"),
    ):
        answer = reporter.send(repo, body)
        assert answer.status == status, answer
        assert said in answer.json["error"]
    path = f"/api/hub/v1/repos/{repo}/reports"
    assert server.ask("POST", path, good, token=None).status == 401
    assert server.ask("GET", path, token=None).json == []


def test_reports_about_what_one_may_not_see(server: Hub, ada: Reporter) -> None:
    repo = server.new_name()
    files = adapter_files()
    server.create(repo, private=True)
    assert server.commit(repo, files).status == 200
    nothing = ada.send("admin/never-was", ada.sign("admin/never-was", files))
    hidden = ada.send(repo, ada.sign(repo, files))
    assert nothing.status == hidden.status == 404
    assert server.ask("GET", f"/api/hub/v1/repos/{repo}/reports", token=None).status == 404


def test_only_the_signer_takes_it_back(server: Hub, ada: Reporter, ben: Reporter) -> None:
    repo, files = _publish(server, "sentiment/films")
    number = ada.send(repo, ada.sign(repo, files)).json["id"]
    path = f"/api/hub/v1/repos/{repo}/reports"
    assert server.ask("DELETE", f"{path}/{number}", token=ben.token).status == 403
    assert server.ask("DELETE", f"{path}/{number}", token=None).status == 401
    assert server.ask("DELETE", f"{path}/999999", token=ada.token).status == 404
    assert server.ask("DELETE", f"{path}/{number}", token=ada.token).status == 200
    assert server.ask("GET", path, token=None).json == []
    assert server.ask("GET", f"{path}/{number}", token=None).status == 404


def test_a_revoked_key_counts_for_nothing(server: Hub) -> None:
    reporter = Reporter(server, "carl-measures")
    repo, files = _publish(server, "sentiment/films")
    body = reporter.sign(repo, files)
    assert reporter.send(repo, body).status == 201
    path = f"/api/hub/v1/users/carl-measures/keys/{reporter.key.public.id}"
    assert server.ask("DELETE", path, token=reporter.token).status == 200
    assert server.ask("GET", f"/api/hub/v1/repos/{repo}/reports", token=None).json == []
    refused = reporter.send(repo, body)
    assert refused.status == 403
    assert "revoked" in refused.json["error"]


def test_a_report_stays_with_the_files_that_it_is_about(server: Hub, ada: Reporter) -> None:
    repo, files = _publish(server, "sentiment/films")
    assert ada.send(repo, ada.sign(repo, files)).status == 201
    newer = adapter_files(weights=(0.25, 3.0))
    assert server.commit(repo, newer).status == 200
    (found,) = server.ask("GET", f"/api/hub/v1/repos/{repo}/reports", token=None).json
    assert found["current"] is False
    assert "older version" in _page(server, f"/adapters/{repo}/")


def _ranked(page: str, metric: str) -> list[str]:
    """Return the adapters of the board of one metric, in its order."""
    tables = re.findall(r'<table class="board">(.*?)</table>', page, re.DOTALL)
    (table,) = [t for t in tables if f": {metric}," in t and "Evaluated by" in t]
    return re.findall(r'<th scope="row"><a [^>]*>@(\S+?)</a>', table)


def test_a_leaderboard_of_what_was_measured(server: Hub, ada: Reporter, ben: Reporter) -> None:
    task = "rating/plays"
    values = {0.7: ada, 0.9: ben, 0.8: ada}
    repos = {}
    for value, reporter in values.items():
        repo, files = _publish(server, task, weights=(value, 1.0))
        repos[value] = repo
        body = reporter.sign(repo, files, value, dataset=task)
        assert reporter.send(repo, body).status == 201
    # The same data only: another file is another board.
    repo, files = _publish(server, task, weights=(9.0, 1.0))
    body = ada.sign(repo, files, 0.99, dataset=task, data_sha256="cd" * 32)
    assert ada.send(repo, body).status == 201
    place = "/tasks/text_task/rating/plays/"
    twin = server.ask("GET", f"{place}index.json", token=None).json
    boards = {(b["metric"], b["data"][-10:]): b for b in twin["measured"]}
    assert len(boards) == 4
    main = boards["accuracy", DATA[:10]]
    best = [repos[0.9], repos[0.8], repos[0.7]]
    assert [f"{r['adapter']['owner']}/{r['adapter']['name']}" for r in main["results"]] == best
    assert main["ranks"] == [1, 2, 3]
    # Of an error the lowest is best.
    lower = boards["mse", DATA[:10]]
    assert lower["higher_is_better"] is False
    assert [f"{r['adapter']['owner']}/{r['adapter']['name']}" for r in lower["results"]] == best
    by_name = server.ask("GET", f"{place}index.json?sort=adapter", token=None).json
    (sorted_,) = [
        b for b in by_name["measured"] if (b["metric"], b["data"][-10:]) == ("accuracy", DATA[:10])
    ]
    names = [f"{r['adapter']['owner']}/{r['adapter']['name']}" for r in sorted_["results"]]
    assert names == sorted(best)
    assert [sorted_["ranks"][names.index(repo)] for repo in best] == [1, 2, 3]
    page = _page(server, place)
    assert "Measured and signed" in page
    assert 'href="?sort=model"' in page
    # By the API, too; and the newest of one signer counts.
    newer = ada.sign(repos[0.7], adapter_files(weights=(0.7, 1.0)), 0.95, dataset=task)
    assert ada.send(repos[0.7], newer).status == 201
    found = server.ask("GET", f"/api/hub/v1/reports?dataset={task}", token=None).json
    assert len(found) == 4
    assert 0.95 in [item["report"]["results"][0]["value"] for item in found]
    assert server.ask("GET", "/api/hub/v1/reports", token=None).status == 400


def test_measured_values_are_compared(server: Hub, ada: Reporter) -> None:
    repos = []
    for value in (0.6125, 0.7375):
        repo, files = _publish(server, "sentiment/films", weights=(value, 2.0))
        assert ada.send(repo, ada.sign(repo, files, value)).status == 201
        repos.append(repo)
    twin = server.ask(
        "GET", f"/compare/index.json?a=%40{repos[0]}&a=%40{repos[1]}", token=None
    ).json
    rows = {row["label"]: row["values"] for row in twin["measured"]}
    label = f"accuracy on sentiment/films, test ({DATA[:10]})"
    assert rows[label] == ["0.6125 ± 0.0100", "0.7375 ± 0.0100"]
    assert twin["tensors"] == 1
    assert len(set(twin["norms"][0]["values"])) == 2


def test_a_link_to_the_signer_leads_somewhere(shared_hub: Hub, ada: Reporter) -> None:
    """Who has published nothing has no page; the name stands there without a link."""
    repo, files = _publish(shared_hub, "sentiment/links")
    signed = ada.sign(repo, files, dataset="sentiment/links")
    assert ada.send(repo, signed).status == 201
    place = f"/people/{ada.name}/"

    def linked() -> bool:
        return f'href="../../..{place}"' in _page(shared_hub, f"/adapters/{repo}/")

    exists = shared_hub.ask("GET", place, token=None).status == 200
    assert linked() == exists
    assert f"@{ada.name}" in _page(shared_hub, f"/adapters/{repo}/")
    shared_hub.published(f"{ada.name}/own", adapter_files(weights=(8.0, 8.0)), token=ada.token)
    assert linked()
    assert shared_hub.ask("GET", place, token=None).status == 200
