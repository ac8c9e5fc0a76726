"""Block lists in lists, models made of models, stacks of unequal width."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

import adapterhub
from adapterhub.architectures import resolve
from adapterhub.architectures.detector import detect
from adapterhub.architectures.paths import blocks_at
from tests.architectures.tiny import CONFIGS, tiny_model


def _tree() -> nn.Module:
    model = nn.Module()
    model.groups = nn.ModuleList()
    for size in (2, 1):
        group = nn.Module()
        group.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(size))
        model.groups.append(group)
    return model


def test_a_star_is_every_child_of_a_list() -> None:
    model = _tree()
    blocks = blocks_at(model, "nothing|groups.*.layers")
    assert [b.path for b in blocks] == [
        "groups.0.layers.0",
        "groups.0.layers.1",
        "groups.1.layers.0",
    ]
    assert [b.renamed("stage.*.block") for b in blocks][1:] == [
        "stage.0.block.1",
        "stage.1.block.0",
    ]
    assert blocks_at(model, "absent") == []


def test_groups_and_stages_are_one_stack() -> None:
    (stack,) = detect(tiny_model("albert", num_hidden_groups=2)).stacks
    assert stack.layers == "encoder.albert_layer_groups.*.albert_layers"
    sizes = {
        "embed_dim": 16,
        "depths": [1, 2],
        "num_heads": [2, 4],
        "window_size": 2,
        "image_size": 32,
    }
    model = tf.SwinModel(tf.SwinConfig(**sizes))
    resolved = resolve(model)
    assert len(resolved.row.stacks) == 1
    outs = list(resolved.select("ffn", "out"))
    assert [(site.layer_id, site.in_features) for site in outs] == [(0, 16), (1, 32), (2, 32)]


def _encoder_decoder() -> Any:
    encoder = tf.BertConfig(**CONFIGS["bert"])
    decoder = tf.BertConfig(**CONFIGS["bert"], is_decoder=True, add_cross_attention=True)
    config = tf.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id = 1, 0
    return tf.EncoderDecoderModel(config)


def test_an_encoder_decoder_has_the_rows_of_its_parts() -> None:
    resolved = resolve(_encoder_decoder())
    assert [stack.name for stack in resolved.row.stacks] == ["encoder", "decoder"]
    assert [stack.layers for stack in resolved.row.stacks] == [
        "encoder.encoder.layer",
        "decoder.bert.encoder.layer",
    ]
    numbers = {(site.key.stack, site.layer_id) for site in resolved.select("self", "q")}
    assert numbers == {("encoder", 0), ("encoder", 1), ("decoder", 0), ("decoder", 1)}
    assert {site.peer_root for site in resolved.select("cross", "kv")} == {"decoder.bert"}
    assert not list(resolved.select("cross", "kv", "encoder"))


def test_prefixes_of_an_encoder_decoder_come_back(tmp_path: Any) -> None:
    model = _encoder_decoder().eval()
    inputs = {
        "input_ids": torch.arange(4, 12).view(2, 4),
        "decoder_input_ids": torch.arange(4, 10).view(2, 3),
    }
    handle = adapterhub.init(model)
    handle.add_adapter("a", "prefix_tuning[prefix_length=2,bottleneck_size=4]", set_active=True)
    expected = model(**inputs).logits
    handle.save_adapter(tmp_path / "a", "a")
    handle.delete_adapter("a")
    handle.load_adapter(tmp_path / "a", set_active=True)
    torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-6, rtol=1e-5)


def test_towers_of_unequal_width() -> None:
    changes = {"vision_config": {**CONFIGS["clip"]["vision_config"], "hidden_size": 48}}
    model: Any = tiny_model("clip", **changes).eval()
    resolved = resolve(model)
    assert {site.in_features for site in resolved.select(point="out", stack="text")} == {32}
    assert {site.in_features for site in resolved.select(point="out", stack="vision")} == {48}
    handle = adapterhub.attach(model)
    for name, config in (
        ("bn", "double_seq_bn[reduction_factor=4]"),
        ("prefix", "prefix_tuning[prefix_length=2,bottleneck_size=4]"),
        ("lora", "lora[r=2]"),
    ):
        handle.add_adapter(name, config)
        handle.set_active_adapters(name)
        ids = torch.arange(4, 12).view(2, 4)
        model(input_ids=ids, pixel_values=torch.randn(2, 3, 16, 16))
    pools: list[Any] = list(handle.engine.adapters["prefix"].shared.values())
    shapes = {tuple(pool.embedding.shape) for pool in pools}
    assert shapes == {(2, 32), (2, 48)}


def test_shared_layers_are_adapted_in_each_of_their_runs() -> None:
    model: Any = tiny_model("albert", num_hidden_layers=4, num_hidden_groups=2).eval()
    handle = adapterhub.attach(model)
    handle.add_adapter("a", "seq_bn[reduction_factor=4]")
    assert {key.layer for key in handle.engine.adapters["a"].modules} == {0, 1}
    seen = []
    slot = next(iter(handle.engine.slots.values()))
    handle.set_active_adapters("a")
    slot.host.register_forward_hook(lambda *_: seen.append(1))
    model(input_ids=torch.arange(4, 12).view(2, 4))
    assert len(seen) == 2


@pytest.mark.parametrize("model_type", ["llama4_text", "gpt_oss", "mixtral"])
def test_outputs_of_experts_that_are_flat(model_type: str) -> None:
    config: dict[str, Any] = {**CONFIGS["gpt_oss"], "intermediate_size_mlp": 48}
    if model_type != "llama4_text":
        model: Any = tiny_model(model_type).eval()
    else:
        model = tf.Llama4TextModel(
            tf.Llama4TextConfig(**config, layer_types=["full_attention"] * 2)
        ).eval()
    inputs = {"input_ids": torch.arange(4, 12).view(2, 4)}
    base = model(**inputs)[0]
    handle = adapterhub.attach(model)
    handle.add_adapter("a", "seq_bn[reduction_factor=4]")
    handle.set_active_adapters("a")
    assert not torch.equal(model(**inputs)[0], base)
    handle.detach()
    assert torch.equal(model(**inputs)[0], base)


def test_one_module_for_two_sublayers() -> None:
    # BEiT sends both branches through one drop-path module.
    model: Any = tiny_model("beit").eval()
    handle = adapterhub.attach(model)
    handle.add_adapter("a", "double_seq_bn[reduction_factor=4]")
    places = {str(key) for key in handle.engine.adapters["a"].modules}
    assert {"encoder.0.self.out", "encoder.0.ffn.out"} <= places
    handle.train_adapter("a")
    model.eval()
    model(pixel_values=torch.randn(2, 3, 16, 16))[0].square().sum().backward()
    gradients = [p.grad for p in handle.iter_parameters("a")]
    assert all(g is not None and g.any() for g in gradients)
    keys = list(model.state_dict())
    handle.detach()
    assert len(model.state_dict()) < len(keys)
    assert not any("adapterhub" in key for key in model.state_dict())


def test_a_part_without_places_brings_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # The image tower of Gemma 3n is made of convolutions, by a library that need not be there.
    def make(config: Any) -> nn.Module:
        kinds = {"gemma3n_text": tf.Gemma3nTextModel, "gemma3n_audio": tf.Gemma3nAudioEncoder}
        found = kinds.get(config.model_type)
        return nn.Conv2d(3, 8, 3) if found is None else found(config)

    monkeypatch.setattr(tf.AutoModel, "from_config", make)
    text, audio = CONFIGS["gemma3n_text"], CONFIGS["gemma3n_audio"]
    config = tf.Gemma3nConfig(text_config=text, audio_config=audio)
    resolved = resolve(tf.Gemma3nModel(config))
    assert [stack.name for stack in resolved.row.stacks] == ["audio", "text"]
    assert {site.layer_id for site in resolved.select("self", "q", "text")} == {2, 3}
    prompts = [key.stack for key in resolved.sites if key.point == "prompt"]
    assert prompts == ["text"]


def test_a_part_is_as_its_own_family_has_it() -> None:
    tower = {"model_type": "siglip_vision_model", **CONFIGS["siglip_vision_model"]}
    clip, siglip = resolve(tiny_model("llava")), resolve(tiny_model("llava", vision_config=tower))
    hosts = [next(model.select(point="embed", stack="vision")).path for model in (clip, siglip)]
    assert hosts == ["vision_tower.pre_layrnorm", "vision_tower.embeddings"]
    for model in (clip, siglip):
        assert [stack.name for stack in model.row.stacks] == ["vision", "text"]
        assert [site.key.stack for site in model.select(point="prompt")] == ["text"]
