"""Prompts before the input: what a model around them counts, and batches whose prompts differ in length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf

import adapterhub
from adapterhub import BatchSplit, Route, Stack
from adapterhub.errors import CompositionError
from tests.architectures.tiny import tiny_model
from tests.rules.families import randomize

CLOSE = {"rtol": 0, "atol": 5e-5}
PROMPT = "prompt_tuning[prompt_length=3]"


def prompted(model_type: str, auto: Any = tf.AutoModel, **changes: Any) -> Any:
    return ready(tiny_model(model_type, auto, **changes))


def ready(model: Any) -> Any:
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.dim() > 1:
                torch.nn.init.normal_(
                    parameter, std=0.2, generator=torch.Generator().manual_seed(number)
                )
    adapted = adapterhub.init(model.eval())
    for name in ("a", "b"):
        adapted.add_adapter(name, config=PROMPT)
    randomize(adapted, "a", "b")
    return adapted


def tokens(rows: int = 2) -> torch.Tensor:
    return torch.randint(3, 60, (rows, 6), generator=torch.Generator().manual_seed(3))


def run(model: Any, setup: Any, **inputs: Any) -> Any:
    model.set_active_adapters(setup)
    with torch.no_grad():
        return model(**inputs)


UNEQUAL = BatchSplit(Stack("a", "b"), "b", batch_sizes=1)


def test_the_pooled_position_of_a_shorter_prompt_is_its_own() -> None:
    model, ids = prompted("bert"), tokens()
    found = run(model, UNEQUAL, input_ids=ids, attention_mask=torch.ones_like(ids))
    alone = run(model, "b", input_ids=ids[1:], attention_mask=torch.ones(1, 6, dtype=torch.long))
    torch.testing.assert_close(found.pooler_output[1:], alone.pooler_output, **CLOSE)
    torch.testing.assert_close(found[0][1:, -6:], alone[0][:, -6:], **CLOSE)


@pytest.mark.parametrize("model_type", ["gpt2", "deberta-v2", "t5"])
def test_shorter_prompts_keep_their_distances_and_numbers(model_type: str) -> None:
    model, ids = prompted(model_type), tokens()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model_type == "t5":
        inputs["decoder_input_ids"] = ids
    found = run(model, UNEQUAL, **inputs)[0]
    alone = run(model, "b", **{name: value[1:] for name, value in inputs.items()})[0]
    torch.testing.assert_close(found[1:, -6:], alone[:, -6:], **CLOSE)


def test_who_numbers_positions_by_counting_takes_no_unequal_prompts() -> None:
    model, ids = prompted("bart"), tokens()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids}
    with pytest.raises(CompositionError, match="numbers positions by itself"):
        run(model, UNEQUAL, **inputs)
    run(model, BatchSplit("a", "b", batch_sizes=1), **inputs)


def test_clip_finds_the_last_token_behind_a_prompt() -> None:
    model = prompted("clip_text_model", eos_token_id=63)
    ids = tokens(1)
    ids[0, 3] = 63
    ids[0, 4:] = 5
    found = run(model, "a", input_ids=ids, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(found.pooler_output, found.last_hidden_state[:, 3 + 3], **CLOSE)


def test_an_encoder_that_is_a_model_of_its_own_gets_prompts_too() -> None:
    model = prompted("dinov2")
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    bare = run(model, None, pixel_values=pixels)[0]
    assert run(model, "a", pixel_values=pixels)[0].shape[1] == bare.shape[1] + 3


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("model_type", ["llama", "bert", "gpt2"])
def test_generation_with_padding_equals_generation_without_a_cache(
    model_type: str, side: str
) -> None:
    counts = hasattr(tf.GenerationMixin, "_prepare_position_ids_for_generation")
    if side == "right" and model_type != "bert" and not counts:
        pytest.skip(
            "transformers 5.0 reads the first token at a hidden position, numbered 1 whatever stands there"
        )
    changes = {"is_decoder": True} if model_type == "bert" else {}
    model, ids = prompted(model_type, tf.AutoModelForCausalLM, **changes), tokens()
    mask = torch.ones_like(ids)
    mask[1, slice(0, 2) if side == "left" else slice(-2, None)] = 0
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    for setup in ("a", UNEQUAL):
        model.set_active_adapters(setup)
        slow, fast = (
            model.generate(
                ids,
                attention_mask=mask,
                use_cache=cache,
                output_logits=True,
                return_dict_in_generate=True,
                **options,
            ).logits
            for cache in (False, True)
        )
        for one, two in zip(slow, fast, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=2e-4)


def test_a_fixed_cache_without_room_for_prompts_is_refused() -> None:
    model = prompted("bert", tf.AutoModelForCausalLM, is_decoder=True)
    model.set_active_adapters("a")
    with pytest.raises(CompositionError, match="use a dynamic cache"):
        model.generate(tokens(), max_new_tokens=3, cache_implementation="static", pad_token_id=0)


def test_a_mask_of_image_patches_makes_room_for_prompts() -> None:
    """Hidden patches have no influence, and all others keep theirs."""
    model = prompted("siglip2_vision_model")
    model.set_active_adapters("a")
    patches = torch.randn(2, 16, 192, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 16, dtype=torch.long)
    mask[0, -3:] = 0
    patches.requires_grad_()
    shapes = torch.tensor([[4, 4], [4, 4]])
    found = model(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)
    found.pooler_output.pow(2).sum().backward()
    assert torch.equal(patches.grad.abs().amax(-1) > 0, mask.bool())  # type: ignore[union-attr]


@pytest.mark.parametrize("given", [False, True])
def test_what_is_said_of_each_token_makes_room_for_prompts(given: bool) -> None:
    """Boxes of words, which LayoutLM makes itself if there are none."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = tf.LayoutLMConfig(**sizes, intermediate_size=40, max_2d_position_embeddings=64)
    model, ids = ready(tf.LayoutLMModel(config)), tokens()
    boxes = torch.zeros(2, 6, 4, dtype=torch.long)
    found = run(model, "a", input_ids=ids, **({"bbox": boxes} if given else {}))
    bare = run(model, None, input_ids=ids, bbox=boxes)
    assert found[0].shape[1] in (6, 9)
    assert not torch.allclose(found[0][:, -6:], bare[0], atol=1e-3)


