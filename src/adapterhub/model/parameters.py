"""What one can do with the parameters of adapters beside training them: eject, share, freeze, move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adapterhub.configs import (
    AdapterConfig,
    ConfigUnion,
    MTLLoRAConfig,
    PrefixTuningConfig,
    resolve_config,
)
from adapterhub.engine import AdapterRecord, Engine
from adapterhub.errors import AdapterHubError, ConfigError, UnknownAdapterError, did_you_mean
from adapterhub.methods import build, members
from adapterhub.methods.mtl_lora import SHARED
from adapterhub.methods.prefix import PrefixPool

#: A configuration for every kind of adapter, to ask whether a model can have it.
KINDS = {
    "bottleneck": "double_seq_bn",
    "invertible": "seq_bn_inv",
    "prefix_tuning": "prefix_tuning",
    "prompt_tuning": "prompt_tuning",
    "lora": "lora",
    "reft": "loreft",
}


class HandleParameters:
    """The part of :class:`~adapterhub.model.handle.AdapterHandle` about parameters and places."""

    engine: Engine

    if TYPE_CHECKING:

        def _require(self, name: str) -> None: ...

        def _fusion_name(self, adapter_names: Any) -> str: ...

    # -- prefixes ----------------------------------------------------------------------------------

    def eject_prefix_tuning(self, name: str) -> None:
        """Replace the network that makes the prefixes of adapter *name* by its outputs.

        The function stays the same (the network's dropout ends), the adapter becomes as small as
        ``prefix_tuning_flat`` and is saved as such. Use it after training.

        Raises:
            UnknownAdapterError: no such adapter. ConfigError: it has no prefixes.
        """
        self._require(name)
        record = self.engine.adapters[name]
        pools = [pool for pool in record.shared.values() if isinstance(pool, PrefixPool)]
        if not pools:
            raise ConfigError(f"'{name}' has no prefixes to eject; it is {_made_of(record)}.")
        parts = [
            part.replace(flat=True) if isinstance(part, PrefixTuningConfig) else part
            for part in members(record.config)
        ]
        for pool in pools:
            pool.eject()
        record.config = ConfigUnion(*parts) if isinstance(record.config, ConfigUnion) else parts[0]

    # -- sharing -----------------------------------------------------------------------------------

    def share_parameters(
        self,
        adapter_names: Sequence[str],
        name: str | None = None,
        reference_adapter_name: str | None = None,
    ) -> None:
        """Let MTL-LoRA adapters share their A and B; the matrices between them stay each one's own.

        Args:
            adapter_names: two or more adapters of equal ranks and places.
            name: the group's name, for :meth:`unshare_parameters`; default: the names, by commas.
            reference_adapter_name: whose A and B all get; default: the first one's.

        Raises:
            UnknownAdapterError: an adapter that is not loaded.
            ConfigError: no MTL-LoRA, other shapes or places, or the group's name is taken.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        reference = reference_adapter_name or (names[0] if names else "")
        group = name or ",".join(names)
        for adapter in (*names, reference):
            self._require(adapter)
        if group in self.engine.sharing:
            raise ConfigError(f"'{group}' share parameters already; call unshare_parameters first.")
        source = self.engine.adapters[reference]
        for adapter in names:
            _check_sharing(source, self.engine.adapters[adapter])
        for adapter in names:
            record = self.engine.adapters[adapter]
            for key, module in record.modules.items():
                for parameter in SHARED:
                    shared = source.modules[key]._parameters[parameter]
                    module._parameters[parameter] = shared
        self.engine.sharing[group] = tuple(names)

    def unshare_parameters(
        self, adapter_names: Sequence[str] | None = None, name: str | None = None
    ) -> None:
        """Give each adapter of a group A and B of its own again, with the values they have now.

        Args:
            adapter_names: the adapters, as in :meth:`share_parameters`. name: or the group's name.

        Raises:
            UnknownAdapterError: no such group.
        """
        group = name or ",".join(
            [adapter_names] if isinstance(adapter_names, str) else adapter_names or ()
        )
        if group not in self.engine.sharing:
            raise UnknownAdapterError(
                f"No group '{group}' shares parameters; there are: "
                f"{', '.join(self.engine.sharing) or 'none'}."
                f"{did_you_mean(group, self.engine.sharing)}"
            )
        for adapter in self.engine.sharing.pop(group)[1:]:
            record = self.engine.adapters.get(adapter)
            for module in record.modules.values() if record is not None else ():
                for parameter in SHARED:
                    old: Any = module._parameters[parameter]
                    own = nn.Parameter(old.detach().clone(), requires_grad=old.requires_grad)
                    module._parameters[parameter] = own

    # -- moving ------------------------------------------------------------------------------------

    def adapter_fusion_to(
        self, adapter_names: Any, device: Any = None, dtype: torch.dtype | None = None
    ) -> None:
        """Move one fusion layer to a device or type of its own. Raises UnknownAdapterError."""
        record = self.engine.fusions[self._fusion_name(adapter_names)]
        for module in record.modules.values():
            module.to(device=device, dtype=dtype)

    # -- places ------------------------------------------------------------------------------------

    def supports_adapter(self, type_or_config: str | AdapterConfig) -> bool:
        """Whether this model has the places for a kind of adapter; nothing is made.

        Args:
            type_or_config: ``"bottleneck"``, ``"invertible"``, ``"prefix_tuning"``, ``"prompt_tuning"``,
                ``"lora"``, ``"reft"``, or a configuration as :meth:`add_adapter` takes it.

        Raises:
            ConfigError: no such configuration.
        """
        wanted: Any = type_or_config
        config = resolve_config(KINDS.get(wanted, wanted) if isinstance(wanted, str) else wanted)
        try:
            with torch.device("meta"):
                built = build(config, self.engine.resolved)
            modules = {item.site.key: item.module for item in built.placed}
            self.engine.check(AdapterRecord("", config, modules, dict(built.shared)))
        except AdapterHubError:
            return False
        return True


def _made_of(record: AdapterRecord) -> str:
    return " and ".join(type(part).__name__ for part in members(record.config))


def _check_sharing(source: AdapterRecord, record: AdapterRecord) -> None:
    for one in (source, record):
        if not isinstance(one.config, MTLLoRAConfig):
            raise ConfigError(
                f"Only MTL-LoRA adapters share parameters; '{one.name}' is {_made_of(one)}."
            )
    if source.modules.keys() != record.modules.keys():
        raise ConfigError(f"'{source.name}' and '{record.name}' are not at the same places.")
    for key, module in record.modules.items():
        for parameter in SHARED:
            mine: Any = module._parameters[parameter]
            theirs: Any = source.modules[key]._parameters[parameter]
            if mine.shape != theirs.shape:
                raise ConfigError(
                    f"{parameter} at {key} is {list(theirs.shape)} in '{source.name}' and "
                    f"{list(mine.shape)} in '{record.name}'; give them equal r and n_up_projection."
                )
