"""The cases: what is put on a copy of the base model before it is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import adapterhub
from adapterhub import Fuse, Parallel, Route

#: Configuration of every method that is measured, by the name of its case.
METHODS = {
    "seq_bn": "seq_bn",
    "double_seq_bn": "double_seq_bn",
    "par_bn": "par_bn",
    "lora_qv": "lora[attn_matrices=['q','v']]",
    "lora all": "lora[attn_matrices=['q','k','v','o'],intermediate_lora=True,output_lora=True]",
    "dora_qv": "dora",
    "vera_qv": "vera[r=16]",
    "ia3": "ia3",
    "compacter": "compacter[reduction_factor=16]",
    "loreft": "loreft[dropout=0.0]",
    "prompt": "prompt_tuning[prompt_length=30]",
    "prefix flat": "prefix_tuning_flat",
    "prefix MLP": "prefix_tuning",
}


def plain(model: Any) -> Any:
    """Return the model initialised, with no adapter."""
    return adapterhub.init(model)


def one(model: Any, method: str) -> Any:
    """Add one adapter, active."""
    adapterhub.init(model)
    model.add_adapter("a", config=METHODS[method])
    model.set_active_adapters("a")
    return model.eval()


def many(model: Any, method: str, number: int) -> list[str]:
    """Add adapters ``a0``, ``a1``, … with weights that have an effect; none is active."""
    adapterhub.init(model)
    names = [f"a{index}" for index in range(number)]
    generator = torch.Generator().manual_seed(3)
    for name in names:
        model.add_adapter(name, config=METHODS[method])
        with torch.no_grad():
            for parameter in model.adapter_handle.iter_parameters(name):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    model.eval()
    return names


def loaded(model: Any, method: str = "lora_qv", number: int = 100) -> Any:
    """Load many adapters and leave them inactive, after one has been active."""
    names = many(model, method, number)
    model.set_active_adapters(names[0])
    model.set_active_adapters(None)
    return model


def merged(model: Any) -> Any:
    """Add a LoRA with an effect and fold it into the weights."""
    names = many(model, "lora_qv", 1)
    model.set_active_adapters(names[0])
    model.merge_adapter(names[0])
    return model


def fusion(model: Any, number: int) -> Any:
    """Fuse bottlenecks."""
    block = Fuse(*many(model, "seq_bn", number))
    model.add_adapter_fusion(block, set_active=True)
    return model.eval()


def parallel(model: Any, number: int) -> Any:
    """Run bottlenecks in parallel on copies of the batch."""
    names = many(model, "seq_bn", number)
    model.set_active_adapters(Parallel(*names))
    return model


def routed(model: Any, method: str, number: int) -> Any:
    """Let a tensor choose each row's adapter."""
    names = many(model, method, number)
    model.set_active_adapters(Route(*names))
    return model


def single_cases() -> dict[str, Callable[[Any], Any]]:
    """Return the cases with at most one adapter at work."""
    cases: dict[str, Callable[[Any], Any]] = {
        "inactive": plain,
        "inactive, 100 loaded": loaded,
        "lora merged": merged,
    }
    for method in METHODS:
        cases[method] = lambda model, method=method: one(model, method)
    return cases


def composed_cases() -> dict[str, Callable[[Any], Any]]:
    """Return the cases with several adapters at work in one pass."""
    return {
        "fusion of 3": lambda model: fusion(model, 3),
        "fusion of 8": lambda model: fusion(model, 8),
        "parallel of 8": lambda model: parallel(model, 8),
    }
