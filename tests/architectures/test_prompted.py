"""A stack gets a place for prompts only where it runs with a longer sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import adapterhub
from adapterhub.architectures import resolve
from adapterhub.architectures.probe import detect_and_probe
from adapterhub.errors import ArchitectureError
from tests.architectures.tiny import tiny_model


@pytest.mark.parametrize("model_type", ["bert", "vit", "clip"])
def test_sequences_of_any_length_take_prompts(model_type: str) -> None:
    row = detect_and_probe(tiny_model(model_type)).corrected
    assert all(stack.prompted for stack in row.stacks)


class _Grid(nn.Module):
    """A block that wants its positions to be a square."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        side = int((hidden_states.shape[1] - 1) ** 0.5)
        hidden_states[:, 1:].unflatten(1, (side, side))
        return self.block(hidden_states, *args, **kwargs)


def test_a_grid_takes_none_and_says_so() -> None:
    model = tiny_model("vit")
    before = [dict(module._forward_hooks) for module in model.modules()]
    holder: Any = model.layers if hasattr(model, "layers") else model.encoder.layer
    for index, block in enumerate(holder):
        holder[index] = _Grid(block)
    row = detect_and_probe(model).corrected
    assert not row.stacks[0].prompted
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(before)
    assert not list(resolve(model, row).select(point="prompt"))
    handle = adapterhub.attach(model, row)
    with pytest.raises(ArchitectureError, match="PromptTuningConfig finds no place"):
        handle.add_adapter("a", "prompt_tuning")
    handle.add_adapter("a", "lora")
