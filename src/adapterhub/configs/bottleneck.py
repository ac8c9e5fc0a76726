"""Configurations of bottleneck adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterhub.configs.base import AdapterConfig, is_number, show
from adapterhub.errors import ConfigError


@dataclass(frozen=True, eq=False)
class BnConfig(AdapterConfig):
    """A bottleneck adapter; the classes below fix the usual choices.

    The first four fields have no default here. Numbers in ``reduction_factor`` and
    ``inv_adapter_reduction_factor`` stay as given (16 and 16.0 have different hashes).

    Attributes:
        mh_adapter, output_adapter, cross_adapter: after the self-attention, the feed-forward network, the
            cross-attention (False).
        reduction_factor: hidden size / bottleneck width, above 0; below 1 it widens. A number, or a map from
            layer number or ``"default"``; keys become text.
        non_linearity: name of the activation.
        original_ln_before, original_ln_after: apply the residual addition and the model's layer norm
            before (False), after (True) the bottleneck.
        ln_before, ln_after: a trained layer norm of the adapter's own at its input, its output (False).
        init_weights: ``"bert"`` (default), ``"mam_adapter"``, ``"houlsby"``.
        init_weights_seed: seed before each module's initialisation, so all layers start equal (None).
        is_parallel: read the sub-layer's input instead of its output (False; He et al. 2022).
        scaling: factor on the output (1.0), or ``"learned"`` (one), ``"channel"`` (one a channel).
        use_gating: gate by the mean of a sigmoid over the sequence (False; Mao et al. 2022).
        residual_before_ln: inner residual before the model's norm (True, default), after (False), or
            ``"post_add"``: after the addition and before the norm.
        adapter_residual_before_ln: inner residual before the adapter's own ``ln_after`` (False).
        inv_adapter: ``"nice"`` or ``"glow"`` at the embeddings (None; MAD-X).
        inv_adapter_reduction_factor: half the embedding size / width of its networks (None).
        leave_out: layer numbers without modules (none).
        dropout, stochastic_depth: probabilities in [0, 1) (0.0).
        phm_layer: hypercomplex layers (False; Compacter, Karimi Mahabadi et al. 2021). The rest is theirs:
        phm_dim: number of Kronecker factors (4). phm_bias: with a bias (True).
        factorized_phm_W, phm_rank: low-rank weights (True), their rank (1).
        shared_W_phm: one weight for all layers (False). shared_phm_rule, learn_phm: one rule for all layers,
            trained (both True). factorized_phm_rule: low-rank rule (False).
        phm_c_init, phm_init_range: the rule starts ``"normal"`` (default; that deviation, 1e-4) or
            ``"uniform"``. hypercomplex_nonlinearity: how weights start (``"glorot-uniform"``).
    """

    mh_adapter: bool
    output_adapter: bool
    reduction_factor: float | Mapping[str, float]
    non_linearity: str
    original_ln_before: bool = False
    original_ln_after: bool = True
    ln_before: bool = False
    ln_after: bool = False
    init_weights: str = "bert"
    init_weights_seed: int | None = None
    is_parallel: bool = False
    scaling: float | str = 1.0
    use_gating: bool = False
    residual_before_ln: bool | str = True
    adapter_residual_before_ln: bool = False
    inv_adapter: str | None = None
    inv_adapter_reduction_factor: float | None = None
    cross_adapter: bool = False
    leave_out: Sequence[int] = ()
    dropout: float = 0.0
    phm_layer: bool = False
    phm_dim: int = 4
    factorized_phm_W: bool | None = True
    shared_W_phm: bool | None = False
    shared_phm_rule: bool | None = True
    factorized_phm_rule: bool | None = False
    phm_c_init: str | None = "normal"
    phm_init_range: float | None = 0.0001
    learn_phm: bool | None = True
    hypercomplex_nonlinearity: str | None = "glorot-uniform"
    phm_rank: int | None = 1
    phm_bias: bool | None = True
    stochastic_depth: float = 0.0

    def __post_init__(self) -> None:
        self._flags("mh_adapter", "output_adapter", "cross_adapter", "is_parallel", "use_gating")
        self._flags("original_ln_before", "original_ln_after", "ln_before", "ln_after")
        self._flags("adapter_residual_before_ln", "phm_layer")
        self._text("non_linearity")
        self._one_of("init_weights", "bert", "mam_adapter", "houlsby")
        self._integer("init_weights_seed", optional=True)
        self._one_of("residual_before_ln", True, False, "post_add")
        self._one_of("inv_adapter", None, "nice", "glow")
        self._number(
            "inv_adapter_reduction_factor",
            above=0,
            optional=True,
            words="a number > 0",
            as_float=False,
        )
        self._layer_numbers("leave_out")
        self._probability("dropout", "stochastic_depth")
        if self.scaling not in ("learned", "channel"):
            self._number("scaling", words="a finite number, 'learned', 'channel'")
        self._check_factor()
        self._check_phm()

    def _check_factor(self) -> None:
        factor: Any = self.reduction_factor
        if isinstance(factor, Mapping):
            keys = [str(k) if type(k) is int else k for k in factor]
            for key in keys:
                if not isinstance(key, str) or not (key == "default" or _is_layer(key)):
                    raise ConfigError(
                        f"{type(self).__name__}: reduction_factor has the key {show(key)}; allowed: layer "
                        "numbers and 'default'."
                    )
                if keys.count(key) > 1:
                    raise ConfigError(
                        f"{type(self).__name__}: reduction_factor has layer {key} twice."
                    )
            self._set("reduction_factor", dict(zip(keys, factor.values(), strict=True)))
            values = list(factor.values())
        else:
            values = [factor]
        if not values or not all(is_number(value) and value > 0 for value in values):
            raise self._refuse(
                "reduction_factor", "a number > 0, or a map of them by layer number or 'default'"
            )

    def _check_phm(self) -> None:
        self._flags("factorized_phm_W", "shared_W_phm", "shared_phm_rule", optional=True)
        self._flags("factorized_phm_rule", "learn_phm", "phm_bias", optional=True)
        self._integer("phm_dim", 1)
        self._integer("phm_rank", 1, optional=True)
        self._one_of("phm_c_init", "normal", "uniform", None)
        self._number("phm_init_range", low=0, optional=True, words="a number >= 0")
        self._text("hypercomplex_nonlinearity", optional=True)

    def reduction_factor_for(self, layer: int) -> float:
        """Return the reduction factor of *layer* (counted through all stacks).

        Raises:
            ConfigError: a map has neither the layer nor ``"default"``.
        """
        if not isinstance(self.reduction_factor, Mapping):
            return self.reduction_factor
        found = self.reduction_factor.get(str(layer), self.reduction_factor.get("default"))
        if found is None:
            raise ConfigError(
                f"{type(self).__name__}: reduction_factor has neither layer {layer} nor 'default'; it has "
                f"{', '.join(self.reduction_factor)}."
            )
        return found

    def bottleneck_size(self, hidden_size: int, layer: int) -> int:
        """Return the bottleneck's width in *layer*, at least 1. Raises as reduction_factor_for."""
        return max(1, int(hidden_size // self.reduction_factor_for(layer)))


def _is_layer(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10 and str(int(key)) == key


@dataclass(frozen=True, eq=False)
class SeqBnConfig(BnConfig):
    """After each feed-forward network: ReLU, factor 16 (Pfeiffer et al. 2021, arXiv 2005.00247)."""

    original_ln_before: bool = True
    mh_adapter: bool = False
    output_adapter: bool = True
    non_linearity: str = "relu"
    reduction_factor: float | Mapping[str, float] = 16


@dataclass(frozen=True, eq=False)
class SeqBnInvConfig(SeqBnConfig):
    """SeqBn with a NICE adapter, for languages (MAD-X, Pfeiffer et al. 2020, arXiv 2005.00052)."""

    inv_adapter: str | None = "nice"
    inv_adapter_reduction_factor: float | None = 2


@dataclass(frozen=True, eq=False)
class DoubleSeqBnConfig(BnConfig):
    """After attentions and feed-forward networks: swish, 16 (Houlsby et al. 2019, arXiv 1902.00751)."""

    mh_adapter: bool = True
    output_adapter: bool = True
    non_linearity: str = "swish"
    reduction_factor: float | Mapping[str, float] = 16


@dataclass(frozen=True, eq=False)
class DoubleSeqBnInvConfig(DoubleSeqBnConfig):
    """DoubleSeqBn with a NICE adapter (MAD-X, Pfeiffer et al. 2020, arXiv 2005.00052)."""

    inv_adapter: str | None = "nice"
    inv_adapter_reduction_factor: float | None = 2


@dataclass(frozen=True, eq=False)
class ParBnConfig(BnConfig):
    """Beside each feed-forward network: ReLU, 2, scaled by 4 (He et al. 2022, arXiv 2110.04366)."""

    mh_adapter: bool = False
    output_adapter: bool = True
    non_linearity: str = "relu"
    reduction_factor: float | Mapping[str, float] = 2
    init_weights: str = "mam_adapter"
    is_parallel: bool = True
    scaling: float | str = 4.0


@dataclass(frozen=True, eq=False)
class CompacterPlusPlusConfig(SeqBnConfig):
    """Compacter++: hypercomplex SeqBn, GELU, 32 (Karimi Mahabadi et al. 2021, arXiv 2106.04647)."""

    phm_layer: bool = True
    reduction_factor: float | Mapping[str, float] = 32
    non_linearity: str = "gelu"


@dataclass(frozen=True, eq=False)
class CompacterConfig(DoubleSeqBnConfig):
    """Compacter: hypercomplex DoubleSeqBn, GELU, 32 (Karimi Mahabadi et al. 2021, arXiv 2106.04647)."""

    phm_layer: bool = True
    reduction_factor: float | Mapping[str, float] = 32
    non_linearity: str = "gelu"


@dataclass(frozen=True, eq=False)
class AdapterPlusConfig(BnConfig):
    """Adapter+ for vision: GELU, 96, channel scaling (Steitz & Roth 2024, arXiv 2406.06820)."""

    original_ln_after: bool = False
    original_ln_before: bool = True
    residual_before_ln: bool | str = False
    stochastic_depth: float = 0.1
    init_weights: str = "houlsby"
    scaling: float | str = "channel"
    mh_adapter: bool = False
    output_adapter: bool = True
    reduction_factor: float | Mapping[str, float] = 96
    non_linearity: str = "gelu"
