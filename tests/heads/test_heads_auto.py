"""Model classes made on demand: names, loading, saving, copying, the Trainer."""

from __future__ import annotations

import copy
import inspect
import io
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import adapterhub
from adapterhub.errors import ArchitectureError, UnknownAdapterError
from adapterhub.model import auto
from adapterhub.model.auto import AutoAdapterModel, adapter_model_class

TASKS = {
    "bert": ["ForSequenceClassification", "ForTokenClassification", "ForMaskedLM"],
    "roberta": ["ForSequenceClassification", "ForMaskedLM"],
    "xlm-roberta": ["ForQuestionAnswering"],
    "distilbert": ["ForSequenceClassification"],
    "gpt2": ["LMHeadModel", "ForSequenceClassification"],
    "llama": ["ForCausalLM", "ForSequenceClassification"],
    "qwen3": ["ForCausalLM"],
    "t5": ["ForConditionalGeneration", "ForSequenceClassification"],
    "bart": ["ForConditionalGeneration", "ForSequenceClassification"],
    "vit": ["ForImageClassification"],
}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What transformers logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def same_weights(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    ours, theirs = found.state_dict(), expected.state_dict()
    assert set(ours) == set(theirs)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_bare_checkpoints_give_identical_weights(family: Any, tmp_path: Path, log: Any) -> None:
    base = getattr(transformers, f"{family.stem}Model")(family.config())
    base.save_pretrained(tmp_path)
    model = AutoAdapterModel.from_pretrained(tmp_path)
    assert type(model).__name__ == f"{family.stem}AdapterModel"
    assert not model.training
    same_weights(model.base_model, base)
    assert log.getvalue() == ""


def test_task_checkpoints_give_the_weights_that_auto_model_gives(
    family: Any, tmp_path: Path, log: Any
) -> None:
    for ending in TASKS[family.name]:
        folder = tmp_path / ending
        task = getattr(transformers, family.stem + ending)(family.config())
        task.save_pretrained(folder)
        model, info = AutoAdapterModel.from_pretrained(folder, output_loading_info=True)
        assert info["unexpected_keys"] == set()
        assert {key.split(".")[1] for key in info["missing_keys"]} <= {"pooler"}
        stored = (
            task.state_dict()
            if ending == "ForConditionalGeneration"
            else task.base_model.state_dict()
        )
        prefix = "model." if family.name == "bart" and stored.keys() & {"final_logits_bias"} else ""
        for key, value in model.base_model.state_dict().items():
            if "pooler" not in key:
                assert torch.equal(value, stored[prefix + key]), key
        assert list(model.heads) == ["default"]
        assert model.active_head == "default"
    assert "classifier" not in log.getvalue()
    assert "heads" not in log.getvalue()


def test_round_trip_with_heads(family: Any, tmp_path: Path, log: Any) -> None:
    model, inputs = family.model(), family.inputs()
    add = (
        model.add_image_classification_head
        if family.name == "vit"
        else model.add_classification_head
    )
    add("a", num_labels=3, id2label=["x", "y", "z"])
    add("b", layers=1, dropout_prob=0.5)
    model.save_pretrained(tmp_path)
    assert not hasattr(model.config, "prediction_heads")
    saved = json.loads((tmp_path / "config.json").read_text())
    assert list(saved["prediction_heads"]) == ["a", "b"]
    assert saved["architectures"] == [f"{family.stem}AdapterModel"]
    for again in (AutoAdapterModel, getattr(auto, f"{family.stem}AdapterModel")):
        loaded = again.from_pretrained(tmp_path)
        same_weights(loaded, model)
        assert loaded.active_head == "b"
        assert loaded.get_labels("a") == ["x", "y", "z"]
        with torch.no_grad():
            for name in "ab":
                torch.testing.assert_close(
                    loaded(**inputs, head=name).logits, model(**inputs, head=name).logits
                )
    assert log.getvalue() == ""
    loaded.delete_head("a")
    loaded.delete_head("b")
    loaded.save_pretrained(tmp_path / "none")
    assert "prediction_heads" not in json.loads((tmp_path / "none" / "config.json").read_text())
    assert "prediction_heads" in loaded.config.__dict__
    assert AutoAdapterModel.from_pretrained(tmp_path / "none").active_head is None


def test_auto_model_reads_our_checkpoints(get_family: Any, tmp_path: Path) -> None:
    model = get_family("bert").model()
    model.save_pretrained(tmp_path)
    same_weights(transformers.AutoModel.from_pretrained(tmp_path), model.base_model)


def test_unknown_head_types_in_a_checkpoint(get_family: Any, tmp_path: Path) -> None:
    config = get_family("bert").config()
    config.prediction_heads = {"x": {"head_type": "taging"}}
    with pytest.raises(UnknownAdapterError, match="Did you mean 'tagging'"):
        AutoAdapterModel.from_config(config)


def test_loading_options(get_family: Any, tmp_path: Path) -> None:
    get_family("bert").model().save_pretrained(tmp_path)
    model = AutoAdapterModel.from_pretrained(
        tmp_path, dtype=torch.bfloat16, attn_implementation="eager", hidden_dropout_prob=0.4
    )
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"
    assert model.config.hidden_dropout_prob == 0.4
    config = get_family("bert").config()
    config.hidden_dropout_prob = 0.7
    model = AutoAdapterModel.from_pretrained(tmp_path, config=config, add_pooling_layer=False)
    assert model.config.hidden_dropout_prob == 0.7
    assert model.base_model.pooler is None
    assert AutoAdapterModel.from_config(config, dtype=torch.float16).dtype == torch.float16


def test_two_models_of_one_config_do_not_share_heads(get_family: Any) -> None:
    config = get_family("bert").config()
    first, second = AutoAdapterModel.from_config(config), AutoAdapterModel.from_config(config)
    first.add_classification_head("a")
    assert not second.heads
    assert not AutoAdapterModel.from_config(config).heads


def test_classes_are_found_by_name(family: Any) -> None:
    name = f"{family.stem}AdapterModel"
    cls = getattr(auto, name)
    assert cls is adapter_model_class(getattr(transformers, f"{family.stem}Model"))
    assert cls is getattr(adapterhub, name)
    assert issubclass(cls, getattr(transformers, f"{family.stem}PreTrainedModel"))
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert (cls.__name__, cls.__module__) == (name, "adapterhub.model.auto")


def test_import_statement() -> None:
    from adapterhub.model.auto import BertAdapterModel, BertGenerationAdapterModel

    assert BertAdapterModel.base_model_class is transformers.BertModel
    assert BertGenerationAdapterModel.base_model_class is transformers.BertGenerationEncoder


def test_unknown_classes() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'BertAdapterModel'"):
        _ = auto.BertyAdapterModel
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = auto.nonsense
    with pytest.raises(OSError, match="from_pretrained"):
        AutoAdapterModel()
    with pytest.raises(ArchitectureError, match=r"adapterhub\.init"):
        AutoAdapterModel.from_config(transformers.PretrainedConfig())


def test_models_have_the_adapter_methods(family: Any, tmp_path: Path) -> None:
    direct = getattr(auto, f"{family.stem}AdapterModel")(family.config())
    direct.save_pretrained(tmp_path)
    for model in (direct, family.model(), AutoAdapterModel.from_pretrained(tmp_path)):
        assert model.adapter_handle.model is model
        assert next(c for c in type(model).__mro__ if "base_model_class" in c.__dict__) is getattr(
            auto, f"{family.stem}AdapterModel"
        )
        assert model.adapter_handle.engine.own_heads


def test_copies_and_pickles_work_on_their_own(get_family: Any) -> None:
    family = get_family("bert")
    model, inputs = family.model(), family.inputs()
    model.add_classification_head("a", activation_function="gelu")
    expected = model(**inputs).logits.detach()
    twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    with torch.no_grad():
        model.heads["a"][1].weight.zero_()
    for twin in twins:
        torch.testing.assert_close(twin(**inputs).logits.detach(), expected)
        twin.add_tagging_head("b")
        assert twin.active_head == "b"
    assert "b" not in model.heads


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bert", ["input_ids", "attention_mask", "token_type_ids", "position_ids"]),
        ("distilbert", ["input_ids", "attention_mask"]),
        ("gpt2", ["input_ids", "attention_mask", "token_type_ids"]),
        ("t5", ["input_ids", "attention_mask", "decoder_input_ids"]),
        ("vit", ["pixel_values"]),
    ],
)
def test_signature_names_the_columns_to_keep(
    get_family: Any, name: str, arguments: list[str]
) -> None:
    parameters = inspect.signature(get_family(name).model().forward).parameters
    for argument in [
        *arguments,
        "labels",
        "start_positions",
        "end_positions",
        "head",
        "return_dict",
    ]:
        assert argument in parameters
    assert next(iter(parameters)) == arguments[0]
    assert list(parameters.values())[-1].kind is inspect.Parameter.VAR_KEYWORD


def test_trainer_keeps_the_columns_and_scales_the_loss(get_family: Any, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    family = get_family("bert")
    model, inputs = family.model(), family.inputs()
    model.add_classification_head("a")
    columns = {**inputs, "token_type_ids": torch.zeros(4, 8, dtype=torch.long)}
    columns["labels"] = torch.tensor([0, 1, 1, 0])
    data = [{**{key: value[i] for key, value in columns.items()}, "text": "x"} for i in range(4)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True, max_steps=2
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
    assert trainer.label_names == ["labels"]
    assert not trainer.model_accepts_loss_kwargs
    rows = next(iter(trainer.get_train_dataloader()))
    assert set(rows) == set(columns)
    before = model.heads["a"][4].weight.detach().clone()
    trainer.train()
    assert not torch.equal(before, model.heads["a"][4].weight)
    assert trainer.predict(data).predictions.shape == (4, 2)
