"""Batches of texts of similar length, in an order that a seed fixes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices


class SeededLengthGroups(LengthGroupedSampler):
    """``LengthGroupedSampler`` whose order depends on seed and epoch only.

    The original draws from the global random state, which dropout moves: two methods trained with one
    seed would see other batches, and so would a resumed run.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; the Trainer calls it before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


def reproducible(sampler: Any, args: Any) -> Any:
    """Replace a sampler by length with its seeded kind; return any other as it is."""
    if type(sampler) is not LengthGroupedSampler:
        return sampler
    seed = args.data_seed if args.data_seed is not None else args.seed
    return SeededLengthGroups(sampler.batch_size, sampler.lengths, seed)
