"""``generate()`` on models with language-model heads: with a cache as without, alone as together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.heads.conftest import randomize

import adapterhub
from adapterhub.composition import BatchSplit, Parallel, Stack
from adapterhub.errors import ConfigError
from adapterhub.model.auto import AutoAdapterModel

LENGTH: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
WAYS: tuple[dict[str, Any], ...] = ({}, {"use_cache": False}, {"num_beams": 2})


@pytest.fixture(params=["gpt2", "llama", "t5", "bart", "bert"])
def writer(request: Any, get_family: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model with adapters a (invertible bottleneck) and b (LoRA), each with a head, and inputs."""
    family = get_family(request.param)
    model = family.model()
    if request.param == "bert":
        config = family.config()
        config.is_decoder = True
        model = AutoAdapterModel.from_config(config).eval()
        randomize(model)
    for name, config in (("a", "seq_bn_inv[reduction_factor=4]"), ("b", "lora")):
        model.add_adapter(name, config)
        if model.config.is_encoder_decoder:
            model.add_seq2seq_lm_head(name, layers=2)
        else:
            model.add_causal_lm_head(name)
    tied = model.get_input_embeddings().weight
    torch.manual_seed(3)
    for key, parameter in model.named_parameters():
        if ("adapterhub" in key or "heads." in key) and parameter is not tied:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return model, family.inputs(left=True)


def test_together_as_alone_and_cached_as_not(writer: Any) -> None:
    model, inputs = writer
    alone: dict[str, list[torch.Tensor]] = {}
    for name in "ab":
        model.set_active_adapters(name)
        alone[name] = [model.generate(**inputs, **LENGTH, **way) for way in WAYS]
        assert torch.equal(alone[name][0], alone[name][1])
        assert torch.equal(
            alone[name][2], model.generate(**inputs, **LENGTH, num_beams=2, use_cache=False)
        )
    assert not torch.equal(alone["a"][0], alone["b"][0])
    split = BatchSplit("a", "b", batch_sizes=[1, 3])
    for setup in (Parallel("a", "b"), split, Stack("b", "a")):
        model.set_active_adapters(setup)
        assert model(**inputs, use_cache=True).past_key_values is not None
        found = [model.generate(**inputs, **LENGTH, **way) for way in WAYS]
        if isinstance(setup, Stack):
            assert torch.equal(found[0], found[1])
            continue
        for mine, a, b in zip(found, alone["a"], alone["b"], strict=True):
            expected = (a, b) if isinstance(setup, Parallel) else (a[:1], b[1:])
            assert torch.equal(mine, torch.cat(expected))


def test_heads_can_be_named(writer: Any) -> None:
    model, inputs = writer
    model.set_active_adapters("a")
    other = model.generate(**inputs, **LENGTH, head="b")
    model.active_head = "b"
    assert torch.equal(model.generate(**inputs, **LENGTH), other)
    model.active_head = None
    with adapterhub.AdapterSetup("a"):
        assert model.generate(**inputs, **LENGTH).shape[0] == 4
    with pytest.raises(ConfigError, match="writes text, and no head is active"):
        model.generate(**inputs, **LENGTH)
    model.add_tagging_head("t")
    with pytest.raises(ConfigError, match="writes text, and 't' is none"):
        model.generate(**inputs, **LENGTH)


@pytest.mark.parametrize(
    ("name", "ending"),
    [("gpt2", "LMHeadModel"), ("t5", "ForConditionalGeneration"), ("llama", "ForCausalLM")],
)
def test_as_the_task_class_generates(
    name: str, ending: str, get_family: Any, tmp_path: Path
) -> None:
    family = get_family(name)
    task = getattr(transformers, family.stem + ending)(family.config())
    randomize(task)
    task.generation_config.max_new_tokens = 6
    task.generation_config.eos_token_id = None
    task.eval().save_pretrained(tmp_path)
    model = AutoAdapterModel.from_pretrained(tmp_path)
    assert model.generation_config.max_new_tokens == 6
    inputs = family.inputs(left=True)
    for way in ({}, {"num_beams": 2}, {"output_scores": True, "return_dict_in_generate": True}):
        found, expected = model.generate(**inputs, **way), task.generate(**inputs, **way)
        if isinstance(found, torch.Tensor):
            assert torch.equal(found, expected)
        else:
            assert torch.equal(found.sequences, expected.sequences)
            torch.testing.assert_close(found.scores, expected.scores)


def test_models_that_cannot_write_have_no_generate(get_family: Any) -> None:
    assert not get_family("vit").model().can_generate()
    assert not hasattr(get_family("vit").model(), "generate")
    assert get_family("gpt2").model().can_generate()


def test_decoder_inputs_from_labels(get_family: Any) -> None:
    for name, ending in (("t5", "ForConditionalGeneration"), ("bart", "ForConditionalGeneration")):
        family = get_family(name)
        model = family.model()
        labels = torch.tensor([[5, 6, 7], [8, 9, -100]])
        task = getattr(transformers, family.stem + ending)(family.config())
        wanted = task.prepare_decoder_input_ids_from_labels(labels)
        assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels), wanted)
    for name in ("gpt2", "bert"):  # collators ask whether there is such a method
        assert not hasattr(get_family(name).model(), "prepare_decoder_input_ids_from_labels")


def test_speech_models_write_and_classify() -> None:
    config = transformers.WhisperConfig(
        vocab_size=64,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        num_mel_bins=6,
        max_source_positions=8,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    torch.manual_seed(0)
    model = AutoAdapterModel.from_config(config).eval()
    randomize(model)
    model.add_seq2seq_lm_head("w")
    sound = torch.randn(2, 6, 16)
    found = model.generate(input_features=sound, max_new_tokens=3, min_new_tokens=3)
    assert found.shape[0] == 2
    loss = model(input_features=sound, labels=torch.tensor([[5, 6], [7, -100]])).loss
    assert loss.isfinite()
    model.add_audio_classification_head("c", 3, layers=1)
    with torch.no_grad():
        encoded = model.base_model.encoder(sound).last_hidden_state.mean(1)
        torch.testing.assert_close(
            model(input_features=sound).logits, model.heads["c"][-1](encoded)
        )


def test_compile_without_breaks(get_family: Any) -> None:
    import torch._dynamo.testing

    family = get_family("llama")
    model, inputs = family.model(), family.inputs()
    model.add_adapter("a", "seq_bn_inv[reduction_factor=4]", set_active=True)
    model.add_causal_lm_head("a")
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    with torch.no_grad():
        found = compiled(**inputs, labels=inputs["input_ids"], use_cache=False)
        expected = model(**inputs, labels=inputs["input_ids"], use_cache=False)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.loss, expected.loss)
    assert counter.frame_count == 1
    torch._dynamo.reset()
