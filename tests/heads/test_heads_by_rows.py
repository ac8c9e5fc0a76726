"""Heads that follow the rows: Route and MultiTask, alone, nested, in training and in generation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.heads.conftest import randomize

from adapterhub import BatchSplit, Fuse, MultiHeadOutput, MultiTask, Parallel, Route, Stack
from adapterhub.errors import CompositionError, UnknownAdapterError

LABELS = torch.tensor([0, 1, 1, 0])
ROWS = ["b", "b", "a", "a"]


def with_adapters(model: Any, names: str = "abc", config: str = "seq_bn") -> Any:
    for name in names:
        model.add_adapter(name, config)
        with torch.no_grad():
            for parameter in model.adapter_handle.iter_parameters(name):
                parameter.normal_(0, 0.3)
    return model


@pytest.fixture
def model(bert: Any) -> Any:
    """BERT with adapters a, b, c that matter, and a head for each.

    (Their inputs need no preparation, which nested blocks do once each.)
    """
    with_adapters(bert, config="double_seq_bn")
    for name in "abc":
        bert.add_classification_head(name)
        randomize(bert.heads[name])
    return bert


@pytest.fixture
def alone(model: Any, batch: Any) -> dict[str, torch.Tensor]:
    """The logits of each adapter with its head."""
    outputs = {}
    for name in "abc":
        model.set_active_adapters(name)
        outputs[name] = model(**batch).logits.detach()
    return outputs


@pytest.mark.parametrize("block", [Route, MultiTask])
def test_each_row_has_its_adapter_s_head(model: Any, batch: Any, block: Any) -> None:
    argument = {Route: "adapter_rows", MultiTask: "task_ids"}[block]
    model.set_active_adapters(block("a", "b", "c"))
    assert model.active_head == block("a", "b", "c")
    output = model(**batch, **{argument: ROWS}, labels=LABELS)
    assert isinstance(output, MultiHeadOutput)
    assert [rows.tolist() for rows in output.rows or ()] == [[2, 3], [0, 1], []]
    assert [len(part.logits) for part in output.head_outputs or ()] == [2, 2, 0]
    by_number = model(**batch, **{argument: torch.tensor([1, 1, 0, 0])})
    torch.testing.assert_close(by_number.logits, output.logits)
    assert output[2].loss is None
    torch.testing.assert_close(output.loss, output[0].loss + output[1].loss)


def test_logits_are_in_the_order_of_the_batch(model: Any, batch: Any, alone: Any) -> None:
    model.set_active_adapters(Route("a", "b", "c"))
    output = model(**batch, adapter_rows=["c", "a", "b", "a"], labels=LABELS)
    expected = torch.stack([alone[name][i] for i, name in enumerate("caba")])
    torch.testing.assert_close(output.logits, expected)
    wanted = torch.nn.functional.cross_entropy(alone["a"][[1, 3]], LABELS[[1, 3]])
    torch.testing.assert_close(output[0].loss, wanted)


def test_labels_for_each_head(model: Any, batch: Any) -> None:
    model.set_active_adapters(Route("a", "b"))
    whole = model(**batch, adapter_rows=ROWS, labels=LABELS)
    in_list = model(**batch, adapter_rows=ROWS, labels=[LABELS[[2, 3]], LABELS])
    torch.testing.assert_close(in_list.loss, whole.loss)
    by_name = model(**batch, adapter_rows=ROWS, labels={"b": LABELS})
    torch.testing.assert_close(by_name.loss, whole[1].loss)
    assert by_name[0].loss is None
    model.set_active_adapters(BatchSplit("a", "b", batch_sizes=[1, 3]))
    whole = model(**batch, labels=LABELS)
    torch.testing.assert_close(model(**batch, labels=[LABELS[:1], LABELS[1:]]).loss, whole.loss)


def test_rows_of_the_bare_model_have_no_head(model: Any, batch: Any, alone: Any) -> None:
    for setup, rows in (
        (Route("a", None), ["a", None, "a", None]),
        (Route("a", "b"), ["a", None, "a", None]),
    ):
        model.set_active_adapters(setup)
        output = model(**batch, adapter_rows=rows, labels=LABELS)
        torch.testing.assert_close(output[0].logits, alone["a"][[0, 2]])
        with pytest.raises(ValueError, match="no head"):
            _ = output.logits
    model.set_active_adapters(BatchSplit("a", None, batch_sizes=[1, 3]))
    output = model(**batch)
    assert [rows.tolist() for rows in output.rows] == [[0]]


def test_without_all_heads_the_active_one_stays(model: Any, batch: Any) -> None:
    model.delete_head("c")
    model.active_head = "a"
    model.set_active_adapters(Route("a", "b", "c"))
    assert model.active_head == "a"
    assert model(**batch, adapter_rows=["a", "b", "c", "a"]).logits.shape == (4, 2)


def test_a_child_s_head_is_that_of_its_last_adapter(model: Any, batch: Any, alone: Any) -> None:
    model.add_adapter_fusion(Fuse("b", "c"))
    model.set_active_adapters(Stack("c", Route(Stack("b", "a"), Fuse("b", "c"))))
    assert model.active_head == Route("a", "c")
    assert model(**batch, adapter_rows=[0, 1, 1, 0]).logits.shape == (4, 2)


def test_heads_by_rows_inside_parallel(model: Any, batch: Any, alone: Any) -> None:
    model.set_active_adapters(Parallel(Route("a", "b"), "c", BatchSplit("b", "a", batch_sizes=2)))
    assert model.active_head == [Route("a", "b"), "c", BatchSplit("b", "a", batch_sizes=2)]
    output = model(**batch, adapter_rows=ROWS, labels=LABELS)
    parts = [alone["a"][[2, 3]], alone["b"][[0, 1]], alone["c"]]
    parts += [alone["b"][:2], alone["a"][2:]]
    for found, expected in zip(output.head_outputs, parts, strict=True):
        torch.testing.assert_close(found.logits, expected)
    cross = torch.nn.functional.cross_entropy
    torch.testing.assert_close(output[2].loss, cross(alone["c"], LABELS))
    torch.testing.assert_close(output[4].loss, cross(alone["a"][2:], LABELS[2:]))
    model.set_active_adapters(Parallel("a", Stack("c", Parallel("a", "b"))))
    assert model.active_head == ["a", "a", "b"]
    assert model(**batch).logits.shape == (12, 2)


def test_heads_alone_go_by_rows(model: Any, batch: Any) -> None:
    model.active_head = Route("a", "b")
    assert model.active_adapters is None
    with torch.no_grad():
        expected = [model(**batch, head=name).logits for name in "ab"]
        output = model(**batch, adapter_rows=ROWS)
        torch.testing.assert_close(output.logits, torch.cat([expected[1][:2], expected[0][2:]]))
        again = model(**batch, head=MultiTask("b", "a"), task_ids=torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(again.logits, output.logits)
    with pytest.raises(UnknownAdapterError, match="'c', which is no child"):
        model(**batch, adapter_rows=["c", "a", "a", "a"])
    with pytest.raises(CompositionError, match="adapter_rows"):
        model(**batch)
    with pytest.raises(CompositionError, match="3 entries for a batch of 4"):
        model(**batch, adapter_rows=[0, 1, 0])
    with pytest.raises(UnknownAdapterError, match="'d'"):
        model.active_head = Route("a", "d")


def test_heads_of_unlike_kinds(bert: Any, batch: Any) -> None:
    model = with_adapters(bert, "ab")
    model.add_tagging_head("a", num_labels=3)
    model.add_classification_head("b", num_labels=5)
    model.set_active_adapters(Route("a", "b"))
    tags = torch.zeros(2, batch["input_ids"].shape[1], dtype=torch.long)
    labels = {"a": tags, "b": torch.tensor([4, 1])}
    output = model(**batch, adapter_rows=ROWS, labels=labels)
    assert [list(part.logits.shape) for part in output.head_outputs] == [[2, 8, 3], [2, 5]]
    output.loss.backward()
    with pytest.raises(ValueError, match="one tensor"):
        _ = output.logits


def test_choices_go_with_their_example(bert: Any, batch: Any) -> None:
    model = with_adapters(bert, "ab")
    for name in "ab":
        model.add_multiple_choice_head(name, num_choices=2)
    inputs = {key: torch.stack([value, value.flip(0)], 1) for key, value in batch.items()}
    labels = torch.tensor([1, 0, 1, 1])
    alone = {}
    for name in "ab":
        model.set_active_adapters(name)
        alone[name] = model(**inputs).logits
    model.set_active_adapters(Route("a", "b"))
    output = model(**inputs, adapter_rows=ROWS, labels=labels)
    expected = torch.nn.functional.cross_entropy(alone["b"][[0, 1]], labels[[0, 1]])
    torch.testing.assert_close(output[1].logits, alone["b"][[0, 1]])
    torch.testing.assert_close(output[1].loss, expected)


def test_training_reaches_the_heads_of_the_rows(model: Any, batch: Any) -> None:
    model.train_adapter(MultiTask("a", "b", "c"))
    model(**batch, task_ids=torch.tensor([0, 1, 0, 1]), labels=LABELS).loss.backward()
    heads = {
        name.split(".")[1]
        for name, p in model.heads.named_parameters("heads")
        if p.grad is not None
    }
    assert heads == {"a", "b"}


def test_each_row_writes_with_its_own_head(get_family: Any) -> None:
    family = get_family("gpt2")
    model, inputs = with_adapters(family.model(), "ab"), family.inputs(left=True)
    for name in "ab":
        model.add_causal_lm_head(name)
        with torch.no_grad():
            for parameter in model.heads[name].parameters():
                if parameter.dim() > 1 and parameter is not model.get_input_embeddings().weight:
                    parameter.normal_(0, 0.5)
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    for beams in (1, 2):
        alone = {}
        for name in "ab":
            model.set_active_adapters(name)
            alone[name] = model.generate(**inputs, **options, num_beams=beams)
        assert not torch.equal(alone["a"], alone["b"])
        model.set_active_adapters(Route("a", "b"))
        found = model.generate(**inputs, **options, num_beams=beams, adapter_rows=ROWS)
        expected = torch.stack([alone[name][i] for i, name in enumerate(ROWS)])
        assert torch.equal(found, expected)


def test_the_trainer_keeps_the_columns(model: Any) -> None:
    import inspect

    assert {"adapter_rows", "task_ids", "labels"} <= set(
        inspect.signature(model.forward).parameters
    )
