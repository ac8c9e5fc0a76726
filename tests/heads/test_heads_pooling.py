"""Which hidden state stands for the input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from adapterhub.composition import Parallel
from adapterhub.errors import ArchitectureError, ConfigError
from adapterhub.heads.pooling import pooled_vector, pooling_rule, token_scale

LAST = {"gpt2", "llama", "qwen3"}
EOS = {"t5", "bart"}


def test_rule_of_each_family(family: Any) -> None:
    expected = "last" if family.name in LAST else "eos" if family.name in EOS else "first"
    assert pooling_rule(family.config()) == expected


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (transformers.MistralConfig(), "last"),
        (transformers.Gemma3Config(), "last"),  # by its text part
        (transformers.BertConfig(is_decoder=True), "last"),
        (transformers.BertGenerationConfig(), "first"),
        (transformers.ModernBertConfig(), "first"),
        (transformers.ElectraConfig(), "first"),
        (transformers.WhisperConfig(), "eos"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.model_type,
)
def test_rule_of_other_families(config: Any, rule: str) -> None:
    assert pooling_rule(config) == rule


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_vector_is_the_state_at_the_right_token(family: Any, left: bool) -> None:
    if family.name == "vit":
        pytest.skip("no tokens")
    model, inputs = family.model(), family.inputs(left)
    model.add_classification_head("x", num_labels=3)
    with torch.no_grad():
        logits = model(**inputs).logits
        call = dict(inputs)
        if family.name == "t5":
            call["decoder_input_ids"] = model.base_model._shift_right(inputs["input_ids"])
        hidden = model.base_model(**call).last_hidden_state
        positions = torch.zeros(4, dtype=torch.long)
        if family.name in LAST | EOS:
            positions = torch.tensor([row.nonzero().max() for row in inputs["attention_mask"]])
        expected = model.heads["x"].stack(hidden[torch.arange(4), positions])
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_decoder_only_without_mask_looks_at_pad_ids(get_family: Any, left: bool) -> None:
    family = get_family("gpt2")
    inputs, hidden = family.inputs(left), torch.randn(4, 8, 16)
    found = pooled_vector(
        BaseModelOutput(hidden), family.config(), {"input_ids": inputs["input_ids"]}
    )
    expected = pooled_vector(BaseModelOutput(hidden), family.config(), inputs)
    assert torch.equal(found, expected)


def test_decoder_only_without_mask_and_pad_takes_the_last_position(get_family: Any) -> None:
    config = get_family("gpt2").config()
    config.pad_token_id = None
    hidden, ids = torch.randn(2, 8, 16), torch.zeros(2, 8, dtype=torch.long)
    assert torch.equal(
        pooled_vector(BaseModelOutput(hidden), config, {"input_ids": ids}), hidden[:, -1]
    )
    assert torch.equal(pooled_vector(BaseModelOutput(hidden), config, {}), hidden[:, -1])


def test_pad_tokens_inside_of_the_text_do_not_count(get_family: Any) -> None:
    """With <pad> = <eos>, counting pad ids (as the older library does) would stop early."""
    config, hidden = get_family("gpt2").config(), torch.randn(1, 4, 16)
    inputs = {
        "input_ids": torch.tensor([[5, 0, 6, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0]]),
    }
    assert torch.equal(pooled_vector(BaseModelOutput(hidden), config, inputs), hidden[:, 2])


def test_a_prompt_in_front_shifts_the_last_token(get_family: Any) -> None:
    config, hidden = get_family("gpt2").config(), torch.randn(1, 6, 16)
    inputs = {"attention_mask": torch.tensor([[1, 1, 1, 0]])}
    assert torch.equal(pooled_vector(BaseModelOutput(hidden), config, inputs), hidden[:, 4])


def test_masks_are_repeated_for_channels(get_family: Any) -> None:
    config, hidden = get_family("gpt2").config(), torch.randn(4, 3, 16)
    inputs = {"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}
    found = pooled_vector(BaseModelOutput(hidden), config, inputs)
    assert torch.equal(found, hidden[torch.arange(4), torch.tensor([1, 2, 1, 2])])


def test_last_of_several_eos(get_family: Any) -> None:
    config, hidden = get_family("bart").config(), torch.randn(2, 4, 16)
    eos = config.eos_token_id
    inputs = {"input_ids": torch.tensor([[eos, 7, eos, 1], [7, eos, 8, 1]])}
    found = pooled_vector(BaseModelOutput(hidden), config, inputs)
    assert torch.equal(found, torch.stack([hidden[0, 2], hidden[1, 1]]))


def test_decoder_of_another_length_uses_its_first_position(get_family: Any) -> None:
    config, hidden = get_family("t5").config(), torch.randn(2, 1, 16)
    inputs = {"input_ids": torch.tensor([[7, 8, 1], [7, 1, 0]])}
    assert torch.equal(pooled_vector(BaseModelOutput(hidden), config, inputs), hidden[:, 0])


def test_eos_errors(get_family: Any) -> None:
    config, hidden = get_family("bart").config(), torch.randn(2, 3, 16)
    inputs = {"input_ids": torch.tensor([[7, 8, config.eos_token_id], [7, 8, 9]])}
    with pytest.raises(ValueError, match=r"rows \[1\] have none"):
        pooled_vector(BaseModelOutput(hidden), config, inputs)
    with pytest.raises(ValueError, match="inputs_embeds"):
        pooled_vector(BaseModelOutput(hidden), config, {"inputs_embeds": hidden})


def test_pooler() -> None:
    config, hidden = transformers.BertConfig(), torch.randn(2, 3, 16)
    pooled = torch.randn(2, 16)
    outputs = BaseModelOutputWithPooling(hidden, pooled)
    assert torch.equal(pooled_vector(outputs, config, {}, use_pooler=True), pooled)
    with pytest.raises(ArchitectureError, match="use_pooler=False"):
        pooled_vector(BaseModelOutput(hidden), config, {}, use_pooler=True)


def test_feature_maps_use_the_pooled_output() -> None:
    outputs = BaseModelOutputWithPooling(torch.randn(2, 16, 3, 3), torch.randn(2, 16, 1, 1))
    found = pooled_vector(outputs, transformers.ResNetConfig(), {})
    assert found.shape == (2, 16)


def test_token_scale() -> None:
    assert token_scale(transformers.T5Config(d_model=16, tie_word_embeddings=True)) == 0.25
    untied = transformers.T5Config(d_model=16, tie_word_embeddings=False)
    # Transformers 5.0 overlooks the argument, and T5's own language model then scales, too.
    assert token_scale(untied) == (0.25 if untied.scale_decoder_outputs else 1)
    assert token_scale(SimpleNamespace(model_type="bert", tie_word_embeddings=True)) == 1


def test_a_head_may_ask_for_another_vector(get_family: Any) -> None:
    for name in ("bert", "gpt2", "bart"):
        family = get_family(name)
        model, inputs = family.model(), family.inputs()
        mask = inputs["attention_mask"]
        with torch.no_grad():
            hidden = model.base_model(**inputs).last_hidden_state
            rows, last = torch.arange(4), mask.sum(1) - 1
            counted = mask[..., None]
            vectors = {
                "cls": hidden[:, 0],
                "mean": (hidden * counted).sum(1) / counted.sum(1),
                "last": hidden[rows, last],
            }
            for pooling, vector in vectors.items():
                model.add_classification_head(pooling, pooling=pooling)
                expected = model.heads[pooling].stack(vector)
                torch.testing.assert_close(model(**inputs).logits, expected)
                assert model.heads[pooling].config["pooling"] == pooling
        with pytest.raises(ConfigError, match="unknown pooling 'max'; known: cls, first"):
            model.add_classification_head("x", pooling="max")
        assert "x" not in model.heads


def test_a_mean_over_parallel_channels(get_family: Any) -> None:
    family = get_family("bert")
    model, inputs = family.model(), family.inputs()
    for name in "ab":
        model.add_adapter(name)
        model.add_classification_head(name, pooling="mean")
    model.set_active_adapters("b")
    with torch.no_grad():
        alone = model(**inputs).logits
        model.set_active_adapters(Parallel("a", "b"))
        torch.testing.assert_close(model(**inputs)[1].logits, alone)
