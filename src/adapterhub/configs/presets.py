"""Configurations by name."""

from __future__ import annotations

from typing import Any

from adapterhub.configs import bottleneck as bn
from adapterhub.configs import lora, reft
from adapterhub.configs.base import AdapterConfig, show
from adapterhub.configs.prefix import PrefixTuningConfig
from adapterhub.configs.prompt import PromptTuningConfig
from adapterhub.configs.tuning import BitFitConfig, NormTuningConfig
from adapterhub.configs.union import ConfigUnion, MAMConfig, UniPELTConfig
from adapterhub.errors import ConfigError, did_you_mean
from adapterhub.plugins import load_plugins

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
    "bitfit": BitFitConfig(),
    "ln_tuning": NormTuningConfig(),
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
    "bitfit": BitFitConfig,
    "ln_tuning": NormTuningConfig,
    "union": ConfigUnion,
}


def register_preset(name: str, config: AdapterConfig) -> None:
    """Make *config* available under *name*, everywhere a configuration is given as text.

    Args:
        name: without ``[``, ``]`` and ``|``, which the text language needs, and not ending in ``.json``.
        config: its class also becomes that of files with its ``architecture``, if that is a new one.

    Raises:
        ConfigError: a bad name or configuration, or another configuration has the name.
    """
    if not isinstance(config, AdapterConfig):
        raise ConfigError(f"Preset {show(name)}: {show(config)} is no configuration.")
    bad = not isinstance(name, str) or name != name.strip() or any(c in name for c in "[]|")
    if bad or not name or name.endswith(".json"):
        raise ConfigError(f"{show(name)} cannot name a preset: no [, ], |, .json, spaces around.")
    if ADAPTER_CONFIG_MAP.get(name, config) != config:
        raise ConfigError(f"There is another configuration '{name}' already.")
    ADAPTER_CONFIG_MAP[name] = config
    _CLASSES.setdefault(config.architecture, type(config))


def config_class(architecture: Any) -> type[AdapterConfig]:
    """Return the class of a stored configuration, from its key ``architecture``."""
    if isinstance(architecture, str) and architecture not in _CLASSES:
        load_plugins()
    if architecture is None or (isinstance(architecture, str) and architecture in _CLASSES):
        return _CLASSES[architecture]
    known = [str(name) for name in _CLASSES if name]
    raise ConfigError(
        f"Unknown architecture {show(architecture)}; known: {', '.join(known)}."
        f"{did_you_mean(str(architecture), known) if isinstance(architecture, str) else ''}"
    )
