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
import importlib.util
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
    "adapterhub.model.interface": ("AdapterModelInterface",),
    "adapterhub.model.legacy": ("AdapterType",),
    "adapterhub.model.peer": (
        "ADAPTER_MODEL_MAPPING",
        "AdapterArguments",
        "AdapterLayerBase",
        "AdapterMethod",
        "ComposableAdapterLayerBase",
        "EmbeddingAdaptersMixin",
        "ForwardContext",
        "InvertibleAdaptersMixin",
        "InvertibleAdaptersWrapperMixin",
        "ModelAdaptersMixin",
        "ModelWithFlexibleHeadsAdaptersMixin",
        "ModelWithHeadsAdaptersMixin",
        "MultiTaskConfig",
        "get_adapter_config_hash",
        "init_adapters_config",
        "load_model",
        "setup_adapter_training",
    ),
    "adapterhub.model.stored": ("ModelAdaptersConfig",),
    "adapterhub.heads": (
        "BertStyleMaskedLMHead",
        "BiaffineParsingHead",
        "CausalLMHead",
        "ClassificationHead",
        "DependencyParsingOutput",
        "ImageClassificationHead",
        "MultiHeadOutput",
        "MultiLabelClassificationHead",
        "MultipleChoiceHead",
        "PredictionHead",
        "QuestionAnsweringHead",
        "Seq2SeqLMHead",
        "TaggingHead",
    ),
    "adapterhub.training": ("AdapterTrainer", "Seq2SeqAdapterTrainer"),
    "adapterhub.hub": ("Hub",),
    "adapterhub.hub.listing": (
        "ADAPTER_CACHE",
        "AdapterInfo",
        "get_adapter_info",
        "list_adapters",
    ),
}
_OWNER = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _OWNER:
        return getattr(importlib.import_module(_OWNER[name]), name)
    if name.startswith("_"):
        raise AttributeError(name)
    if importlib.util.find_spec(f"{__name__}.{name}") is not None:
        # `from adapterhub import configs` asks here first; rooms below must not load those above.
        return importlib.import_module(f"{__name__}.{name}")
    configs = importlib.import_module("adapterhub.configs")
    if hasattr(configs, name):
        return getattr(configs, name)
    if name.endswith("AdapterModel"):
        return getattr(importlib.import_module("adapterhub.model.auto"), name)
    legacy = importlib.import_module("adapterhub.model.legacy")
    if legacy.knows(name):
        return getattr(legacy, name)
    raise AttributeError(f"module 'adapterhub' has no attribute '{name}'")


def __dir__() -> list[str]:
    configs = importlib.import_module("adapterhub.configs")
    return sorted({*_OWNER, *configs.__all__, "__version__"})


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
