"""The archived cards of the original hub, where they are at hand (not in this repository)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from adapterhub.errors import HubError
from adapterhub.hub import Hub
from adapterhub.hub.confighash import card_hash
from adapterhub.hub.resolve import resolve
from tests.hub.conftest import make_adapter


@pytest.fixture(scope="module")
def cards(shared: Path) -> Path:
    folder = shared / "hub_cards"
    if not folder.is_dir():
        pytest.skip(f"no copy of the original cards in {shared}")
    return folder


@pytest.fixture(scope="module")
def real(cards: Path) -> Hub:
    return Hub(cards)


def test_every_card_is_read(real: Hub) -> None:
    counts = {
        kind: len(real.cards(kind)) for kind in ("adapter", "task", "subtask", "architecture")
    }
    assert counts == {"adapter": 291, "task": 123, "subtask": 188, "architecture": 5}
    assert sum(len(card.versions) for card in real.catalogue.adapters.values()) == 501
    assert not real.writable


def test_every_adapter_resolves_by_task_owner_and_config(real: Hub) -> None:
    catalogue = real.catalogue  # read once: real.resolve looks for changes every time
    for entry in catalogue.entries:
        for config in (entry.config, entry.config_hash):
            found = resolve(
                catalogue, entry.task_identifier, base_model=entry.card.model_name, config=config
            )
            assert found.identifier == entry.identifier
        assert resolve(catalogue, entry.identifier).card == entry.card
    assert len(catalogue.entries) == 291


def test_hashes_are_those_of_the_published_index(real: Hub, cards: Path) -> None:
    for entry in real.catalogue.entries:
        path = cards / "dist" / "v2" / entry.card.path
        published = json.loads(path.with_suffix(".json").read_text())
        assert published["config_id"] in entry.hashes | {
            card_hash(published["info"]["adapter_config"])
        }
        # One card says 2.0; it is found under the hash of 2 now, which was its trouble before.
        if published["info"]["adapter_config"]["reduction_factor"] != 2.0:
            assert published["config_id"] == card_hash(entry.config)
        assert published["default_version"] == entry.version.version


def test_no_identifier_gives_another_card(real: Hub) -> None:
    """Without a config the old index gave another card for 90 of 291; now that is an error."""
    catalogue, ambiguous = real.catalogue, 0
    for entry in catalogue.entries:
        same = [other for other in catalogue.entries if other.place == entry.place]
        if len([other for other in same if other.card.owner == entry.card.owner]) > 1:
            ambiguous += 1
            with pytest.raises(HubError, match=re.escape(entry.identifier)):
                resolve(catalogue, entry.task_identifier, base_model=entry.card.model_name)
        else:
            found = resolve(catalogue, entry.task_identifier, base_model=entry.card.model_name)
            assert found.identifier == entry.identifier
    assert 90 <= ambiguous < 291


def test_files_elsewhere_are_fetched_from_there(real: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match=r"https://public.ukp.*HF_HUB_OFFLINE forbids"):
        real.pull("@ukp/bert-base-uncased_nli_multinli_pfeiffer")


def test_search(real: Hub) -> None:
    best = real.search("sentimnt sst-2 roberta")[0]
    assert (best.card.subtask, best.card.model_type) == ("sst-2", "roberta")
    assert {e.card.task for e in real.search(language="German", task="wiki")} == {"de"}
    assert len(real.search(architecture="houlsby")) == 74
    assert len(real.search(owner="mlki")) == 12


def test_check_repairs_and_reports_without_errors(real: Hub) -> None:
    findings = real.check()
    assert [f for f in findings if f.severity == "error"] == []
    odd = {f.where for f in findings if f.code == "odd-identifier"}
    assert odd == {"tasks/text_task/text-classification.yml"}
    assert any("2.0 read as 2" in f.message for f in findings if f.code == "repaired")
    assert sum(f.code == "dependency" and f.severity == "note" for f in findings) == 6
    assert sum(f.code == "file-name" for f in findings) >= 17


def test_a_copy_can_be_published_to(cards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    for part in ("tasks", "subtasks", "architectures", "adapters"):
        shutil.copytree(cards / part, folder / part, copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    hub = Hub.init(folder)
    adapter = make_adapter(tmp_path / "a")
    entry = hub.publish(adapter, task="nli", subtask="rte", owner="new", language="english")
    assert entry.card.using == "pfeiffer"
    assert entry.metric == "accuracy"
    # The existing card of the same thing gets a version of ours beside its address.
    stem = "bert-base-uncased_nli_rte_pfeiffer"
    more = hub.publish(
        adapter, task="nli", subtask="rte", owner="ukp", name=stem, version="converted"
    )
    assert len(more.card.versions) > 1
    assert hub.pull(f"@ukp/{stem}").is_dir()
    assert not [f for f in hub.check() if f.severity == "error"]
