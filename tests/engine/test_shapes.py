"""Adapters of blocks act on hidden states of any shape as on sequences."""

from __future__ import annotations

import torch

from adapterhub.context import Context, using
from adapterhub.engine.shapes import act_on_sequences
from adapterhub.methods.positions import SequenceFacts, positions


def first_two(h: torch.Tensor) -> torch.Tensor:
    """Add one to the first two positions of a sequence."""
    assert h.dim() == 3
    return torch.cat([h[:, :2] + 1, h[:, 2:]], 1)


def changed(h: torch.Tensor, width: int, facts: SequenceFacts | None = None) -> torch.Tensor:
    with using(Context(sequence=facts)):
        return act_on_sequences(first_two, h, width) - h


def test_a_grid_is_read_row_by_row() -> None:
    difference = changed(torch.randn(2, 1, 3, 5), 5)
    assert difference.shape == (2, 1, 3, 5)
    torch.testing.assert_close(difference[:, 0, :2], torch.ones(2, 2, 5))
    assert not difference[:, 0, 2:].any()
    first = changed(torch.randn(2, 5, 3, 4), 5)  # channels first
    torch.testing.assert_close(first[:, :, 0, :2], torch.ones(2, 5, 2))
    assert not first[:, :, 1:].any()


def test_streams_of_tokens_are_changed_alike() -> None:
    difference = changed(torch.randn(2, 6, 4, 5), 5, SequenceFacts(tokens=6))
    torch.testing.assert_close(difference[:, :2], torch.ones(2, 2, 4, 5))
    assert not difference[:, 2:].any()


def test_packed_images_count_each_from_its_beginning() -> None:
    facts = SequenceFacts(grids=torch.tensor([[1, 2, 2], [1, 4, 2]]))
    with using(Context(sequence=facts)):
        where, size = positions(torch.zeros(1, 12, 3))
        assert where.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7]]
        assert size.tolist() == [[4] * 4 + [8] * 8]
        where, size = positions(torch.zeros(1, 3, 3))  # four patches have become one position
        assert where.tolist() == [[0, 0, 1]]
        assert size.tolist() == [[1, 2, 2]]
        where, _ = positions(torch.zeros(1, 5, 3))  # of something else
        assert where.tolist() == [[0, 1, 2, 3, 4]]
    torch.testing.assert_close(changed(torch.randn(7, 5), 5)[:2], torch.ones(2, 5))
