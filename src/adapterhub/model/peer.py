"""What scripts for the ``adapters`` library import beside models, configurations and blocks.

``import adapterhub as adapters`` is meant to run them unchanged. Classes that only serve ``isinstance`` or
type annotations there are other names of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from adapterhub.composition import Stack
from adapterhub.configs import (
    DEFAULT_ADAPTER_CONFIG,
    AdapterConfig,
    MTLLoRAConfig,
    config_hash,
    resolve_config,
)
from adapterhub.context import Context
from adapterhub.engine.sites import Slot
from adapterhub.errors import ConfigError
from adapterhub.heads import ModelWithHeads
from adapterhub.methods import members, method_for
from adapterhub.model.auto import adapter_model_class
from adapterhub.model.facade import ModelWithAdapters, init
from adapterhub.model.handle import attach
from adapterhub.model.interface import INTERFACE, AdapterModelInterface
from adapterhub.model.stored import ModelAdaptersConfig, add_from, restore_checkpoint
from adapterhub.model.taskheads import HUB_ARGUMENTS

ForwardContext = Context
ModelAdaptersMixin = EmbeddingAdaptersMixin = InvertibleAdaptersMixin = ModelWithAdapters
InvertibleAdaptersWrapperMixin = ModelWithHeadsAdaptersMixin = ModelWithAdapters
ModelWithFlexibleHeadsAdaptersMixin = ModelWithHeads
AdapterLayerBase = ComposableAdapterLayerBase = Slot
MultiTaskConfig = MTLLoRAConfig


class AdapterMethod:
    """Names of the kinds of adapters, for ``model.supports_adapter``."""

    bottleneck = "bottleneck"
    prefix_tuning = "prefix_tuning"
    lora = "lora"
    prompt_tuning = "prompt_tuning"
    reft = "reft"
    invertible = "invertible"

    @staticmethod
    def get_from_config(config: Any) -> list[str]:
        """Return the kinds that a configuration is made of."""
        kinds: list[str] = []
        for part in members(resolve_config(config)):
            kinds.append(method_for(part).name)
            if getattr(part, "inv_adapter", None):
                kinds.append(AdapterMethod.invertible)
        return list(dict.fromkeys(kinds))


def get_adapter_config_hash(
    config: AdapterConfig | Mapping[str, Any], length: int = 16, ignore_params: Any = ()
) -> str:
    """Return the short hash of a configuration; see :func:`adapterhub.configs.config_hash`.

    Args:
        config: what to hash.
        length: hex digits.
        ignore_params: fields to leave out.
    """
    data = config.to_dict() if isinstance(config, AdapterConfig) else dict(config)
    kept = {key: value for key, value in data.items() if key not in ignore_params}
    return config_hash(kept if ignore_params else config, length)


def init_adapters_config(
    model: nn.Module, model_config: Any = None, adapters_config: Any = None
) -> None:
    """Make *model* ready for adapters, as :func:`adapterhub.attach`; it needs no preparation beyond."""
    handle = attach(model)
    if adapters_config is not None:
        add_from(handle, ModelAdaptersConfig.load(adapters_config))


def load_model(
    model_name_or_path: str | Path,
    model_class: Any,
    interface: AdapterModelInterface | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Load a model with the adapters inside its checkpoint, if it has any; see :func:`adapterhub.init`.

    Args:
        model_name_or_path: a folder or a name on the Hugging Face hub.
        model_class: e.g. ``AutoModelForSequenceClassification``.
        interface: where things are in it; default: ``adapter_interface.json`` beside it, else found out.
        args, kwargs: as for ``model_class.from_pretrained``.
    """
    folder = Path(model_name_or_path)
    if interface is None and (folder / INTERFACE).is_file():
        interface = AdapterModelInterface.load(folder)
    model = init(
        model_class.from_pretrained(model_name_or_path, *args, **kwargs), interface=interface
    )
    hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
    restore_checkpoint(model.adapter_handle, model_name_or_path, hub)
    return model


class _AdapterModels(Mapping[type[PretrainedConfig], type]):
    """Model classes with adapters and heads by configuration class; made when asked for."""

    def __getitem__(self, key: type[PretrainedConfig]) -> type:
        found: Any = MODEL_MAPPING[key]
        return adapter_model_class(found[0] if isinstance(found, (tuple, list)) else found)

    def __iter__(self) -> Iterator[type[PretrainedConfig]]:
        return iter(MODEL_MAPPING.keys())

    def __len__(self) -> int:
        return len(MODEL_MAPPING)


ADAPTER_MODEL_MAPPING = _AdapterModels()


@dataclass
class AdapterArguments:
    """Options of training scripts about adapters, for ``HfArgumentParser``.

    Attributes:
        train_adapter: train an adapter instead of the model.
        load_adapter: folder or identifier to go on from.
        adapter_config: configuration of a new one.
        load_lang_adapter: language adapter to put below.
        lang_adapter_config: of which configuration.
    """

    train_adapter: bool = field(
        default=False, metadata={"help": "Train an adapter instead of the full model."}
    )
    load_adapter: str | None = field(
        default="", metadata={"help": "Folder or hub identifier of an adapter to go on from."}
    )
    adapter_config: str | None = field(
        default=DEFAULT_ADAPTER_CONFIG, metadata={"help": "Configuration of a new adapter."}
    )
    load_lang_adapter: str | None = field(
        default=None, metadata={"help": "Folder or hub identifier of a language adapter."}
    )
    lang_adapter_config: str | None = field(
        default=None, metadata={"help": "Configuration of the language adapter."}
    )


def setup_adapter_training(
    model: Any,
    adapter_args: AdapterArguments,
    adapter_name: str,
    adapter_config_kwargs: Mapping[str, Any] | None = None,
    adapter_load_kwargs: Mapping[str, Any] | None = None,
) -> tuple[str | None, str | None]:
    """Prepare a model for training one adapter, as a script's options say.

    The adapter is loaded or added unless it is there; a language adapter goes below it.

    Args:
        model: an initialised model.
        adapter_args: the options.
        adapter_name: the adapter's name.
        adapter_config_kwargs: changes of the configurations.
        adapter_load_kwargs: more arguments of ``load_adapter``.

    Returns:
        The names of the adapter and of the language adapter, ``None`` for what there is not.

    Raises:
        ConfigError: adapters are to be loaded without ``train_adapter``.
    """
    if not adapter_args.train_adapter:
        if adapter_args.load_adapter or adapter_args.load_lang_adapter:
            raise ConfigError(
                "Adapters are only loaded for training adapters; set train_adapter (--train_adapter) too."
            )
        return None, None
    changes, loading = dict(adapter_config_kwargs or {}), dict(adapter_load_kwargs or {})
    config = resolve_config(adapter_args.adapter_config, **changes)
    asked = adapter_args.adapter_config not in (None, DEFAULT_ADAPTER_CONFIG)
    if adapter_name not in model.adapter_handle.adapters:
        if adapter_args.load_adapter:
            loading = {"config": config if asked else None, **loading}
            model.load_adapter(adapter_args.load_adapter, load_as=adapter_name, **loading)
        else:
            model.add_adapter(adapter_name, config=config)
    language = None
    if adapter_args.load_lang_adapter:
        wanted = adapter_args.lang_adapter_config
        language = model.load_adapter(
            adapter_args.load_lang_adapter,
            **{
                **loading,
                "config": None if wanted is None else resolve_config(wanted, **changes),
                "with_head": False,
            },
        )
    model.train_adapter(adapter_name)
    if language is not None:
        model.set_active_adapters(Stack(language, adapter_name))
    return adapter_name, language
