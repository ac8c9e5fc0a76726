from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from adapterhub.errors import HubError
from adapterhub.hub import Hub, cardfile
from adapterhub.hub.storage import blob_path, file_sha256
from tests.hub.conftest import LORA, floats, make_adapter, safetensors_bytes, snapshot

ARGS = {"task": "sentiment", "subtask": "sst-2", "owner": "ukp"}


def test_published_adapter_is_visible_with_all_its_facts(hub: Hub, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", head=True, **{"README.md": b"# Sentiment\n"})
    entry = hub.publish(
        folder,
        **ARGS,
        description="  Trained on SST-2.\nWell. ",
        license="apache-2.0",
        author="Ada",
        metrics={"accuracy": 0.92},
        language="English",
    )
    assert entry.identifier == "@ukp/bert-base-uncased_sentiment_sst-2_seq_bn"
    assert entry.task_identifier == "sentiment/sst-2@ukp"
    again = Hub(hub.path).resolve("sentiment/sst-2")
    assert again == entry
    data = again.to_json()
    assert data["license"] == "Apache-2.0"
    assert data["languages"] == ["en"]
    assert data["config_hash"] == "9076f36a74755ac4"
    assert data["parameters"] == 3
    assert data["prediction_head"] is True
    assert data["metrics"] == {"accuracy": 0.92}
    assert data["description"] == "Trained on SST-2.\nWell."
    names = {"README.md", "adapter.safetensors", "adapter_config.json"}
    names |= {"head_config.json", "model_head.safetensors"}
    assert {file["path"] for file in data["files"]} == names
    for member in entry.version.members:
        assert file_sha256(blob_path(hub.path, member.sha256)) == (member.sha256, member.size)
    assert [f for f in hub.check() if f.severity == "error"] == []
    assert [f for f in hub.check() if f.severity == "warning"] == []
    json.dumps(data)


def test_sha256_of_a_version_is_what_sha256sum_gives(hub: Hub, adapter: Path) -> None:
    import hashlib

    entry = hub.publish(adapter, **ARGS)
    names = sorted(path.name for path in adapter.iterdir())
    lines = [f"{hashlib.sha256((adapter / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    assert entry.version.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_cards_for_a_new_task_are_made_once(hub: Hub, adapter: Path) -> None:
    hub.publish(adapter, **ARGS)
    task = hub.path / "tasks" / "text_task" / "sentiment.yaml"
    assert cardfile.load(task)["task"] == "sentiment"
    task.write_text("task: sentiment\ndisplayname: Mine\ndescription: Mine.\n")
    hub.publish(adapter, **{**ARGS, "owner": "other"})
    assert hub.catalogue.tasks["text_task", "sentiment"].displayname == "Mine"


def test_language_adapter_gets_the_type_of_its_known_task(hub: Hub, adapter: Path) -> None:
    entry = hub.publish(adapter, task="sw", subtask="wiki", owner="ukp", type="text_lang")
    assert entry.languages == ("sw",)
    other = hub.publish(
        make_adapter(adapter.parent / "b", model="gpt2"), task="sw", subtask="wiki", owner="ukp"
    )
    assert other.card.type == "text_lang"


def test_score_is_the_metric_of_the_subtask(hub: Hub, adapter: Path) -> None:
    hub.publish(adapter, **ARGS)
    card = hub.path / "subtasks" / "text_task" / "sentiment_sst-2.yaml"
    text = card.read_text() + "metric: {name: Accuracy, higher_is_better: true}\n"
    card.write_text(text)
    entry = hub.publish(
        make_adapter(adapter.parent / "b", weights=(9.0,)),
        **ARGS,
        version="2",
        metrics={"ACCURACY": 0.5, "f1": 0.4},
    )
    assert entry.version.score == 0.5
    assert entry.metric == "accuracy"


def test_versions_are_immutable_and_repeats_do_nothing(hub: Hub, adapter: Path) -> None:
    first = hub.publish(adapter, **ARGS)
    before = snapshot(hub.path)
    assert hub.publish(adapter, **ARGS) == first
    assert snapshot(hub.path) == before
    other = make_adapter(adapter.parent / "b", weights=(3.0, 4.0))
    with pytest.raises(HubError, match=r"version '1' of @ukp/.* never changes.*version='2'"):
        hub.publish(other, **ARGS)
    assert snapshot(hub.path) == before
    second = hub.publish(other, **ARGS, version="2")
    assert [item.version for item in second.card.versions] == ["1", "2"]
    assert hub.resolve("sentiment/sst-2").version.version == "2"
    assert hub.resolve("sentiment/sst-2", version="1").version == first.version


def test_a_card_written_by_hand_keeps_its_fields(hub: Hub, adapter: Path) -> None:
    entry = hub.publish(adapter, **ARGS)
    path = hub.path / entry.card.path
    card = cardfile.load(path)
    card |= {"citation": "@misc{a}\n", "x-local": {"a": [1]}}
    path.write_bytes(cardfile.dumps(card))
    hub.publish(make_adapter(adapter.parent / "b", weights=(9.0,)), **ARGS, version="2")
    assert cardfile.load(path)["x-local"] == {"a": [1]}
    assert hub.resolve(entry.identifier).card.citation == "@misc{a}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subtask": "imdb"}, "subtask is 'sst-2' and not 'imdb'"),
        ({"base_model": "gpt2"}, "base model is 'bert-base-uncased' and not 'gpt2'"),
    ],
)
def test_versions_are_for_one_thing(hub: Hub, adapter: Path, change, message: str) -> None:
    hub.publish(adapter, **ARGS, name="mine")
    with pytest.raises(HubError, match=message):
        hub.publish(adapter, **{**ARGS, "version": "2", "name": "mine", **change})


