"""Configurations of AdapterFusion (Pfeiffer et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapterhub.configs.base import AdapterConfig, show
from adapterhub.errors import ConfigError, did_you_mean


@dataclass(frozen=True, eq=False)
class AdapterFusionConfig(AdapterConfig):
    """How a fusion layer attends over its adapters (Pfeiffer et al. 2021, arXiv 2005.00247).

    The defaults are those of ``"dynamic"``.

    Attributes:
        key, query, value: whether there is such a matrix (all True).
        query_before_ln: attend with the sub-layer's output before addition and norm (False).
        regularization: keep the value matrix near the identity while training (True).
        residual_before: add the inner residual to every adapter's output instead of to the mixture (False).
        temperature: softmax temperature falling from 50 to 1 while training (False).
        value_before_softmax: apply the value matrix to each output rather than to the mixture (True).
        value_initialized: start the value matrix as the identity (True).
        dropout_prob: in [0, 1), on the scores; ``None`` (default): the model's attention dropout.
    """

    key: bool = True
    query: bool = True
    value: bool = True
    query_before_ln: bool = False
    regularization: bool = True
    residual_before: bool = False
    temperature: bool = False
    value_before_softmax: bool = True
    value_initialized: bool | str = True
    dropout_prob: float | None = None

    def __post_init__(self) -> None:
        if self.value_initialized in ("True", "False"):  # written so by early versions
            self._set("value_initialized", self.value_initialized == "True")
        self._flags("key", "query", "value", "query_before_ln", "regularization")
        self._flags("residual_before", "temperature", "value_before_softmax", "value_initialized")
        self._probability("dropout_prob", optional=True)

    @classmethod
    def load(cls, config: Any = None, **overrides: Any) -> AdapterFusionConfig:
        """Return *config* as a fusion configuration.

        Args:
            config: ``None`` (``"dynamic"``), a name, a mapping, or a fusion configuration.
            overrides: fields to change; ``None`` leaves a field as it is.

        Raises:
            ConfigError: naming what is unknown or malformed.
        """
        if config is None:
            config = DEFAULT_ADAPTERFUSION_CONFIG
        if isinstance(config, str):
            if config not in ADAPTERFUSION_CONFIG_MAP:
                known = ", ".join(ADAPTERFUSION_CONFIG_MAP)
                raise ConfigError(
                    f"Unknown fusion configuration '{config}'; known: {known}."
                    f"{did_you_mean(config, ADAPTERFUSION_CONFIG_MAP)}"
                )
            config = ADAPTERFUSION_CONFIG_MAP[config]
        elif isinstance(config, Mapping) and not isinstance(config, AdapterConfig):
            config = AdapterFusionConfig.from_dict(config)
        if not isinstance(config, AdapterFusionConfig):
            raise ConfigError(f"Not a fusion configuration: {show(config)}.")
        changes = {name: value for name, value in overrides.items() if value is not None}
        return config.replace(**changes) if changes else config


@dataclass(frozen=True, eq=False)
class StaticAdapterFusionConfig(AdapterFusionConfig):
    """Fusion without a value matrix: value, regularization and value_initialized are False."""

    value: bool = False
    regularization: bool = False
    value_initialized: bool | str = False


@dataclass(frozen=True, eq=False)
class DynamicAdapterFusionConfig(AdapterFusionConfig):
    """Fusion with a value matrix that starts as the identity."""


ADAPTERFUSION_CONFIG_MAP: dict[str, AdapterFusionConfig] = {
    "static": StaticAdapterFusionConfig(),
    "dynamic": DynamicAdapterFusionConfig(),
}
DEFAULT_ADAPTERFUSION_CONFIG = "dynamic"
