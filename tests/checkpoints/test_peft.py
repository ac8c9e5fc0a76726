"""Folders of the PEFT library: what it saved does the same here, and what is saved for it does so there.

The samples in ``peft/`` were made by PEFT itself (``peft_record.py``). Where an interpreter with PEFT is at
hand (this one, or the one that ADAPTERHUB_PEFT_PYTHON names), it also loads what is saved here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapterhub
from adapterhub.configs import LoRAConfig
from adapterhub.errors import AdapterHubError, CheckpointError, ConfigError
from tests.checkpoints.peft_models import make, outcome

SAMPLES = Path(__file__).parent / "peft"
CASES = sorted(path.name for path in SAMPLES.iterdir() if path.is_dir())
RECORDER = Path(__file__).parent / "peft_record.py"


def facts(case: str) -> tuple[str, torch.Tensor]:
    folder = SAMPLES / case
    kind = json.loads((folder / "case.json").read_text())["kind"]
    return kind, load_file(folder / "outputs.safetensors")["out"]


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_what_peft_saved_does_the_same_here(case: str, tmp_path: Path) -> None:
    kind, expected = facts(case)
    model = adapterhub.init(make(kind))
    assert not torch.allclose(outcome(make(kind), kind), expected[:, -6:], atol=1e-2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.load_adapter(SAMPLES / case, set_active=True) == case
    same(outcome(model, kind), expected)
    model.save_adapter(tmp_path / "ours", case)  # and on in our own format
    again = adapterhub.init(make(kind))
    again.load_adapter(tmp_path / "ours", load_as="x", set_active=True)
    same(outcome(again, kind), expected)
    model.adapter_handle.detach()
    assert all(
        torch.equal(value, model.state_dict()[name])
        for name, value in before.items()
        if not name.startswith("classifier")
    )


def test_what_is_read_is_an_ordinary_adapter() -> None:
    model = adapterhub.init(make("LlamaForCausalLM"))
    model.load_adapter(SAMPLES / "lora", load_as="mine")
    config = model.adapters_config.get("mine")
    assert isinstance(config, LoRAConfig)
    assert (config.r, config.attn_matrices) == (3, ("q", "v", "o"))
    assert config.rank_pattern["decoder.0.self.q"] == 2
    model.load_adapter(SAMPLES / "one_layer", load_as="one")
    assert model.adapters_config.get("one").leave_out == (0,)
    model.train_adapter("mine")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 24
    assert all(".mine." in name for name in trained)


def test_the_head_of_a_classifier_travels_along() -> None:
    kind, expected = facts("head")
    flexible = adapterhub.BertAdapterModel(make(kind).config).eval()
    flexible.bert.load_state_dict(make(kind).bert.state_dict())
    flexible.load_adapter(SAMPLES / "head", load_as="h", set_active=True)
    same(outcome(flexible, kind), expected)
    base = adapterhub.init(make("BertModel"))
    base.load_state_dict(make(kind).bert.state_dict())
    base.load_adapter(SAMPLES / "head", set_active=True)
    task = adapterhub.init(make(kind))
    fresh = task.classifier.weight.clone()
    task.load_adapter(SAMPLES / "head", with_head=False)
    assert torch.equal(task.classifier.weight, fresh)
    same(base(**inputs_of_bert())[0], flexible.bert(**inputs_of_bert())[0])


def inputs_of_bert() -> dict[str, torch.Tensor]:
    from tests.checkpoints.peft_models import inputs

    return inputs("BertModel")


# -- errors --------------------------------------------------------------------------------------------


def write(folder: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


PAIR = {"lora_A.weight": torch.ones(2, 16), "lora_B.weight": torch.ones(16, 2)}
QUERY = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"peft_type": "PREFIX_TUNING"}, {}, "PREFIX_TUNING, which has no counterpart"),
        ({"peft_type": "LORA", "layer_replication": [[0, 1]]}, {}, "layer_replication"),
        ({"peft_type": "LORA", "init_lora_weights": "loftq"}, {}, "init_lora_weights='loftq'"),
        ({"peft_type": "LORA"}, {}, "no LoRA matrices"),
        ({"peft_type": "LORA"}, {"nowhere.lora_A.weight": torch.ones(2, 4)}, "nowhere is no place"),
        ({"peft_type": "LORA"}, {f"{QUERY}.lora_A.weight": torch.ones(2, 16)}, "q_proj has lora_A"),
        (
            {"peft_type": "LORA"},
            {f"{QUERY}.{name}": value[:, :2] for name, value in PAIR.items()},
            r"lora_A at decoder.0.self.q is \[2, 2\]",
        ),
        (
            {"peft_type": "LORA"},
            {**{f"{QUERY}.{name}": v for name, v in PAIR.items()}, "odd.bias": torch.ones(2)},
            "1 tensors without a place",
        ),
        (
            {"peft_type": "LORA", "rank_pattern": {}, "alpha_pattern": {"(": 1}},
            {f"{QUERY}.{name}": value for name, value in PAIR.items()},
            "no pattern of module names",
        ),
        ({"peft_type": "PROMPT_TUNING"}, {"x": torch.ones(2)}, "prompt_embeddings"),
    ],
)
def test_what_has_no_counterpart_is_one_clear_error(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], message: str
) -> None:
    model = adapterhub.init(make("LlamaForCausalLM"))
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    with pytest.raises(CheckpointError, match=message):
        model.load_adapter(write(tmp_path / "x", tensors, **config))
    assert not model.has_adapters()


def test_functions_that_differ_are_refused(tmp_path: Path) -> None:
    model = adapterhub.init(make("BertModel"))
    query = "encoder.layer.0.attention.self.query"
    pair = {f"{query}.{name}": value for name, value in PAIR.items()}
    pair[f"{query}.lora_magnitude_vector"] = torch.ones(16)
    with pytest.raises(CheckpointError, match="has a bias"):
        model.load_adapter(write(tmp_path / "d", pair, peft_type="LORA", use_dora=True))
    down = {"encoder.layer.0.output.dense.ia3_l": torch.ones(1, 20)}
    with pytest.raises(CheckpointError, match=r"scales the input of encoder.0.ffn.down"):
        model.load_adapter(write(tmp_path / "i", down, peft_type="IA3"))
    with pytest.raises(CheckpointError, match="behind that"):
        model.load_adapter(
            write(
                tmp_path / "p", {"prompt_embeddings": torch.ones(2, 16)}, peft_type="PROMPT_TUNING"
            )
        )
    for config, message in (("seq_bn", "SeqBnConfig"), ("vera", "VeRA"), ("mtl_lora", "MTL")):
        model.add_adapter("a", config, overwrite_ok=True)
        with pytest.raises(CheckpointError, match=message):
            model.save_adapter(tmp_path / "out", "a", format="peft")
    with pytest.raises(ConfigError, match="format"):
        model.save_adapter(tmp_path / "out", "a", format="pefd")
    assert not (tmp_path / "out").exists()


# -- written here --------------------------------------------------------------------------------------

OURS = {
    "lora": (
        "LlamaForCausalLM",
        "lora[r=3,alpha=5,attn_matrices=['q','v','o'],ffn_matrices=['up','down']]",
    ),
    "rslora": ("LlamaForCausalLM", "lora[r=4,alpha=6,use_rslora=True,leave_out=[0]]"),
    "patterns": (
        "LlamaForCausalLM",
        "lora[r=4,rank_pattern={'decoder.0.self.q': 2},alpha_pattern={'*.v': 3}]",
    ),
    "vocabulary": ("LlamaForCausalLM", "lora[embedding_lora=True,lm_head_lora=True]"),
    "pissa": ("LlamaForCausalLM", "lora[r=2,alpha=3,init_weights='pissa']"),
    "dora": ("LlamaForCausalLM", "dora[r=2,alpha=5,attn_matrices=['q','k']]"),
    "ia3": ("LlamaForCausalLM", "ia3"),
    "fused": ("GPT2LMHeadModel", "lora[r=2,attn_matrices=['q','v'],output_lora=True]"),
    "fused_ia3": ("GPT2LMHeadModel", "ia3"),
    "head": ("BertForSequenceClassification", "lora[intermediate_lora=True]"),
    "seq2seq": ("T5ForConditionalGeneration", "lora[attn_matrices=['q','k','v','o']]"),
}


def written(case: str, folder: Path, safetensors: bool = True) -> torch.Tensor:
    """Save an adapter of ours for PEFT; return what the model gives with it."""
    kind, config = OURS[case]
    model = adapterhub.init(make(kind))
    model.add_adapter("a", config=config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.adapter_handle.iter_parameters("a"):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        if case == "head":
            model.classifier.weight.add_(0.3)
    model.set_active_adapters("a")
    model.save_adapter(folder, "a", format="peft", use_safetensors=safetensors)
    return outcome(model, kind)


@pytest.mark.parametrize("case", OURS)
def test_what_is_written_for_peft_is_read_back(case: str, tmp_path: Path) -> None:
    expected = written(case, tmp_path / "a", safetensors=case != "rslora")
    saved = {path.name for path in (tmp_path / "a").iterdir()}
    weights = "adapter_model.bin" if case == "rslora" else "adapter_model.safetensors"
    assert saved == {"adapter_config.json", weights}
    kind = OURS[case][0]
    model = adapterhub.init(make(kind))
    model.load_adapter(tmp_path / "a", set_active=True)
    same(outcome(model, kind), expected)


def test_files_of_the_other_format_go(tmp_path: Path) -> None:
    model = adapterhub.init(make("BertModel"))
    model.add_adapter("a", "lora")
    model.save_adapter(tmp_path / "a", "a")
    model.save_adapter(tmp_path / "a", "a", format="peft")
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["query", "value"]
    assert config["auto_mapping"]["base_model_class"] == "BertModel"


@pytest.fixture(scope="module")
def peft() -> Iterator[Any]:
    """A process with the PEFT library that answers questions."""
    python = os.environ.get("ADAPTERHUB_PEFT_PYTHON")
    if python is None and importlib.util.find_spec("peft") is not None:
        python = sys.executable
    if python is None:
        pytest.skip("PEFT is not installed here; ADAPTERHUB_PEFT_PYTHON names a Python that has it")
    with subprocess.Popen(
        [python, str(RECORDER), "check"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process  # (leaving closes its input, which ends it)


@pytest.mark.slow
@pytest.mark.parametrize("case", OURS)
def test_peft_loads_what_is_written_for_it(case: str, tmp_path: Path, peft: Any) -> None:
    expected = written(case, tmp_path / "a", safetensors=case != "rslora")
    save_file({"out": expected}, tmp_path / "out.safetensors")
    question = [str(tmp_path / "a"), OURS[case][0], str(tmp_path / "out.safetensors")]
    peft.stdin.write(json.dumps(question) + "\n")
    peft.stdin.flush()
    answer = next(line for line in peft.stdout if line.startswith("RESULT "))
    found = answer.removeprefix("RESULT ").strip()
    assert float(found) < 1e-5, found


def test_a_peft_folder_inside_a_setup_or_a_broken_one(tmp_path: Path) -> None:
    model = adapterhub.init(make("LlamaForCausalLM"))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(AdapterHubError, match="adapter_model"):
        model.load_adapter(tmp_path / "x")
