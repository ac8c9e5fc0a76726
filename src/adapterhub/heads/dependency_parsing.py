"""The head that finds the syntactic head of each word (biaffine parsing, Dozat & Manning 2017).

With words x_1 … x_n (the mean of each word's pieces) and candidates h_0 (the first position, for the
root), h_1 … h_n::

    arc score of (i, j)             [x_i; 1]ᵀ U h_j
    score of relation r on (i, j)   [x_i; 1]ᵀ V_r [h_j; 1]

as in Glavaš & Vulić (2021), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils.generic import ModelOutput

from adapterhub.errors import ConfigError
from adapterhub.heads.base import (
    Labels,
    PredictionHead,
    dropout_of,
    hidden_size,
    label2id,
    register_head,
)
from adapterhub.heads.losses import IGNORED
from adapterhub.heads.outputs import fill


@dataclass
class DependencyParsingOutput(ModelOutput):
    """What the parser returns.

    Args:
        loss: scalar, the sum of the mean losses of arcs and relations, with labels.
        rel_preds: (batch, words, words + 1, num_labels) scores of the relations.
        arc_preds: (batch, words, words + 1) scores of the heads; candidate 0 is the root.
        hidden_states, attentions: of the base model, if asked for.
    """

    loss: torch.Tensor | None = None
    rel_preds: torch.Tensor | None = None
    arc_preds: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class Biaffine(nn.Module):
    """``outputs`` bilinear scores of each pair (x_i, y_j); weights start at 0.

    Args:
        size: width of x and y. outputs: scores a pair.
        bias_x, bias_y: append a constant 1 to x, to y.
    """

    def __init__(self, size: int, outputs: int, bias_x: bool, bias_y: bool) -> None:
        super().__init__()
        self.bias_x, self.bias_y = bias_x, bias_y
        self.weight = nn.Parameter(torch.zeros(outputs, size + bias_x, size + bias_y))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(batch, n, size), (batch, m, size) -> (batch, n, m, outputs)."""
        if self.bias_x:
            x = F.pad(x, (0, 1), value=1.0)
        if self.bias_y:
            y = F.pad(y, (0, 1), value=1.0)
        return torch.einsum("bxi,oij,byj->bxyo", x, self.weight, y)


class BiaffineParsingHead(PredictionHead):
    """Scores of every word pair for being dependent and head, and of the relation between them.

    Args:
        model: the model it is for.
        head_name: its name.
        num_labels: relations. Default 2.
        id2label: ``{id: label}`` or a list; default LABEL_0, ….

    Raises:
        ConfigError, ArchitectureError: see :meth:`PredictionHead.build`.
    """

    head_type = "dependency_parsing"
    targets = ("labels_arcs", "labels_rels", "word_starts")

    def __init__(
        self, model: Any, head_name: str, num_labels: int = 2, id2label: Labels = None
    ) -> None:
        super().__init__(head_name)
        self.config = {
            "head_type": self.head_type,
            "num_labels": num_labels,
            "label2id": label2id(id2label, num_labels),
        }
        self.build(model)

    def build(self, model: Any) -> None:
        """Make the two biaffine layers, with zero weights."""
        count = self.config["num_labels"]
        if not isinstance(count, int) or count < 1:
            raise ConfigError(
                f"head '{self.name}': num_labels must be a positive integer, not {count!r}."
            )
        size = hidden_size(model.config)
        self.dropout = nn.Dropout(dropout_of(self.config, model.config))
        self.biaffine_arcs = Biaffine(size, 1, bias_x=True, bias_y=False)
        self.biaffine_rels = Biaffine(size, count, bias_x=True, bias_y=True)

    def forward(
        self,
        outputs: Any,
        cls_output: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = True,
        labels_arcs: torch.Tensor | None = None,
        labels_rels: torch.Tensor | None = None,
        word_starts: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> DependencyParsingOutput:
        """Return the scores and, with both labels, the ``loss``.

        Args:
            word_starts: (batch, words + 1) position of the first piece of each word, then that
                after the last word's end; a value that does not increase (padding) ends the row.
            labels_arcs: (batch, words) the head of each word, 0: the root. Negative values, and
                values where there is no word, do not count.
            labels_rels: (batch, words) the relation of each word to its head.

        Raises:
            ConfigError: no ``word_starts``.
        """
        if word_starts is None:
            raise ConfigError(
                f"head '{self.name}' parses words: pass word_starts, (batch, words + 1), the "
                "position of the first piece of each word."
            )
        hidden = self.dropout(outputs[0])
        real = words_of(word_starts)
        words = merge_pieces(hidden, word_starts, real)
        candidates = torch.cat([hidden[:, :1], words], dim=1)
        arcs = self.biaffine_arcs(words, candidates).squeeze(-1)
        relations = self.biaffine_rels(words, candidates)
        loss = None
        if labels_arcs is not None and labels_rels is not None:
            loss = parsing_loss(arcs, relations, labels_arcs, labels_rels, real)
        return fill(
            DependencyParsingOutput, outputs, loss=loss, rel_preds=relations, arc_preds=arcs
        )


def words_of(starts: torch.Tensor) -> torch.Tensor:
    """Return (batch, words), true where a row of ``word_starts`` (batch, words + 1) has a word."""
    begin, end = starts[:, :-1], starts[:, 1:]
    return ((end > begin) & (begin >= 0)).to(torch.int64).cumprod(dim=1).bool()


def merge_pieces(hidden: torch.Tensor, starts: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the mean of each word's pieces, and zeros where there is no word.

    Args:
        hidden: (batch, length, size). starts: as ``word_starts`` of :class:`BiaffineParsingHead`.
        real: of :func:`words_of`.

    Returns:
        (batch, length, size); word w of a row lies at w.
    """
    length = hidden.shape[1]
    begin, end = starts[:, :-1, None], starts[:, 1:, None]
    position = torch.arange(length, device=hidden.device)
    inside = (position >= begin) & (position < end) & real[..., None]
    share = inside.to(hidden.dtype)
    share = share / share.sum(dim=-1, keepdim=True).clamp(min=1)
    words = share @ hidden
    missing = length - words.shape[1]
    return F.pad(words, (0, 0, 0, missing)) if missing > 0 else words[:, :length]


def parsing_loss(
    arcs: torch.Tensor,
    relations: torch.Tensor,
    heads: torch.Tensor,
    labels: torch.Tensor,
    real: torch.Tensor,
) -> torch.Tensor:
    """Cross-entropy of the heads plus that of the relations, given the right heads.

    Args:
        arcs: (batch, words, words + 1). relations: (batch, words, words + 1, num_labels).
        heads, labels: (batch, n); words beyond n or with a negative head do not count.
        real: (batch, m), false where there is no word.
    """
    count = min(heads.shape[1], arcs.shape[1], real.shape[1])
    heads, labels = heads[:, :count], labels[:, :count]
    counted = (heads >= 0) & real[:, :count]
    heads = heads.masked_fill(~counted, IGNORED)
    labels = labels.masked_fill(~counted, IGNORED)
    index = heads.clamp(min=0)[..., None, None].expand(-1, -1, 1, relations.shape[-1])
    chosen = relations[:, :count].gather(2, index).squeeze(2)
    of_arcs = F.cross_entropy(arcs[:, :count].flatten(0, 1), heads.flatten(), ignore_index=IGNORED)
    of_labels = F.cross_entropy(chosen.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    return of_arcs + of_labels


register_head(BiaffineParsingHead.head_type, BiaffineParsingHead)
