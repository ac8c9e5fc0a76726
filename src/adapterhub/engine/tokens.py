"""Training some rows of a vocabulary: :class:`TokenRows`.

The embedding matrix E (tokens, width) stays frozen. The rows in question live in a small parameter R
(rows, width) beside it; a hook puts R's rows in the place of E's, and where the decoder is tied to the
embeddings another one computes these tokens' logits from R. So an optimizer sees only R, and no weight decay
touches the other rows. (PEFT calls it trainable tokens.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from adapterhub.engine.sites import CHILD, Site
from adapterhub.engine.vocabulary import input_embeddings

#: Name under which the rows hang in the embeddings.
NAME = "tokens"


class TokenRows(nn.Module):
    """Rows of a vocabulary with values of their own.

    Args:
        ids: (rows,) int64, ascending.
        weight: (rows, width).
    """

    ids: torch.Tensor

    def __init__(self, ids: torch.Tensor, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("ids", ids)
        self.weight = nn.Parameter(weight.detach().clone())
        self._handles: list[Any] = []

    def on_embedding(self, module: nn.Module, args: Any, kwargs: Any, output: torch.Tensor) -> Any:
        """Post-hook on the embeddings."""
        tokens = args[0] if args else kwargs["input"]
        places = torch.searchsorted(self.ids, tokens.contiguous()).clamp(max=self.ids.shape[0] - 1)
        rows = F.embedding(places, self.weight)
        scale = None if type(module) is nn.Embedding else getattr(module, "embed_scale", None)
        if scale is not None:
            rows = rows * scale
        hit = self.ids[places] == tokens
        return torch.where(hit.unsqueeze(-1), rows.to(output.dtype), output)

    def on_logits(self, module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        """Post-hook on a decoder that is tied to the embeddings."""
        bias: Any = module.bias
        bias = None if bias is None else bias[self.ids]
        scores = F.linear(args[0], self.weight.to(args[0].dtype), bias)
        return output.index_copy(-1, self.ids, scores.to(output.dtype))

    def hang(self, model: Any) -> None:
        """Put the rows into force in *model*."""
        embeddings = input_embeddings(model)
        holder = embeddings._modules.get(CHILD)
        if holder is None:
            holder = embeddings._modules[CHILD] = Site()
        holder._modules[NAME] = self
        self.rehang(model)

    def rehang(self, model: Any) -> None:
        """Hook the embeddings and every decoder that is tied to them now."""
        self._unhook()
        weight = input_embeddings(model).weight
        for module in model.modules():
            if getattr(module, "weight", None) is not weight:
                continue
            if isinstance(module, nn.Embedding):  # before adapters of the embedded input
                handle = module.register_forward_hook(
                    self.on_embedding, prepend=True, with_kwargs=True
                )
            else:
                handle = module.register_forward_hook(self.on_logits)
            self._handles.append(handle)

    def take_down(self, model: Any) -> None:
        """Take the rows out of *model* again."""
        self._unhook()
        embeddings = input_embeddings(model)
        holder: Any = embeddings._modules[CHILD]
        del holder._modules[NAME]
        if not holder._modules:
            del embeddings._modules[CHILD]

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def put_into(self, weight: torch.Tensor) -> torch.Tensor:
        """Return a copy of the matrix *weight* with these rows in it."""
        return weight.detach().index_copy(0, self.ids, self.weight.detach().to(weight.dtype))


def make_rows(model: Any, ids: Sequence[int], before: TokenRows | None) -> TokenRows:
    """Return rows for *ids* and for those of *before*, which are in force, with the values in force."""
    weight = input_embeddings(model).weight
    values = weight.detach() if before is None else before.put_into(weight)
    known = [] if before is None else before.ids.tolist()
    index = torch.tensor(sorted({*known, *ids}), dtype=torch.int64, device=weight.device)
    return TokenRows(index, values[index])
