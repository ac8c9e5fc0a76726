"""Configurations of methods that tune what the base model has: biases, and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapterhub.configs.base import AdapterConfig
from adapterhub.configs.lora import ATTENTION_MATRICES, FFN_MATRICES


@dataclass(frozen=True, eq=False)
class BitFitConfig(AdapterConfig):
    """BitFit: only the bias terms (Ben Zaken et al. 2022, arXiv 2106.10199).

    Attributes:
        attn_matrices: biases of these projections of attentions, any of q, k, v, o (all).
        ffn_matrices: biases of these projections of feed-forward networks, any of up, gate, down (all).
        norms: biases of normalisations too (True).
        leave_out: layer numbers without modules (none).

    Places without a bias in the base model get none. The smaller half of the paper (section 4.3) is
    ``bitfit[attn_matrices=['q'],ffn_matrices=['up'],norms=False]``.
    """

    architecture: str | None = field(init=False, default="bitfit")
    attn_matrices: Sequence[str] = ATTENTION_MATRICES
    ffn_matrices: Sequence[str] = FFN_MATRICES
    norms: bool = True
    leave_out: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name, known in (("attn_matrices", ATTENTION_MATRICES), ("ffn_matrices", FFN_MATRICES)):
            given = getattr(self, name)
            given = (given,) if isinstance(given, str) else given
            if not isinstance(given, (list, tuple)) or not all(item in known for item in given):
                raise self._refuse(name, f"any of {', '.join(known)}")
            self._set(name, tuple(given))
        self._flags("norms")
        self._layer_numbers("leave_out")


@dataclass(frozen=True, eq=False)
class NormTuningConfig(AdapterConfig):
    """Tuning of the normalisations alone (Zhao et al. 2023, arXiv 2312.11420).

    Attributes:
        shift: train an additive part where the base model's norm has a bias (True).
        leave_out: layer numbers without modules (none). Norms outside the layers belong to none.
    """

    architecture: str | None = field(init=False, default="ln_tuning")
    shift: bool = True
    leave_out: Sequence[int] = ()

    def __post_init__(self) -> None:
        self._flags("shift")
        self._layer_numbers("leave_out")
