"""Configurations by name."""

from __future__ import annotations

from typing import Any

from adapterhub.configs import bottleneck as bn
from adapterhub.configs import lora, reft
from adapterhub.configs.base import AdapterConfig
from adapterhub.configs.prefix import PrefixTuningConfig, PromptTuningConfig
from adapterhub.configs.union import ConfigUnion, MAMConfig, UniPELTConfig
from adapterhub.errors import ConfigError, did_you_mean

DEFAULT_ADAPTER_CONFIG = "seq_bn"

ADAPTER_CONFIG_MAP: dict[str, AdapterConfig] = {
    "seq_bn": bn.SeqBnConfig(),
    "double_seq_bn": bn.DoubleSeqBnConfig(),
    "par_bn": bn.ParBnConfig(),
    "scaled_par_bn": bn.ParBnConfig(scaling="learned"),
    "seq_bn_inv": bn.SeqBnInvConfig(),
    "double_seq_bn_inv": bn.DoubleSeqBnInvConfig(),
    "compacter": bn.CompacterConfig(),
    "compacter++": bn.CompacterPlusPlusConfig(),
    "adapter_plus": bn.AdapterPlusConfig(),
    "prefix_tuning": PrefixTuningConfig(),
    "prefix_tuning_flat": PrefixTuningConfig(flat=True),
    "prompt_tuning": PromptTuningConfig(),
    "lora": lora.LoRAConfig(),
    "ia3": lora.IA3Config(),
    "vera": lora.VeraConfig(),
    "dora": lora.DoRAConfig(),
    "dvora": lora.DvoRAConfig(),
    "mtl_lora": lora.MTLLoRAConfig(),
    "loreft": reft.LoReftConfig(),
    "noreft": reft.NoReftConfig(),
    "direft": reft.DiReftConfig(),
    "mam": MAMConfig(),
    "unipelt": UniPELTConfig(),
}
#: Names of earlier papers and versions.
ALIASES = {
    "pfeiffer": "seq_bn",
    "houlsby": "double_seq_bn",
    "parallel": "par_bn",
    "scaled_parallel": "scaled_par_bn",
    "pfeiffer+inv": "seq_bn_inv",
    "houlsby+inv": "double_seq_bn_inv",
}
ADAPTER_CONFIG_MAP.update({alias: ADAPTER_CONFIG_MAP[name] for alias, name in ALIASES.items()})

_CLASSES: dict[str | None, type[AdapterConfig]] = {
    None: bn.BnConfig,
    "bottleneck": bn.BnConfig,
    "prefix_tuning": PrefixTuningConfig,
    "prompt_tuning": PromptTuningConfig,
    "lora": lora.LoRAConfig,
    "mtl_lora": lora.MTLLoRAConfig,
    "reft": reft.ReftConfig,
    "union": ConfigUnion,
}


def register_preset(name: str, config: AdapterConfig) -> None:
    """Make *config* available under *name*. Raises ConfigError if the name is taken."""
    if name in ADAPTER_CONFIG_MAP:
        raise ConfigError(f"There is a configuration '{name}' already.")
    ADAPTER_CONFIG_MAP[name] = config
    _CLASSES.setdefault(config.architecture, type(config))


def config_class(architecture: Any, data: dict[str, Any]) -> type[AdapterConfig]:
    """Return the class of a stored configuration, from its key ``architecture``."""
    try:
        return _CLASSES[architecture]
    except (KeyError, TypeError):
        known = [str(name) for name in _CLASSES if name]
        raise ConfigError(
            f"Unknown architecture {architecture!r}; known: {', '.join(known)}."
            f"{did_you_mean(str(architecture), known)}"
        ) from None
