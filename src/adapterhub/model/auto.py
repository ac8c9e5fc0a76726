"""Model classes with adapters and prediction heads, for every architecture of transformers.

:class:`AutoAdapterModel` loads any checkpoint. The class it makes for, say, BERT is called
``BertAdapterModel``; such classes are made when they are first asked for, here
(``from adapterhub.model.auto import BertAdapterModel``) or through :class:`AutoAdapterModel`.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING, MODEL_MAPPING_NAMES

from adapterhub.checkpoints.full import PATTERNS
from adapterhub.context import current
from adapterhub.errors import ArchitectureError, did_you_mean
from adapterhub.heads import tying
from adapterhub.heads.generation import (
    Generates,
    generating_class,
    generation_mixin,
    take_over,
)
from adapterhub.heads.model import ModelWithHeads
from adapterhub.methods.invertible import InputFamily
from adapterhub.model.stored import restore_checkpoint
from adapterhub.model.taskheads import DEFAULT, HUB_ARGUMENTS, forget_names, head_in

#: Arguments that must reach the model although a configuration would take them.
MODEL_ARGUMENTS = ("dtype", "quantization_config", "torch_dtype")
#: Endings of base model names that ``AdapterModel`` takes the place of, in order of preference.
ENDINGS = ("Model", "Encoder", "")

_CLASSES: dict[type[PreTrainedModel], type[AdapterModel]] = {}


class _Local(threading.local):
    loading = 0
    #: Heads that the model being loaded gets, by name: configurations.
    heads: dict[str, Any] | None = None


_local = _Local()


class AdapterModel(ModelWithHeads):
    """What all classes made here have in common: a base model, heads, and the adapter methods.

    Args:
        config: the model's configuration; ``prediction_heads`` in it lists heads to make.
        args, kwargs: passed on to the base model's class (``add_pooling_layer``, …).
    """

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.base_model_class(config, *args, **kwargs))
        self._init_heads()
        for name, head in (_local.heads or {}).items():
            if name not in self.heads:
                self.add_prediction_head_from_config(name, head)
        self.post_init()
        if not _local.loading:
            self._init_adapters()

    def parallel_channels(self) -> int:
        """Return how many copies of the batch the base model's output holds."""
        handle = self.__dict__.get("_adapterhub")
        return 1 if handle is None else handle.engine.channels(current())

    def input_inverse(self, index: Any, total: int) -> Any:
        """Return what undoes the active invertible adapters on some rows; ``None``: there are none.

        Args:
            index: the rows of the base model's output, of *total*, that it will be used on.
        """
        handle = self.__dict__.get("_adapterhub")
        plan = None if handle is None else handle.engine.plan_in(current())
        for slot, node in () if plan is None else plan.nodes:
            if isinstance(node.family, InputFamily):
                return partial(_undo, slot, node, index, total)
        return None

    def save_all_heads(self, save_directory: str | Path, use_safetensors: bool = True) -> None:
        """Save every prediction head into a sub-folder of its name."""
        for name in self.heads:
            self.save_head(Path(save_directory) / name, name, use_safetensors)  # type: ignore[attr-defined]

    def _init_adapters(self) -> None:
        """Give the model its adapter methods (:func:`adapterhub.init`), once it has its weights."""
        from adapterhub.model.facade import init

        init(self)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers: a checkpoint of the base model, of this class, or of a task model.

        The own head of a task model (``BertForSequenceClassification``, …) becomes a head called
        ``"default"`` that computes the same, and active; where there is no such head, it is left out.
        Adapters inside the checkpoint (the ``adapters`` library saves whole models so) are loaded too.
        """
        found = head_in(cls, pretrained_model_name_or_path, kwargs)
        wanted = kwargs.pop("output_loading_info", False)
        before = _local.heads
        _local.heads = None
        if found is not None:
            _local.heads = {DEFAULT: found.config}
            kwargs["key_mapping"] = {**(kwargs.get("key_mapping") or {}), **found.key_mapping}
        _local.loading += 1
        try:
            loaded: Any = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        finally:
            _local.loading -= 1
            _local.heads = before
        model, info = loaded
        if found is not None:
            forget_names(model, found)
            if any(key.startswith(f"heads.{DEFAULT}.") for key in info["missing_keys"]):
                model.delete_head(DEFAULT)  # the checkpoint's names for it are unknown here
        tying.settle(model)
        model._init_adapters()
        if pretrained_model_name_or_path is not None:
            hub = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            restore_checkpoint(model.adapter_handle, pretrained_model_name_or_path, hub)
        return (model, info) if wanted else model


def _undo(slot: Any, node: Any, index: Any, total: int, features: torch.Tensor) -> torch.Tensor:
    """Undo a plan's invertible adapters on *features*, rows *index* of *total*."""
    if features.shape[0] == total and isinstance(index, slice):
        return node.family.undo(node, slot, features)
    # The plan is one for the whole batch: which adapter a row belongs to depends on its place there.
    whole = features.new_zeros((total, *features.shape[1:]))
    whole[index] = features
    return node.family.undo(node, slot, whole)[index]


