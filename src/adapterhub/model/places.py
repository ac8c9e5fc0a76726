"""Looking through a model: its blocks, attentions, feed-forward maps, and where adapters are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from adapterhub.architectures import SiteKey
from adapterhub.engine import Engine


class HandlePlaces:
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` that shows where things are."""

    engine: Engine

    def iter_layers(self) -> Iterator[tuple[int, nn.Module]]:
        """Yield (number, block) of all blocks; numbers run on from an encoder into its decoder."""
        yield from enumerate(self.engine.resolved.layers)

    def get_layer(self, idx: int) -> nn.Module:
        """Return the block with a number. Raises IndexError."""
        return self.engine.resolved.layers[idx]

    def iter_attentions(self) -> Iterator[tuple[int, str, nn.Module]]:
        """Yield (block's number, ``"self"`` or ``"cross"``, attention module)."""
        for key, site in self.engine.resolved.sites.items():
            if key.point == "kv":
                yield site.layer_id, str(key.sublayer), site.host

    def iter_layer_ffns(self) -> Iterator[tuple[int, str, nn.Module]]:
        """Yield (block's number, ``"intermediate"`` or ``"output"``, projection) of feed-forward networks."""
        words = {"up": "intermediate", "down": "output"}
        for key, site in self.engine.resolved.sites.items():
            if key.sublayer == "ffn" and key.point in words:
                yield site.layer_id, words[key.point], site.host

    def apply_to_adapter_layers(self, fn: Callable[[int, Any], Any]) -> None:
        """Call ``fn(number of the block, layer)`` for every place in a block that holds adapters now.

        A layer holds the modules of all adapters there, by their names.
        """
        for key, slot in self._slots(blocks=True):
            fn(self.engine.resolved.sites[key].layer_id, slot)

    def apply_to_basemodel_childs(self, fn: Callable[[int, Any], Any]) -> None:
        """Call ``fn(-1, layer)`` for every place outside of the blocks that holds adapters now."""
        for _, slot in self._slots(blocks=False):
            fn(-1, slot)

    def _slots(self, blocks: bool) -> Iterator[tuple[SiteKey, Any]]:
        for key in self.engine.resolved.sites:
            slot = self.engine.slots.get(key)
            if slot is not None and (key.layer is not None) == blocks:
                yield key, slot
