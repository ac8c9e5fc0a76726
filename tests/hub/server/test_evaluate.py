"""From the command line to the leaderboard: ``adapterhub evaluate`` measures, signs and sends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.hub.reports import SignedReport
from adapterhub.hub.signing import SigningKey
from tests.hub.server.conftest import Hub
from tests.hub.tinymodels import make_adapters, make_models

pytestmark = pytest.mark.slow

_CARD = b"---\ntags:\n- adapterhub:sentiment/cinema\n---\n# Hello\n"


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adapterhub.cli", "evaluate", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_measured_signed_sent_and_shown(server: Hub, tmp_path: Path) -> None:
    models = make_models(tmp_path / "models")
    adapters = make_adapters(models, tmp_path / "adapters")
    token = server.user("eve-evaluates")
    files = {path.name: path.read_bytes() for path in adapters["bn-class"].iterdir()}
    server.published("eve-evaluates/films", {**files, "README.md": _CARD}, token=token)
    key = SigningKey.generate("eve")
    key.save(tmp_path / "key.json")
    made = server.ask("POST", "/api/hub/v1/keys", {"key": str(key.public)}, token=token)
    assert made.status == 201
    data = tmp_path / "cinema.jsonl"
    texts = ["the film is good", "a bad film", "dull .", "it was great"]
    labels = ["positive", "negative", "neutral", "positive"]
    lines = [json.dumps({"text": t, "label": n}) for t, n in zip(texts, labels, strict=True)]
    data.write_text("\n".join(lines))
    report = tmp_path / "report.json"
    done = _run(
        *("@eve-evaluates/films", "--data", str(data), "--split", "test"),
        *("--model", str(models / "bert"), "--dataset", "sentiment/cinema", "--json"),
        *("--report", str(report), "--key", str(tmp_path / "key.json"), "--submit", server.url),
        HF_TOKEN=token,
        HF_HOME=str(tmp_path / "home"),
        HF_HUB_OFFLINE="0",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    printed = json.loads(done.stdout)
    assert [item["metric"] for item in printed["results"]][:2] == ["accuracy", "macro_f1"]
    assert token not in done.stdout + done.stderr
    signed = SignedReport.load(report)
    signed.verify()
    assert signed.signature.key == key.public
    assert signed.report.examples == 4
    assert set(signed.report.base_files) == {"config.json", "model.safetensors"}
    found = server.ask("GET", "/api/hub/v1/reports?dataset=sentiment/cinema", token=None).json
    assert [item["report"] for item in found] == [signed.report.to_json()]
    value = {r["metric"]: r["value"] for r in found[0]["report"]["results"]}["accuracy"]
    assert value == printed["results"][0]["value"]
    page = server.ask(
        "GET", "/tasks/text_task/sentiment/cinema/", token=None, headers={"Accept": "text/html"}
    )
    assert f"{value:.4f}" in page.body.decode()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    done = _run("folder", "--data", "x.jsonl", "--task", "movies")
    assert done.returncode == 1
    assert "either --task or --data" in done.stderr
    done = _run(
        *(str(tmp_path), "--data", "x.jsonl", "--report", "r.json"),
        ADAPTERHUB_KEY=str(tmp_path / "nokey.json"),
    )
    assert done.returncode == 1
    assert "Error" in done.stderr


def test_a_report_into_a_folder(tmp_path: Path) -> None:
    from adapterhub.hub import Hub as Folder
    from adapterhub.hub.folderkeys import FolderKey, dumps
    from adapterhub.hub.web import FolderSource

    models = make_models(tmp_path / "models")
    adapters = make_adapters(models, tmp_path / "adapters")
    folder = Folder.init(tmp_path / "hub")
    options = {"task": "sentiment", "subtask": "cinema", "owner": "eve", "name": "films"}
    folder.publish(adapters["bn-class"], **options)
    key = SigningKey.generate("eve")
    key.save(tmp_path / "key.json")
    data = tmp_path / "cinema.jsonl"
    data.write_text('{"text": "the film is good", "label": "positive"}\n')
    words = (
        *("@eve/films", "--data", str(data), "--model", str(models / "bert")),
        *("--dataset", "sentiment/cinema", "--key", str(tmp_path / "key.json")),
        *("--submit", str(folder.path)),
    )
    refused = _run(*words)
    assert refused.returncode == 1
    assert f"- key: {key.public}" in " ".join(refused.stderr.split())
    (folder.path / "keys").mkdir()
    (folder.path / "keys" / "eve.yaml").write_bytes(dumps([FolderKey(key.public, "eve")]))
    done = _run(*words)
    assert done.returncode == 0, done.stderr[-3000:]
    found = FolderSource(folder).measured("eve", "films")
    assert found[0].metric == "accuracy"
    assert found[0].signed_by == "eve"
