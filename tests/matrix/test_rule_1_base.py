"""Rule 1: the base model's weights, keys and files are untouched; detaching restores it bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adapterhub
from tests.matrix.helpers import base_output, every_cell, fresh, run, shared, train_step
from tests.matrix.models import FAMILIES, METHODS


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@every_cell
def test_attached_and_inactive_is_the_base(family_name: str, method: str) -> None:
    model, family = shared(family_name), FAMILIES[family_name]
    expected = base_output(family_name)
    assert torch.equal(run(model, family), expected)
    model.set_active_adapters(method)
    assert (run(model, family) - expected).abs().max() > 1e-3
    model.set_active_adapters(None)
    assert torch.equal(run(model, family), expected)


@every_cell
def test_weights_keys_files_and_detach(family_name: str, method: str, tmp_path: Path) -> None:
    family = FAMILIES[family_name]
    plain = family.build()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    class_before, expected = type(plain), base_output(family_name)
    plain.save_pretrained(tmp_path / "plain")
    config_before = plain.config.to_dict()

    model = fresh(family, {"a": METHODS[method]})
    model.train_adapter("a")
    optimizer = torch.optim.SGD([p for p in model.base_model.parameters() if p.requires_grad], 0.1)
    train_step(model, {**family.inputs(), **family.call_options})
    optimizer.step()
    model.eval()

    after = model.state_dict()
    assert [name for name in after if name in before] == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert len(after) > len(before)
    assert model.config.to_dict() == config_before
    model.save_pretrained(tmp_path / "adapted")
    assert _files(tmp_path / "adapted") == _files(tmp_path / "plain")
    again = class_before.from_pretrained(tmp_path / "adapted").eval()
    assert torch.equal(run(again, family), expected)

    model.adapter_handle.detach()
    assert list(model.state_dict()) == list(before)
    assert torch.equal(run(model, family), expected)


@every_cell
def test_handle_leaves_no_trace(family_name: str, method: str) -> None:
    """``attach`` keeps the class; after ``detach`` no hook, child or attribute of ours is left."""
    family = FAMILIES[family_name]
    model = family.build()
    before = _fingerprint(model)
    handle = adapterhub.attach(model)
    assert type(model) is type(family.build())
    handle.add_adapter("a", config=METHODS[method], set_active=True)
    assert _fingerprint(model) != before
    run(model, family)
    handle.detach()
    assert _fingerprint(model) == before


def _fingerprint(model: Any) -> list[tuple[Any, ...]]:
    return [
        (
            name,
            type(module),
            sorted(module.__dict__),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            type(getattr(module, "config", None)),
            list(module._modules),
        )
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize("family_name", FAMILIES)
def test_merging_is_the_same_function_and_comes_undone(family_name: str) -> None:
    family = FAMILIES[family_name]
    model = fresh(family, {"a": METHODS["lora_all"]})
    model.set_active_adapters("a")
    active = run(model, family)
    model.merge_adapter("a")
    torch.testing.assert_close(run(model, family), active, rtol=0, atol=1e-4)
    model.reset_adapter()
    assert torch.equal(run(model, family), active)
    model.set_active_adapters(None)
    assert torch.equal(run(model, family), base_output(family_name))
