"""Adapters that come inside a whole model's checkpoint, and the list of a model's adapters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterhub.checkpoints import adapters as files
from adapterhub.checkpoints import full
from adapterhub.checkpoints.fusions import assemble_fusion
from adapterhub.configs import AdapterConfig, AdapterFusionConfig
from adapterhub.errors import AdapterHubError, ConfigError

#: Entries of ``config.json`` that are about adapters.
ENTRIES = ("adapters", "adapter_fusion_models", "adapter_fusion")


class ModelAdaptersConfig:
    """The adapters and fusion layers of a model with their configurations.

    ``model.adapters_config`` is one; ``to_dict`` and ``from_dict`` are the layout that the ``adapters``
    library keeps in ``config.json``.

    Attributes:
        adapters: ``{name: configuration}``.
        fusions: ``{name: (configuration, names of its adapters)}``.
    """

    def __init__(
        self,
        adapters: Mapping[str, AdapterConfig] | None = None,
        fusions: Mapping[str, tuple[AdapterFusionConfig, tuple[str, ...]]] | None = None,
        handle: Any = None,
    ) -> None:
        self.adapters = dict(adapters or {})
        self.fusions = dict(fusions or {})
        self._handle = handle

    @classmethod
    def of(cls, handle: Any) -> ModelAdaptersConfig:
        """Return that of a model, by its handle."""
        fusions = {
            name: (record.config, tuple(record.adapters))
            for name, record in handle.engine.fusions.items()
        }
        return cls(handle.adapters, fusions, handle)

    @classmethod
    def load(cls, data: Any) -> ModelAdaptersConfig:
        """Return *data*, one of these or its dictionary. Raises CheckpointError."""
        return data if isinstance(data, cls) else cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelAdaptersConfig:
        """Read the layout of ``config.json``. Raises CheckpointError."""
        saved = full.read_entry(data)
        return cls(
            {name: full.config_of(facts) for name, facts in saved.adapters.items()},
            {
                name: (
                    AdapterFusionConfig.load(facts["config"]),
                    tuple(facts["adapter_names"]),
                )
                for name, facts in saved.fusions.items()
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the layout of ``config.json``."""
        return full.write_entry(self.adapters, self.fusions)

    def get(self, adapter_name: str) -> AdapterConfig | None:
        """Return an adapter's configuration, ``None`` if there is no such adapter."""
        return self.adapters.get(adapter_name)

    def get_fusion(self, fusion_name: Any) -> tuple[AdapterFusionConfig, list[str]] | None:
        """Return a fusion layer's configuration and adapters, ``None`` if there is no such layer."""
        name = fusion_name if isinstance(fusion_name, str) else ",".join(fusion_name)
        found = self.fusions.get(name)
        return None if found is None else (found[0], list(found[1]))

    def __contains__(self, name: object) -> bool:
        return name in self.adapters

    def __iter__(self) -> Iterator[str]:
        return iter(self.adapters)

    def __len__(self) -> int:
        return len(self.adapters)

    def _bound(self) -> Any:
        if self._handle is None:
            raise ConfigError("This list of adapters belongs to no model, so it has no setup.")
        return self._handle

    @property
    def active_setup(self) -> Any:
        """The model's active setup; assign to change it."""
        return self._bound().active_adapters

    @active_setup.setter
    def active_setup(self, setup: Any) -> None:
        self._bound().set_active_adapters(setup)

    @property
    def skip_layers(self) -> list[int] | None:
        """Layers that the active setup skips."""
        engine = self._bound().engine
        plan = engine.active if engine.paused is None else engine.paused
        return None if plan is None or not plan.skip_layers else sorted(plan.skip_layers)


def add_from(handle: Any, config: ModelAdaptersConfig) -> None:
    """Add all adapters and fusion layers that *config* lists and the model lacks, with fresh weights.

    Raises:
        ConfigError, ArchitectureError: as ``add_adapter``.
    """
    for name, adapter in config.adapters.items():
        if name not in handle.adapters:
            handle.add_adapter(name, adapter)
    for name, (fusion, adapters) in config.fusions.items():
        if name not in handle.engine.fusions:
            handle.add_adapter_fusion(list(adapters), fusion, name)


def restore_checkpoint(handle: Any, source: str | Path, options: Mapping[str, Any]) -> list[str]:
    """Load the adapters inside the checkpoint that a model was loaded from; return their names.

    An adapter that does not fit is left out, with a warning that says why: the model itself was loaded.

    Args:
        handle: of the model, whose configuration still has what ``config.json`` says about adapters.
        source: a folder or a name on the Hugging Face hub. options: where files come from.
    """
    config = handle.model.config
    listed = config.__dict__.get(ENTRIES[0])
    if not isinstance(listed, Mapping) or "adapters" not in listed:
        return []
    entries = [config.__dict__.pop(name, None) for name in ENTRIES]
    loaded: list[str] = []
    try:
        saved = full.read_entry(*entries)
        tensors = full.adapter_tensors(source, options) if saved.adapters else {}
    except AdapterHubError as error:
        _left_out("The adapters in this checkpoint", error)
        return []
    for name, facts in saved.adapters.items():
        mine = full.tensors_of(name, tensors)
        try:
            handle._put(files.assemble(handle.engine, facts, mine, f"'{name}' in {source}"))
            loaded.append(name)
        except AdapterHubError as error:
            _left_out(f"The adapter '{name}' in this checkpoint", error)
    for name, facts in saved.fusions.items():
        mine = full.tensors_of(name, tensors, fusion=True)
        if not set(facts["adapter_names"]) <= set(loaded):
            continue
        try:
            record = assemble_fusion(handle.engine, facts, mine, f"'{name}' in {source}")
            handle.engine.add_fusion(record)
        except AdapterHubError as error:
            _left_out(f"The fusion layer '{name}' in this checkpoint", error)
    return loaded


def _left_out(what: str, error: Exception) -> None:
    warnings.warn(f"{what} was not loaded: {error}", stacklevel=4)
