"""Heads that the library makes pass the trial on their base model; damaged ones are refused by name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

import adapterhub
from adapterhub import AutoAdapterModel
from adapterhub.heads import head_types
from adapterhub.hub.verify import trial_head, trial_headrun
from adapterhub.hub.verify.trial import _head
from tests.golden.test_golden import SAMPLE

LABELS = ["a", "b", "c"]
_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_dropout_prob": 0.0,
}
BASES: dict[str, Any] = {
    "bert": tf.BertConfig(**_SMALL, vocab_size=60, max_position_embeddings=40),
    # (More words than a trial keeps, so that heads over the vocabulary are cut.)
    "roberta": tf.RobertaConfig(**_SMALL, vocab_size=1500, max_position_embeddings=40),
    "gpt2": tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60, n_positions=40),
    "t5": tf.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=60),
    "vit": tf.ViTConfig(**_SMALL, image_size=16, patch_size=8),
    "wav2vec2": tf.Wav2Vec2Config(
        **{**_SMALL, "num_hidden_layers": 3},
        vocab_size=12,
        conv_dim=(8, 8),
        conv_stride=(8, 8),
        conv_kernel=(8, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        classifier_proj_size=12,
    ),
}
ADD: dict[str, Callable[[Any], None]] = {
    "classification": lambda m: m.add_classification_head("x", num_labels=3, id2label=LABELS),
    "multilabel_classification": lambda m: m.add_classification_head(
        "x", num_labels=3, multilabel=True
    ),
    "tagging": lambda m: m.add_tagging_head("x", num_labels=3, id2label=LABELS),
    "question_answering": lambda m: m.add_qa_head("x"),
    "multiple_choice": lambda m: m.add_multiple_choice_head("x", num_choices=4),
    "dependency_parsing": lambda m: m.add_dependency_parsing_head("x", num_labels=5),
    "masked_lm": lambda m: m.add_masked_lm_head("x"),
    "causal_lm": lambda m: m.add_causal_lm_head("x"),
    "seq2seq_lm": lambda m: m.add_seq2seq_lm_head("x"),
    "image_classification": lambda m: m.add_image_classification_head("x", num_labels=3),
    "audio_classification": lambda m: m.add_audio_classification_head("x", num_labels=3),
    "ctc": lambda m: m.add_ctc_head("x"),
}
TEXT = tuple(kind for kind in ADD if not kind.startswith(("image", "audio", "ctc")))
CASES = [
    *((base, kind) for base in ("bert", "roberta", "gpt2", "t5") for kind in TEXT),
    ("vit", "image_classification"),
    ("wav2vec2", "audio_classification"),
    ("wav2vec2", "ctc"),
]


def test_every_type_of_head_is_tried() -> None:
    assert sorted(ADD) == sorted(kind for kind in head_types() if kind in ADD)
    own = {kind for kind in head_types() if not kind.startswith("test")}
    assert own - set(ADD) <= {"custom"}, "a new type of head needs a line here"


def make(folder: Path, base: str, kind: str, *, trained: bool = True) -> Path:
    torch.manual_seed(1)
    model = AutoAdapterModel.from_config(BASES[base])
    model.add_adapter("x", config="lora[r=2]")
    ADD[kind](model)
    if trained:
        for parameter in model.heads["x"].parameters():
            if parameter.dim() == 3:  # the parser's weights begin at zero
                torch.nn.init.normal_(parameter)
    for parameter in model.adapter_handle.iter_parameters("x"):
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_adapter(folder, "x")
    return folder


def tried(folder: Path, base: str) -> dict[str, Any]:
    return _head(folder, BASES[base].to_dict(), fits=True)


@pytest.mark.parametrize(("base", "kind"), CASES)
def test_heads_of_the_library_pass(base: str, kind: str, tmp_path: Path) -> None:
    found = tried(make(tmp_path / "a", base, kind), base)
    assert (found["errors"], found["warnings"]) == ([], [])
    assert found["data"]["type"] == kind
    assert found["data"]["layers"] == BASES[base].num_hidden_layers
    for name, shape in found["data"]["shapes"].items():
        assert shape[0] == 2, name


def _recorded(golden: Path, name: str) -> dict[str, Any]:
    """Try the head that the ``adapters`` library wrote in a recorded case."""
    case = golden / "cases" / name
    model = json.loads((case / "case.json").read_text())["model"]["dir"]
    config = json.loads((golden / model / "config.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _head(case / "adapters" / "a", config, fits=True)


def _with_head(golden: Path) -> list[str]:
    return sorted(
        path.parents[2].name for path in golden.glob("cases/*/adapters/a/head_config.json")
    )


@pytest.mark.parametrize("name", _with_head(SAMPLE))
def test_heads_that_the_adapters_library_wrote_pass(name: str) -> None:
    found = _recorded(SAMPLE, name)
    assert (found["errors"], found["warnings"]) == ([], [])


@pytest.mark.slow
def test_all_recorded_heads_pass(shared: Path) -> None:
    golden = shared / "golden"
    names = [name for name in _with_head(golden) if name.split("__")[1] in ("h", "s")]
    assert len(names) > 60
    found = {name: _recorded(golden, name) for name in names}
    wrong = {name: one for name, one in found.items() if one.get("errors") != [] or one["warnings"]}
    assert wrong == {}


@pytest.mark.parametrize(
    "name",
    [
        "BertForSequenceClassification",
        "BertForTokenClassification",
        "BertForQuestionAnswering",
        "BertForMultipleChoice",
        "BertForMaskedLM",
        "GPT2LMHeadModel",
        "T5ForConditionalGeneration",
        "RobertaForMaskedLM",
    ],
)
def test_heads_inside_classes_of_transformers_pass(name: str, tmp_path: Path) -> None:
    base = next(b for b in BASES if name.lower().startswith(b))
    found = tried(static(tmp_path / "a", name), base)
    assert (found["errors"], found["warnings"]) == ([], [])
    assert found["data"]["type"] == name


def static(folder: Path, name: str) -> Path:
    torch.manual_seed(1)
    base = next(b for b in BASES if name.lower().startswith(b))
    model = getattr(tf, name)(BASES[base])
    adapterhub.init(model)
    model.add_adapter("x", config="lora[r=2]")
    model.save_adapter(folder, "x")
    return folder


def change(folder: Path, **config: Any) -> None:
    path = folder / "head_config.json"
    stored = json.loads(path.read_text())
    inner = config.pop("config", {})
    if inner:
        stored["config"].update(inner)
    path.write_text(json.dumps({**stored, **config}))


def reshape(folder: Path, name: str, *shape: int) -> None:
    path = folder / "model_head.safetensors"
    tensors = load_file(path)
    if shape:
        tensors[name] = torch.randn(*shape)
    else:
        del tensors[name]
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda f: reshape(f, "heads.x.1.weight"),
            "missing: heads.x.1.weight [16, 16]",
        ),
        (
            lambda f: reshape(f, "heads.x.1.weight", 32, 32),
            "shape: heads.x.1.weight is [32, 32] in the file, [16, 16] in the model",
        ),
        (lambda f: reshape(f, "heads.x.9.weight", 2, 2), "unexpected: heads.x.9.weight"),
        (lambda f: change(f, hidden_size=32), "says that the hidden size is 32, but it is 16"),
        (
            lambda f: change(f, config={"num_labels": 5}),
            "says num_labels = 5, but heads.x.4.weight has the shape [3, 16]",
        ),
        (
            lambda f: change(f, config={"label2id": {"a": 0, "b": 1}}),
            "label2id names 2 outputs with the numbers 0, 1, but num_labels = 3, as heads.x.4.weight",
        ),
        (
            lambda f: change(f, config={"label2id": {"a": 0, "b": 1, "c": 3}}),
            "with the numbers 0, 1, 3, but",
        ),
        (lambda f: change(f, config={"label2id": ["a", "b", "c"]}), "label2id must be an object"),
        (
            lambda f: change(f, config={"head_type": "clasification"}),
            "unknown head type 'clasification' for heads.x.1.bias; write 'classification'",
        ),
        (
            lambda f: change(f, config={"head_type": None}),
            "'head_type' does not say of which type the head of heads.x.1.bias is",
        ),
        (
            lambda f: change(f, config={"layers": 10**9}),
            "says layers = 1000000000, but model_head.safetensors has 4 tensors",
        ),
        (lambda f: change(f, config={"activation_function": "exec"}), "Unknown non_linearity"),
        (lambda f: change(f, config={"secret": 1}), "unexpected option 'secret'"),
        (lambda f: change(f, config={"dropout_prob": "much"}), "cannot be used"),
        (lambda f: change(f, name="y"), "missing: heads.y.1.weight [16, 16]"),
    ],
)
def test_wrong_heads_are_refused_by_name(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "a", "bert", "classification")
    damage(folder)
    found = tried(folder, "bert")
    assert any(said in line for line in found["errors"]), found
    assert not any(str(tmp_path) in line for line in found["errors"])


def test_wrong_heads_of_other_kinds(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", "bert", "multiple_choice")
    change(folder, config={"num_choices": 10**12, "label2id": None})
    assert "num_choices = 1000000000000; up to 1000" in tried(folder, "bert")["errors"][0]
    folder = make(tmp_path / "b", "bert", "masked_lm")
    change(folder, config={"vocab_size": 61})
    assert any(
        "heads.x.3.bias is [60] in the file, [61]" in e for e in tried(folder, "bert")["errors"]
    )
    folder = static(tmp_path / "c", "BertForSequenceClassification")
    reshape(folder, "classifier.weight")
    assert tried(folder, "bert")["errors"] == ["missing: classifier.weight [2, 16]"]
    folder = static(tmp_path / "d", "BertForSequenceClassification")
    reshape(folder, "classifier.weight", 2, 32)
    (line,) = tried(folder, "bert")["errors"]
    assert line == "shape: classifier.weight is [2, 32] in the file, [2, 16] in the model"
    change(folder, num_labels=7)
    assert "num_labels = 7" in tried(folder, "bert")["errors"][0]


def test_what_is_not_known_is_not_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", "bert", "classification")
    for name in ("span_ranking", "tagging2", "my_classification"):
        change(folder, config={"head_type": name})
        assert (
            f"of the type '{name}', which is not one of the library"
            in tried(folder, "bert")["unknown"]
        )
    folder = static(tmp_path / "b", "BertForSequenceClassification")
    change(folder, model_class="BertForTeleportation")
    assert (
        "that of BertForTeleportation, which transformers does not"
        in tried(folder, "bert")["unknown"]
    )
    change(folder, model_class="RobertaForSequenceClassification")
    assert "base model is of type bert" in tried(folder, "bert")["unknown"]
    change(folder, model_class="os.system")
    assert "unknown" in tried(folder, "bert")


def test_a_head_that_says_the_same_of_everything_gets_a_hint(tmp_path: Path) -> None:
    found = tried(make(tmp_path / "a", "bert", "dependency_parsing", trained=False), "bert")
    assert found["errors"] == []
    assert "the same whatever the input" in found["warnings"][0]


def test_outputs_are_judged() -> None:
    good = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    assert trial_headrun.judge({"logits": good}, {"logits": (2, 2)}) == ([], [])
    errors, _ = trial_headrun.judge({"logits": good}, {"logits": (2, 3)})
    assert errors == ["the head's logits has the shape [2, 2]; expected [2, 3]"]
    errors, _ = trial_headrun.judge({"logits": good / 0 * 0}, {"logits": (2, None)})
    assert errors == ["the head's logits holds NaN or infinity, even on small random inputs"]
    assert trial_headrun.judge({}, {"logits": (2,)})[0] == ["the head gives no logits"]


def test_an_overflow_shows_when_it_runs(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", "bert", "classification")
    path = folder / "model_head.safetensors"
    tensors = load_file(path)
    tensors["heads.x.1.weight"] *= 1e6
    tensors["heads.x.4.weight"] = torch.full((3, 16), 3e38)
    save_file(tensors, path)
    found = tried(folder, "bert")
    assert "NaN or infinity" in found["errors"][0]


def test_the_last_weight_makes_the_outputs() -> None:
    names = ("heads.x.4.weight", "heads.x.1.weight", "heads.x.10.weight", "heads.x.11.bias")
    tensors = {name: torch.zeros(2, 2) if "weight" in name else torch.zeros(2) for name in names}
    assert trial_head.last_of(tensors) == "heads.x.10.weight"
    assert trial_head.last_of({}) == ""
