"""Every row of the table, against a tiny model of its family: paths resolve, the forward agrees."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from adapterhub.architectures import TABLE, resolve
from adapterhub.architectures.nested import expanded
from adapterhub.architectures.probe import probe
from tests.architectures.tiny import tiny_model

TOPOLOGY = {
    "albert": "post",
    "bart": "post",
    "bert": "post",
    "bert-generation": "post",
    "bloom": "pre",
    "camembert": "post",
    "clip": "pre",
    "clip_text_model": "pre",
    "clip_vision_model": "pre",
    "codegen": "parallel",
    "cohere": "parallel",
    "cohere2": "parallel",
    "data2vec-audio": "post",
    "deepseek_v2": "pre",
    "deepseek_v3": "pre",
    "deit": "pre",
    "dinov2": "pre",
    "dinov2_with_registers": "pre",
    "dinov3_vit": "pre",
    "distilbert": "post",
    "electra": "post",
    "encoder-decoder": "post|pre",
    "eurobert": "pre",
    "falcon": "parallel",
    "falcon_mamba": "pre",
    "gemma": "pre",
    "gemma4": "sandwich",
    "gemma4_text": "sandwich",
    "gemma4_vision": "sandwich",
    "gpt2": "pre",
    "gpt_neox": "parallel",
    "gpt_oss": "pre",
    "gptj": "parallel",
    "granite": "pre",
    "granitemoe": "pre",
    "hubert": "post",
    "idefics": "pre",
    "idefics2": "pre",
    "idefics2_perceiver": "pre",
    "idefics2_vision": "pre",
    "idefics3": "pre",
    "idefics3_vision": "pre",
    "jamba": "pre",
    "llama": "pre",
    "llama4": "pre",
    "llama4_text": "pre",
    "llama4_vision_model": "pre",
    "llava": "pre",
    "llava_next": "pre",
    "llava_onevision": "pre",
    "longt5": "pre",
    "m2m_100": "pre",
    "mamba": "pre",
    "mamba2": "pre",
    "marian": "post",
    "mbart": "pre",
    "mistral": "pre",
    "mixtral": "pre",
    "mpnet": "post",
    "mpt": "pre",
    "mt5": "pre",
    "nllb-moe": "pre",
    "olmo": "pre",
    "olmo2": "sandwich",
    "olmo3": "sandwich",
    "olmoe": "pre",
    "opt": "pre",
    "paligemma": "pre",
    "pegasus": "pre",
    "phi": "parallel",
    "phi3": "pre",
    "phi4_multimodal_vision": "pre",
    "phimoe": "pre",
    "pixtral": "pre",
    "plbart": "post",
    "qwen2": "pre",
    "qwen2_5_vl": "pre",
    "qwen2_5_vl_text": "pre",
    "qwen2_5_vl_vision": "pre",
    "qwen2_moe": "pre",
    "qwen2_vl": "pre",
    "qwen2_vl_text": "pre",
    "qwen2_vl_vision": "pre",
    "qwen3": "pre",
    "qwen3_5": "pre",
    "qwen3_5_text": "pre",
    "qwen3_5_vision": "pre",
    "qwen3_moe": "pre",
    "qwen3_next": "pre",
    "qwen3_vl": "pre",
    "qwen3_vl_moe": "pre",
    "qwen3_vl_moe_text": "pre",
    "qwen3_vl_moe_vision": "pre",
    "qwen3_vl_text": "pre",
    "qwen3_vl_vision": "pre",
    "roberta": "post",
    "rwkv": "pre",
    "siglip": "pre",
    "siglip2": "pre",
    "siglip2_text_model": "pre",
    "siglip2_vision_model": "pre",
    "siglip_text_model": "pre",
    "siglip_vision_model": "pre",
    "smollm3": "pre",
    "smolvlm": "pre",
    "smolvlm_vision": "pre",
    "speech-encoder-decoder": "post",
    "stablelm": "pre",
    "starcoder2": "pre",
    "swin": "pre",
    "t5": "pre",
    "umt5": "pre",
    "vision-encoder-decoder": "post|pre",
    "vision-text-dual-encoder": "post|pre",
    "vit": "pre",
    "vit_mae": "pre",
    "wav2vec2": "post",
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
    # Where the norm after a sum is the next sub-layer's own, the forward takes it for that of the sum.
    "gemma3n_audio": {"self.norm"},
    "gemma4_audio": {"self.norm"},
    "phi4_multimodal_audio": {"self.norm"},
    # Several families in one model: what is said of each of them above.
    "gemma3": {"self.out", "self.norm", "ffn.out", "ffn.norm"},
}


#: Rows that a forward on a tiny model cannot confirm altogether, and why; their paths are checked.
UNSEEN = {
    "gemma3n_text": "its sub-layers act on one of several streams, whose sums are divided",
    "idefics_vision": "only made as a part of Idefics, where it is confirmed",
    "mllama": "the gates before its sums are closed in an untrained model",
    "mllama_text_model": "its blocks for images do not run without images",
    "mllama_vision_model": "the gates before its sums are almost closed in an untrained model",
    "phi4_multimodal": "half of an audio network's output is near enough to nothing to mistake its input",
    "seamless_m4t": "its forward makes text; the units of sound are only made by generate",
    "seamless_m4t_v2": "its forward makes text; the units of sound are only made by generate",
    "wavlm": "its attention does not run its projections, unless an adapter is there",
    "xlnet": "its attention is no sum that a module's output enters",
}
#: Rows whose models cannot be built here.
UNBUILT = {"gemma3n": "its image tower is one of timm, a library that is not installed"}
_POINTS = {"self": ("q", "k", "v", "o", "kv", "out"), "ffn": ("up", "down", "out")}
_MIXTURE = {"ffn.up", "ffn.down"}
_STATES = {"self.q", "self.k", "self.v", "self.o", "self.kv", "self.out", "ffn.down"}
#: Points that a family's blocks do not have as modules.
LACKING = {
    **dict.fromkeys(
        ("mixtral", "gpt_oss", "granitemoe", "olmoe", "phimoe", "qwen3_next"), _MIXTURE
    ),
    "qwen3_vl_moe": {*_MIXTURE},
    **dict.fromkeys(("mamba", "falcon_mamba", "mamba2"), _STATES),
    "gemma3n_audio": {"self.kv"},
    "gemma4_audio": {"self.kv"},
    "rwkv": {"self.kv"},
    "xlnet": {"self.q", "self.k", "self.v", "self.o", "self.out"},
    "idefics": {"self.q", "self.k", "self.v", "self.o", "self.kv", "self.out"},  # its gated stack
    "seamless_m4t_v2": {"ffn.up", "ffn.down", "ffn.out"},  # convolutions write its units
}


# Rows that a test of another room registers are not ours to check.
FAMILIES = sorted(TOPOLOGY)


@pytest.mark.parametrize("model_type", sorted({*FAMILIES, *BY_FILES, *UNSEEN} - {"idefics_vision"}))
def test_every_path_of_the_row_is_in_the_model(model_type: str) -> None:
    model = tiny_model(model_type)
    resolved = resolve(model)
    assert resolved.row == expanded(resolved.base, TABLE[model_type])
    assert not resolved.absent or model_type == "gemma4"  # (built without its audio tower)
    missing = set()
    for stack in resolved.row.stacks:
        assert any(owner is stack for owner in resolved.stack_of_layer)
        for name, points in _POINTS.items():
            have = {site.key.point for site in resolved.select(name, stack=stack.name)}
            missing |= {f"{name}.{point}" for point in points if point not in have}
    assert missing == LACKING.get(model_type, set())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_the_forward_confirms_the_row(model_type: str) -> None:
    report = probe(tiny_model(model_type), TABLE[model_type])
    assert [text for text in report.findings if "enters the sum times" not in text] == []
    assert report.confirmed
    assert report.corrected == report.row
    seen = {t for stack in report.topology.values() for t in stack.values()}
    assert seen == set(TOPOLOGY[model_type].split("|"))
    assert all(check.confirmed for check in report.sites.values())


@pytest.mark.parametrize("model_type", BY_FILES)
def test_the_forward_shows_all_but_what_files_ask_for(model_type: str) -> None:
    row = TABLE[model_type]
    report = probe(tiny_model(model_type), row)
    assert report.confirmed
    changed = set()
    for ours, seen in zip(report.row.stacks, report.corrected.stacks, strict=True):
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
    assert known == {*FAMILIES, *BY_FILES, *UNSEEN, *UNBUILT}, (
        "add a tiny config and a topology for the new row"
    )


@pytest.mark.parametrize("model_type", ["opt", "wav2vec2", "hubert"])
@pytest.mark.parametrize("before", [False, True])
def test_the_config_says_where_the_norms_are(model_type: str, before: bool) -> None:
    field = "do_layer_norm_before" if model_type == "opt" else "do_stable_layer_norm"
    model = tiny_model(model_type, **{field: before})
    report = probe(model, TABLE[model_type])
    assert report.confirmed
    assert report.corrected == report.row == resolve(model).row
    (stack,) = report.topology.values()
    assert set(stack.values()) == {"pre" if before else "post"}