def test_other_config_needs_another_name_and_the_error_gives_one(hub: Hub, tmp_path: Path) -> None:
    hub.publish(make_adapter(tmp_path / "a", config=LORA), **ARGS)
    other = make_adapter(tmp_path / "b", config={**LORA, "r": 16})
    with pytest.raises(HubError, match="config is") as caught:
        hub.publish(other, **ARGS, version="2")
    name = str(caught.value).rpartition("name=")[2].split("'")[1]
    hub.publish(other, **ARGS, name=name)


def test_twins_are_refused(hub: Hub, adapter: Path) -> None:
    hub.publish(adapter, **ARGS)
    other = make_adapter(adapter.parent / "b", weights=(9.0,))
    with pytest.raises(HubError, match=r"next version.*version='2'"):
        hub.publish(other, **ARGS, name="another")


def test_names_that_differ_in_case_are_refused(hub: Hub, adapter: Path) -> None:
    hub.publish(adapter, **ARGS)
    with pytest.raises(HubError, match="upper and lower case"):
        hub.publish(adapter, **{**ARGS, "owner": "UKP"})


def test_misspelt_task_is_questioned(hub: Hub, adapter: Path) -> None:
    hub.publish(adapter, **ARGS)
    wrong = {**ARGS, "task": "sentimnt", "owner": "b"}
    with pytest.raises(HubError, match=r"Did you mean 'sentiment'.*new_task=True"):
        hub.publish(adapter, **wrong)
    assert hub.publish(adapter, **wrong, new_task=True).card.task == "sentimnt"


def test_all_problems_at_once_and_nothing_left_behind(hub: Hub, adapter: Path) -> None:
    before = snapshot(hub.path)
    (adapter / "pytorch_adapter.bin").write_bytes(b"PK\x03\x04...")
    (adapter / "train.py").write_text("import os")
    (adapter / "readme.md").write_text("a")
    (adapter / "README.md").write_text("b")
    (adapter / "adapter.safetensors").write_bytes(
        safetensors_bytes({"w": ("F32", [1], floats(float("nan")))})
    )
    config = json.loads((adapter / "adapter_config.json").read_text())
    config |= {"model_name": "/home/me/model", "hidden_size": -1}
    config["config"]["reduction_factor"] = -2
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(HubError) as caught:
        hub.publish(
            adapter,
            task="a/b",
            subtask="..",
            owner="me",
            license="nope",
            metrics={"f1": float("nan")},
        )
    text = str(caught.value)
    for part in (
        "task 'a/b'",
        "subtask '..'",
        "licence 'nope'",
        "metric 'f1'",
        "zip archive",
        "train.py",
        "differ only in case",
        "NaN",
        "/home/me/model",
        "hidden_size",
        "reduction_factor is -2",
    ):
        assert part in text, part
    assert snapshot(hub.path) == before


