"""Several methods in one adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from adapterhub.configs.base import AdapterConfig
from adapterhub.configs.bottleneck import BnConfig, ParBnConfig, SeqBnConfig
from adapterhub.configs.fusion import AdapterFusionConfig
from adapterhub.configs.lora import LoRAConfig
from adapterhub.configs.prefix import PrefixTuningConfig
from adapterhub.errors import ConfigError, did_you_mean


@dataclass(frozen=True, eq=False, init=False)
class ConfigUnion(AdapterConfig):
    """Several configurations that make one adapter.

    Read as a mapping it has the keys of :meth:`to_dict` and ``"<member>.<field>"``, e.g. ``"0.r"``.

    Args:
        configs: at least one. Two members of one method are fine only where they need not meet: one has a
            ``leave_out``, or they are bottlenecks with opposite ``mh_adapter`` and ``output_adapter``.

    Raises:
        ConfigError: no members, a member that is no configuration or a union, members that meet.
    """

    architecture: str | None = field(init=False, default="union")
    configs: tuple[AdapterConfig, ...] = ()

    def __init__(self, *configs: AdapterConfig) -> None:
        if not configs:
            raise ConfigError("A union needs at least one member.")
        for config in configs:
            if not isinstance(config, AdapterConfig) or isinstance(config, AdapterFusionConfig):
                raise ConfigError(
                    f"A union is made of adapter configurations, not {type(config).__name__}."
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
        self._set("architecture", "union")
        self._set("configs", tuple(configs))

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"architecture": "union", "configs": [...]}``."""
        return {"architecture": "union", "configs": [config.to_dict() for config in self.configs]}

    def replace(self, **changes: Any) -> ConfigUnion:
        """Change fields in every member that has them. Raises ConfigError if none has one."""
        known = sorted({name for config in self.configs for name in config.field_names()})
        unknown = [name for name in changes if name not in known]
        if unknown:
            hints = "".join(
                f"\n  - No member has '{name}'.{did_you_mean(name, known)}" for name in unknown
            )
            raise ConfigError(f"{type(self).__name__} got {len(unknown)} unknown field(s):{hints}")
        return ConfigUnion(
            *(
                config.replace(**{k: v for k, v in changes.items() if k in config.field_names()})
                for config in self.configs
            )
        )

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> AdapterConfig:
        if set(fields) != {"configs"} or not isinstance(fields["configs"], (list, tuple)):
            names = ", ".join(sorted(map(str, fields))) or "nothing else"
            raise ConfigError(f"A union has 'architecture' and a list 'configs', not {names}.")
        if any(isinstance(m, dict) and m.get("architecture") == "union" for m in fields["configs"]):
            raise ConfigError("A union cannot hold another union; list its members instead.")
        return ConfigUnion(*(AdapterConfig.from_dict(member) for member in fields["configs"]))

    @property
    def leave_out(self) -> tuple[int, ...]:
        """Layers that all members leave out."""
        sets = [set(getattr(config, "leave_out", ())) for config in self.configs]
        return tuple(sorted(set.intersection(*sets)))

    def _view(self) -> dict[str, Any]:
        members = enumerate(self.configs)
        flat = {f"{i}.{key}": value for i, m in members for key, value in m.to_dict().items()}
        return self.to_dict() | flat


def _overlap(one: AdapterConfig, other: AdapterConfig) -> bool:
    if one.architecture != other.architecture:
        return False
    if getattr(one, "leave_out", None) or getattr(other, "leave_out", None):
        return False
    if isinstance(one, BnConfig) and isinstance(other, BnConfig):
        return one.mh_adapter == other.mh_adapter or one.output_adapter == other.output_adapter
    return True


@dataclass(frozen=True, eq=False, init=False)
class MAMConfig(ConfigUnion):
    """Mix-and-match: prefix tuning and a parallel bottleneck (He et al. 2022, arXiv 2110.04366).

    Args:
        prefix_tuning: default ``PrefixTuningConfig(bottleneck_size=800)``.
        adapter: default ``ParBnConfig()``.
    """

    def __init__(
        self, prefix_tuning: PrefixTuningConfig | None = None, adapter: BnConfig | None = None
    ) -> None:
        super().__init__(
            prefix_tuning or PrefixTuningConfig(bottleneck_size=800), adapter or ParBnConfig()
        )


@dataclass(frozen=True, eq=False, init=False)
class UniPELTConfig(ConfigUnion):
    """UniPELT: gated prefix, bottleneck and LoRA (Mao et al. 2022, arXiv 2110.07577).

    ``use_gating`` becomes True in every member.

    Args:
        prefix_tuning: default ``PrefixTuningConfig(prefix_length=10)``.
        adapter: default ``SeqBnConfig(reduction_factor=16)``.
        lora: default ``LoRAConfig(r=8, alpha=2)``.
    """

    def __init__(
        self,
        prefix_tuning: PrefixTuningConfig | None = None,
        adapter: BnConfig | None = None,
        lora: LoRAConfig | None = None,
    ) -> None:
        chosen: tuple[AdapterConfig, ...] = (
            prefix_tuning or PrefixTuningConfig(prefix_length=10),
            adapter or SeqBnConfig(reduction_factor=16),
            lora or LoRAConfig(r=8, alpha=2),
        )
        super().__init__(*(member.replace(use_gating=True) for member in chosen))


def members(config: Any) -> tuple[Any, ...]:
    """Return the single-method configurations of *config*: itself, or a union's members."""
    return config.configs if isinstance(config, ConfigUnion) else (config,)
