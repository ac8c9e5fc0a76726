"""Classes of one family call their base model differently; adapters go from each of them to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

import adapterhub
from tests import tiny
from tests.architectures.tiny import CONFIGS

#: It calls its base "transformer"; all others of the family call it "model".
ODD = "LlamaForQuestionAnswering"
OTHERS = ["LlamaForCausalLM", "LlamaModel", "AutoAdapterModel"]
CONFIG = "double_seq_bn[reduction_factor=4]|prefix_tuning[prefix_length=2,bottleneck_size=4]|loreft"


def make(name: str) -> Any:
    """Return a model of a class, with the same base weights in all of them."""
    config = tf.LlamaConfig(**CONFIGS["llama"])
    if name == "AutoAdapterModel":
        model: Any = adapterhub.AutoAdapterModel.from_config(config)
    else:
        model = adapterhub.init(getattr(tf, name)(config))
    base = model if name == "LlamaModel" else getattr(model, model.base_model_prefix)
    torch.manual_seed(0)
    base.load_state_dict(tf.LlamaModel(config).state_dict())
    return model.eval()


@pytest.mark.parametrize(
    ("source", "target"), [*((ODD, name) for name in OTHERS), *((name, ODD) for name in OTHERS)]
)
def test_from_class_to_class(source: str, target: str, tmp_path: Path) -> None:
    ids = torch.arange(4, 12).view(2, 4)
    first, second = make(source), make(target)
    first.add_adapter("mine", config=CONFIG, set_active=True)
    tiny.randomize(first, "mine")
    first.save_adapter(tmp_path, "mine", with_head=False)
    second.load_adapter(tmp_path, set_active=True)
    with torch.no_grad():
        bare = make(target)(ids, output_hidden_states=True).hidden_states[-1]
        expected = first(ids, output_hidden_states=True).hidden_states[-1]
        found = second(ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(found, bare, atol=1e-3)


def test_a_module_with_the_name_of_a_base_model_is_no_prefix(tmp_path: Path) -> None:
    # DINOv3's classes call the base "model", and so is the encoder inside the base.
    from tests.architectures.tiny import tiny_model

    model: Any = adapterhub.init(tiny_model("dinov3_vit"))
    model.add_adapter("mine", config="lora[r=2]")
    model.save_adapter(tmp_path, "mine")
    assert all(
        ".model.layer." in f".{name}" for name in load_file(tmp_path / "adapter.safetensors")
    )
    model.load_adapter(tmp_path, load_as="again")
