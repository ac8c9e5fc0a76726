"""Prefixes in attentions that compute their scores themselves give what the attention interface gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf
from torch import nn

import adapterhub
from adapterhub.composition import BatchSplit, Parallel
from adapterhub.engine import sites
from adapterhub.engine.inline import Inline
from adapterhub.errors import CompositionError
from tests.architectures.tiny import tiny_model

PREFIX = "prefix_tuning[prefix_length=3,bottleneck_size=8]"


def _ready(model: nn.Module, *names: str, config: str = PREFIX) -> Any:
    handle = adapterhub.attach(model.eval())
    for number, name in enumerate(names):
        handle.add_adapter(name, config)
        generator = torch.Generator().manual_seed(number)
        for parameter in handle.iter_parameters(name):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return handle


def _inputs(rows: int = 3) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 60, (rows, 6), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("model_type", ["bert", "llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_as_through_the_interface(
    model_type: str, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(model_type)
    model.set_attn_implementation(implementation)  # type: ignore[operator]
    inputs = _inputs()
    base = model.eval()(**inputs)[0]
    results = []
    for inline in (False, True):
        if inline:
            monkeypatch.setattr(sites, "on_interface", lambda module: False)
        handle = _ready(model, "a")
        handle.set_active_adapters("a")
        results.append(model(**inputs)[0])
        handle.detach()
    torch.testing.assert_close(results[0], results[1], atol=2e-6, rtol=1e-5)
    assert not torch.allclose(base, results[1], atol=1e-3)
    assert torch.equal(model(**inputs)[0], base)


INLINE = ["bloom", "codegen", "deberta", "deberta-v2", "falcon", "gptj", "mpnet"]


@pytest.mark.parametrize("model_type", INLINE)
def test_rows_are_those_of_single_runs(model_type: str) -> None:
    model = tiny_model(model_type)
    inputs = _inputs(4)
    handle = _ready(model, "a", "b")
    single = {}
    for name in ("a", "b"):
        handle.set_active_adapters(name)
        single[name] = model(**inputs)[0]
    handle.set_active_adapters(BatchSplit("a", "b", batch_sizes=[1, 3]))
    mixed = model(**inputs)[0]
    torch.testing.assert_close(mixed[:1], single["a"][:1], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(mixed[1:], single["b"][1:], atol=2e-6, rtol=1e-5)
    handle.set_active_adapters(Parallel("a", "b"))
    both = model(**inputs)[0]
    torch.testing.assert_close(both[4:], single["b"], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["bloom", "gptj"])
def test_prefixes_of_unequal_length_do_not_see_each_other(model_type: str) -> None:
    model = tiny_model(model_type)
    inputs = _inputs(2)
    handle = _ready(model, "a")
    handle.add_adapter("long", "prefix_tuning[prefix_length=7,bottleneck_size=8]")
    handle.set_active_adapters("a")
    alone = model(**inputs)[0]
    handle.set_active_adapters(BatchSplit("a", "long", batch_sizes=[1, 1]))
    torch.testing.assert_close(model(**inputs)[0][:1], alone[:1], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("model_type", ["bloom", "falcon", "gptj"])
def test_generation_with_a_cache_is_generation_without(model_type: str) -> None:
    model: Any = tiny_model(model_type, tf.AutoModelForCausalLM)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # default weights are too small to tell tokens apart
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.3, generator=generator)
    handle = _ready(model, "a")
    ids = _inputs()["input_ids"]
    settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    plain = model.generate(ids, **settings)
    handle.set_active_adapters("a")
    cached = model.generate(ids, use_cache=True, **settings)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **settings))
    assert not torch.equal(cached, plain)


def test_gradients_reach_the_prefix_and_dropout_is_the_models() -> None:
    model = tiny_model("deberta", attention_probs_dropout_prob=0.3)
    handle = _ready(model, "a")
    handle.train_adapter("a")
    model(**_inputs())[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in handle.iter_parameters("a"))


class _Linear(nn.Module):
    """An attention without softmax."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        q = k = v = hidden_states.unsqueeze(1)
        return torch.matmul(torch.matmul(q, k.transpose(-1, -2)), v)


def test_an_attention_that_cannot_be_followed_is_an_error() -> None:
    x = torch.randn(2, 4, 8)
    prefix = torch.randn(2, 1, 3, 8)
    mode = Inline("Linear", [x], lambda key: (prefix, prefix, None), (1, 8))
    with mode:
        _Linear()(x)
    with pytest.raises(CompositionError, match="could not be followed"):
        mode.finish()


class _Scaled(nn.Module):
    """Scores written in other ways: keys scaled before, an einsum, a mask in place."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        x = hidden_states.view(2, 4, 2, 4)
        scores = torch.einsum("bihd,bjhd->bhij", x, x * 0.5)
        scores = scores.masked_fill(torch.ones(4, 4).tril() == 0, -1e9)
        return torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), x).flatten(-2)


def test_einsums_and_scaled_keys() -> None:
    x = torch.randn(2, 4, 8)
    keys, values = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 3, 4)
    mode = Inline("Scaled", [x], lambda key: (keys, values, None), (2, 4))
    with mode:
        found = _Scaled()(x)
    mode.finish()
    heads = x.view(2, 4, 2, 4).transpose(1, 2)
    k, v = torch.cat([keys, heads], 2), torch.cat([values, heads], 2)
    seen = torch.cat([torch.ones(4, 3), torch.ones(4, 4).tril()], 1).bool()
    scores = (heads @ k.mT * 0.5).masked_fill(~seen, -1e9)
    expected = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "config"), [("mpt", "mam"), ("falcon", PREFIX), ("codegen", "unipelt")]
)
def test_following_compiles_into_one_graph(model_type: str, config: str) -> None:
    model = tiny_model(model_type)
    _ready(model, "a", config=config).set_active_adapters("a")
    inputs = _inputs()
    expected = model(**inputs)[0]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs)[0], expected, atol=1e-5, rtol=1e-5)
