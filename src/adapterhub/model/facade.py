"""The familiar face: :func:`init` puts the handle's methods on the model itself.

The model's class is swapped for a subclass of the same name and module, made once per class, whose
methods hand on to the model's :class:`~adapterhub.model.handle.AdapterHandle`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn

from adapterhub.architectures import Row
from adapterhub.model.handle import AdapterHandle, attach

_CLASSES: dict[type, type] = {}

_METHODS = (
    "adapter_routing",
    "adapter_summary",
    "adapter_to",
    "add_adapter",
    "add_adapter_fusion",
    "delete_adapter",
    "delete_adapter_fusion",
    "freeze_model",
    "get_adapter",
    "get_fusion_regularization_loss",
    "has_adapters",
    "load_adapter",
    "load_adapter_fusion",
    "merge_adapter",
    "reset_adapter",
    "save_adapter",
    "save_adapter_fusion",
    "load_adapter_setup",
    "load_head",
    "save_head",
    "save_adapter_setup",
    "save_all_adapters",
    "set_active_adapters",
    "train_adapter",
    "train_adapter_fusion",
)


class ModelWithAdapters:
    """Mixin of the swapped classes; see :class:`AdapterHandle` for what the methods do."""

    @property
    def adapter_handle(self) -> AdapterHandle:
        """The explicit handle of this model."""
        return self.__dict__["_adapterhub"]

    @property
    def active_adapters(self) -> Any:
        """The active setup; assign to change it."""
        return self.adapter_handle.active_adapters

    @active_adapters.setter
    def active_adapters(self, setup: Any) -> None:
        self.adapter_handle.set_active_adapters(setup)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_revive, (type(self).__mro__[2],), self.__dict__)


def _hand_on(name: str) -> Callable[..., Any]:
    method = getattr(AdapterHandle, name)

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self.__dict__["_adapterhub"], *args, **kwargs)

    return call


for _name in _METHODS:
    setattr(ModelWithAdapters, _name, _hand_on(_name))


def init(model: nn.Module, adapters_config: Any = None, row: Row | None = None) -> Any:
    """Give *model* the adapter methods (``add_adapter``, ``train_adapter``, …) and return it.

    Args:
        model: any Hugging Face model; one that has been initialised is returned as it is.
        adapters_config: not used; accepted because the ``adapters`` library had it.
        row: where things are in the model; default: from the table, else detected.

    Raises:
        ArchitectureError: nothing recognised, or the model carries PEFT adapters.
    """
    attach(model, row)
    if not isinstance(model, ModelWithAdapters):
        model.__class__ = _class_for(type(model))
    return model


def _class_for(cls: type) -> type:
    found = _CLASSES.get(cls)
    if found is None:
        members = {
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
        }
        found = _CLASSES[cls] = type(cls.__name__, (ModelWithAdapters, cls), members)
    return found


def _revive(cls: type) -> Any:
    made: Any = _class_for(cls)
    return made.__new__(made)
