"""Dependency parsing against the formula written as loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from adapterhub.errors import ConfigError

STARTS = torch.tensor(
    [[1, 2, 5, 7, 0, 0], [1, 4, 5, 5, 5, 5], [2, 3, 4, 5, 6, 7], [1, 8, -1, -1, -1, -1]]
)
WORDS = [
    [(1, 2), (2, 5), (5, 7)],
    [(1, 4), (4, 5)],
    [(2, 3), (3, 4), (4, 5), (5, 6), (6, 7)],
    [(1, 8)],
]
ARCS = torch.tensor([[0, 1, 2, 0, 0], [2, 0, -100, 0, 0], [3, 3, 0, 3, -1], [0, 9, 9, 9, 9]])
RELS = torch.tensor([[2, 1, 0, 0, 0], [1, 2, -100, 0, 0], [0, 1, 2, 1, -1], [2, 9, 9, 9, 9]])


@pytest.fixture
def parser(bert: Any) -> Any:
    """A BERT with a parser of three relations."""
    bert.add_dependency_parsing_head("p", num_labels=3, id2label=["nsubj", "obj", "root"])
    for parameter in bert.heads["p"].parameters():
        torch.nn.init.normal_(parameter)
    return bert


def test_scores_and_loss(parser: Any, batch: Any) -> None:
    with torch.no_grad():
        output = parser(**batch, word_starts=STARTS, labels_arcs=ARCS, labels_rels=RELS)
        hidden = parser.base_model(**batch).last_hidden_state
    assert output.arc_preds.shape == (4, 8, 9)
    assert output.rel_preds.shape == (4, 8, 9, 3)
    head = parser.heads["p"]
    one = torch.ones(1)
    arcs, heads, relations, kinds = [], [], [], []
    for row, words in enumerate(WORDS):
        states = [hidden[row, start:stop].mean(0) for start, stop in words]
        candidates = [hidden[row, 0], *states]
        for i, x in enumerate(states):
            for j, h in enumerate(candidates):
                score = torch.cat([x, one]) @ head.biaffine_arcs.weight[0] @ h
                torch.testing.assert_close(output.arc_preds[row, i, j], score)
                for r in range(3):
                    score = torch.cat([x, one]) @ head.biaffine_rels.weight[r] @ torch.cat([h, one])
                    torch.testing.assert_close(output.rel_preds[row, i, j, r], score)
            if ARCS[row, i] >= 0:
                arcs.append(output.arc_preds[row, i])
                heads.append(ARCS[row, i])
                relations.append(output.rel_preds[row, i, ARCS[row, i]])
                kinds.append(RELS[row, i])
    expected = F.cross_entropy(torch.stack(arcs), torch.stack(heads)) + F.cross_entropy(
        torch.stack(relations), torch.stack(kinds)
    )
    torch.testing.assert_close(output.loss, expected)


def test_what_it_needs(parser: Any, batch: Any) -> None:
    with pytest.raises(ConfigError, match="pass word_starts"):
        parser(**batch)
    assert parser(**batch, word_starts=STARTS).loss is None
    assert parser.get_labels("p") == ["nsubj", "obj", "root"]
    with pytest.raises(ConfigError, match="positive integer"):
        parser.add_dependency_parsing_head("q", num_labels=0)
    assert "q" not in parser.heads


def test_it_learns_from_zero_weights(bert: Any, batch: Any) -> None:
    bert.add_dependency_parsing_head("p", num_labels=3)
    arguments = {**batch, "word_starts": STARTS, "labels_arcs": ARCS, "labels_rels": RELS}
    optimizer = torch.optim.Adam(bert.heads["p"].parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        loss = bert(**arguments).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_it_runs_among_others(parser: Any, batch: Any) -> None:
    parser.add_tagging_head("t")
    output = parser(
        **batch, head=["t", "p"], word_starts=STARTS, labels_arcs=ARCS, labels_rels=RELS
    )
    assert output[0].loss is None
    assert output.loss == output[1].loss
