"""Taking over a collection of cards: nothing dropped, every change on record, old names alive."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from adapterhub.errors import HubError
from adapterhub.hub import Hub
from adapterhub.hub.confighash import card_hash
from adapterhub.hub.importer import LOG_FILE, ImportLog, import_cards
from adapterhub.hub.importer.records import CODES
from adapterhub.hub.resolve import resolve
from tests.hub.conftest import make_adapter, snapshot

DEFECTS = Path(__file__).parent / "cards_with_defects"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "cards"
    shutil.copytree(DEFECTS, folder)
    index = folder / "dist" / "v2" / "index" / "bert-base-uncased.json"
    index.parent.mkdir(parents=True)
    index.write_text('{"mood": {"diary": {"default": "adapters/ann/bert-mood.json"}}}')
    return folder


@pytest.fixture
def imported(source: Path, tmp_path: Path) -> tuple[Hub, ImportLog]:
    return import_cards(source, tmp_path / "hub")


def _codes(log: ImportLog, action: str) -> set[str]:
    return {record.code for record in log.records if record.action == action}


def _record(log: ImportLog, code: str, source: str) -> Any:
    found = [r for r in log.records if r.code == code and r.source == source]
    assert len(found) == 1, found
    return found[0]


def test_every_class_of_defect_is_in_the_log(imported: tuple[Hub, ImportLog]) -> None:
    hub, log = imported
    assert _codes(log, "repaired") == {
        "blanks",
        "default-chosen",
        "dependency",
        "duplicate",
        "empty-text",
        "file-name",
        "file-suffix",
        "handle",
        "language",
        "metric-case",
        "odd-identifier",
        "owner-respected",
        "template-comments",
        "version-name",
        "whole-number",
    }
    assert _codes(log, "kept") == {
        "default-order",
        "dependency",
        "email",
        "format",
        "head-class",
        "no-hidden-size",
        "no-license",
        "plain-http",
        "score-unit",
        "shared-id",
        "unused",
        "weights-elsewhere",
    }
    assert {record.code for record in log.records} <= CODES.keys()
    written = json.loads((hub.path / LOG_FILE).read_bytes())
    assert len(written["records"]) == len(log.records)
    assert written["codes"].keys() == {record.code for record in log.records}


def test_every_card_has_a_place(source: Path, imported: tuple[Hub, ImportLog]) -> None:
    hub, log = imported
    cards = {p.relative_to(source).as_posix() for p in source.rglob("*.y*ml")}
    assert log.cards.keys() == cards
    assert len(set(log.cards.values())) == len(cards)
    assert all((hub.path / target).is_file() for target in log.cards.values())
    assert {entry.identifier for entry in hub.catalogue.entries} == {
        "@ann/bert-mood",
        "@ann/bert-mood-two",
        "@ann/topic-rf2",
        "@ann/topic-rf2-2",
        "@bob/bert-en",
        "@bob/bert-mood",
    }


def test_what_cannot_be_read_is_kept_byte_for_byte(
    source: Path, imported: tuple[Hub, ImportLog]
) -> None:
    hub, log = imported
    failed = {r.source: r.message for r in log.records if r.action == "failed"}
    assert failed.keys() == {"adapters/bob/broken.yaml", "adapters/bob/incomplete.yaml"}
    assert "anchors" in failed["adapters/bob/broken.yaml"]
    assert "config" in failed["adapters/bob/incomplete.yaml"]
    name = "adapters/bob/broken.yaml"
    assert (hub.path / name).read_bytes() == (source / name).read_bytes()


def test_values_are_mended(imported: tuple[Hub, ImportLog]) -> None:
    hub, log = imported
    task = hub.catalogue.tasks["text_task", "topic"]
    assert task.path == "tasks/text_task/topic.yaml"
    assert _record(log, "odd-identifier", "tasks/text_task/topic.yml").before == 'topic"'
    diary = hub.catalogue.subtasks["text_task", "mood", "diary"]
    assert (diary.languages, diary.url) == (("en", "de"), "https://example.org/diary")
    assert hub.catalogue.subtasks["text_task", "topic", "news"].metric == "f1"
    card = hub.catalogue.adapters["ann", "bert-mood"]
    assert (card.github, card.twitter) == ("ann", "ann")
    assert card.dependencies == ("@bob/bert-en", "@ann/bert-mood", "nothing/here@nobody")
    assert [v.version for v in hub.catalogue.adapters["ann", "bert-mood-two"].versions] == [
        "1",
        "2",
    ]


def test_two_point_zero_is_found_as_before_and_as_two(imported: tuple[Hub, ImportLog]) -> None:
    hub, log = imported
    assert log.cards["adapters/ann/topic-rf2.yml"] == "adapters/ann/topic-rf2-2.yaml"
    config = hub.catalogue.architectures["houlsby"].config
    for factor in (2, 2.0):
        wanted = card_hash({**config, "reduction_factor": factor})
        assert hub.resolve("topic/news", config=wanted).identifier == "@ann/topic-rf2-2"
        index = hub.path / "dist" / "v2" / "index" / "org" / "model-with-slash.json"
        group = json.loads(index.read_bytes())["topic"]["news"]
        assert group[wanted]["versions"] == {"ann": "adapters/ann/topic-rf2-2.json"}


def test_the_default_is_that_of_the_published_index(imported: tuple[Hub, ImportLog]) -> None:
    hub, log = imported
    found = hub.resolve("mood/diary", base_model="bert-base-uncased")
    assert (found.identifier, found.reason) == ("@ann/bert-mood", "marked as default among 3")
    # The old index gave Ann's adapter whoever was asked for.
    assert hub.resolve("mood/diary@bob").identifier == "@bob/bert-mood"
    record = next(r for r in log.records if r.code == "owner-respected")
    assert (record.before, record.after) == ("@ann/bert-mood", "@bob/bert-mood")


def test_without_an_index_the_default_does_not_depend_on_the_disk(
    source: Path, tmp_path: Path
) -> None:
    shutil.rmtree(source / "dist")
    hub, _ = import_cards(source, tmp_path / "hub")
    found = hub.resolve("mood/diary", base_model="bert-base-uncased")
    assert found.identifier == "@ann/bert-mood-two"  # pfeiffer before houlsby, then by path


def test_again_changes_nothing(source: Path, imported: tuple[Hub, ImportLog]) -> None:
    hub, log = imported
    before = snapshot(hub.path)
    _, again = import_cards(source, hub.path)
    assert snapshot(hub.path) == before
    assert again.dumps() == log.dumps()


def test_what_was_edited_here_is_left_alone(source: Path, imported: tuple[Hub, ImportLog]) -> None:
    hub, _ = imported
    mine = hub.path / "adapters" / "bob" / "bert-en.yaml"
    mine.write_bytes(mine.read_bytes() + b"# mine\n")
    theirs = source / "tasks" / "text_task" / "idle.yaml"
    theirs.write_text(theirs.read_text().replace("No adapter", "Nothing"))
    _, log = import_cards(source, hub.path)
    assert mine.read_bytes().endswith(b"# mine\n")
    assert {r.source for r in log.records if r.code == "conflict"} == {"adapters/bob/bert-en.yaml"}
    assert hub.catalogue.tasks["text_task", "idle"].description.startswith("Nothing")


def test_the_result_can_be_published_to(
    imported: tuple[Hub, ImportLog], tmp_path: Path, source: Path
) -> None:
    hub, _ = imported
    adapter = make_adapter(tmp_path / "a")
    hub.publish(adapter, task="topic", subtask="news", owner="cat")
    hub2, _ = import_cards(source, hub.path)
    assert hub2.resolve("topic/news@cat").available


def test_a_wrong_source_or_target_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="holds no cards"):
        import_cards(tmp_path / "nowhere", tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
    with pytest.raises(HubError, match="--to"):
        import_cards(source, source)


# -- the real collection ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_cards(shared: Path) -> Path:
    folder = shared / "hub_cards"
    if not folder.is_dir():
        pytest.skip(f"no copy of the original cards in {shared}")
    return folder


@pytest.fixture(scope="module")
def real(real_cards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Hub, ImportLog]:
    return import_cards(real_cards, tmp_path_factory.mktemp("real") / "hub")


def test_real_collection_whole(real: tuple[Hub, ImportLog]) -> None:
    hub, log = real
    assert log.counts == {
        "adapter_type": 2,
        "task": 26 + 97,
        "subtask": 188,
        "architecture": 5,
        "adapter": 291,
        "version": 501,
    }
    assert len(hub.catalogue.entries) == 291
    assert "failed" not in log.summary()
    assert [f for f in hub.check() if f.severity == "error"] == []
    # What was counted in the cards by hand before this was written.
    kept, repaired = log.summary()["kept"], log.summary()["repaired"]
    assert kept["email"] == 153
    assert kept["head-class"] == 14
    assert kept["default-order"] == 9
    assert kept["weights-elsewhere"] == 501
    assert kept["unused"] == 55 + 95 + 2
    assert repaired["dependency"] == 6
    assert repaired["file-name"] == 3 + 14
    assert repaired["file-suffix"] == 2
    assert repaired["odd-identifier"] == 1
    assert repaired["whole-number"] == 1
    assert repaired["default-chosen"] == 74


def test_real_indexes_are_written_back(real: tuple[Hub, ImportLog], real_cards: Path) -> None:
    """All as published, but for the card with 2.0, which is under the hash of 2 as well."""
    hub, _ = real
    files = sorted(p.relative_to(real_cards) for p in (real_cards / "dist").rglob("*.json"))
    assert len(files) == 614
    differ = Counter()
    for path in files:
        before, after = ((root / path).read_bytes() for root in (real_cards, hub.path))
        if path.name == "all.json":
            theirs, ours = (
                {info["adapter_id"]: info for info in json.loads(text)} for text in (before, after)
            )
            assert theirs == ours  # 2 == 2.0 here; only the order is another
        elif before != after:
            differ["model-with-it" if "index" in str(path) else "card"] += 1
            if "index" in str(path):
                old, new = json.loads(before), json.loads(after)
                extra = new["nli"]["multinli"].keys() - old["nli"]["multinli"].keys()
                mended = [new["nli"]["multinli"].pop(name) for name in extra]
                assert mended
                assert all(group in old["nli"]["multinli"].values() for group in mended)
                assert old == new
    assert differ == {"model-with-it": 2, "card": 2}


def test_real_identifiers_mean_what_they_meant(
    real: tuple[Hub, ImportLog], real_cards: Path
) -> None:
    hub, _ = real
    catalogue, asked = hub.catalogue, 0
    root = real_cards / "dist" / "v2" / "index"
    for path in sorted(root.rglob("*.json")):
        model = path.relative_to(root).as_posix().removesuffix(".json")
        for task, subtasks in json.loads(path.read_bytes()).items():
            for subtask, group in subtasks.items():
                for config, item in group.items():
                    pairs = {"": item}.items() if config == "default" else item["versions"].items()
                    for owner, where in pairs:
                        name = f"{task}/{subtask}" + (f"@{owner}" if owner else "")
                        wanted = None if config == "default" else config
                        found = resolve(catalogue, name, base_model=model, config=wanted)
                        expected = where.removeprefix("adapters/").removesuffix(".json")
                        assert found.identifier == f"@{expected}"
                        assert resolve(catalogue, f"@{expected}").identifier == f"@{expected}"
                        asked += 1
    assert asked == 201 + 291
