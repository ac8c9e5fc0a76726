"""Configurations of AdapterFusion (Pfeiffer et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.errors import ConfigError, did_you_mean


@dataclass(frozen=True, eq=False)
class AdapterFusionConfig(AdapterConfig):
    """How a fusion layer attends over its adapters.

    Attributes:
        key, query, value: whether there is such a matrix.
        query_before_ln: attend with the sub-layer's output before addition and norm.
        regularization: keep the value matrix near the identity while training.
        residual_before: add the inner residual to every adapter's output instead of to the mixture.
        temperature: softmax temperature falling from 50 to 1 while training.
        value_before_softmax: apply the value matrix to each output rather than to the mixture.
        value_initialized: start the value matrix as the identity.
        dropout_prob: on the scores; ``None``: the model's attention dropout.
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
        self._flags("key", "query", "value", "query_before_ln", "regularization")
        self._flags("residual_before", "temperature", "value_before_softmax")
        if self.value_initialized in ("True", "False"):  # written so by early versions
            object.__setattr__(self, "value_initialized", self.value_initialized == "True")
        self._is("value_initialized", bool)
        self._is("dropout_prob", (int, float), 0, optional=True)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> AdapterFusionConfig:
        """Return the configuration that *data* describes. Raises ConfigError for unknown fields."""
        known = {k: v for k, v in data.items() if not (k == "architecture" and v is None)}
        AdapterFusionConfig._check_names(known)
        return AdapterFusionConfig(**known)

    @classmethod
    def load(cls, config: Any = None, **overrides: Any) -> AdapterFusionConfig:
        """Return *config*: ``None`` or a name (``"dynamic"``, ``"static"``), a dict or a configuration."""
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
        if isinstance(config, dict):
            config = cls.from_dict(config)
        return config.replace(**overrides) if overrides else config


@dataclass(frozen=True, eq=False)
class StaticAdapterFusionConfig(AdapterFusionConfig):
    """Fusion without a value matrix."""

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
