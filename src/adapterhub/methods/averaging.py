"""Mathematics of merging adapters: what becomes of their tensors.

With tensors t_i, weights w_i and a start t_0 (what an adapter that has learned nothing holds):

- :func:`linear`: sum_i w_i t_i (Chronopoulou et al. 2023, AdapterSoup).
- :func:`ties`: trim every change t_i - t_0 to its largest entries, elect a sign for every entry, average
  those that agree with it (Yadav et al. 2023, section 3).
- :func:`dare`: drop entries of every change at random, scale the rest up, add (Yu et al. 2024, section 3).
- :func:`low_rank`: the best factors B A of rank k of sum_i B_i A_i, by singular values (Eckart & Young 1936).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from adapterhub.errors import ConfigError

#: B (out, r) and A (r, in) of a change of weight B A.
Factors = tuple[torch.Tensor, torch.Tensor]
#: Merges changes of one shape.
Combine = Callable[[Sequence[torch.Tensor]], torch.Tensor]


def linear(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Return sum_i w_i t_i, at least in float32."""
    wide = [_wide(tensor) for tensor in tensors]
    return torch.stack([w * t for w, t in zip(weights, wide, strict=True)]).sum(0)


def ties(tensors: Sequence[torch.Tensor], weights: Sequence[float], density: float) -> torch.Tensor:
    """Return the changes trimmed, with one sign elected for every entry, and averaged where they agree.

    With equal tensors and density 1 this is :func:`linear`; the mean of those that agree is scaled by
    the sum of all |w_i|, so that weights that are not normalised keep their meaning.

    Args:
        tensors: changes from the start, all of one shape.
        density: share of the entries of each that are kept, in (0, 1].
    """
    check_density(density)
    wide = torch.stack([_trimmed(_wide(tensor), density) for tensor in tensors])
    sizes = torch.tensor([abs(w) for w in weights], dtype=wide.dtype, device=wide.device)
    signs = torch.tensor([-1.0 if w < 0 else 1.0 for w in weights]).to(wide)
    shape = (-1, *([1] * (wide.dim() - 1)))
    weighted = wide * (sizes * signs).view(shape)
    elected = weighted.sum(0).sign()
    agree = (weighted.sign() == elected) & (elected != 0)
    share = (agree * sizes.view(shape)).sum(0)
    total = (weighted * agree).sum(0) * sizes.sum()
    return torch.where(share > 0, total / share.clamp_min(1e-30), torch.zeros_like(total))


def _trimmed(tensor: torch.Tensor, density: float) -> torch.Tensor:
    """Return *tensor* with all but its largest entries zero."""
    keep = max(1, round(density * tensor.numel()))
    if keep >= tensor.numel():
        return tensor
    flat = tensor.flatten()
    kept = flat.abs().topk(keep).indices
    return torch.zeros_like(flat).scatter(0, kept, flat[kept]).view_as(tensor)


def dare(
    tensors: Sequence[torch.Tensor],
    weights: Sequence[float],
    density: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return sum_i w_i m_i t_i / density with random masks m_i; in the mean over masks this is linear.

    Args:
        tensors: changes from the start, all of one shape.
        density: probability that an entry is kept, in (0, 1].
        generator: on the CPU, so that every device draws the same masks.
    """
    check_density(density)
    masked = []
    for tensor in tensors:
        mask = torch.rand(tensor.shape, generator=generator) < density
        masked.append(_wide(tensor) * mask.to(tensor.device) / density)
    return linear(masked, weights)


def low_rank(change: torch.Tensor, rank: int) -> Factors:
    """Return the best factors of rank *rank* of a matrix (out, in): A has orthonormal rows.

    Beyond the matrix' own size the factors are filled up with zeros.
    """
    u, s, vh = torch.linalg.svd(_wide(change), full_matrices=False)
    return _filled(u[:, :rank] * s[:rank], vh[:rank], rank)


def low_rank_of_sum(factors: Sequence[Factors], rank: int) -> Factors:
    """Return :func:`low_rank` of sum_i B_i A_i without ever making that matrix.

    With B = Q_b R_b and A^T = Q_a R_a of the concatenated factors, only R_b R_a^T needs singular values.
    """
    b, a = concatenated(factors)
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.mT)
    u, s, vh = torch.linalg.svd(r_b @ r_a.mT, full_matrices=False)
    return _filled(q_b @ (u[:, :rank] * s[:rank]), vh[:rank] @ q_a.mT, rank)


def concatenated(factors: Sequence[Factors]) -> Factors:
    """Return factors of sum_i B_i A_i, exactly; their rank is the sum of the ranks."""
    return (
        torch.cat([_wide(b) for b, _ in factors], 1),
        torch.cat([_wide(a) for _, a in factors], 0),
    )


def _filled(b: torch.Tensor, a: torch.Tensor, rank: int) -> Factors:
    missing = rank - a.shape[0]
    if missing > 0:
        b = torch.cat([b, b.new_zeros(b.shape[0], missing)], 1)
        a = torch.cat([a, a.new_zeros(missing, a.shape[1])], 0)
    return b.contiguous(), a.contiguous()


def normalised(weights: Sequence[float], normalize: bool) -> list[float]:
    """Return the weights, divided by their sum if *normalize*.

    Raises:
        ConfigError: their sum is 0.
    """
    values = [float(w) for w in weights]
    if not normalize:
        return values
    total = sum(values)
    if total == 0:
        raise ConfigError(
            f"The weights {values} have the sum 0 and cannot be normalised; pass normalize_weights=False."
        )
    return [value / total for value in values]


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach() if tensor.dtype is torch.float64 else tensor.detach().float()


def check_density(density: float) -> None:
    """Raise ConfigError unless *density* is in (0, 1]."""
    if not 0 < density <= 1:
        raise ConfigError(f"density={density} is no share of entries to keep; give one in (0, 1].")
