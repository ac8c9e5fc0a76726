"""Prompts in models that read images, or more, out of their ids."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf
from transformers import CONFIG_MAPPING

import adapterhub
from adapterhub.architectures.pictures import pictured
from tests import tiny
from tests.architectures.tiny import CONFIGS, tiny_model

PROMPT = "prompt_tuning[prompt_length=3]"


def with_prompt(model: Any) -> tuple[Any, torch.Tensor]:
    """Return the model with an active prompt, and the prompt."""
    model = adapterhub.init(model.eval())
    model.add_adapter("a", PROMPT, set_active=True)
    tiny.randomize(model, "a")
    (module,) = model.adapter_handle.engine.adapters["a"].modules.values()
    return model, module.embedding.detach()


def inputs_of(model: Any) -> dict[str, Any]:
    for inputs in pictured(model):
        try:
            model(**inputs)
            return inputs
        except (RuntimeError, ValueError):
            continue
    raise AssertionError("it reads no pictures")


def test_text_behind_the_prompt_sees_image_and_prompt() -> None:
    model = tiny_model("llava")
    inputs = inputs_of(model)
    model, prompt = with_prompt(model)
    with torch.no_grad():
        found = model(**inputs).last_hidden_state
        ids = inputs["input_ids"]
        embeds = model.get_input_embeddings()(ids)
        features = model.get_image_features(inputs["pixel_values"]).pooler_output
        features = torch.cat(list(features)) if not isinstance(features, torch.Tensor) else features
        shown = (ids == model.config.image_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(shown, features.to(embeds.dtype))
        embeds = torch.cat([prompt.expand(2, -1, -1), embeds], 1)
        expected = model.language_model(inputs_embeds=embeds).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "cls"),
    [
        ("llava", tf.LlavaForConditionalGeneration),
        ("qwen2_vl", tf.Qwen2VLForConditionalGeneration),
        ("qwen3_vl", tf.Qwen3VLForConditionalGeneration),
        ("gemma3", tf.Gemma3ForConditionalGeneration),
        ("gemma4_text", getattr(tf, "Gemma4ForCausalLM", None)),  # (skipped where it is not)
    ],
)
def test_with_a_cache_as_without(family: str, cls: Any) -> None:
    if cls is None:
        pytest.skip(f"transformers {tf.__version__} has no '{family}'")
    torch.manual_seed(0)
    model = cls(CONFIG_MAPPING[family](**CONFIGS[family])).eval()
    inputs = {"input_ids": torch.arange(4, 12).view(2, 4)}
    if family != "gemma4_text":
        inputs = inputs_of(model)
        inputs.pop("use_cache", None)
    model, _ = with_prompt(model)
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    settings |= {"output_logits": True, "return_dict_in_generate": True}
    settings["suppress_tokens"] = [60]  # the untrained model would ask for images
    with_cache = model.generate(**inputs, **settings)
    without = model.generate(**inputs, **settings, use_cache=False)
    assert with_cache.sequences.tolist() == without.sequences.tolist()
    assert with_cache.sequences.shape[1] == inputs["input_ids"].shape[1] + 4
    for one, two in zip(with_cache.logits, without.logits, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


def test_labels_are_not_asked_for_prompts() -> None:
    torch.manual_seed(0)
    config: Any = CONFIG_MAPPING["llava"](**CONFIGS["llava"])
    model: Any = tf.LlavaForConditionalGeneration(config)
    inputs = inputs_of(model)
    model, _ = with_prompt(model)
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == 60, -100)
    output = model(**inputs, labels=labels)
    logits = output.logits[:, 3:]
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    # (the last position of the prompt foretells the first token, too)
    first = torch.nn.functional.cross_entropy(output.logits[:, 2], labels[:, 0])
    count = int((labels[:, 1:] != -100).sum())
    total = (expected * count + first * 2) / (count + 2)
    torch.testing.assert_close(output.loss, total, rtol=1e-5, atol=1e-5)
