"""Models that were published with adapters of their own, run without them on request."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as tf

import adapterhub
from adapterhub.errors import ArchitectureError
from tests import tiny


@pytest.fixture
def xmod() -> Any:
    torch.manual_seed(0)
    config = tf.XmodConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        vocab_size=40,
        max_position_embeddings=20,
        languages=["en_XX", "de_DE"],
        default_language="en_XX",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = tf.XmodModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "adapter_modules" in name:
                parameter.normal_(std=0.5)
    return model


def outputs(model: Any) -> list[torch.Tensor]:
    ids = tiny.tokens(vocabulary=40)
    with torch.no_grad():
        return [model(ids, lang_ids=torch.full((3,), lang))[0] for lang in (0, 1)]


def test_its_own_adapters_work_unless_they_are_bypassed(xmod: Any) -> None:
    english, german = outputs(xmod)
    assert not torch.allclose(english, german, atol=1e-3)
    keys = list(xmod.state_dict())
    model = adapterhub.init(xmod)
    assert len(model.adapter_handle.own_adapters()) == 4
    assert torch.equal(outputs(model)[0], english)
    model.bypass_own_adapters()
    without = outputs(model)
    assert torch.equal(*without)
    assert not torch.allclose(without[0], english, atol=1e-3)
    assert list(model.state_dict()) == keys
    model.bypass_own_adapters()  # once more is the same
    model.add_adapter("a", "lora", set_active=True)
    twin = copy.deepcopy(model)
    twin.bypass_own_adapters(False)
    assert torch.equal(outputs(twin)[1], german)
    assert torch.equal(outputs(model)[1], without[1])
    model.adapter_handle.detach()
    assert all(torch.equal(a, b) for a, b in zip(outputs(model), (english, german), strict=True))
    assert not any(module._forward_hooks for module in model.modules())


def test_where_there_are_none() -> None:
    model = adapterhub.init(tiny.bert())
    assert model.adapter_handle.own_adapters() == []
    with pytest.raises(ArchitectureError, match="own_adapters"):
        model.bypass_own_adapters()
