"""Configurations of bottleneck adapters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.errors import ConfigError


@dataclass(frozen=True, eq=False)
class BnConfig(AdapterConfig):
    """A bottleneck adapter; the classes below fix the usual choices.

    Attributes:
        mh_adapter, output_adapter, cross_adapter: after the self-attention, the feed-forward network,
            the cross-attention.
        reduction_factor: hidden size / bottleneck width; a number, or a map from layer number (as text)
            or ``"default"``.
        non_linearity: name of the activation.
        original_ln_before, original_ln_after: apply the residual addition and the model's layer norm
            before, after the bottleneck.
        ln_before, ln_after: a trained layer norm of the adapter's own at its input, its output.
        init_weights: ``"bert"``, ``"mam_adapter"``, ``"houlsby"``.
        init_weights_seed: seed before each module's initialisation (so all layers start equal).
        is_parallel: read the sub-layer's input instead of its output (He et al. 2022).
        scaling: factor on the output: a number, ``"learned"`` (one), ``"channel"`` (one a channel).
        use_gating: gate by the mean of a sigmoid over the sequence (UniPELT).
        residual_before_ln: inner residual before the model's norm (True), after (False), or
            ``"post_add"``: after the addition and before the norm.
        adapter_residual_before_ln: inner residual before the adapter's own ``ln_after``.
        inv_adapter, inv_adapter_reduction_factor: ``"nice"`` or ``"glow"`` at the embeddings (MAD-X).
        leave_out: layer numbers without modules.
        dropout, stochastic_depth: probabilities in [0, 1).
        phm_*, factorized_*, shared_*, learn_phm, hypercomplex_nonlinearity: Compacter
            (Karimi Mahabadi et al. 2021).
    """

    mh_adapter: bool
    output_adapter: bool
    reduction_factor: float | dict[str, float]
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
    leave_out: list[int] = field(default_factory=list)
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
        self._flags(
            "mh_adapter",
            "output_adapter",
            "cross_adapter",
            "original_ln_before",
            "original_ln_after",
        )
        self._flags(
            "ln_before",
            "ln_after",
            "is_parallel",
            "use_gating",
            "adapter_residual_before_ln",
            "phm_layer",
        )
        self._is("non_linearity", str)
        self._is("init_weights_seed", int, optional=True)
        self._one_of("init_weights", ("bert", "mam_adapter", "houlsby"))
        self._one_of("residual_before_ln", (True, False, "post_add"))
        self._one_of("inv_adapter", (None, "nice", "glow"))
        self._is("inv_adapter_reduction_factor", (int, float), 0, optional=True)
        self._layers()
        self._probability("dropout")
        self._probability("stochastic_depth")
        if isinstance(self.scaling, str):
            self._one_of("scaling", ("learned", "channel"))
        else:
            self._is("scaling", (int, float))
            object.__setattr__(self, "scaling", float(self.scaling))
        self._check_factor()

    def _check_factor(self) -> None:
        factor: Any = self.reduction_factor
        values = [factor]
        if isinstance(factor, dict):
            factor = {str(key): value for key, value in factor.items()}
            bad = [key for key in factor if key != "default" and not re.fullmatch(r"\d+", key)]
            if bad:
                raise ConfigError(
                    f"{type(self).__name__}: reduction_factor has the key {bad[0]!r}; keys are layer "
                    "numbers and 'default'."
                )
            object.__setattr__(self, "reduction_factor", factor)
            values = list(factor.values())
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ConfigError(
                    f"{type(self).__name__}: reduction_factor={value!r} must be a number > 0."
                )

    def reduction_factor_for(self, layer: int) -> float:
        """Return the reduction factor of *layer* (counted through all stacks)."""
        if not isinstance(self.reduction_factor, dict):
            return self.reduction_factor
        found = self.reduction_factor.get(str(layer), self.reduction_factor.get("default"))
        if found is None:
            raise ConfigError(
                f"{type(self).__name__}: reduction_factor has neither layer {layer} nor 'default'."
            )
        return found

    def bottleneck_size(self, hidden_size: int, layer: int) -> int:
        """Return the bottleneck's width in *layer*, at least 1."""
        return max(1, int(hidden_size // self.reduction_factor_for(layer)))


@dataclass(frozen=True, eq=False)
class SeqBnConfig(BnConfig):
    """After each feed-forward network (Pfeiffer et al. 2020a)."""

    original_ln_before: bool = True
    original_ln_after: bool = True
    residual_before_ln: bool | str = True
    adapter_residual_before_ln: bool = False
    ln_before: bool = False
    ln_after: bool = False
    mh_adapter: bool = False
    output_adapter: bool = True
    non_linearity: str = "relu"
    reduction_factor: float | dict[str, float] = 16


@dataclass(frozen=True, eq=False)
class SeqBnInvConfig(SeqBnConfig):
    """SeqBn with an invertible adapter, for languages (MAD-X, Pfeiffer et al. 2020b)."""

    inv_adapter: str | None = "nice"
    inv_adapter_reduction_factor: float | None = 2


@dataclass(frozen=True, eq=False)
class DoubleSeqBnConfig(BnConfig):
    """After each attention and each feed-forward network (Houlsby et al. 2019)."""

    original_ln_before: bool = False
    original_ln_after: bool = True
    mh_adapter: bool = True
    output_adapter: bool = True
    non_linearity: str = "swish"
    reduction_factor: float | dict[str, float] = 16


@dataclass(frozen=True, eq=False)
class DoubleSeqBnInvConfig(DoubleSeqBnConfig):
    """DoubleSeqBn with an invertible adapter."""

    inv_adapter: str | None = "nice"
    inv_adapter_reduction_factor: float | None = 2


@dataclass(frozen=True, eq=False)
class ParBnConfig(BnConfig):
    """Beside each feed-forward network (He et al. 2022)."""

    original_ln_before: bool = False
    original_ln_after: bool = True
    mh_adapter: bool = False
    output_adapter: bool = True
    non_linearity: str = "relu"
    reduction_factor: float | dict[str, float] = 2
    init_weights: str = "mam_adapter"
    is_parallel: bool = True
    scaling: float | str = 4.0


@dataclass(frozen=True, eq=False)
class CompacterPlusPlusConfig(SeqBnConfig):
    """Compacter++: hypercomplex bottlenecks after feed-forward networks (Karimi Mahabadi et al. 2021)."""

    phm_layer: bool = True
    reduction_factor: float | dict[str, float] = 32
    non_linearity: str = "gelu"


@dataclass(frozen=True, eq=False)
class CompacterConfig(DoubleSeqBnConfig):
    """Compacter: hypercomplex bottlenecks after attentions and feed-forward networks."""

    phm_layer: bool = True
    reduction_factor: float | dict[str, float] = 32
    non_linearity: str = "gelu"


@dataclass(frozen=True, eq=False)
class AdapterPlusConfig(BnConfig):
    """Adapter+ for vision transformers (Steitz & Roth 2024)."""

    original_ln_after: bool = False
    original_ln_before: bool = True
    residual_before_ln: bool | str = False
    stochastic_depth: float = 0.1
    init_weights: str = "houlsby"
    scaling: float | str = "channel"
    mh_adapter: bool = False
    output_adapter: bool = True
    reduction_factor: float | dict[str, float] = 96
    non_linearity: str = "gelu"
