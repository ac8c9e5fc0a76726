"""Shared models, and the few operations the rules are stated in."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
import torch

import adapterhub
from tests.matrix.models import CELLS, FAMILIES, METHODS, Family

#: The whole matrix: every method on every family.
every_cell = pytest.mark.parametrize(("family_name", "method"), CELLS)
every_family = pytest.mark.parametrize("family_name", FAMILIES)

Gradients = dict[str, torch.Tensor]
_SHARED: list[Any] = []


def randomize(model: Any, names: Iterable[str], std: float = 0.15) -> None:
    """Give adapters weights with an effect, the same each time, different for each adapter."""
    for number, name in enumerate(names):
        generator = torch.Generator().manual_seed(100 + number)
        for parameter in model.adapter_handle.iter_parameters(name):
            with torch.no_grad():
                value = torch.randn(parameter.shape, generator=generator) * std
                parameter.copy_(value)


def fresh(family: Family, configs: dict[str, str]) -> Any:
    """Return a new model of *family* with the adapters *configs* (name: configuration)."""
    model = adapterhub.init(family.build())
    for name, config in configs.items():
        model.add_adapter(name, config=config)
    randomize(model, configs)
    return model


@cache
def shared(family_name: str) -> Any:
    """Return this process's model of a family with an adapter of every method, all inactive.

    Each test gets it without an active setup, in eval mode, nothing trained; see :func:`restore_all`.
    """
    model = fresh(FAMILIES[family_name], METHODS)
    model.train_flags = {name: p.requires_grad for name, p in model.named_parameters()}
    _SHARED.append(model)
    restore(model)
    return model


@cache
def base_output(family_name: str) -> torch.Tensor:
    """Return the output of the family's model that adapterhub has never seen."""
    family = FAMILIES[family_name]
    return run(family.build(), family)


def restore(model: Any) -> None:
    """Back to the state of :func:`shared`."""
    model.set_active_adapters(None)
    if getattr(model, "is_gradient_checkpointing", False):
        checkpointing(model, None)
    model.eval()
    model.zero_grad(set_to_none=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(model.train_flags[name])


def restore_all() -> None:
    for model in _SHARED:
        restore(model)


def run(model: Any, family: Family, **options: Any) -> torch.Tensor:
    """Return the logits for the family's inputs, without gradients."""
    return output(model, {**family.inputs(), **family.call_options, **options})


def output(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def close(found: torch.Tensor, expected: torch.Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def gradients(model: Any) -> Gradients:
    """Return a copy of the gradients, by name of the parameter."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def train_step(model: Any, *batches: dict[str, Any]) -> Gradients:
    """Run every batch forward, then one backward over all; return the gradients."""
    model.train()
    model.zero_grad(set_to_none=True)
    losses = [model(**batch).logits.float().pow(2).mean() for batch in batches]
    torch.stack(losses).sum().backward()
    return gradients(model)


def same_gradients(found: Gradients, expected: Gradients) -> None:
    assert expected
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = max(1.0, value.abs().max().item())
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def checkpointing(model: Any, reentrant: bool | None) -> None:
    """Switch gradient checkpointing on (of either kind), or off with ``None``."""
    new = hasattr(model, "activation_checkpointing_enable")
    prefix = "activation" if new else "gradient"
    if reentrant is None:
        getattr(model, f"{prefix}_checkpointing_disable")()
    else:
        getattr(model, f"{prefix}_checkpointing_enable")({"use_reentrant": reentrant})


def generate(model: Any, prompt: dict[str, torch.Tensor], **options: Any) -> torch.Tensor:
    """Return seven new tokens a row, the same for the same options."""
    torch.manual_seed(0)
    options = {"do_sample": False, "max_new_tokens": 7, "min_new_tokens": 7, **options}
    return model.generate(**prompt, **options)


def rows_of(inputs: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
    return {name: value[rows] for name, value in inputs.items()}
