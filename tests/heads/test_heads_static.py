"""Heads of transformers' task classes as ours and back: the same function, bit for bit or nearly."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.heads.conftest import CONFIGS, TEXT, Family, randomize

import adapterhub
from adapterhub.errors import CheckpointError
from adapterhub.heads import static
from adapterhub.model.auto import AutoAdapterModel

#: More families, at toy size: stem, configuration.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("Albert", {**TEXT, "embedding_size": 12}),
    "electra": ("Electra", {**TEXT, "embedding_size": 12}),
    "deberta-v2": ("DebertaV2", TEXT),
    "gemma2": ("Gemma2", {**TEXT, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0}),
    "cohere": ("Cohere", {**TEXT, "pad_token_id": 0, "logit_scale": 0.3}),
    "granite": ("Granite", {**TEXT, "pad_token_id": 0, "logits_scaling": 5.0}),
    "gpt_neox": ("GPTNeoX", {**TEXT, "pad_token_id": 0}),
    "gptj": (
        "GPTJ",
        {
            "vocab_size": 64,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 32,
            "rotary_dim": 4,
            "pad_token_id": 0,
        },
    ),
    "modernbert": (
        "ModernBert",
        {**TEXT, "pad_token_id": 0, "classifier_pooling": "mean", "global_attn_every_n_layers": 1},
    ),
}
ALL = {**CONFIGS, **MORE}

#: (family, ending of the class name)
CASES = [
    *(
        (name, "ForSequenceClassification")
        for name in ALL
        if name not in ("vit", "cohere", "granite")
    ),
    *(
        (name, "ForTokenClassification")
        for name in ("bert", "distilbert", "gpt2", "llama", "electra", "modernbert")
    ),
    *(
        (name, "ForQuestionAnswering")
        for name in ("bert", "roberta", "gpt2", "bart", "t5", "modernbert")
    ),
    *((name, "ForMultipleChoice") for name in ("bert", "roberta", "distilbert", "deberta-v2")),
    *(
        (name, "ForMaskedLM")
        for name in ("bert", "roberta", "distilbert", "albert", "electra", "modernbert")
    ),
    *(
        (name, "ForCausalLM")
        for name in ("llama", "qwen3", "gemma2", "cohere", "granite", "gpt_neox", "gptj", "electra")
    ),
    ("gpt2", "LMHeadModel"),
    ("bert", "LMHeadModel"),
    ("t5", "ForConditionalGeneration"),
    ("bart", "ForConditionalGeneration"),
    ("vit", "ForImageClassification"),
]
#: Families whose task classes take adapters: those that the library knows by now.
ADAPTED = [(name, ending) for name, ending in CASES if name in CONFIGS]


class Toy(Family):
    """A family of this file's."""

    def config(self) -> Any:
        """Return a fresh configuration."""
        if self.name in CONFIGS:
            return super().config()
        return getattr(transformers, f"{self.stem}Config")(**copy.deepcopy(ALL[self.name][1]))


def task_model(name: str, ending: str, seed: int = 0) -> Any:
    """Return a task model with weights large enough to matter."""
    family = Toy(name, ALL[name][0])
    config = family.config()
    config.num_labels = 2 if ending == "ForQuestionAnswering" else 3
    config.tie_word_embeddings = getattr(config, "tie_word_embeddings", False)
    torch.manual_seed(seed)
    model = getattr(transformers, family.stem + ending)(config)
    randomize(model)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(0, 0.1)
    return model.eval()


def inputs_for(name: str, ending: str) -> dict[str, torch.Tensor]:
    inputs = Toy(name, ALL[name][0]).inputs()
    if ending == "ForMultipleChoice":
        return {key: torch.stack([value, value.flip(0)], 1) for key, value in inputs.items()}
    if (name, ending) == ("t5", "ForConditionalGeneration"):
        return {**inputs, "decoder_input_ids": inputs["input_ids"].flip(1)}
    return inputs


def labels_for(ending: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    some = torch.tensor([1, 0, 1, 0])
    if ending == "ForQuestionAnswering":
        return {"start_positions": some, "end_positions": some + 1}
    if ending in ("ForSequenceClassification", "ForMultipleChoice", "ForImageClassification"):
        return {"labels": some}
    ids = inputs["input_ids"]
    if ending == "ForTokenClassification":
        return {"labels": (ids % 3).masked_fill(inputs["attention_mask"] == 0, -100)}
    return {"labels": ids.masked_fill(inputs["attention_mask"] == 0, -100)}


def fields(ending: str) -> list[str]:
    return ["start_logits", "end_logits"] if ending == "ForQuestionAnswering" else ["logits"]


def assert_same(found: Any, expected: Any, ending: str) -> None:
    for name in fields(ending):
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_task_checkpoints_keep_their_function(name: str, ending: str, tmp_path: Path) -> None:
    task, inputs = task_model(name, ending), inputs_for(name, ending)
    task.save_pretrained(tmp_path / "task")
    model = AutoAdapterModel.from_pretrained(tmp_path / "task")
    assert model.active_head == "default"
    with torch.no_grad():
        expected = task(**inputs)
        assert expected[fields(ending)[0]].abs().max() > 1e-3
        assert_same(model(**inputs), expected, ending)
    labels = labels_for(ending, inputs)
    inputs.pop("decoder_input_ids", None)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs, **labels).loss, task(**inputs, **labels).loss)
    model.save_pretrained(tmp_path / "ours")
    again = AutoAdapterModel.from_pretrained(tmp_path / "ours")
    with torch.no_grad():
        assert_same(again(**inputs_for(name, ending)), expected, ending)


