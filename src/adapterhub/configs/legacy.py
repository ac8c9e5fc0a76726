"""Configurations as older versions wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.configs.language import parse_config_string
from adapterhub.errors import ConfigError

#: Fields of version 1 that never had an effect.
_WITHOUT_EFFECT = ("attention_type", "new_attention_norm")


def config_from_file(facts: Mapping[str, Any]) -> AdapterConfig:
    """Return the configuration in a whole ``adapter_config.json``, with the corrections its age asks for.

    - no ``version``: ``gelu`` meant today's ``gelu_new``, and ``gelu_orig`` today's ``gelu``;
    - version ``adapters.`` below 1.1.0: LoRA did not apply alpha / r, so alpha becomes r;
    - version ``adapters.``: VeRA factors that are integers were ignored, so these files hold plain LoRA;
    - ``invertible_adapter``: a nested mapping instead of two fields;
    - a name or text instead of a mapping. It is never taken for a path: files come from strangers.

    Args:
        facts: the whole file as a mapping, with ``config`` and, but for the oldest, ``version``.

    Raises:
        ConfigError: no configuration, unknown fields, bad values.
    """
    config = facts.get("config") if isinstance(facts, Mapping) else None
    if isinstance(config, str):
        return parse_config_string(config)
    if not isinstance(config, Mapping):
        raise ConfigError(
            "adapter_config.json has no 'config'; it does not say what the adapter is made of."
        )
    config, version = dict(config), facts.get("version")
    if version is None:
        now = {"gelu": "gelu_new", "gelu_orig": "gelu"}
        name = config.get("non_linearity")
        if isinstance(name, str):
            config["non_linearity"] = now.get(name, name)
    architecture = config.get("architecture")
    if architecture in (None, "bottleneck"):
        _bottleneck(config)
    elif architecture == "lora" and isinstance(version, str) and version.startswith("adapters."):
        _lora(config, version)
    return AdapterConfig.from_dict(config)


def _bottleneck(config: dict[str, Any]) -> None:
    for name in _WITHOUT_EFFECT:
        config.pop(name, None)
    nested = config.get("invertible_adapter")
    if nested is None or isinstance(nested, Mapping):
        config.pop("invertible_adapter", None)
    if isinstance(nested, Mapping):
        config["inv_adapter"] = nested.get("block_type")
        config["inv_adapter_reduction_factor"] = nested.get("reduction_factor")


def _lora(config: dict[str, Any], version: str) -> None:
    found = re.match(r"adapters\.(\d{1,9})\.(\d{1,9})", version)
    if found and (int(found[1]), int(found[2])) < (1, 1) and "r" in config:
        config["alpha"] = config["r"]
    factors = [config.get("vera_d"), config.get("vera_b")]
    if any(type(f) is int for f in factors) and not any(isinstance(f, float) for f in factors):
        config.update(vera_d=None, vera_b=None, init_weights="lora")
