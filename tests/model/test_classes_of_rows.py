"""Every family of the table has its class with adapters and heads, by its configuration and by its name."""

from __future__ import annotations

from typing import Any

import pytest
import transformers as tf
from transformers import CONFIG_MAPPING, MODEL_MAPPING

from adapterhub import AutoAdapterModel
from adapterhub.architectures import TABLE
from adapterhub.architectures.nested import expanded
from adapterhub.errors import ArchitectureError
from adapterhub.model import auto
from tests.architectures.tiny import CONFIGS

#: Models that transformers only makes around or out of others.
PAIRS = {"encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder"}


def config_of(family: str) -> Any:
    return CONFIG_MAPPING[family](**CONFIGS[family])


def has_base(family: str) -> bool:
    return family in CONFIGS and type(config_of(family)) in MODEL_MAPPING


WITH_BASE = sorted(family for family in TABLE if has_base(family))


# (All of them take half a minute; these are one of each kind.)
FAST = {"bert", "t5", "llama", "vit", "clip", "wav2vec2", "whisper", "mamba", "llava", "qwen3_vl"}


@pytest.mark.parametrize(
    "family",
    [f if f in FAST else pytest.param(f, marks=pytest.mark.slow) for f in WITH_BASE],
)
def test_a_class_for_every_family(family: str) -> None:
    model = AutoAdapterModel.from_config(config_of(family))
    assert isinstance(model, getattr(auto, type(model).__name__))
    resolved = model.adapter_handle.engine.resolved
    # (A text model in the place of a whole has the text model's row.)
    family = resolved.base.config.model_type
    assert resolved.row == expanded(resolved.base, TABLE[family])
    model.add_adapter("a", "double_seq_bn[reduction_factor=4]")
    assert len(model.adapter_handle.engine.adapters["a"].modules) >= len(resolved.layers)


def test_only_parts_and_pairs_have_none() -> None:
    # Parts are adapted inside of the models that have them, pairs with adapterhub.init.
    without = {f for f in CONFIGS if f in TABLE and f not in WITH_BASE}
    parts = {f for f in without if f.endswith(("_vision", "_text_model", "_vision_model"))}
    assert without - parts == PAIRS | {"idefics2_perceiver", "phi4_multimodal_audio"}
    with pytest.raises(ArchitectureError, match=r"adapterhub\.init"):
        AutoAdapterModel.from_config(config_of("encoder-decoder"))


def test_a_pair_of_models_by_init() -> None:
    import adapterhub

    model: Any = adapterhub.init(tf.EncoderDecoderModel(config_of("encoder-decoder")))
    model.add_adapter("a", "lora")
    stacks = {key.stack for key in model.adapter_handle.engine.adapters["a"].modules}
    assert stacks == {"encoder", "decoder"}
