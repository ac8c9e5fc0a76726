"""WavLM hands its projections' weights to torch; adapters and prefixes act there all the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapterhub
from tests.architectures.tiny import tiny_model
from tests.rules.families import randomize

# torch's word on what WavLM itself gives it
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
LORA = "lora[r=2,attn_matrices=['q','k','v','o']]"


def waves(length: int = 4000) -> dict[str, torch.Tensor]:
    values = torch.randn(2, length, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(2, length, dtype=torch.long)
    mask[0, 3000:] = 0
    return {"input_values": values, "attention_mask": mask}


def run(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**waves())[0]


def test_running_the_modules_changes_nothing() -> None:
    model: Any = adapterhub.init(tiny_model("wavlm").eval())
    bare = run(model)
    model.add_adapter("a", LORA, set_active=True)  # which starts without an effect
    ran: list[Any] = []
    projection = model.encoder.layers[0].attention.q_proj
    handle = projection.register_forward_hook(lambda module, *_: ran.append(module))
    torch.testing.assert_close(run(model), bare, rtol=0, atol=1e-5)
    assert ran == [projection]
    handle.remove()
    with torch.no_grad():
        weights = model(**waves(), output_attentions=True).attentions[0]
    model.set_active_adapters(None)
    assert torch.equal(run(model), bare)
    with torch.no_grad():
        expected = model(**waves(), output_attentions=True).attentions[0]
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-5)


def test_lora_is_what_merging_makes_of_it() -> None:
    model: Any = adapterhub.init(tiny_model("wavlm").eval())
    bare = run(model)
    model.add_adapter("a", LORA, set_active=True)
    randomize(model, "a")
    active = run(model)
    assert not torch.allclose(active, bare, atol=1e-3)
    model.merge_adapter("a")
    torch.testing.assert_close(run(model), active, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [0, 3])
def test_prefixes_are_keys_and_values(length: int) -> None:
    model: Any = adapterhub.init(tiny_model("wavlm").eval())
    bare = run(model)
    model.add_adapter("a", f"prefix_tuning_flat[prefix_length={max(length, 1)}]", set_active=True)
    randomize(model, "a")
    for parameter in model.adapter_handle.iter_parameters("a"):
        if (
            not length
        ):  # values far away are seen; keys and values of zero only take from the weights
            parameter.data.zero_()
    changed = run(model)
    assert changed.shape == bare.shape
    assert not torch.allclose(changed, bare, atol=1e-4)
    alone = model(**{name: value[1:] for name, value in waves().items()})[0]
    torch.testing.assert_close(changed[1:], alone, rtol=0, atol=1e-4)
