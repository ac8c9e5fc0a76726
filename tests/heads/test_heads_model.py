"""A model with heads: choosing and running them, their state, the rest of the interface."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from adapterhub import AdapterSetup
from adapterhub.composition import Average, BatchSplit, Fuse, Parallel, Stack
from adapterhub.errors import CheckpointError, CompositionError, ConfigError, UnknownAdapterError
from adapterhub.heads import MultiHeadOutput, TaggingHead
from adapterhub.heads.setup import implied

LABELS = torch.tensor([0, 1, 1, 0])


@pytest.fixture
def model(bert: Any) -> Any:
    """BERT with heads a (2 labels), b (2 labels) and t (tags, 5); none active."""
    bert.add_classification_head("a")
    bert.add_classification_head("b")
    bert.add_tagging_head("t", num_labels=5)
    bert.active_head = None
    return bert


def replicate(model: Any, channels: int) -> None:
    """Let the base model return its batch several times, each channel different."""

    def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        states = [output.last_hidden_state + i for i in range(channels)]
        pooled = torch.cat([output.pooler_output] * channels)
        return BaseModelOutputWithPoolingAndCrossAttentions(torch.cat(states), pooled)

    model.base_model.register_forward_hook(hook, with_kwargs=True)
    model.parallel_channels = lambda: channels


def test_adding_activates_and_deleting_deactivates(bert: Any) -> None:
    bert.add_classification_head("a")
    assert bert.active_head == "a"
    bert.add_tagging_head("b", set_active=False)
    assert bert.active_head == "a"
    bert.active_head = ["a", "b"]
    bert.delete_head("b")
    assert bert.active_head is None
    assert list(bert.heads) == ["a"]
    with pytest.raises(UnknownAdapterError, match="No prediction head 'b'; there are: a"):
        bert.delete_head("b")


@pytest.mark.parametrize("name", ["", "a.b", "keys", "a\n", None, 3])
def test_bad_names(bert: Any, name: Any) -> None:
    with pytest.raises(ConfigError, match="Not a head name"):
        bert.add_classification_head(name)


def test_names_are_taken_once(model: Any) -> None:
    before = model.heads["a"]
    with pytest.raises(ConfigError, match="already"):
        model.add_tagging_head("a")
    assert model.heads["a"] is before
    model.add_tagging_head("a", overwrite_ok=True)
    assert isinstance(model.heads["a"], TaggingHead)
    with pytest.raises(ConfigError, match="Not a prediction head"):
        model.add_prediction_head(torch.nn.Linear(2, 2))


def test_heads_take_the_dtype_and_mode_of_the_model(bert: Any) -> None:
    bert.to(torch.bfloat16)
    bert.add_classification_head("a")
    assert {p.dtype for p in bert.heads["a"].parameters()} == {torch.bfloat16}
    assert not bert.heads["a"].training


def test_active_head_is_checked(model: Any) -> None:
    with pytest.raises(UnknownAdapterError, match="Did you mean 'a'"):
        model.active_head = "aa"
    with pytest.raises(CompositionError, match="Heads are given as"):
        model.active_head = 3
    with pytest.raises(CompositionError, match="Heads are given as"):
        model.active_head = Average("a", "b")
    model.active_head = Parallel("a", Stack("x", "b"))
    assert model.active_head == ["a", "b"]
    model.active_head = ("a", "t")
    assert model.active_head == ["a", "t"]


@pytest.mark.parametrize(
    ("setup", "heads"),
    [
        (Stack("x", "a"), "a"),
        (Stack("x", Parallel("a", Stack("y", "b"))), ["a", "b"]),
        (Parallel("a", "b"), ["a", "b"]),
        (
            BatchSplit("a", Stack("x", "b"), batch_sizes=[1, 3]),
            BatchSplit("a", "b", batch_sizes=[1, 3]),
        ),
        (Parallel("a", None), None),
        (Fuse("a", "b"), None),
        (Average("a", "b"), None),
        (None, None),
    ],
    ids=repr,
)
def test_heads_that_a_setup_implies(setup: Any, heads: Any) -> None:
    assert implied(setup) == heads


def test_setups_activate_their_heads_only_if_all_are_there(model: Any) -> None:
    model.active_head = "t"
    model._activate_heads_for(Parallel("a", "nobody"))
    assert model.active_head == "t"
    model._activate_heads_for(None)
    assert model.active_head == "t"
    model._activate_heads_for(Parallel("a", "b"))
    assert model.active_head == ["a", "b"]


def test_no_head_gives_the_base_output(model: Any, batch: Any) -> None:
    output = model(**batch)
    assert torch.equal(output.last_hidden_state, model.base_model(**batch).last_hidden_state)
    with pytest.raises(ConfigError, match="no prediction head is active"):
        model(**batch, labels=LABELS)


def test_the_head_argument_comes_first(model: Any, batch: Any) -> None:
    model.active_head = "a"
    assert model(**batch, head="t").logits.shape == (4, 8, 5)
    assert model(batch["input_ids"], batch["attention_mask"]).logits.shape == (4, 2)
    with pytest.raises(UnknownAdapterError):
        model(**batch, head="nobody")


def test_the_running_setup_comes_before_the_active_head(model: Any, batch: Any) -> None:
    model.active_head = "a"
    with AdapterSetup(None, head_setup="t", ignore_empty=True):
        assert model(**batch).logits.shape == (4, 8, 5)
        assert model(**batch, head="a").logits.shape == (4, 2)
    assert model(**batch).logits.shape == (4, 2)


def test_several_heads_on_one_output(model: Any, batch: Any) -> None:
    tags = torch.zeros(4, 8, dtype=torch.long)
    output = model(**batch, head=["a", "t"], labels={"a": LABELS, "t": tags})
    assert isinstance(output, MultiHeadOutput)
    assert output[0].logits.shape == (4, 2)
    assert output[1] is output.head_outputs[1]
    torch.testing.assert_close(output["loss"], output[0].loss + output[1].loss)
    torch.testing.assert_close(output[0].logits, model(**batch, head="a").logits)
    with pytest.raises(ValueError, match="do not form one tensor"):
        _ = output.logits
    only = model(**batch, head=["a", "t"], labels={"a": LABELS})
    assert only[1].loss is None
    assert only.loss == only[0].loss
    assert model(**batch, head=["a", "t"]).loss is None
    listed = model(**batch, head=["a", "t"], labels=[LABELS, tags])
    assert listed.loss == output.loss
    with pytest.raises(CompositionError, match="list of 1 for 2 heads"):
        model(**batch, head=["a", "t"], labels=[LABELS])


def test_one_head_a_channel(model: Any, batch: Any) -> None:
    replicate(model, 2)
    with torch.no_grad():
        output = model(**batch, head=["a", "b"], labels=LABELS)
        hidden = model.base_model(**batch).last_hidden_state
    assert output.logits.shape == (8, 2)
    for i, name in enumerate(["a", "b"]):
        logits = model.heads[name].stack(hidden[4 * i : 4 * i + 4, 0])
        torch.testing.assert_close(output[i].logits, logits)
        torch.testing.assert_close(output[i].loss, F.cross_entropy(logits, LABELS))
    torch.testing.assert_close(output.loss, output[0].loss + output[1].loss)
    twice = model(**batch, head=["a", "a"])
    assert torch.equal(twice[0].logits, output[0].logits)
    assert not torch.equal(twice[1].logits, output[1].logits)
    for heads in ("a", ["a", "b", "t"], BatchSplit("a", "b", batch_sizes=[4, 4])):
        with pytest.raises(CompositionError, match="2 parallel channels"):
            model(**batch, head=heads)


def test_tags_of_channels_use_the_mask(model: Any, batch: Any) -> None:
    replicate(model, 2)
    labels = torch.ones(4, 8, dtype=torch.long)
    output = model(**batch, head=["t", "t"], labels=labels)
    mask = batch["attention_mask"] == 1
    torch.testing.assert_close(
        output[1].loss, F.cross_entropy(output[1].logits[mask], labels[mask])
    )


def test_one_head_for_each_part_of_the_batch(model: Any, batch: Any) -> None:
    setup = BatchSplit("a", "b", batch_sizes=[1, 3])
    output = model(**batch, head=setup, labels=LABELS)
    for i, (name, part) in enumerate([("a", slice(0, 1)), ("b", slice(1, 4))]):
        alone = model(**batch, head=name).logits[part]
        torch.testing.assert_close(output[i].logits, alone)
        torch.testing.assert_close(output[i].loss, F.cross_entropy(alone, LABELS[part]))
    assert output.logits.shape == (4, 2)
    tags = model(
        **batch, head=BatchSplit("t", "t", batch_sizes=[1, 3]), labels=batch["attention_mask"]
    )
    mask = batch["attention_mask"][1:] == 1
    torch.testing.assert_close(
        tags[1].loss, F.cross_entropy(tags[1].logits[mask], batch["attention_mask"][1:][mask])
    )
    with pytest.raises(CompositionError, match="for 5 rows, but the batch has 4"):
        model(**batch, head=BatchSplit("a", "b", batch_sizes=[1, 4]))


def test_parts_of_a_batch_of_choices(bert: Any, batch: Any) -> None:
    for name in "ab":
        bert.add_multiple_choice_head(name, num_choices=2)
    folded = {name: value.view(2, 2, 8) for name, value in batch.items()}
    labels = torch.tensor([1, 0])
    output = bert(**folded, head=BatchSplit("a", "b", batch_sizes=[2, 2]), labels=labels)
    expected = bert(**folded, head="b").logits[1:]
    torch.testing.assert_close(output[1].logits, expected)
    torch.testing.assert_close(output[1].loss, F.cross_entropy(expected, labels[1:]))


def test_hidden_states_and_tuples(model: Any, batch: Any) -> None:
    output = model(**batch, head="a", output_hidden_states=True, output_attentions=False)
    assert len(output.hidden_states) == 3
    assert output.attentions is None
    values = model(**batch, head="a", labels=LABELS, return_dict=False)
    assert isinstance(values, tuple)
    assert values[1].shape == (4, 2)
    model.config.return_dict = False
    assert isinstance(model(**batch, head="a"), tuple)
    split = BatchSplit("a", "b", batch_sizes=[1, 3])
    parts = model(**batch, head=split, output_hidden_states=True, return_dict=True)
    assert [part.hidden_states[0].shape[0] for part in parts.head_outputs] == [1, 3]


def test_unknown_arguments(get_family: Any) -> None:
    family = get_family("vit")
    model = family.model()
    model.add_image_classification_head("a")
    known = model._base_arguments
    assert "pixel_values" in known.names
    object.__setattr__(known, "takes_any", False)
    try:
        with pytest.raises(TypeError, match="Did you mean 'pixel_values'"):
            model(pixel_value=torch.zeros(1))
    finally:
        object.__setattr__(known, "takes_any", True)
    assert model(**family.inputs(), num_items_in_batch=3).loss is None


def test_head_tensors_round_trip(model: Any, batch: Any, get_family: Any) -> None:
    tensors = {key: value + 1 for key, value in model.head_tensors("a").items()}
    other = get_family("bert").model()
    other.load_head_tensors("a", model.heads["a"].config, tensors)
    assert other.active_head is None
    loaded = other.head_tensors("a")
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())
    other.add_tagging_head("a", overwrite_ok=True)
    other.load_head_tensors("a", model.heads["a"].config, tensors, set_active=True)
    assert other.active_head == "a"
    assert torch.equal(other.head_tensors("a")["heads.a.1.bias"], tensors["heads.a.1.bias"])


def test_every_misfit_of_stored_tensors_is_listed(model: Any) -> None:
    config, tensors = model.heads["a"].config, model.head_tensors("a")
    before = {key: value.clone() for key, value in tensors.items()}
    bad = {key: value + 1 for key, value in tensors.items()}
    bad["heads.a.1.bias"] = torch.zeros(3)
    bad["heads.a.9.bias"] = torch.zeros(3)
    del bad["heads.a.4.weight"]
    with pytest.raises(CheckpointError) as error:
        model.load_head_tensors("a", config, bad)
    for part in (
        "missing: heads.a.4.weight [2, 16]",
        "unexpected: heads.a.9.bias",
        "heads.a.1.bias is [3] in the file, [16]",
    ):
        assert part in str(error.value)
    assert all(torch.equal(model.head_tensors("a")[key], value) for key, value in before.items())
    with pytest.raises(CheckpointError, match="Unknown head type 'mask_lm'"):
        model.load_head_tensors("z", {"head_type": "mask_lm"}, {})
    assert "z" not in model.heads


def test_multi_head_output_fields() -> None:
    empty = MultiHeadOutput(head_outputs=(MultiHeadOutput(),))
    assert list(empty) == ["head_outputs"]
    assert empty[0] is empty.head_outputs[0]  # type: ignore[index]
    with pytest.raises(KeyError):
        _ = empty["loss"]


def test_compile_without_breaks(model: Any, batch: Any) -> None:
    import torch._dynamo.testing

    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    with torch.no_grad():
        found = compiled(**batch, head="a", labels=LABELS)
        torch.testing.assert_close(found.logits, model(**batch, head="a").logits)
    assert counter.frame_count == 1
    torch._dynamo.reset()
