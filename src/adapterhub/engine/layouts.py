"""Places whose hidden states do not lie as (batch, positions, width): :class:`TurnedSlot`.

Methods know one layout. A model that has another one (XLNet: positions first; the image towers of Qwen-VL:
the patches of all images in one row; Gemma 3n: several streams) is turned to it at each place and back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adapterhub.context import local
from adapterhub.engine.recorded import RECORDED_INSIDE
from adapterhub.engine.sites import Slot


def turn(h: torch.Tensor, layout: str) -> torch.Tensor:
    """Return *h* as (batch, positions, width).

    Args:
        layout: ``"packed"``: (positions, width); ``"positions first"``: (positions, batch, width);
            ``"streams"``: (streams, batch, positions, width), the first of which is meant.
    """
    if layout == "packed":
        return h.unsqueeze(0)
    return h.transpose(0, 1) if layout == "positions first" else h[0]


def turn_back(changed: torch.Tensor, h: torch.Tensor, layout: str) -> torch.Tensor:
    """Return *changed*, made of *h* that was turned, in the layout of *h*."""
    if layout == "packed":
        return changed.squeeze(0)
    if layout == "positions first":
        return changed.transpose(0, 1)
    return torch.cat([changed.unsqueeze(0), h[1:]])


class _Turned:
    """A plan's node that takes and gives hidden states of another layout."""

    __slots__ = ("layout", "node")

    def __init__(self, node: Any, layout: str) -> None:
        self.node, self.layout = node, layout

    def act(self, h: torch.Tensor, x: torch.Tensor | None) -> torch.Tensor:
        given = None if x is None else turn(x, self.layout)
        return turn_back(self.node.act(turn(h, self.layout), given), h, self.layout)


class TurnedSlot(Slot):
    """A slot in a stack with another layout."""

    def _acting(self) -> Any:
        node = self._current()
        return None if node is None else _Turned(node, self.site.layout)

    def on_linear(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        node = self._acting()
        return None if node is None else node.act(output, args[0])

    def on_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        residual = local.ctx.residuals.pop(self.index, None)
        return self.change_output(self._acting(), residual, output)

    def on_block(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        node = self._acting()
        if node is None:
            return None
        plural = isinstance(output, tuple | list)
        before = output[0] if plural else output
        after = node.act(before, None)
        if RECORDED_INSIDE:
            local.ctx.superseded.append((before, after))
        return type(output)([after, *output[1:]]) if plural else after

    def on_norm(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> Any:
        final = local.ctx.replacements.pop(self.index, None)
        return None if final is None else turn_back(final, output, self.site.layout)

    def note_attention_input(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().note_attention_input(module, args, kwargs)
        noted = local.ctx.residuals
        noted[self.index] = turn(noted[self.index], self.site.layout)
