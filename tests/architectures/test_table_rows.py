"""Every row of the table, against a tiny model of its family: paths resolve, the forward agrees."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from adapterhub.architectures import TABLE, resolve
from adapterhub.architectures.probe import probe
from tests.architectures.tiny import tiny_model

TOPOLOGY = {
    "albert": "post",
    "bart": "post",
    "bert": "post",
    "bert-generation": "post",
    "bloom": "pre",
    "clip": "pre",
    "clip_text_model": "pre",
    "clip_vision_model": "pre",
    "codegen": "parallel",
    "cohere": "parallel",
    "cohere2": "parallel",
    "deepseek_v2": "pre",
    "deepseek_v3": "pre",
    "distilbert": "post",
    "electra": "post",
    "falcon": "parallel",
    "gemma": "pre",
    "gpt2": "pre",
    "gpt_neox": "parallel",
    "gpt_oss": "pre",
    "gptj": "parallel",
    "granite": "pre",
    "llama": "pre",
    "mbart": "pre",
    "mistral": "pre",
    "mixtral": "pre",
    "mt5": "pre",
    "olmo": "pre",
    "olmo2": "sandwich",
    "olmo3": "sandwich",
    "opt": "pre",
    "phi": "parallel",
    "phi3": "pre",
    "plbart": "post",
    "qwen2": "pre",
    "qwen2_moe": "pre",
    "qwen3": "pre",
    "qwen3_moe": "pre",
    "roberta": "post",
    "smollm3": "pre",
    "starcoder2": "pre",
    "t5": "pre",
    "vit": "pre",
    "whisper": "pre",
    "xlm-roberta": "post",
}
#: Rows that say where adapters of the ``adapters`` library act, which is not quite what the forward shows.
BY_FILES = {
    "beit": {"self.out", "ffn.out"},  # after the scale of the branch, which is no module
    "deberta": {"self.qkv"},  # thirds of a projection that is laid out head by head
    "deberta-v2": {"self.residual"},  # the query projection also runs on the positions
    "gemma2": {"self.out", "self.norm", "ffn.out", "ffn.norm"},  # before the norms on the outputs
    "gemma3_text": {"self.out", "self.norm", "ffn.out", "ffn.norm"},
    "modernbert": {"self.out", "self.norm", "ffn.out", "ffn.residual"},
    "xmod": {"self.norm"},
}


# Rows that a test of another room registers are not ours to check.
FAMILIES = sorted(TOPOLOGY)


@pytest.mark.parametrize("model_type", [*FAMILIES, *BY_FILES])
def test_every_path_of_the_row_is_in_the_model(model_type: str) -> None:
    resolved = resolve(tiny_model(model_type))
    assert resolved.row is TABLE[model_type]
    assert not resolved.absent
    assert len(resolved.layers) == 2 * len(resolved.row.stacks)
    for stack in resolved.row.stacks:
        for name in ("self", "ffn"):
            points = {site.key.point for site in resolved.select(name, stack=stack.name)}
            assert points >= (
                {"q", "k", "v", "o", "kv", "out"}
                if name == "self"
                else {"out"}
                if model_type in ("mixtral", "gpt_oss")  # nothing but experts
                else {"up", "down"}
            )


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_forward_confirms_the_row(model_type: str) -> None:
    report = probe(tiny_model(model_type), TABLE[model_type])
    assert [text for text in report.findings if "enters the sum times" not in text] == []
    assert report.confirmed
    assert report.corrected == TABLE[model_type]
    assert {t for stack in report.topology.values() for t in stack.values()} == {
        TOPOLOGY[model_type]
    }
    assert all(check.confirmed for check in report.sites.values())


@pytest.mark.parametrize("model_type", BY_FILES)
def test_the_forward_shows_all_but_what_files_ask_for(model_type: str) -> None:
    row = TABLE[model_type]
    report = probe(tiny_model(model_type), row)
    assert report.confirmed
    changed = set()
    for ours, seen in zip(row.stacks, report.corrected.stacks, strict=True):
        for name, sub in ours.sublayers.items():
            other = seen.sublayers[name]
            points = [f.name for f in fields(sub) if getattr(sub, f.name) != getattr(other, f.name)]
            changed |= {f"{name}.{point}" for point in points}
    assert changed == BY_FILES[model_type]


@pytest.mark.parametrize(
    ("model_type", "topology"), [("bert", "post"), ("roberta", "post"), ("gpt2", "pre")]
)
def test_cross_attention_is_confirmed_when_it_runs(model_type: str, topology: str) -> None:
    model = tiny_model(model_type, add_cross_attention=True, is_decoder=True)
    inputs = {
        "input_ids": torch.arange(4, 12).view(2, 4),
        "encoder_hidden_states": torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1)),
    }
    report = probe(model, TABLE[model_type], inputs)
    assert report.confirmed
    assert report.corrected == TABLE[model_type]
    (stack,) = report.topology.values()
    assert stack == {"self": topology, "cross": topology, "ffn": topology}


def test_every_row_is_checked_here() -> None:
    known = {name for name, row in TABLE.items() if row.source == "table"}
    assert known == {*FAMILIES, *BY_FILES}, "add a tiny config and a topology for the new row"
