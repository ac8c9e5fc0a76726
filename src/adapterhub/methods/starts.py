"""Starts of LoRA that come from the base weight (PiSSA, OLoRA), its quantisation (LoftQ) or data (EVA).

The first two take A_0 and B_0 with s B_0 A_0 = the main part of W, and train A and B from there. Their
papers put the rest, W - s B_0 A_0, in the place of W. Here the base stays as it is and the start is
subtracted instead::

    y = W x + c + s (B A - B_0 A_0) x

which is the same function of A and B, the base model's own at first, and leaves the base to other adapters.
"""

from __future__ import annotations

import torch

from adapterhub.errors import ConfigError


def weight_start(
    how: str, weight: torch.Tensor, rank: int, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A_0 (r, in) and B_0 (out, r), float32.

    - ``pissa``: W = U S V^T, B_0 = U_r sqrt(S_r / s), A_0 = sqrt(S_r / s) V_r^T, so that s B_0 A_0 is the
      best approximation of rank r (Meng et al. 2024, arXiv 2404.02948, section 3).
    - ``olora``: W = Q R, B_0 = Q_r, A_0 = R_r (Buyukakyuz 2024, arXiv 2406.01775, section 3).

    Args:
        weight: W, (out, in). rank: at most min(out, in). scaling: s > 0.

    Raises:
        ConfigError: the rank is larger than the weight's, or the scale is not positive.
    """
    if rank > min(weight.shape):
        raise ConfigError(
            f"init_weights='{how}' takes {rank} directions from a weight of {tuple(weight.shape)}; "
            f"use a rank of at most {min(weight.shape)}, or set it with rank_pattern."
        )
    if scaling <= 0:
        raise ConfigError(f"init_weights='{how}' needs alpha > 0, not a scale of {scaling}.")
    full = weight.detach().float()
    if how == "pissa":
        u, s, vt = torch.linalg.svd(full, full_matrices=False)
        root = (s[:rank] / scaling).sqrt()
        return root[:, None] * vt[:rank], u[:, :rank] * root
    q, r = torch.linalg.qr(full)
    return r[:rank].contiguous(), q[:, :rank].contiguous()


def residual_start(
    residual: torch.Tensor, rank: int, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A (r, in) and B (out, r) with s B A = the best approximation of rank r of *residual*.

    LoftQ's step for the adapter (Li et al. 2023, arXiv 2310.08659, algorithm 1): the residual is what
    quantising took from the weight, W - Q.
    """
    return weight_start("pissa", residual, rank, scaling)


class PrincipalInputs:
    """Principal components of the vectors that a projection sees, kept to *count*, batch by batch.

    Incremental SVD with correction of the mean (Ross et al. 2008, IJCV 77, section 2.2), as EVA takes it
    (Paischer et al. 2024, arXiv 2410.07170, section 3). Memory is (count + batch) x in.

    Attributes:
        components: (count, in), orthonormal rows, the largest variance first.
        share: (count,), each one's part of all variance seen.
        moved: 1 - the smallest |cosine| between a component and itself before the last batch; 2 at first.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen = 0
        self.components = torch.empty(0)
        self.share = torch.empty(0)
        self.moved = 2.0
        self._values = torch.empty(0)
        self._mean = torch.empty(0)
        self._total = 0.0

    def update(self, x: torch.Tensor) -> None:
        """Take in vectors *x*, (n, in)."""
        x = x.detach().float()
        n = x.shape[0]
        if not n:
            return
        mean = x.mean(0)
        centred = x - mean
        self._total += float(centred.pow(2).sum())
        rows = [centred]
        if self.seen:
            shift = mean - self._mean
            between = self.seen * n / (self.seen + n)
            self._total += between * float(shift.pow(2).sum())
            rows = [self._values[:, None] * self.components, centred, between**0.5 * shift[None]]
            mean = self._mean + shift * (n / (self.seen + n))
        _, values, vt = torch.linalg.svd(torch.cat(rows), full_matrices=False)
        kept = vt[: self.count]
        if self.seen and kept.shape == self.components.shape:
            self.moved = 1 - float((kept * self.components).sum(1).abs().min())
        self.components, self._values = kept, values[: self.count]
        self._mean, self.seen = mean, self.seen + n
        self.share = self._values.pow(2) / max(self._total, torch.finfo(torch.float32).tiny)


def spread_ranks(shares: dict[str, torch.Tensor], rank: int) -> dict[str, int]:
    """Return a rank for each place, *rank* on average, so that they explain the most variance together.

    The components of all places compete by their share of their own place's variance (EVA, section 3.2).
    Each place keeps at least one.

    Args:
        shares: for each place its components' shares, descending.
    """
    ranks = dict.fromkeys(shares, 1)
    rest = [(float(s), place) for place, values in shares.items() for s in values[1:]]
    rest.sort(key=lambda item: -item[0])
    for _, place in rest[: max(0, (rank - 1) * len(shares))]:
        ranks[place] += 1
    return ranks
