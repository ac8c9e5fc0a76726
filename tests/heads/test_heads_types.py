"""Each type of head: shapes, names, losses."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional as F
from transformers import modeling_outputs as hf

from adapterhub.errors import ArchitectureError, ConfigError, UnknownAdapterError
from adapterhub.heads import PredictionHead, base, head_class, head_types, register_head
from adapterhub.heads.base import hidden_size
from adapterhub.model.auto import AutoAdapterModel


def shapes(model: Any, name: str) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in model.head_tensors(name).items()}


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        ({"layers": 1}, [1]),
        ({"layers": 2}, [1, 4]),
        ({"layers": 2, "activation_function": None}, [1, 3]),
        ({"layers": 3, "activation_function": "relu"}, [1, 4, 7]),
    ],
)
def test_parameter_names(bert: Any, options: dict[str, Any], indices: list[int]) -> None:
    bert.add_classification_head("x", num_labels=3, **options)
    expected: dict[str, list[int]] = {}
    for i in indices:
        size = 3 if i == indices[-1] else 16
        expected[f"heads.x.{i}.weight"], expected[f"heads.x.{i}.bias"] = [size, 16], [size]
    assert shapes(bert, "x") == expected
    assert [key for key in bert.state_dict() if key.startswith("heads.")] == list(expected)


def test_config_of_each_type(bert: Any) -> None:
    """Entries as in ``head_config.json`` of the ``adapters`` library."""
    bert.add_classification_head("c")
    bert.add_classification_head("m", num_labels=3, multilabel=True)
    bert.add_tagging_head("t")
    bert.add_qa_head("q")
    bert.add_multiple_choice_head("o", num_choices=3)
    bert.add_image_classification_head("i")
    configs = bert.get_prediction_heads_config()
    common = {"activation_function", "dropout_prob", "head_type", "label2id", "layers"}
    assert set(configs["c"]) == common | {"num_labels", "use_pooler", "bias"}
    assert set(configs["t"]) == set(configs["q"]) == common | {"num_labels"}
    assert set(configs["o"]) == common | {"num_choices", "use_pooler"}
    assert set(configs["i"]) == common | {"num_labels", "use_pooler", "bias", "multilabel"}
    assert configs["m"]["label2id"] == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    assert {name: config["head_type"] for name, config in configs.items()} == {
        "c": "classification",
        "m": "multilabel_classification",
        "t": "tagging",
        "q": "question_answering",
        "o": "multiple_choice",
        "i": "image_classification",
    }
    assert json.loads(json.dumps(configs)) == configs


def test_classification_in_every_family(family: Any) -> None:
    model, inputs = family.model(), family.inputs()
    if family.name == "vit":
        model.add_image_classification_head("x", num_labels=3)
        kind: type = hf.ImageClassifierOutput
    else:
        model.add_classification_head("x", num_labels=3)
        seq2seq = family.name in ("t5", "bart")
        kind = hf.Seq2SeqSequenceClassifierOutput if seq2seq else hf.SequenceClassifierOutput
    labels = torch.tensor([0, 2, 1, 1])
    output = model(**inputs, labels=labels)
    assert type(output) is kind
    assert output.logits.shape == (4, 3)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, labels))
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.heads["x"].parameters())
    assert model(**inputs).loss is None
    assert model(**inputs, labels=None).loss is None


def test_token_heads_in_every_text_family(family: Any) -> None:
    if family.name == "vit":
        pytest.skip("no tokens")
    model, inputs = family.model(), family.inputs()
    model.add_tagging_head("t", num_labels=5)
    labels = torch.randint(0, 5, (4, 8), generator=torch.Generator().manual_seed(2))
    labels[0, 1] = -100
    output = model(**inputs, labels=labels)
    assert output.logits.shape == (4, 8, 5)
    counted = (inputs["attention_mask"] == 1) & (labels != -100)
    torch.testing.assert_close(
        output.loss, F.cross_entropy(output.logits[counted], labels[counted])
    )
    model.add_qa_head("q")
    start, end = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 9])
    output = model(**inputs, start_positions=start, end_positions=end)
    assert output.start_logits.shape == output.end_logits.shape == (4, 8)
    expected = F.cross_entropy(output.start_logits, start)
    expected = (expected + F.cross_entropy(output.end_logits[:3], end[:3])) / 2
    torch.testing.assert_close(output.loss, expected)


def test_tied_t5_scales_states_of_token_heads_only(get_family: Any) -> None:
    model, inputs = get_family("t5").model(), get_family("t5").inputs()
    model.add_tagging_head("t", num_labels=5)
    with torch.no_grad():
        call = {**inputs, "decoder_input_ids": model.base_model._shift_right(inputs["input_ids"])}
        hidden = model.base_model(**call).last_hidden_state
        torch.testing.assert_close(
            model(**inputs).logits, model.heads["t"].stack(hidden * 16**-0.5)
        )


def test_regression(bert: Any, batch: Any) -> None:
    bert.add_classification_head("x", num_labels=1)
    labels = torch.tensor([0.5, -1, 2, 0])
    output = bert(**batch, labels=labels)
    torch.testing.assert_close(output.loss, ((output.logits[:, 0] - labels) ** 2).mean())
    assert torch.isfinite(bert(**batch, labels=torch.tensor([1, 2, 3, 4])).loss)


@pytest.mark.parametrize("image", [False, True])
def test_multilabel(get_family: Any, image: bool) -> None:
    family = get_family("vit" if image else "bert")
    model = family.model()
    add = model.add_image_classification_head if image else model.add_classification_head
    add("x", num_labels=3, multilabel=True)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    output = model(**family.inputs(), labels=labels)
    p = torch.sigmoid(output.logits)
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    torch.testing.assert_close(output.loss, expected)


def test_multiple_choice(bert: Any, batch: Any) -> None:
    bert.add_multiple_choice_head("x", num_choices=2)
    folded = {name: value.view(2, 2, 8) for name, value in batch.items()}
    labels = torch.tensor([1, 0])
    output = bert(**folded, labels=labels)
    assert output.logits.shape == (2, 2)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, labels))
    flat = bert(**batch)
    torch.testing.assert_close(flat.logits, output.logits)


def test_pooler_is_used(bert: Any, batch: Any) -> None:
    bert.add_classification_head("x", use_pooler=True)
    pooled = bert.base_model(**batch).pooler_output
    torch.testing.assert_close(bert(**batch).logits, bert.heads["x"].stack(pooled))


def test_labels_and_their_names(bert: Any) -> None:
    bert.add_classification_head("x", num_labels=3, id2label={2: "c", 0: "a", 1: "b"})
    assert bert.get_labels() == ["a", "b", "c"]
    assert bert.get_labels_dict("x") == {0: "a", 1: "b", 2: "c"}
    bert.add_tagging_head("y", id2label=["O", "B"])
    assert bert.get_labels("y") == ["O", "B"]
    with pytest.raises(ConfigError, match="names 3 labels, but there are 2"):
        bert.add_classification_head("z", id2label=["a", "b", "c"])
    bert.active_head = ["x", "y"]
    with pytest.raises(ConfigError, match="Say which"):
        bert.get_labels()


def test_dropout_comes_from_the_head_then_the_model(get_family: Any) -> None:
    model = get_family("bert").model()
    model.config.hidden_dropout_prob = 0.3
    model.add_classification_head("a")
    model.config.classifier_dropout = 0.2
    model.add_classification_head("b")
    model.add_classification_head("c", dropout_prob=0)
    assert [model.heads[name][0].p for name in "abc"] == [0.3, 0.2, 0.0]


def test_from_config_makes_the_same_layers(bert: Any) -> None:
    bert.add_classification_head("x", num_labels=3, id2label=["a", "b", "c"], bias=False)
    config = copy.deepcopy(bert.heads["x"].config)
    bert.add_prediction_head_from_config("y", config)
    assert bert.heads["y"].config == config
    assert [list(p.shape) for p in bert.heads["y"].parameters()] == [
        list(p.shape) for p in bert.heads["x"].parameters()
    ]


def test_unknown_types_name_the_nearest(bert: Any) -> None:
    with pytest.raises(
        UnknownAdapterError, match=r"Did you mean 'tagging'\?.*Known: audio_classification"
    ):
        bert.add_prediction_head_from_config("x", {"head_type": "taging"})
    with pytest.raises(UnknownAdapterError, match="Unknown head type None"):
        bert.add_prediction_head_from_config("x", {})
    assert not bert.heads


@pytest.mark.parametrize(
    "options", [{"layers": 0}, {"num_labels": 0}, {"activation_function": "nonsense"}]
)
def test_bad_options_leave_the_model_as_it_was(bert: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        bert.add_classification_head("x", **options)
    assert not bert.heads
    with pytest.raises(ConfigError, match="num_choices must be a positive integer"):
        bert.add_multiple_choice_head("x", num_choices=0)
    assert not bert.heads
    assert bert.active_head is None


def test_unknown_entries_of_a_config(bert: Any) -> None:
    with pytest.raises(ConfigError, match="wings"):
        bert.add_prediction_head_from_config("x", {"head_type": "tagging", "wings": 2})


def test_custom_heads(bert: Any, batch: Any) -> None:
    """A head as one writes it for the ``adapters`` library."""

    class Constant(PredictionHead):
        def __init__(self, model: Any, head_name: str, **config: Any) -> None:
            super().__init__(head_name)
            self.config = config
            self.build(model=model)

        def forward(
            self,
            outputs: Any,
            cls_output: Any = None,
            attention_mask: Any = None,
            return_dict: bool = False,
            **kwargs: Any,
        ) -> Any:
            logits = super().forward(outputs[0])
            return hf.TokenClassifierOutput(loss=kwargs.pop("labels", None), logits=logits)

    bert.register_custom_head("constant", Constant)
    try:
        assert head_class("constant") is Constant
        bert.add_custom_head("constant", "x", num_labels=4)
        output = bert(**batch, labels=torch.tensor(1.0))
        assert output.logits.shape == (4, 8, 4)
        assert output.loss == 1
        saved = bert.get_prediction_heads_config()["x"]
        assert saved == {"head_type": "constant", "num_labels": 4}
        bert.add_prediction_head_from_config("y", saved)
    finally:
        del base._TYPES["constant"]
    assert "constant" not in head_types()
    with pytest.raises(ConfigError, match="subclass of PredictionHead"):
        register_head("x", dict)  # type: ignore[type-var]


def test_models_that_heads_cannot_work_on() -> None:
    assert hidden_size(transformers.ResNetConfig(hidden_sizes=[4, 8])) == 8
    with pytest.raises(ArchitectureError, match="hidden size"):
        hidden_size(transformers.PretrainedConfig())
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 64},
        vision_config={**small, "image_size": 8, "patch_size": 4},
    )
    model = AutoAdapterModel.from_config(config)
    model.add_classification_head("x")
    with pytest.raises(ArchitectureError, match="CLIPModel returns no last_hidden_state"):
        model(input_ids=torch.full((1, 3), 5), pixel_values=torch.zeros(1, 3, 8, 8))