def test_links_are_refused(hub: Hub, adapter: Path) -> None:
    secret = adapter.parent / "secret.txt"
    secret.write_text("x")
    (adapter / "notes.txt").symlink_to(secret)
    (adapter / "folder").symlink_to(adapter.parent)
    with pytest.raises(HubError, match=r"(?s)notes.txt is a link.*folder is a link|folder.*notes"):
        hub.publish(adapter, **ARGS)


def test_pipe_is_refused_without_waiting_for_it(hub: Hub, adapter: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes on this system")
    os.mkfifo(adapter / "pipe.txt")
    with pytest.raises(HubError, match="not a regular file"):
        hub.publish(adapter, **ARGS)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("adapter_config.json", "adapter_config.json is missing"),
        ("adapter.safetensors", "adapter.safetensors is missing; save the adapter again"),
        ("head_config.json", "model_head.safetensors is here without head_config.json"),
        ("model_head.safetensors", "head_config.json is here without model_head.safetensors"),
    ],
)
def test_missing_files(hub: Hub, tmp_path: Path, missing: str, message: str) -> None:
    folder = make_adapter(tmp_path / "a", head=True)
    (folder / missing).unlink()
    with pytest.raises(HubError, match=message):
        hub.publish(folder, **ARGS)


def test_peft_folder_is_recognised(hub: Hub, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "adapter.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(HubError, match="PEFT"):
        hub.publish(folder, **ARGS)


def test_front_matter_is_used_and_checked(hub: Hub, tmp_path: Path) -> None:
    readme = b"---\nlicense: cc-by-4.0\nlanguage: [de, English]\n---\n# x\n"
    entry = hub.publish(make_adapter(tmp_path / "a", **{"README.md": readme}), **ARGS)
    assert (entry.card.license, entry.languages) == ("CC-BY-4.0", ("de", "en"))
    bad = make_adapter(tmp_path / "b", **{"README.md": b"---\na: &x 1\nb: *x\n---\n"})
    with pytest.raises(HubError, match=r"README.md.*anchors"):
        hub.publish(bad, **ARGS, version="2")


def test_known_architecture_card_is_named(hub: Hub, adapter: Path) -> None:
    from tests.hub.conftest import SEQ_BN

    card = {"name": "pfeiffer", "displayname": "P", "description": "P", "config": SEQ_BN}
    (hub.path / "architectures" / "pfeiffer.yaml").write_bytes(cardfile.dumps(card))
    assert hub.publish(adapter, **ARGS).card.using == "pfeiffer"


def test_read_only_hub_says_how_to_change_that(tmp_path: Path, adapter: Path) -> None:
    (tmp_path / "cards" / "tasks").mkdir(parents=True)
    hub = Hub(tmp_path / "cards")
    with pytest.raises(HubError, match="hub init"):
        hub.publish(adapter, **ARGS)
    assert Hub.init(tmp_path / "cards").publish(adapter, **ARGS)


def test_init(tmp_path: Path) -> None:
    hub = Hub.init(tmp_path / "new", name="Mine")
    assert Hub(hub.path).name == "Mine"
    before = snapshot(hub.path)
    Hub.init(hub.path, name="Other")
    assert snapshot(hub.path) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(HubError, match="not empty"):
        Hub.init(tmp_path / "full")
    with pytest.raises(HubError, match="no hub at"):
        Hub(tmp_path / "full")
    (hub.path / "hub.yaml").write_text("format: 2\nname: x\n")
    with pytest.raises(HubError, match="format 2"):
        Hub(hub.path)


def test_damaged_blob_is_mended_by_publishing_again(hub: Hub, adapter: Path) -> None:
    entry = hub.publish(adapter, **ARGS)
    blob = blob_path(hub.path, entry.version.members[0].sha256)
    blob.write_bytes(b"rotten")
    assert any(f.code == "checksum" for f in hub.check())
    hub.publish(adapter, **{**ARGS, "owner": "other"})
    assert not [f for f in hub.check() if f.severity == "error"]