class AutoAdapterModel:
    """Makes the model class with adapters and heads that fits a checkpoint or a configuration."""

    def __init__(self) -> None:
        raise OSError(
            "AutoAdapterModel is made with AutoAdapterModel.from_pretrained(path) or "
            "AutoAdapterModel.from_config(config)."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint: a base model's, a task model's (whose head becomes ``"default"``) or ours.

        Args:
            pretrained_model_name_or_path: a folder or a name on the Hugging Face hub.
            args, kwargs: as for ``AutoModel.from_pretrained``.

        Raises:
            ArchitectureError: transformers has no base model for this configuration.
        """
        hub = {name: kwargs.pop(name) for name in HUB_ARGUMENTS if name in kwargs}
        config = kwargs.pop("config", None)
        if not isinstance(config, PretrainedConfig):
            source = pretrained_model_name_or_path if config is None else config
            kept = {name: kwargs.pop(name) for name in MODEL_ARGUMENTS if name in kwargs}
            read: Any = AutoConfig.from_pretrained(
                source, return_unused_kwargs=True, **hub, **kwargs
            )
            config, kwargs = read[0], {**read[1], **kept}
        kind, config = _fitting(config)
        return kind.from_pretrained(
            pretrained_model_name_or_path, *args, config=config, **hub, **kwargs
        )

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """Make a model with random weights.

        Args:
            config: of any transformers model. kwargs: as for ``AutoModel.from_config``.

        Raises:
            ArchitectureError: transformers has no base model for this configuration.
        """
        kind, config = _fitting(config)
        return kind._from_config(config, **kwargs)


def adapter_model_class(base: type[PreTrainedModel]) -> type[AdapterModel]:
    """Return the class with adapters and heads around a base model class; always the same one."""
    found = _CLASSES.get(base)
    if found is None:
        name = adapter_model_name(base.__name__)
        prefix = base.base_model_prefix
        if not prefix.isidentifier() or prefix in ("base_model", "heads"):
            prefix = "model"
        members = {
            "__module__": __name__,
            "__qualname__": name,
            "__doc__": f"{base.__name__} with adapters and heads; see :class:`AdapterModel`.",
            "base_model_class": base,
            "base_model_prefix": prefix,
            "config_class": base.config_class,
            # Anything beside the base model and our heads is another head of a task checkpoint.
            "_keys_to_ignore_on_load_unexpected": [rf"^(?!{prefix}\.|heads\.)", *PATTERNS],
        }
        # What attention it can run with is a matter of the base model, not of the family.
        members |= {
            name: getattr(base, name) for name in dir(base) if name.startswith("_supports_")
        }
        static = generating_class(getattr(base.config_class, "model_type", ""))
        if static is None:
            found = type(name, (AdapterModel, _family(base)), members)
        else:
            bases = (Generates, AdapterModel, _family(base), generation_mixin(static))
            found = type(name, bases, members)
            take_over(found, static)
        _CLASSES[base] = found
    return found


def adapter_model_name(base_name: str) -> str:
    """Return ``"BertAdapterModel"`` for ``"BertModel"``."""
    ending = next(ending for ending in ENDINGS if base_name.endswith(ending))
    return base_name[: len(base_name) - len(ending)] + "AdapterModel"


def _family(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Return the class that all models of a family derive from: the nearest without a forward."""
    for parent in base.__mro__[1:]:
        if issubclass(parent, PreTrainedModel) and not _has_forward(parent):
            return parent
    return PreTrainedModel


def _has_forward(cls: type) -> bool:
    return any(
        "forward" in parent.__dict__
        for parent in cls.__mro__
        if issubclass(parent, PreTrainedModel)
    )


def _fitting(config: PretrainedConfig) -> tuple[type[AdapterModel], PretrainedConfig]:
    """Return the class for a configuration, and the part of the configuration that it takes."""
    try:
        found: Any = MODEL_MAPPING[type(config)]
    except KeyError:
        raise ArchitectureError(
            f"transformers has no base model class for {type(config).__name__} (model type "
            f"'{getattr(config, 'model_type', '')}'). adapterhub.init(model) works for any model "
            "that you can load otherwise."
        ) from None
    if isinstance(found, (tuple, list)):
        named = [cls for cls in found if cls.__name__ in (config.architectures or ())]
        found = (named or list(found))[0]
    text = config.sub_configs.get("text_config")
    if text is not None and found.config_class is text:
        config = config.get_text_config()
    return adapter_model_class(found), config


def _base_names() -> list[str]:
    names: list[str] = []
    for value in MODEL_MAPPING_NAMES.values():
        names.extend([value] if isinstance(value, str) else value)
    return names


def __getattr__(name: str) -> Any:
    if not name.endswith("AdapterModel") or name.startswith("_"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    stem, names = name.removesuffix("AdapterModel"), _base_names()
    for ending in ENDINGS:
        if stem + ending in names:
            base = getattr(transformers, stem + ending, None)
            if isinstance(base, type) and issubclass(base, PreTrainedModel):
                return adapter_model_class(base)
    known = sorted({adapter_model_name(base) for base in names})
    raise AttributeError(
        f"module '{__name__}' has no attribute '{name}'.{did_you_mean(name, known)}"
    )
