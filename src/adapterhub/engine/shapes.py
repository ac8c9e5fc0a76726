"""Hidden states that are no (batch, positions, width): packed images, grids, several streams.

Adapters of whole blocks are written for sequences. Here other shapes become sequences and are turned back:

* (positions, width), images packed one after the other: one row, whose positions count within each image
  where the model was told their sizes;
* (batch, height, width of the grid, width): rows of the grid one after the other;
* (batch, positions, streams, width), where the model was given so many tokens: each stream by itself;
* (batch, width, height, width of the grid): channels first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from adapterhub.context import local


def act_on_sequences(
    act: Callable[[torch.Tensor], torch.Tensor], h: torch.Tensor, width: int
) -> torch.Tensor:
    """Return what *act*, a map of (batch, positions, width), makes of *h* of any shape.

    Args:
        width: of a hidden state.
    """
    if h.shape[-1] != width and h.dim() == 4 and h.shape[1] == width:
        return act_on_sequences(act, h.movedim(1, -1), width).movedim(-1, 1)
    if h.dim() == 3:
        return act(h)
    if h.dim() == 2:
        return act(h.unsqueeze(0)).squeeze(0)
    facts: Any = local.ctx.sequence
    if h.dim() == 4 and facts is not None and facts.tokens == h.shape[1]:
        return torch.stack([act(stream) for stream in h.unbind(2)], 2)
    return act(h.flatten(1, -2)).view(h.shape)
