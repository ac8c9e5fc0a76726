"""The two faces: what users call, and what it leaves behind."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import adapterhub
from adapterhub import AdapterSetup, Average, Fuse, Parallel, Stack
from adapterhub.errors import (
    ArchitectureError,
    CompositionError,
    ConfigError,
    HubError,
    UnknownAdapterError,
)
from tests import tiny

IDS = tiny.tokens()


@pytest.fixture
def model() -> Any:
    made = adapterhub.init(tiny.bert())
    for name, config in (("a", "seq_bn"), ("b", "lora"), ("p", "prefix_tuning[prefix_length=2]")):
        made.add_adapter(name, config=config)
        tiny.randomize(made, name)
    return made


def test_attach_leaves_the_class_alone_and_detach_leaves_no_trace() -> None:
    plain = tiny.bert()
    before = (type(plain), list(plain.state_dict()), dict(plain.__dict__), tiny.run(plain, IDS))
    handle = adapterhub.attach(plain)
    assert adapterhub.attach(plain) is handle
    handle.add_adapter("a", config="unipelt")
    for parameter in handle.iter_parameters("a"):
        torch.nn.init.normal_(parameter)
    handle.set_active_adapters("a")
    assert type(plain) is before[0]
    assert not torch.equal(tiny.run(plain, IDS), before[3])
    handle.detach()
    assert (type(plain), list(plain.state_dict())) == before[:2]
    assert set(plain.__dict__) == set(before[2])
    assert torch.equal(tiny.run(plain, IDS), before[3])
    assert not any("adapterhub" in name for name, _ in plain.named_modules())


def test_init_keeps_the_name_and_is_idempotent(model: Any) -> None:
    assert type(model).__name__ == "BertModel"
    assert type(model).__module__ == tf.BertModel.__module__
    assert isinstance(model, tf.BertModel)
    assert adapterhub.init(model) is model


def test_peft_models_are_refused() -> None:
    plain = tiny.bert()
    plain._hf_peft_config_loaded = True
    with pytest.raises(ArchitectureError, match="PEFT"):
        adapterhub.init(plain)


def test_unknown_names_answer_with_the_nearest(model: Any) -> None:
    model.add_adapter("sentiment")
    for call in (
        lambda: model.set_active_adapters("sentimnt"),
        lambda: model.train_adapter("sentimnt"),
        lambda: model.delete_adapter("sentimnt"),
        lambda: model.save_adapter("x", "sentimnt"),
    ):
        with pytest.raises(UnknownAdapterError, match="Did you mean 'sentiment'"):
            call()
    assert model.active_adapters is None


def test_a_failed_activation_keeps_the_setup(model: Any) -> None:
    model.set_active_adapters("a")
    expected = tiny.run(model, IDS)
    for bad in ("nope", Fuse("a", "b"), Stack("a", "nope"), Average("b", Fuse("b", "p"))):
        with pytest.raises(adapterhub.AdapterHubError):
            model.set_active_adapters(bad)
        assert model.active_adapters == Stack("a")
        assert torch.equal(tiny.run(model, IDS), expected)


def test_training_gradients_are_where_they_should_be(model: Any) -> None:
    model.train_adapter(Stack("a", "b"))
    model(IDS)[0].sum().backward()
    wanted = {id(p) for n in ("a", "b") for p in model.adapter_handle.iter_parameters(n)}
    assert {id(p) for p in model.parameters() if p.grad is not None} == wanted


def test_fusion_training(model: Any) -> None:
    model.add_adapter("c")
    model.add_adapter_fusion(["a", "c"])
    model.train_adapter_fusion(Fuse("a", "c"))
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".fusions." in name for name in trained)
    loss = model.get_fusion_regularization_loss()
    assert loss is not None
    assert loss.requires_grad
    with pytest.raises(ConfigError, match="overwrite_ok"):
        model.add_adapter_fusion(["a", "c"])


def test_summary(model: Any) -> None:
    model.train_adapter("a")
    rows = {row["name"]: row for row in model.adapter_summary(as_dict=True)}
    assert rows["a"]["active"]
    assert rows["a"]["train"]
    assert not rows["b"]["active"]
    assert rows["a"]["#param"] == sum(p.numel() for p in model.adapter_handle.iter_parameters("a"))
    assert rows["Full model"]["#param"] == sum(p.numel() for p in tiny.bert().parameters())
    text = model.adapter_summary()
    assert "bottleneck" in text
    assert len({len(line) for line in text.splitlines() if line.startswith("-")}) == 1


def test_merging_is_exact_and_undone_bit_for_bit(model: Any) -> None:
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    model.set_active_adapters("b")
    expected = tiny.run(model, IDS)
    model.merge_adapter("b")
    torch.testing.assert_close(tiny.run(model, IDS), expected, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="merged already"):
        model.merge_adapter("b")
    model.reset_adapter()
    assert model.active_adapters == Stack("b")
    assert torch.equal(tiny.run(model, IDS), expected)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    for name in ("a", "p"):
        with pytest.raises(ConfigError, match="cannot be merged"):
            model.merge_adapter(name)


def test_deepcopy_and_pickle_are_independent(model: Any) -> None:
    model.set_active_adapters(Stack("b", "a", "p"))
    expected = tiny.run(model, IDS)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(tiny.run(twin, IDS), expected)
        tiny.randomize(twin, "a", std=1.0)
        assert not torch.equal(tiny.run(twin, IDS), expected)
        twin.delete_adapter("a")
        assert torch.equal(tiny.run(model, IDS), expected)


def test_setup_for_a_block_of_code(model: Any) -> None:
    singles = {}
    for name in ("a", "b"):
        model.set_active_adapters(name)
        singles[name] = tiny.run(model, IDS)
    model.set_active_adapters(None)
    bare = tiny.run(model, IDS)
    with AdapterSetup("a"):
        assert torch.equal(tiny.run(model, IDS), singles["a"])
        with AdapterSetup("b"):
            assert torch.equal(tiny.run(model, IDS), singles["b"])
        assert torch.equal(tiny.run(model, IDS), singles["a"])
    assert torch.equal(tiny.run(model, IDS), bare)
    with AdapterSetup(Parallel("a", "b")):
        found = tiny.run(model, IDS)
    torch.testing.assert_close(found, torch.cat([singles["a"], singles["b"]]), rtol=0, atol=1e-5)
    with pytest.raises(UnknownAdapterError, match="nope"), AdapterSetup("nope"):
        pass


def test_identifiers_come_from_the_hub(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERHUB_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(HubError, match="no folder here"):
        model.load_adapter("sentiment/movies@me")
    model.save_adapter(tmp_path / "a", "a")
    hub = adapterhub.Hub.init(tmp_path / "hub")
    hub.publish(
        tmp_path / "a", task="sentiment", subtask="movies", owner="me", base_model="tiny-bert"
    )
    model.set_active_adapters("a")
    expected = tiny.run(model, IDS)
    assert model.load_adapter("sentiment/movies@me", load_as="again", set_active=True) == "again"
    assert torch.equal(tiny.run(model, IDS), expected)
    with pytest.raises(HubError, match="movies"):
        model.load_adapter("sentiment/moveis@me")


def test_setup_asks_only_the_model_that_runs() -> None:
    """Another living model with the same names, which refuses the setup, does not stand in the way."""
    runs, refuses = (adapterhub.init(tiny.bert()) for _ in range(2))
    plain = tiny.run(refuses, IDS)
    for made, config in ((runs, "seq_bn"), (refuses, "lora[intermediate_lora=True]")):
        for name in "ab":
            made.add_adapter(name, config=config)
            tiny.randomize(made, name)
    setup = Stack("a", "b")
    runs.set_active_adapters(setup)
    expected = tiny.run(runs, IDS)
    runs.set_active_adapters(None)
    with AdapterSetup(setup):
        assert torch.equal(tiny.run(runs, IDS), expected)
        with pytest.raises(CompositionError, match="square"):
            refuses(IDS)
    assert torch.equal(tiny.run(refuses, IDS), plain)
    del runs
    gc.collect()
    with pytest.raises(CompositionError, match="square"), AdapterSetup(setup):
        pass
    assert torch.equal(tiny.run(refuses, IDS), plain)
