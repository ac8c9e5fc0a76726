"""Heads and adapters together: setups choose heads, channels and parts of the batch reach them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterhub import AdapterSetup, BatchSplit, Parallel

LABELS = torch.tensor([0, 1, 1, 0])


@pytest.fixture
def model(bert: Any) -> Any:
    """BERT with adapters a and b that matter, and a head for each."""
    for name in "ab":
        bert.add_adapter(name, "seq_bn")
        bert.add_classification_head(name)
        with torch.no_grad():
            for parameter in bert.adapter_handle.iter_parameters(name):
                parameter.normal_(0, 0.5)
    return bert


@pytest.fixture
def alone(model: Any, batch: Any) -> dict[str, Any]:
    """The output of each adapter with its head."""
    outputs = {}
    for name in "ab":
        model.set_active_adapters(name)
        assert model.active_head == name
        outputs[name] = model(**batch, labels=LABELS)
    return outputs


def test_parallel(model: Any, batch: Any, alone: Any) -> None:
    model.set_active_adapters(Parallel("a", "b"))
    assert model.active_head == ["a", "b"]
    output = model(**batch, labels=LABELS)
    for i, name in enumerate("ab"):
        torch.testing.assert_close(output[i].logits, alone[name].logits)
        torch.testing.assert_close(output[i].loss, alone[name].loss)


def test_batch_split(model: Any, batch: Any, alone: Any) -> None:
    model.set_active_adapters(BatchSplit("a", "b", batch_sizes=[1, 3]))
    output = model(**batch, labels=LABELS)
    torch.testing.assert_close(output[0].logits, alone["a"].logits[:1])
    torch.testing.assert_close(output[1].logits, alone["b"].logits[1:])


def test_setup_for_a_block_of_code(model: Any, batch: Any, alone: Any) -> None:
    model.set_active_adapters("a")
    with AdapterSetup(Parallel("a", "b")):
        output = model(**batch)
    torch.testing.assert_close(output[1].logits, alone["b"].logits)
    with AdapterSetup("b", head_setup="a"):
        assert not torch.equal(model(**batch).logits, alone["b"].logits)
    assert model.active_head == "a"


def test_heads_train_along(model: Any, batch: Any) -> None:
    model.train_adapter("b")
    model(**batch, labels=LABELS).loss.backward()
    got = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name for name in got if name.startswith("heads.")} == {
        f"heads.b.{i}.{part}" for i in (1, 4) for part in ("weight", "bias")
    }
