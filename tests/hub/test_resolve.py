from __future__ import annotations

from pathlib import Path

import pytest

from adapterhub.configs import parse_config_string
from adapterhub.errors import HubError
from adapterhub.hub import Hub, cardfile
from tests.hub.conftest import LORA, SEQ_BN, make_adapter

SST = {"task": "sentiment", "subtask": "sst-2"}


def fill(hub: Hub, folder: Path) -> None:
    """Three owners, two configs, two models, three data sets, in this order of publication."""

    def add(number: int, owner: str, config=SEQ_BN, model="bert-base-uncased", **where) -> None:
        adapter = make_adapter(folder / f"f{number}", config=config, model=model)
        hub.publish(adapter, owner=owner, **{**SST, **where})

    add(1, "ada")
    add(2, "ada", LORA)
    add(3, "bob")
    add(4, "ada", model="gpt2")
    add(5, "eve", task="nli", subtask="rte")
    add(6, "eve", task="qa", subtask="rte")
    add(7, "eve", LORA, task="wiki", subtask="de")


@pytest.fixture
def full(prepared, tmp_path: Path) -> Hub:
    return prepared(tmp_path / "full", "resolve", fill)


@pytest.mark.parametrize(
    ("identifier", "options", "expected"),
    [
        ("@ada/gpt2_sentiment_sst-2_seq_bn", {}, "@ada/gpt2_sentiment_sst-2_seq_bn"),
        ("ada/gpt2_sentiment_sst-2_seq_bn", {}, "@ada/gpt2_sentiment_sst-2_seq_bn"),
        ("sst-2", {"base_model": "gpt2"}, "@ada/gpt2_sentiment_sst-2_seq_bn"),
        ("nli/rte", {}, "@eve/bert-base-uncased_nli_rte_seq_bn"),
        ("nli", {}, "@eve/bert-base-uncased_nli_rte_seq_bn"),
        ("wiki/de", {}, "@eve/bert-base-uncased_wiki_de_lora"),
        ("/de@eve", {}, "@eve/bert-base-uncased_wiki_de_lora"),
        ("@bob", {}, "@bob/bert-base-uncased_sentiment_sst-2_seq_bn"),
        ("sst-2@bob", {}, "@bob/bert-base-uncased_sentiment_sst-2_seq_bn"),
        # Several for one place: the oldest.
        (
            "sentiment/sst-2",
            {"base_model": "BERT-base-uncased"},
            "@ada/bert-base-uncased_sentiment_sst-2_seq_bn",
        ),
        (
            "sentiment/sst-2@ada",
            {"base_model": "bert-base-uncased", "config": LORA},
            "@ada/bert-base-uncased_sentiment_sst-2_lora",
        ),
    ],
)
def test_what_is_meant(full: Hub, identifier: str, options: dict, expected: str) -> None:
    assert full.resolve(identifier, **options).identifier == expected
    assert Hub(full.path).resolve(identifier, **options).identifier == expected


@pytest.mark.parametrize(
    "config",
    [
        LORA,
        "lora",
        {**LORA, "alpha": 8.0},
        {**LORA, "leave_out": []},
    ],
)
def test_config_can_be_given_in_many_ways(full: Hub, config: object) -> None:
    entry = full.resolve("sst-2@ada", base_model="bert-base-uncased", config=config)
    assert entry.card.stem.endswith("lora")
    by_hash = full.resolve("sst-2@ada", base_model="bert-base-uncased", config=entry.config_hash)
    assert by_hash.identifier == entry.identifier


def test_config_objects_and_settings_in_brackets(hub: Hub, tmp_path: Path) -> None:
    config = parse_config_string("lora[r=4,alpha=8]")
    folder = make_adapter(tmp_path / "a", config=config.to_dict())
    entry = hub.publish(folder, owner="ada", **SST)
    for given in (config, "lora[r=4,alpha=8]", "lora"):
        assert hub.resolve("sst-2", config=given).identifier == entry.identifier
    with pytest.raises(HubError, match="not here with the config"):
        hub.resolve("sst-2", config="lora[r=5]")
    with pytest.raises(HubError, match="not a configuration"):
        hub.resolve("sst-2", config="lora[r=")


