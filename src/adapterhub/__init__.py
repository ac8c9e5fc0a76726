"""AdapterHub: the whole life of an adapter on any Hugging Face Transformers model.

::

    import adapterhub
    model = adapterhub.init(AutoModelForSequenceClassification.from_pretrained(path))
    model.add_adapter("sentiment", config="seq_bn")
    model.train_adapter("sentiment")

Everything public is importable from here; names are loaded when they are first used, so that
``import adapterhub`` itself is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from adapterhub._version import __version__

_HOME = {
    "adapterhub.composition": (
        "AdapterCompositionBlock",
        "Average",
        "BatchSplit",
        "Fuse",
        "MultiTask",
        "Parallel",
        "Route",
        "Split",
        "Stack",
        "parse_composition",
        "validate_composition",
    ),
    "adapterhub.errors": (
        "AdapterHubError",
        "ArchitectureError",
        "CheckpointError",
        "CompositionError",
        "ConfigError",
        "HubError",
        "UnknownAdapterError",
    ),
    "adapterhub.model": ("AdapterHandle", "AdapterSetup", "attach", "init"),
    "adapterhub.model.auto": ("AutoAdapterModel",),
    "adapterhub.training": ("AdapterTrainer", "Seq2SeqAdapterTrainer"),
    "adapterhub.hub": ("Hub",),
}
_OWNER = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _OWNER:
        return getattr(importlib.import_module(_OWNER[name]), name)
    if name.startswith("_"):
        raise AttributeError(name)
    configs = importlib.import_module("adapterhub.configs")
    if hasattr(configs, name):
        return getattr(configs, name)
    if name.endswith("AdapterModel"):
        return getattr(importlib.import_module("adapterhub.model.auto"), name)
    raise AttributeError(f"module 'adapterhub' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*_OWNER, "__version__"})


if TYPE_CHECKING:
    from adapterhub.composition import (
        AdapterCompositionBlock,
        Average,
        BatchSplit,
        Fuse,
        MultiTask,
        Parallel,
        Route,
        Split,
        Stack,
        parse_composition,
        validate_composition,
    )
    from adapterhub.errors import (
        AdapterHubError,
        ArchitectureError,
        CheckpointError,
        CompositionError,
        ConfigError,
        HubError,
        UnknownAdapterError,
    )
    from adapterhub.model import AdapterHandle, AdapterSetup, attach, init

__all__ = [
    "AdapterCompositionBlock",
    "AdapterHandle",
    "AdapterHubError",
    "AdapterSetup",
    "ArchitectureError",
    "Average",
    "BatchSplit",
    "CheckpointError",
    "CompositionError",
    "ConfigError",
    "Fuse",
    "HubError",
    "MultiTask",
    "Parallel",
    "Route",
    "Split",
    "Stack",
    "UnknownAdapterError",
    "__version__",
    "attach",
    "init",
    "parse_composition",
    "validate_composition",
]