@pytest.mark.parametrize(("name", "ending"), ADAPTED)
def test_heads_of_adapters_move_both_ways(name: str, ending: str, tmp_path: Path) -> None:
    task, inputs = adapterhub.init(task_model(name, ending)), inputs_for(name, ending)
    kind = "seq_bn" if name == "vit" else "seq_bn_inv"  # undone before the map to the vocabulary
    task.add_adapter("a", f"{kind}[reduction_factor=4]", set_active=True)
    for slot in task.adapter_handle.engine.slots.values():
        randomize(slot)
    task.save_adapter(tmp_path / "adapter", "a")
    task.save_pretrained(tmp_path / "task")
    ours = AutoAdapterModel.from_pretrained(tmp_path / "task")
    ours.delete_head("default")
    ours.load_adapter(tmp_path / "adapter", set_active=True)
    assert ours.active_head == "a"
    with torch.no_grad():
        expected = task(**inputs)
        assert_same(ours(**inputs), expected, ending)
    ours.save_adapter(tmp_path / "back", "a")

    plain = getattr(transformers, Toy(name, ALL[name][0]).stem + ending)
    other = adapterhub.init(plain.from_pretrained(tmp_path / "task"))
    with torch.no_grad():
        base_parameters = {id(p) for p in other.adapter_handle.engine.resolved.base.parameters()}
        for parameter in other.parameters():
            if id(parameter) not in base_parameters:
                parameter.zero_()
    before = {key: value.clone() for key, value in ours.base_model.state_dict().items()}
    other.load_adapter(tmp_path / "back", set_active=True)
    with torch.no_grad():
        assert_same(other(**inputs), expected, ending)
    assert all(
        torch.equal(before[key], value) for key, value in ours.base_model.state_dict().items()
    )


def test_more_choices_than_configured(tmp_path: Path) -> None:
    task = task_model("bert", "ForMultipleChoice")
    task.save_pretrained(tmp_path)
    model = AutoAdapterModel.from_pretrained(tmp_path)
    one = Toy("bert", "Bert").inputs()
    inputs = {key: torch.stack([value] * 5, 1) for key, value in one.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, task(**inputs).logits)


def test_multilabel_and_regression(tmp_path: Path) -> None:
    for problem, count, kind in (
        ("multi_label_classification", 4, "multilabel_classification"),
        ("regression", 1, "classification"),
    ):
        task = task_model("roberta", "ForSequenceClassification")
        config = task.config
        config.problem_type, config.num_labels = problem, count
        task = type(task)(config).eval()
        task.save_pretrained(tmp_path / problem)
        model = AutoAdapterModel.from_pretrained(tmp_path / problem)
        assert model.heads["default"].config["head_type"] == kind
        inputs = Toy("roberta", "Roberta").inputs()
        labels = torch.ones(4, count)
        with torch.no_grad():
            found, wanted = model(**inputs, labels=labels), task(**inputs, labels=labels)
        torch.testing.assert_close(found.loss, wanted.loss)


def test_labels_come_along(tmp_path: Path) -> None:
    task = adapterhub.init(task_model("bert", "ForTokenClassification"))
    task.config.id2label = {0: "O", 1: "B", 2: "I"}
    task.config.label2id = {"O": 0, "B": 1, "I": 2}
    task.add_adapter("a")
    task.save_adapter(tmp_path, "a")
    model = AutoAdapterModel.from_config(Toy("bert", "Bert").config())
    model.load_adapter(tmp_path, load_as="ner")
    assert model.get_labels("ner") == ["O", "B", "I"]
    assert model.load_head(tmp_path) == "default"
    assert model.get_labels("default") == ["O", "B", "I"]
    assert model.load_head(tmp_path, load_as="again") == "again"
    assert model.load_adapter(tmp_path, load_as="b", id2label={0: "X", 1: "Y", 2: "Z"}) == "b"
    assert model.get_labels("b") == ["X", "Y", "Z"]


