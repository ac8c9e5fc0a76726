"""The names of places: stack, layer, sub-layer, point."""

from __future__ import annotations

from typing import NamedTuple

#: Points of an attention sub-layer: the projections, the attention core (keys and values) and the
#: sub-layer's output just before the residual addition.
ATTENTION_POINTS = ("q", "k", "v", "o", "kv", "out")
#: Points of a feed-forward sub-layer.
FFN_POINTS = ("up", "gate", "down", "out")


class SiteKey(NamedTuple):
    """A place in a model. ``str()`` gives its canonical name, e.g. ``decoder.3.self.q``.

    Attributes:
        stack: ``encoder``, ``decoder``, ``text``, ``vision``, ``audio``.
        layer: index of the block within its stack; ``None`` for places of the stack as a whole.
        sublayer: ``self``, ``cross``, ``ffn``; ``layer`` for the block as a whole, whose only point is
            ``out``; ``norm`` for normalisations, whose points are their paths with ``_`` for the dots;
            ``None`` with ``layer=None``.
        point: see :data:`ATTENTION_POINTS`, :data:`FFN_POINTS`; ``experts`` of a feed-forward network for a
            mixture kept as 3-D parameters; ``embed`` for the embeddings' output, ``prompt`` for positions
            before the input, ``tokens`` for the token embeddings, ``vocabulary`` for the map to it.
    """

    stack: str
    layer: int | None
    sublayer: str | None
    point: str

    def __str__(self) -> str:
        return ".".join(str(part) for part in self if part is not None)

    def pattern(self) -> str:
        """The name with the layer replaced by ``*``, for messages about all layers."""
        return (
            str(self._replace(layer=None))
            if self.layer is None
            else ".".join(
                ("*" if part is self.layer else str(part)) for part in self if part is not None
            )
        )