def test_bare_name_means_its_own_settings_first(hub: Hub, tmp_path: Path) -> None:
    wide = {**SEQ_BN, "reduction_factor": 2}
    hub.publish(make_adapter(tmp_path / "b", config=wide), owner="ada", name="wide", **SST)
    assert hub.resolve("sst-2", config="pfeiffer").card.stem == "wide"
    hub.publish(make_adapter(tmp_path / "a"), owner="ada", name="plain", **SST)
    assert hub.resolve("sst-2", config="pfeiffer").card.stem == "plain"
    assert hub.resolve("sst-2", config="seq_bn[reduction_factor=2]").card.stem == "wide"


def test_several_are_listed_with_identifiers_that_work(full: Hub) -> None:
    with pytest.raises(HubError, match=r"fits 2 adapters.*Take one of") as caught:
        full.resolve("rte")
    listed = [word for word in str(caught.value).split() if word.startswith("@")]
    assert [full.resolve(name).identifier for name in listed] == listed
    assert len(listed) == 2
    with pytest.raises(HubError, match="Give base_model or config"):
        full.resolve("sentiment/sst-2")


def test_explicit_default_beats_the_oldest(full: Hub) -> None:
    path = full.path / "adapters" / "bob" / "bert-base-uncased_sentiment_sst-2_seq_bn.yaml"
    path.write_bytes(cardfile.dumps({**cardfile.load(path), "default": True}))
    entry = full.resolve("sst-2", base_model="bert-base-uncased")
    assert entry.card.owner == "bob"
    assert entry.reason == "marked as default among 3"


def test_without_dates_or_default_nothing_is_guessed(full: Hub) -> None:
    """The oldest cannot be told if one card has no date, whatever its name sorts like."""
    path = full.path / "adapters" / "bob" / "bert-base-uncased_sentiment_sst-2_seq_bn.yaml"
    card = cardfile.load(path)
    del card["files"][0]["published"]
    path.write_bytes(cardfile.dumps(card))
    with pytest.raises(HubError, match="fits 3 adapters"):
        full.resolve("sst-2", base_model="bert-base-uncased")


@pytest.mark.parametrize(
    ("identifier", "options", "message"),
    [
        ("sentimnt/sst-2", {}, "Did you mean 'sentiment/sst-2'"),
        ("sst2", {}, "Did you mean 'sst-2'"),
        ("@ada/gpt2_sentiment_sst-2_seqbn", {}, "'@ada/gpt2_sentiment_sst-2_seq_bn'"),
        ("sentiment/sst-2@nobody", {}, "there is one by: ada, bob"),
        ("sst-2", {"base_model": "gpt3"}, "there is: bert-base-uncased, gpt2.*'gpt2'"),
        ("nli/rte", {"config": "houlsby"}, r"there is: seq_bn \(rf=16, relu; 9076f36a74755ac4\)"),
        ("nli/rte", {"config": "0" * 16}, "not here with the config"),
        ("nli/rte", {"version": "9"}, "no version '9'; it has '1'"),
        ("sst-2@ada", {"version": "9"}, "has no version '9'"),
        ("nli/rte", {"config": 5}, "must be a mapping"),
        ("nothing-like-it-xyz", {}, "hub.search"),
    ],
)
def test_what_does_not_fit_is_said(full: Hub, identifier, options: dict, message: str) -> None:
    with pytest.raises(HubError, match=message):
        full.resolve(identifier, **options)


def test_task_wins_over_owner_and_at_sign_decides(full: Hub, tmp_path: Path) -> None:
    full.publish(make_adapter(tmp_path / "x"), task="t", subtask="s", owner="nli", name="rte")
    assert full.resolve("nli/rte").card.owner == "eve"
    assert full.resolve("@nli/rte").card.owner == "nli"


def test_empty_and_broken_hubs(hub: Hub, adapter: Path) -> None:
    with pytest.raises(HubError, match="The hub is empty"):
        hub.resolve("sst-2")
    entry = hub.publish(adapter, owner="ada", **SST)
    (hub.path / entry.card.path).write_text("type: [")
    with pytest.raises(HubError, match="Its card is there but cannot be used"):
        hub.resolve(entry.identifier)
    with pytest.raises(HubError, match="cannot be used; see"):
        hub.publish(adapter, owner="ada", **SST)
