"""Rule 2: gradients on exactly what is being trained, each of them non-zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapterhub import Average, BatchSplit, Fuse, Parallel, Route, Stack
from tests.matrix.helpers import every_cell, fresh, shared, train_step
from tests.matrix.models import FAMILIES, METHODS


def _names_of(model: Any, *adapters: str) -> set[str]:
    wanted = {id(p) for name in adapters for p in model.adapter_handle.iter_parameters(name)}
    return {name for name, p in model.named_parameters() if id(p) in wanted}


def _head(model: Any) -> set[str]:
    """Names of a task head, which stays trainable (language-model heads are frozen)."""
    return {name for name, _ in model.named_parameters() if name.startswith("classifier.")}


def _check(model: Any, family_name: str, expected: set[str], **options: Any) -> None:
    family = FAMILIES[family_name]
    found = train_step(model, {**family.inputs(), **family.call_options, **options})
    assert set(found) == expected
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    assert not [name for name, value in found.items() if not value.abs().max() > 0]
    assert all(torch.isfinite(value).all() for value in found.values())


@every_cell
def test_train_adapter(family_name: str, method: str) -> None:
    model = shared(family_name)
    model.train_adapter(method)
    _check(model, family_name, _names_of(model, method) | _head(model))


@pytest.mark.parametrize("kind", ["seq_bn", "prefix_tuning", "mixed"])
@pytest.mark.parametrize("block", ["Stack", "Parallel", "BatchSplit", "Average", "Route"])
@pytest.mark.parametrize("family_name", FAMILIES)
def test_train_compositions(family_name: str, block: str, kind: str) -> None:
    """Every adapter of the tree is trained, one beside it is not."""
    methods = {
        "mixed": ("double_seq_bn", "lora_all", "prefix_tuning"),
    }.get(kind, (kind,) * 3)
    model = fresh(
        FAMILIES[family_name], {n: METHODS[m] for n, m in zip("abc", methods, strict=True)}
    )
    model.add_adapter("beside", config=METHODS["seq_bn"])
    options: dict[str, Any] = {}
    tree: Any = {
        "Stack": lambda: Stack("a", "b", "c"),
        "Parallel": lambda: Parallel("a", "b", "c"),
        "BatchSplit": lambda: BatchSplit("a", "b", "c", batch_sizes=1),
        "Average": lambda: Average("a", "b", "c"),
        "Route": lambda: Route("a", "b", "c"),
    }[block]()
    if block == "Route":
        options["adapter_rows"] = [2, 0, 1]
    model.train_adapter(tree)
    _check(model, family_name, _names_of(model, "a", "b", "c") | _head(model), **options)


@pytest.mark.parametrize("family_name", FAMILIES)
def test_train_fusion_only(family_name: str) -> None:
    model = fresh(FAMILIES[family_name], dict.fromkeys("ab", METHODS["double_seq_bn"]))
    block = Fuse("a", "b")
    model.add_adapter_fusion(block)
    model.train_adapter_fusion(block)
    fusion = {id(p) for p in model.adapter_handle.engine.fusions[block.name].parameters()}
    expected = {name for name, p in model.named_parameters() if id(p) in fusion}
    family = FAMILIES[family_name]
    found = train_step(model, {**family.inputs(), **family.call_options})
    assert set(found) == expected | _head(model)
    # Scores do not change when the same is added to all keys, so the key's bias has no gradient.
    dead = {name for name, value in found.items() if not value.abs().max() > 1e-12}
    assert all(name.endswith("key_bias") for name in dead)
    model.train_adapter_fusion(block, unfreeze_adapters=True)
    found = train_step(model, {**family.inputs(), **family.call_options})
    assert set(found) == expected | _head(model) | _names_of(model, "a", "b")
