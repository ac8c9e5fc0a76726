"""Hidden states that transformers records before our hooks run: :func:`with_adapters`.

Later releases of transformers 5 record hidden states with hooks on the blocks, which come after ours. Early
ones wrap the blocks' ``forward``, so they record what a block put out before its adapters changed it. There
the recorded values are exchanged when the model that recorded them is done.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

#: Whether this transformers records inside of ``forward``.
RECORDED_INSIDE = importlib.util.find_spec("transformers.utils.output_capturing") is None


def with_adapters(output: Any, superseded: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Exchange recorded hidden states in *output*, in place.

    Args:
        output: of a model; anything but a mapping is left alone.
        superseded: pairs of what a block put out before and after its adapters.
    """
    if not isinstance(output, dict):
        return
    for name in [name for name in output if name.endswith("hidden_states")]:
        if isinstance(output[name], tuple):
            output[name] = tuple(_latest(value, superseded) for value in output[name])


def _latest(value: Any, superseded: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    return next((after for before, after in superseded if before is value), value)
