"""The detector finds, without the table, what the table says, and sensible rows for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from adapterhub.architectures import TABLE, Row, resolve
from adapterhub.architectures.detector import detect, detect_with_notes
from adapterhub.architectures.probe import detect_and_probe
from adapterhub.errors import ArchitectureError
from tests.architectures.test_table_rows import FAMILIES
from tests.architectures.tiny import tiny_model

#: Whose stacks have other names in the table, or another place for invertible adapters, or projections laid
#: out in a way that cannot be seen.
_NAMED = {"albert", "clip_text_model", "clip_vision_model", "electra", "phi", "whisper"} | {
    "codegen",
    "phi3",
}
#: Rows that say more than can be seen: parts of a model by name, projections of states, where prompts go.
_SAID = {name for name in FAMILIES if TABLE[name].parts} | {
    "falcon_mamba",
    "idefics2_perceiver",
    "llama4_vision_model",
    "mamba",
    "mamba2",
    "nllb-moe",
    "rwkv",
}
#: Fused projections whose layout only the forward shows.
_WATCHED = {
    "bloom",
    "codegen",
    "falcon",
    "gpt_neox",
    "phi3",
    "clip_text_model",
    "clip_vision_model",
}
PROJECTIONS = ("q", "k", "v", "o", "up", "gate", "down")


@pytest.mark.parametrize("model_type", sorted(set(FAMILIES) - _WATCHED - _SAID))
def test_structure_alone_finds_the_projections_of_the_table(model_type: str) -> None:
    model = tiny_model(model_type)
    ours, theirs = resolve(model, detect(model)).sites, resolve(model).sites
    for key, site in theirs.items():
        if key.point in PROJECTIONS:
            assert ours[key].host is site.host, key
            assert ours[key].slice == site.slice, key


@pytest.mark.parametrize("model_type", sorted(set(FAMILIES) - _NAMED - _SAID))
def test_with_the_probe_it_finds_everything_of_the_table(model_type: str) -> None:
    model = tiny_model(model_type)
    report = detect_and_probe(model)
    assert report.confirmed
    assert not any("blocks differ" in text or "failed" in text for text in report.findings)
    assert report.corrected.source == "detected"
    ours, theirs = resolve(model, report.corrected).sites, resolve(model).sites
    assert list(ours) == list(theirs)
    for key, site in theirs.items():
        mine = ours[key]
        if key.point == "embed" and type(site.host) is nn.Embedding and model_type == "gemma":
            continue  # early releases scale embeddings outside of modules, which a probe cannot see
        assert mine.host is site.host, key
        assert mine.residual is site.residual, key
        assert mine.norm is site.norm, key
        assert mine.slice == site.slice, key
        assert mine.bias_host is site.bias_host, key
        assert (mine.layer_id, mine.at_input) == (site.layer_id, site.at_input), key


def test_a_head_on_the_model_changes_nothing() -> None:
    plain = detect(tiny_model("bert"))
    headed = detect(tiny_model("bert", AutoModelForSequenceClassification))
    assert headed == plain


#: Topologies and points of self-attention and FFN in every stack; "-" marks what must be absent.
OTHERS = {
    "albert": ("post", "post", "q k v o kv out", "up down out"),
    "beit": ("pre", "pre", "q k v o out", "up down out"),
    "bloom": ("pre", "pre", "q k v o kv out", "up down out"),
    "codegen": ("parallel", "parallel", "q k v o kv out", "up down out"),
    "cohere": ("parallel", "parallel", "q k v o kv out", "up gate down out"),
    "deberta": ("post", "post", "q k v o kv out", "up down out"),
    "deberta-v2": ("post", "post", "q k v o kv out", "up down out"),
    "deepseek_v3": ("pre", "pre", "q k v o kv out", "up gate down out"),
    "electra": ("post", "post", "q k v o kv out", "up down out"),
    "falcon": ("parallel", "parallel", "q k v o kv out", "up down out"),
    "gemma2": ("sandwich", "sandwich", "q k v o kv out", "up gate down out"),
    "glm4": ("sandwich", "sandwich", "q k v o kv out", "up down out -gate"),
    "gpt_bigcode": ("pre", "pre", "q k v o kv out", "up down out"),
    "gpt_neox": ("parallel", "parallel", "q k v o kv out", "up down out"),
    "gpt_oss": ("pre", "pre", "q k v o kv out", "out -up -down"),
    "granite": ("pre", "pre", "q k v o kv out", "up gate down out"),
    "mbart": ("pre", "pre", "q k v o kv out", "up down out"),
    "mistral": ("pre", "pre", "q k v o kv out", "up gate down out"),
    "mixtral": ("pre", "pre", "q k v o kv out", "out -up -down"),
    "modernbert": ("pre", "pre", "q k v o kv out", "up down out"),
    "mpnet": ("post", "post", "q k v o kv out", "up down out"),
    "olmo2": ("sandwich", "sandwich", "q k v o kv out", "up gate down out"),
    "opt": ("pre", "pre", "q k v o kv out", "up down out"),
    "phi": ("parallel", "parallel", "q k v o kv out", "up down out"),
    "phi3": ("pre", "pre", "q k v o kv out", "up down out"),
    "qwen2": ("pre", "pre", "q k v o kv out", "up gate down out"),
    "roberta-prelayernorm": ("pre", "pre", "q k v o kv out", "up down out"),
    "seed_oss": ("pre", "pre", "q k v o kv out", "up gate down out"),
    "umt5": ("pre", "pre", "q k v o kv out", "up gate down out"),
    "wav2vec2": ("post", "post", "q k v o kv out", "up down out"),
    "whisper": ("pre", "pre", "q k v o kv out", "up down out"),
    "clip": ("pre", "pre", "q k v o kv out", "up down out"),
}


@pytest.mark.parametrize("model_type", sorted(OTHERS))
def test_other_families(model_type: str) -> None:
    attention, ffn, attention_points, ffn_points = OTHERS[model_type]
    model = tiny_model(model_type)
    report = detect_and_probe(model)
    assert report.confirmed, report.findings
    resolved = resolve(model, report.corrected)
    for stack in report.corrected.stacks:
        for name, topology, expected in (
            ("self", attention, attention_points),
            ("ffn", ffn, ffn_points),
        ):
            points = {site.key.point for site in resolved.select(name, stack=stack.name)}
            wanted = {point for point in expected.split() if not point.startswith("-")}
            assert wanted <= points
            assert not {point[1:] for point in expected.split() if point[0] == "-"} & points
            assert report.topology[stack.name][name] == topology
    outs = [s for s in resolved.select(point="out") if s.key.sublayer != "layer"]
    assert all(site.residual is not None for site in outs)


def _sub(row: Row, name: str, stack: int = 0):  # type: ignore[no-untyped-def]
    return row.stacks[stack].sublayers[name]


def test_sandwich_out_is_the_norm_on_the_output() -> None:
    row = detect_and_probe(tiny_model("gemma2")).corrected
    assert _sub(row, "self").out == "post_attention_layernorm"
    assert _sub(row, "self").residual == "input_layernorm"
    assert _sub(row, "ffn").out == "post_feedforward_layernorm"
    assert _sub(row, "ffn").residual == "pre_feedforward_layernorm"


def test_stacks_are_named_by_what_they_read() -> None:
    def names(model_type: str) -> list[str]:
        return [stack.name for stack in detect(tiny_model(model_type)).stacks]

    assert names("clip") == ["text", "vision"]
    assert names("whisper") == ["encoder", "decoder"]
    assert names("opt") == ["decoder"]
    assert names("electra") == ["encoder"]
    assert names("falcon") == ["decoder"]
    assert names("wav2vec2") == ["encoder"]


def test_fused_projections_of_other_layouts_are_left_out_with_a_reason() -> None:
    notes = detect_with_notes(tiny_model("gpt_neox")).notes
    assert any("query_key_value" in note and "unknown layout" in note for note in notes)


def test_concatenated_projections_are_found_by_watching() -> None:
    model = tiny_model("phi3")
    assert _sub(detect(model), "self").qkv is None
    assert _sub(detect_and_probe(model).corrected, "self").qkv.path == "self_attn.qkv_proj"


def test_mixtures_of_experts_keep_their_dense_blocks() -> None:
    model = tiny_model("deepseek_v3")
    detection = detect_with_notes(model)
    resolved = resolve(model, detection.row)
    assert [site.key.layer for site in resolved.select("ffn", "up")] == [0]
    assert [site.key.layer for site in resolved.select("ffn", "out")] == [0, 1]
    assert any("mixture of experts" in note and "1 of 2 blocks" in note for note in detection.notes)


def test_mixers_without_attention_offer_their_output() -> None:
    report = detect_and_probe(tiny_model("falcon_mamba"))
    sub = _sub(report.corrected, "self")
    assert (sub.q, sub.out, sub.residual) == (None, "mixer", "norm")
    report = detect_and_probe(tiny_model("fnet"))
    assert report.topology == {"encoder": {"ffn": "post"}}
    assert any("no attention" in finding for finding in report.findings)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("xlm", "do not lie in one list of blocks"), ("convnext", "no module in it owns q, k and v")],
)
def test_no_list_of_blocks_is_an_error_with_a_reason(model_type: str, reason: str) -> None:
    model = tiny_model(model_type)
    with pytest.raises(ArchitectureError, match=reason):
        detect(model)
    with pytest.raises(ArchitectureError, match="row="):
        detect_and_probe(model)


def test_a_model_of_one_block() -> None:
    assert detect(tiny_model("bert", num_hidden_layers=1)) == detect(tiny_model("bert"))


def test_detecting_needs_no_weights() -> None:
    with torch.device("meta"):
        model = tiny_model("llama")
    assert detect(model) == detect(tiny_model("llama"))


def test_a_model_that_is_not_from_transformers() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
            self.attn = nn.ModuleDict({n: nn.Linear(32, 32) for n in ("wq", "wk", "wv", "wo")})
            self.mlp = nn.ModuleDict({"fc1": nn.Linear(32, 64), "fc2": nn.Linear(64, 32)})

    model = nn.Module()
    model.blocks = nn.ModuleList([Block(), Block()])
    model.norm = nn.LayerNorm(32)
    (stack,) = detect(model).stacks
    assert stack.layers == "blocks"
    assert stack.sublayers["self"].q == "attn.wq"
    assert stack.sublayers["self"].o == "attn.wo"
    assert stack.sublayers["self"].residual == "norm1"
    assert (stack.sublayers["ffn"].up, stack.sublayers["ffn"].down) == ("mlp.fc1", "mlp.fc2")
