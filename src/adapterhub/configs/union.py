"""Several methods in one adapter."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.configs.bottleneck import BnConfig, ParBnConfig, SeqBnConfig
from adapterhub.configs.lora import LoRAConfig
from adapterhub.configs.prefix import PrefixTuningConfig
from adapterhub.errors import ConfigError


@dataclass(frozen=True, eq=False, init=False)
class ConfigUnion(AdapterConfig):
    """Several configurations that make one adapter.

    Args:
        configs: two members of one method are fine only where they do not overlap: one has a
            ``leave_out``, or one bottleneck is after attentions and the other after feed-forward networks.
    """

    architecture: str | None = field(init=False, default="union")
    configs: tuple[AdapterConfig, ...] = ()

    def __init__(self, *configs: AdapterConfig) -> None:
        for config in configs:
            if not isinstance(config, AdapterConfig):
                raise ConfigError(
                    f"A union is made of configurations, not {type(config).__name__}."
                )
            if isinstance(config, ConfigUnion):
                raise ConfigError("A union cannot hold another union; list its members instead.")
        for number, one in enumerate(configs):
            for other in configs[number + 1 :]:
                if _overlap(one, other):
                    raise ConfigError(
                        f"{type(one).__name__} and {type(other).__name__} of a union share places; give "
                        "one of them leave_out, or opposite mh_adapter and output_adapter."
                    )
        object.__setattr__(self, "architecture", "union")
        object.__setattr__(self, "configs", tuple(configs))

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"architecture": "union", "configs": [...]}``."""
        return {"architecture": "union", "configs": [config.to_dict() for config in self.configs]}

    def replace(self, **changes: Any) -> ConfigUnion:
        """Change fields in every member that has them. Raises ConfigError if none has one."""
        names = [{f.name for f in dataclasses.fields(config)} for config in self.configs]
        missing = [name for name in changes if not any(name in known for known in names)]
        if missing:
            raise ConfigError(f"No member of the union has a field '{missing[0]}'.")
        return ConfigUnion(
            *(
                config.replace(**{k: v for k, v in changes.items() if k in known})
                for config, known in zip(self.configs, names, strict=True)
            )
        )

    @classmethod
    def _from_fields(cls, data: dict[str, Any]) -> AdapterConfig:
        unknown = set(data) - {"configs"}
        if unknown or not isinstance(data.get("configs"), (list, tuple)):
            raise ConfigError(f"A union has 'architecture' and 'configs', not {sorted(data)}.")
        return ConfigUnion(*(AdapterConfig.from_dict(config) for config in data["configs"]))

    @property
    def leave_out(self) -> list[int]:
        """Layers that no member is in, as far as all members leave them out."""
        sets = [set(getattr(config, "leave_out", ())) for config in self.configs]
        return sorted(set.intersection(*sets)) if sets else []

    def __getitem__(self, key: str) -> Any:
        index, _, name = key.partition(".")
        if name and index.isdigit():
            return self.configs[int(index)][name]
        return self.to_dict()[key]


def _overlap(one: AdapterConfig, other: AdapterConfig) -> bool:
    if one.architecture != other.architecture:
        return False
    if getattr(one, "leave_out", None) or getattr(other, "leave_out", None):
        return False
    if isinstance(one, BnConfig) and isinstance(other, BnConfig):
        return one.mh_adapter == other.mh_adapter or one.output_adapter == other.output_adapter
    return True


def MAMConfig(
    prefix_tuning: PrefixTuningConfig | None = None, adapter: BnConfig | None = None
) -> ConfigUnion:
    """Return mix-and-match: prefix tuning and a parallel bottleneck (He et al. 2022)."""
    return ConfigUnion(
        prefix_tuning or PrefixTuningConfig(bottleneck_size=800), adapter or ParBnConfig()
    )


def UniPELTConfig(
    prefix_tuning: PrefixTuningConfig | None = None,
    adapter: BnConfig | None = None,
    lora: LoRAConfig | None = None,
) -> ConfigUnion:
    """Return UniPELT: gated prefix, bottleneck and LoRA (Mao et al. 2022)."""
    members: list[AdapterConfig] = [
        prefix_tuning or PrefixTuningConfig(prefix_length=10),
        adapter or SeqBnConfig(reduction_factor=16),
        lora or LoRAConfig(r=8, alpha=2),
    ]
    return ConfigUnion(*(member.replace(use_gating=True) for member in members))


def members(config: Any) -> tuple[Any, ...]:
    """Return the single-method configurations of *config*: itself, or a union's members."""
    return config.configs if isinstance(config, ConfigUnion) else (config,)