def test_hidden_patches_of_a_grid_have_no_influence() -> None:
    """A mask that the model makes of an argument over the grid reaches the blocks with room for prompts."""
    model = prompted("idefics2_vision")
    model.set_active_adapters("a")
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.ones(2, 2, 2, dtype=torch.bool)
    mask[0, 1] = False
    found = model(pixel_values=pixels, patch_attention_mask=mask)[0]
    found[0, :-2].pow(2).sum().backward()
    assert not pixels.grad[0, :, 8:].any()  # type: ignore[index]
    assert bool(pixels.grad[0, :, :8].any())  # type: ignore[index]


def test_positions_counted_by_the_mask_stay_so_with_prompts_of_several_lengths() -> None:
    model, ids = prompted("opt"), tokens()
    mask = torch.ones_like(ids)
    mask[1, :2] = 0
    expected = run(model, "a", input_ids=ids, attention_mask=mask)[0]
    found = run(model, Route("a", "b"), input_ids=ids, attention_mask=mask, adapter_rows=[0, 0])[0]
    torch.testing.assert_close(found, expected, **CLOSE)


def test_a_model_that_ignores_its_mask_refuses_prompts_of_several_lengths() -> None:
    model, ids = prompted("rwkv"), tokens()
    with pytest.raises(CompositionError, match="ignores its mask"):
        run(model, UNEQUAL, input_ids=ids)


def test_places_are_no_images_where_padding_is_the_token_of_images() -> None:
    model = prompted("idefics3")
    image = model.config.image_token_id
    pixels = torch.randn(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    (features,) = {len(f) for f in model.get_image_features(pixels, return_dict=True).pooler_output}
    ids = torch.cat([torch.full((2, features), image), tokens()], 1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    expected = run(model, "a", **inputs)[0]
    model.config.text_config.pad_token_id = image
    torch.testing.assert_close(run(model, "a", **inputs)[0], expected, **CLOSE)
