"""Models described in the words of the ``adapters`` library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import adapterhub
from adapterhub import AdapterModelInterface
from adapterhub.errors import CheckpointError, ConfigError
from tests import tiny

IDS = tiny.tokens()
QWEN = AdapterModelInterface(
    adapter_methods=["bottleneck", "lora", "reft", "invertible"],
    model_embeddings="embed_tokens",
    model_layers="layers",
    layer_self_attn="self_attn",
    attn_k_proj="k_proj",
    attn_q_proj="q_proj",
    attn_v_proj="v_proj",
    attn_o_proj="o_proj",
    layer_intermediate_proj="mlp.up_proj",
    layer_output_proj="mlp.down_proj",
    layer_pre_self_attn="input_layernorm",
    layer_pre_ffn="post_attention_layernorm",
    base_model="model",
)


def qwen(cls: Any = tf.Qwen2ForCausalLM) -> Any:
    torch.manual_seed(0)
    config = tf.Qwen2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=40,
        vocab_size=60,
    )
    return cls(config).eval()


@pytest.mark.parametrize("config", ["double_seq_bn_inv", "par_bn", "lora", "ia3", "loreft"])
def test_an_interface_is_as_good_as_a_row(config: str, tmp_path: Path) -> None:
    known = adapterhub.init(qwen())
    known.add_adapter("a", config=config, set_active=True)
    tiny.randomize(known, "a")
    expected = tiny.run(known, IDS)
    known.save_adapter(tmp_path / "a", "a")
    described = adapterhub.init(qwen(), interface=QWEN)
    assert described.adapter_handle.engine.resolved.row.source == "user"
    described.load_adapter(tmp_path / "a", set_active=True)  # the names in files are the same
    torch.testing.assert_close(tiny.run(described, IDS), expected, atol=1e-6, rtol=1e-5)


def test_it_lies_beside_a_model(tmp_path: Path) -> None:
    qwen().save_pretrained(tmp_path)
    QWEN.save(tmp_path, model_type="qwen2")
    assert AdapterModelInterface.load(tmp_path) == QWEN
    model = adapterhub.load_model(tmp_path, tf.AutoModelForCausalLM)
    assert model.adapter_handle.engine.resolved.row.source == "user"
    assert model.supports_adapter("lora")


def test_fused_projections() -> None:
    interface = AdapterModelInterface(
        adapter_methods=["lora"],
        model_embeddings="wte",
        model_layers="h",
        layer_self_attn="attn",
        attn_qkv_proj="c_attn",
        attn_o_proj="c_proj",
        layer_intermediate_proj="mlp.c_fc",
        layer_output_proj="mlp.c_proj",
        layer_pre_self_attn="ln_1",
        layer_pre_ffn="ln_2",
    )
    found = []
    for given in (None, interface):
        model = adapterhub.init(tiny.gpt2(), interface=given)
        model.add_adapter("a", config="lora[attn_matrices=['q','v']]", set_active=True)
        tiny.randomize(model, "a")
        found.append(tiny.run(model, IDS))
    torch.testing.assert_close(*found)


def test_bad_interfaces(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="either attn_q_proj"):
        adapterhub.init(tiny.bert(), interface=AdapterModelInterface([], "e", "l"))
    row = adapterhub.init(qwen()).adapter_handle.engine.resolved.row
    with pytest.raises(ConfigError, match="not with both"):
        adapterhub.init(qwen(), interface=QWEN, row=row)
    file = tmp_path / "adapter_interface.json"
    file.write_text('{"interface": {"model_layer": "x"}}')
    with pytest.raises(ConfigError, match="Did you mean 'model_layers'"):
        AdapterModelInterface.load(tmp_path)
    file.write_text('{"interface": {"model_layers": "x"}}')
    with pytest.raises(ConfigError, match="adapter_methods"):
        AdapterModelInterface.load(tmp_path)
    file.write_text("{")
    with pytest.raises(CheckpointError):
        AdapterModelInterface.load(tmp_path)