def test_a_bias_on_the_logits_becomes_the_decoder_s(tmp_path: Path) -> None:
    task = adapterhub.init(task_model("bart", "ForConditionalGeneration"))
    task.final_logits_bias.normal_()
    task.add_adapter("a", set_active=True)
    task.save_adapter(tmp_path / "a", "a")
    model = AutoAdapterModel.from_config(task.config)
    model.base_model.load_state_dict(
        {k: v for k, v in task.model.state_dict().items() if "adapterhub" not in k}
    )
    model.eval().load_adapter(tmp_path / "a", set_active=True)
    inputs = Toy("bart", "Bart").inputs()
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, task(**inputs).logits)
    # Back again the bias has no place in the one layer that the class has.
    model.save_adapter(tmp_path / "b", "a")
    with pytest.warns(UserWarning, match="has bias=True, and the one inside Bart"):
        task.load_adapter(tmp_path / "b")


@pytest.mark.parametrize(
    ("add", "why"),
    [
        (lambda m: m.add_classification_head("a"), "activation_function='tanh'"),
        (lambda m: m.add_classification_head("a", layers=1), "use_pooler=False"),
        (lambda m: m.add_tagging_head("a"), "head_type='tagging'"),
    ],
)
def test_heads_that_compute_something_else_are_not_loaded(
    add: Any, why: str, tmp_path: Path
) -> None:
    model = AutoAdapterModel.from_config(Toy("bert", "Bert").config())
    model.add_adapter("a")
    add(model)
    model.save_adapter(tmp_path, "a")
    task = adapterhub.init(task_model("bert", "ForSequenceClassification"))
    before = task.classifier.weight.clone()
    with pytest.warns(UserWarning, match=why):
        task.load_adapter(tmp_path)
    assert torch.equal(task.classifier.weight, before)
    with warnings.catch_warnings():  # a bare model has no place for heads, which is no surprise
        warnings.simplefilter("error")
        bare = adapterhub.init(transformers.BertModel(Toy("bert", "Bert").config()))
        bare.load_adapter(tmp_path)


def test_heads_without_a_counterpart_are_named(tmp_path: Path) -> None:
    task = adapterhub.init(task_model("bert", "ForNextSentencePrediction"))
    task.add_adapter("a")
    task.save_adapter(tmp_path / "a", "a")
    task.save_pretrained(tmp_path / "task")
    model = AutoAdapterModel.from_pretrained(tmp_path / "task")
    assert not model.heads
    with pytest.warns(UserWarning, match="BertForNextSentencePrediction.*no head here computes"):
        model.load_adapter(tmp_path / "a")
    assert not model.heads


def test_wrong_sizes_are_refused_before_anything_changes(tmp_path: Path) -> None:
    model = AutoAdapterModel.from_config(Toy("bert", "Bert").config())
    model.add_adapter("a")
    model.add_classification_head("a", 7, layers=1, use_pooler=True)
    model.save_adapter(tmp_path, "a")
    task = adapterhub.init(task_model("bert", "ForSequenceClassification"))
    with pytest.raises(
        CheckpointError, match=r"classifier.weight is \[7, 16\] in the file, \[3, 16\]"
    ):
        task.load_adapter(tmp_path)
    assert not task.has_adapters()


def test_a_decoder_that_differs_from_tied_embeddings_is_untied(tmp_path: Path) -> None:
    family = Toy("gpt2", "GPT2")
    config = family.config()
    config.tie_word_embeddings = False
    untied = adapterhub.init(transformers.GPT2LMHeadModel(config))
    untied.add_adapter("a")
    untied.save_adapter(tmp_path / "a", "a")
    task, ours = adapterhub.init(task_model("gpt2", "LMHeadModel")), family.model()
    for model, base in ((task, task.transformer), (ours, ours.transformer)):
        before = base.wte.weight.clone()
        model.load_adapter(tmp_path / "a", set_active=True)
        decoder = model.get_output_embeddings().weight
        assert torch.equal(base.wte.weight, before)
        assert torch.equal(decoder, untied.lm_head.weight)
        model.save_pretrained(tmp_path / "all")
        again = type(model).from_pretrained(tmp_path / "all")
        assert torch.equal(again.get_output_embeddings().weight, decoder)


def test_older_names_of_layer_norms(tmp_path: Path) -> None:
    """bert-base-uncased and its contemporaries call them gamma and beta."""
    from safetensors.torch import load_file, save_file

    task = task_model("bert", "ForMaskedLM")
    task.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for key, value in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    model = AutoAdapterModel.from_pretrained(tmp_path)
    inputs = Toy("bert", "Bert").inputs()
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, task(**inputs).logits)


def test_rows_of_the_table_are_distinct() -> None:
    """No row stands behind one that always comes first."""
    for i, row in enumerate(static.TABLE):
        for earlier in static.TABLE[:i]:
            same = (row.task, row.slots, row.head_type) == (
                earlier.task,
                earlier.slots,
                earlier.head_type,
            )
            shadowed = not earlier.types or set(row.types.split()) & set(earlier.types.split())
            assert not (same and shadowed and (row.types or not earlier.types)), row
