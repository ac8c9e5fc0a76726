"""Configurations as older versions wrote them."""

from __future__ import annotations

import re
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.errors import ConfigError


def config_from_file(facts: dict[str, Any]) -> AdapterConfig:
    """Return the configuration in a whole ``adapter_config.json``, with the corrections its age asks for.

    - no ``version``: ``gelu`` meant today's ``gelu_new``, and ``gelu_orig`` today's ``gelu``;
    - version ``adapters.`` below 1.1.0: LoRA did not apply alpha / r, so alpha becomes r;
    - ``invertible_adapter``: a nested mapping instead of two fields; ``original_ln_after`` and the like as
      in :class:`~adapterhub.configs.BnConfig`;
    - a name instead of a mapping.

    Raises:
        ConfigError: no configuration, unknown fields, bad values.
    """
    config = facts.get("config")
    if isinstance(config, str):
        return AdapterConfig.load(config)
    if not isinstance(config, dict):
        raise ConfigError(
            "adapter_config.json has no 'config'; it does not say what the adapter is made of."
        )
    config = dict(config)
    version = facts.get("version")
    if version is None:
        renamed = {"gelu": "gelu_new", "gelu_orig": "gelu"}
        if config.get("non_linearity") in renamed:
            config["non_linearity"] = renamed[config["non_linearity"]]
    nested = config.pop("invertible_adapter", None)
    if isinstance(nested, dict):
        config["inv_adapter"] = nested.get("block_type")
        config["inv_adapter_reduction_factor"] = nested.get("reduction_factor")
    if config.get("architecture") in (None, "bottleneck"):
        for name in ("attention_type", "new_attention_norm"):  # of version 1, never with an effect
            config.pop(name, None)
    if config.get("architecture") == "lora" and _before_1_1(version) and "r" in config:
        config["alpha"] = config["r"]
    return AdapterConfig.from_dict(config)


def _before_1_1(version: Any) -> bool:
    match = re.match(r"adapters\.(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return match is not None and (int(match[1]), int(match[2])) < (1, 1)
