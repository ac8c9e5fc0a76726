"""The familiar face: :func:`init` puts the handle's methods on the model itself.

The model's class is swapped for a subclass of the same name and module, made once per class, whose
methods hand on to the model's :class:`~adapterhub.model.handle.AdapterHandle`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn
from torch._dynamo.eval_frame import skip_code

from adapterhub.architectures import Row
from adapterhub.errors import ConfigError
from adapterhub.model.handle import AdapterHandle, attach
from adapterhub.model.interface import AdapterModelInterface
from adapterhub.model.legacy import TRANSLATIONS, LegacyMethods, call_with_names
from adapterhub.model.legacy import setup as today
from adapterhub.model.peermethods import OneHead, PeerMethods
from adapterhub.model.stored import ModelAdaptersConfig, add_from

_CLASSES: dict[type, type] = {}

_METHODS = (
    "adapter_fusion_to",
    "adapter_routing",
    "adapter_summary",
    "adapter_to",
    "add_adapter",
    "add_adapter_fusion",
    "add_embeddings",
    "add_invertible_adapter",
    "apply_to_adapter_layers",
    "apply_to_basemodel_childs",
    "average_adapter",
    "bypass_own_adapters",
    "delete_adapter",
    "delete_adapter_fusion",
    "delete_embeddings",
    "delete_invertible_adapter",
    "eject_prefix_tuning",
    "enable_invertible_adapters",
    "freeze_embeddings",
    "freeze_model",
    "get_adapter",
    "get_fusion_regularization_loss",
    "get_invertible_adapter",
    "get_layer",
    "has_adapters",
    "invertible_adapters_forward",
    "iter_attentions",
    "iter_layer_ffns",
    "iter_layers",
    "load_adapter",
    "load_adapter_fusion",
    "load_adapter_setup",
    "load_embeddings",
    "load_head",
    "merge_adapter",
    "push_adapter_setup_to_hub",
    "push_adapter_to_hub",
    "reset_adapter",
    "reset_token_rows",
    "save_adapter",
    "save_adapter_fusion",
    "save_adapter_setup",
    "save_all_adapter_fusions",
    "save_all_adapters",
    "save_embeddings",
    "save_head",
    "set_active_adapters",
    "set_active_embeddings",
    "share_parameters",
    "start_adapter",
    "supports_adapter",
    "train_adapter",
    "train_adapter_fusion",
    "train_token_rows",
    "unshare_parameters",
)


class ModelWithAdapters(LegacyMethods, PeerMethods):
    """Mixin of the swapped classes; see :class:`AdapterHandle` for what the methods do."""

    @property
    def adapter_handle(self) -> AdapterHandle:
        """The explicit handle of this model."""
        return self.__dict__["_adapterhub"]

    @property
    def adapters_config(self) -> ModelAdaptersConfig:
        """The adapters and fusion layers of this model with their configurations."""
        return ModelAdaptersConfig.of(self.adapter_handle)

    @property
    def model_name(self) -> str:
        """Where the base model came from: a folder or a name on the Hugging Face hub."""
        return self.config.name_or_path  # type: ignore[attr-defined]

    @property
    def active_embeddings(self) -> str:
        """Name of the vocabulary in use."""
        return self.adapter_handle.active_embeddings

    @property
    def loaded_embeddings(self) -> Any:
        """All vocabularies by name."""
        return self.adapter_handle.loaded_embeddings

    @property
    def has_parallel_adapters(self) -> bool:
        """Whether the active setup replicates the batch."""
        setup = self.active_adapters
        return setup is not None and setup.parallel_channels > 1

    @property
    def active_adapters(self) -> Any:
        """The active setup; assign to change it."""
        return self.adapter_handle.active_adapters

    @active_adapters.setter
    def active_adapters(self, setup: Any) -> None:
        self.adapter_handle.set_active_adapters(today(setup, 4))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # (In the place of Module.__call__ rather than around it: a model without active adapters makes
        # not a single call more than it would without us.)
        if "adapter_names" in kwargs:
            return call_with_names(self, args, kwargs)
        compiled = self._compiled_call_impl  # type: ignore[attr-defined]
        call = self._call_impl if compiled is None else compiled  # type: ignore[attr-defined]
        return call(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_revive, (type(self).__bases__[-1],), self.__dict__)


def _hand_on(name: str) -> Callable[..., Any]:
    method = getattr(AdapterHandle, name)

    translate = TRANSLATIONS.get(name)

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self.__dict__["_adapterhub"], *args, **kwargs)

    @wraps(method)
    def call_as_of_old(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert translate is not None
        args, kwargs = translate(self, args, kwargs)
        return method(self.__dict__["_adapterhub"], *args, **kwargs)

    return call if translate is None else call_as_of_old


# Dynamo starts at ``forward``, as without us, and not at this frame: inlined, the hooks would be guarded by
# their numbers, and a setup that comes back would be compiled anew.
skip_code(ModelWithAdapters.__call__.__code__)

for _name in _METHODS:
    setattr(ModelWithAdapters, _name, _hand_on(_name))


def init(
    model: nn.Module,
    adapters_config: Any = None,
    interface: AdapterModelInterface | None = None,
    row: Row | None = None,
) -> Any:
    """Give *model* the adapter methods (``add_adapter``, ``train_adapter``, …) and return it.

    Args:
        model: any Hugging Face model; one that has been initialised is returned as it is.
        adapters_config: adapters to add right away with fresh weights, as ``model.adapters_config`` or its
            dictionary has them.
        interface: where things are in the model, in the words of the ``adapters`` library.
        row: where things are in the model; default: from the table, else detected.

    Raises:
        ArchitectureError: nothing recognised, or the model carries PEFT adapters.
        ConfigError: both *interface* and *row*.
    """
    if interface is not None:
        if row is not None:
            raise ConfigError("Say where things are with interface= or with row=, not with both.")
        row = interface.row(model)
    handle = attach(model, row)
    if not isinstance(model, ModelWithAdapters):
        model.__class__ = _class_for(type(model))
    if adapters_config is not None:
        add_from(handle, ModelAdaptersConfig.load(adapters_config))
    return model


def _class_for(cls: type) -> type:
    found = _CLASSES.get(cls)
    if found is None:
        members = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
        }
        heads = () if hasattr(cls, "head_tensors") else (OneHead,)
        found = _CLASSES[cls] = type(cls.__name__, (ModelWithAdapters, *heads, cls), members)
    return found


def _revive(cls: type) -> Any:
    made: Any = _class_for(cls)
    return made.__new__(made)
