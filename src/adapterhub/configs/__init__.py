"""What an adapter is made of, as data: frozen dataclasses, presets by name, a small text language.

``resolve_config("lora[r=16]")`` gives a :class:`LoRAConfig`; a configuration says which places of a
transformer get modules and how wide they are, and nothing about torch or a particular model.
Field names, defaults and dictionaries are those of the ``adapters`` library, so files and hubs agree.
"""

from adapterhub.configs.base import AdapterConfig
from adapterhub.configs.bottleneck import (
    AdapterPlusConfig,
    BnConfig,
    CompacterConfig,
    CompacterPlusPlusConfig,
    DoubleSeqBnConfig,
    DoubleSeqBnInvConfig,
    ParBnConfig,
    SeqBnConfig,
    SeqBnInvConfig,
)
from adapterhub.configs.fusion import (
    ADAPTERFUSION_CONFIG_MAP,
    DEFAULT_ADAPTERFUSION_CONFIG,
    AdapterFusionConfig,
    DynamicAdapterFusionConfig,
    StaticAdapterFusionConfig,
)
from adapterhub.configs.hashing import config_hash
from adapterhub.configs.language import parse_config_string, resolve_config
from adapterhub.configs.legacy import config_from_file
from adapterhub.configs.lora import (
    DoRAConfig,
    DvoRAConfig,
    IA3Config,
    LoRAConfig,
    MTLLoRAConfig,
    VeraConfig,
)
from adapterhub.configs.prefix import PrefixTuningConfig
from adapterhub.configs.presets import ADAPTER_CONFIG_MAP, DEFAULT_ADAPTER_CONFIG, register_preset
from adapterhub.configs.prompt import PromptTuningConfig
from adapterhub.configs.reft import DiReftConfig, LoReftConfig, NoReftConfig, ReftConfig
from adapterhub.configs.tuning import BitFitConfig, NormTuningConfig
from adapterhub.configs.union import ConfigUnion, MAMConfig, UniPELTConfig, members

__all__ = [
    "ADAPTERFUSION_CONFIG_MAP",
    "ADAPTER_CONFIG_MAP",
    "DEFAULT_ADAPTERFUSION_CONFIG",
    "DEFAULT_ADAPTER_CONFIG",
    "AdapterConfig",
    "AdapterFusionConfig",
    "AdapterPlusConfig",
    "BitFitConfig",
    "BnConfig",
    "CompacterConfig",
    "CompacterPlusPlusConfig",
    "ConfigUnion",
    "DiReftConfig",
    "DoRAConfig",
    "DoubleSeqBnConfig",
    "DoubleSeqBnInvConfig",
    "DvoRAConfig",
    "DynamicAdapterFusionConfig",
    "IA3Config",
    "LoRAConfig",
    "LoReftConfig",
    "MAMConfig",
    "MTLLoRAConfig",
    "NoReftConfig",
    "NormTuningConfig",
    "ParBnConfig",
    "PrefixTuningConfig",
    "PromptTuningConfig",
    "ReftConfig",
    "SeqBnConfig",
    "SeqBnInvConfig",
    "StaticAdapterFusionConfig",
    "UniPELTConfig",
    "VeraConfig",
    "config_from_file",
    "config_hash",
    "members",
    "parse_config_string",
    "register_preset",
    "resolve_config",
]
