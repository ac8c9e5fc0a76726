"""Released clients against the index that our pages carry: the real ``adapters`` 1.3.0 over HTTP.

Its index address is a constant of ``adapters.utils``; a program that uses another hub sets the names that are
made of it. All else is the client's own: the request, its cache, the search in the index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapterhub.hub import Hub
from tests.conftest import ROOT
from tests.hub.copies.conftest import WebServer

CLIENT = Path(os.environ.get("ADAPTERHUB_CLIENTS") or ROOT / "build" / "clients") / "adapters"

_SCRIPT = """
import json, sys
from adapters import utils

places, questions = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
found = {}
for name, base in places.items():
    utils.ADAPTER_HUB_INDEX_FILE = base + "v2/index/{}.json"
    utils.ADAPTER_HUB_ADAPTER_ENTRY_JSON = base + "v2/adapters/{}/{}.json"
    answers = found[name] = []
    for identifier, model, type_, config in questions:
        one = []
        for index in (None, base + "index_" + type_ + "/" + model + ".json"):
            # The first layout is that of version 1 of the library, which had other configurations.
            configs = (None, config) if index is None else (None,)
            local = utils.download_cached(index) if index else None
            for asked in configs:
                try:
                    got = utils.find_in_index(identifier, model, adapter_config=asked, index_file=local)
                    one.append(got.removeprefix(base).removeprefix("v2/") if got else None)
                except ValueError as error:
                    one.append(str(error))
        answers.append(one)
    entry = utils.ADAPTER_HUB_ADAPTER_ENTRY_JSON.format("ukp", sys.argv[3])
    found[name + " entry"] = json.load(open(utils.download_cached(entry)))
print("SEEN" + json.dumps(found))
"""


@contextmanager
def served(folder: Path) -> Iterator[WebServer]:
    server = WebServer(folder)
    running = server.start()
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()


@pytest.mark.slow
def test_every_identifier_means_what_it_meant(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="pages need the [hub] extra")
    cards = shared / "hub_cards"
    if not cards.is_dir():
        pytest.skip(f"no copy of the original cards in {shared}")
    if not CLIENT.is_dir():
        pytest.skip(f"no adapters 1.3.0 in {CLIENT}; 'make clients' gets it")
    from adapterhub.hub.importer import import_cards
    from adapterhub.hub.static import build_site

    hub, _ = import_cards(cards, tmp_path / "hub")
    build_site(hub, tmp_path / "site")
    questions = list(asked(hub))
    assert len(questions) == 2 * 291
    stem = next(e.card.stem for e in hub.catalogue.entries if e.card.owner == "ukp")
    with served(tmp_path / "site") as ours, served(cards) as before:
        places = {"ours": f"{ours.url}dist/", "before": f"{before.url}dist/"}
        found = run(tmp_path, places, questions, stem)
    assert found["ours entry"]["files"] == found["before entry"]["files"]
    assert found["ours entry"]["default_version"] == found["before entry"]["default_version"]
    different = [
        (question[0], new, old)
        for question, new, old in zip(questions, found["ours"], found["before"], strict=True)
        if new != old
    ]
    assert different == []
    # And each means its own card, where the identifier says enough.
    for question, (_, with_config, _) in zip(questions, found["ours"], strict=True):
        assert with_config is not None, question[0]
    own = {f"adapters/{e.card.owner}/{e.card.stem}.json" for e in hub.catalogue.entries}
    assert {answer[1] for answer in found["ours"]} == own


def asked(hub: Hub) -> Iterator[tuple[str, str, str, Any]]:
    """Yield each way to name each adapter: identifier, base model, type and configuration."""
    for entry in hub.catalogue.entries:
        card = entry.card
        config = dict(entry.config)
        if card.old_hashes:
            config = {**config, "reduction_factor": float(config["reduction_factor"])}
        for identifier in (entry.task_identifier, entry.identifier):
            yield identifier, card.model_name, card.type, config


def run(folder: Path, places: dict[str, str], questions: list[Any], stem: str) -> dict[str, Any]:
    """Ask the client in a process of its own, with a fresh cache."""
    (folder / "places.json").write_text(json.dumps(places))
    (folder / "questions.json").write_text(json.dumps(questions))
    drop = ("HF_", "HUGGING", "TRANSFORMERS")
    env = {key: value for key, value in os.environ.items() if not key.startswith(drop)}
    env |= {
        "PYTHONPATH": str(CLIENT),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(folder / "home"),
        "TORCH_HOME": str(folder / "torch"),
    }
    arguments = [str(folder / "places.json"), str(folder / "questions.json"), stem]
    made = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert made.returncode == 0, made.stderr[-4000:]
    return json.loads(made.stdout.rpartition("SEEN")[2])
