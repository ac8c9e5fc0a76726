"""The spelling of the 2020 papers and of early releases, with a warning that names today's.

Everything old is in this file: names (:func:`__getattr__`), arguments (:data:`TRANSLATIONS`) and methods
(:class:`LegacyMethods`). Nothing else in the library knows about it but the two places that ask here:
``adapterhub.__getattr__`` and the methods that :func:`adapterhub.init` puts on a model.

Covered are the listings in Pfeiffer et al. 2020a (AdapterHub), 2020b (MAD-X), 2021 (AdapterFusion) and
Rücklé et al. 2021 (AdapterDrop).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from adapterhub.configs import AdapterFusionConfig
from adapterhub.errors import ConfigError

#: Classes that have other names now: old name -> (module, name).
RENAMED = {
    "AdapterConfigBase": ("adapterhub.configs", "AdapterConfig"),
    "HoulsbyConfig": ("adapterhub.configs", "DoubleSeqBnConfig"),
    "HoulsbyInvConfig": ("adapterhub.configs", "DoubleSeqBnInvConfig"),
    "ParallelConfig": ("adapterhub.configs", "ParBnConfig"),
    "PfeifferConfig": ("adapterhub.configs", "SeqBnConfig"),
    "PfeifferInvConfig": ("adapterhub.configs", "SeqBnInvConfig"),
    "AutoModelWithHeads": ("adapterhub.model.auto", "AutoAdapterModel"),
    "MultiLingAdapterArguments": ("adapterhub.model.peer", "AdapterArguments"),
}
#: ``BertModelWithHeads`` is ``BertAdapterModel`` now.
OLD_ENDING, NEW_ENDING = "ModelWithHeads", "AdapterModel"
#: Language adapters of version 1 had an invertible part without being asked for it.
WITH_INVERTIBLE = {
    None: "seq_bn_inv",
    "pfeiffer": "seq_bn_inv",
    "seq_bn": "seq_bn_inv",
    "houlsby": "double_seq_bn_inv",
    "double_seq_bn": "double_seq_bn_inv",
}


class AdapterType(str, Enum):
    """What an adapter was trained on, in version 1: a task or a language. Of no effect since."""

    text_task = "text_task"
    text_lang = "text_lang"

    @classmethod
    def has(cls, value: Any) -> bool:
        """Whether *value* is one of them."""
        return value in [item.value for item in cls]

    def __str__(self) -> str:
        return self.value


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        module, new = RENAMED[name]
        _old(name, f"adapterhub.{new}", stacklevel=4)
        return getattr(importlib.import_module(module), new)
    if name.endswith(OLD_ENDING) and not name.startswith("_"):
        new = name.removesuffix(OLD_ENDING) + NEW_ENDING
        found = getattr(importlib.import_module("adapterhub.model.auto"), new)
        _old(name, f"adapterhub.{new}", stacklevel=4)
        return found
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def knows(name: str) -> bool:
    """Whether *name* is an old name of a class."""
    return name in RENAMED or name.endswith(OLD_ENDING)


def _old(what: str, now: str, stacklevel: int = 3) -> None:
    warnings.warn(f"{what} is the old spelling; write {now}.", FutureWarning, stacklevel=stacklevel)


# -- arguments -----------------------------------------------------------------------------------------


def _take_type(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[AdapterType | None, tuple[Any, ...], dict[str, Any]]:
    """Take an adapter type out of a call: the second argument, or ``adapter_type=``."""
    kwargs = dict(kwargs)
    if len(args) > 1 and isinstance(args[1], str) and AdapterType.has(args[1]):
        return AdapterType(args[1]), (args[0], *args[2:]), kwargs
    if "adapter_type" in kwargs:
        kind = kwargs.pop("adapter_type")
        return (None if kind is None else AdapterType(kind)), args, kwargs
    return None, args, kwargs


def _add_adapter(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``add_adapter(name, AdapterType.text_task, config=…)``."""
    kind, args, kwargs = _take_type(args, kwargs)
    if kind is None:
        return args, kwargs
    if len(args) > 1:
        args, kwargs = (args[0], *args[2:]), {**kwargs, "config": args[1]}
    config = kwargs.get("config")
    if config is None:
        config = getattr(model.adapter_handle, "type_configs", {}).get(kind)
    if kind is AdapterType.text_lang and (config is None or isinstance(config, str)):
        config = WITH_INVERTIBLE.get(config, config)
    shown = f"config={config!r}" if config is None or isinstance(config, str) else "config=…"
    _old(f"add_adapter(name, AdapterType.{kind})", f"add_adapter(name, {shown})", 4)
    if len(args) > 1:  # overwrite_ok, set_active
        return (args[0], config, *args[1:]), {k: v for k, v in kwargs.items() if k != "config"}
    return args, {**kwargs, "config": config}


def _load_adapter(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``load_adapter(identifier, AdapterType.text_task, …)``, and ``num_labels=``."""
    kind, args, kwargs = _take_type(args, kwargs)
    if kind is not None:
        _old(f"load_adapter(…, AdapterType.{kind})", "load_adapter(…) without it", 4)
    if "num_labels" in kwargs:
        count = kwargs.pop("num_labels")
        if count is not None:
            _old("load_adapter(…, num_labels=n)", "id2label={0: '0', …}", 4)
            kwargs.setdefault("id2label", {i: str(i) for i in range(count)})
    return args, kwargs


def _setup(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``set_active_adapters([["en"], ["sst-2"]])``: layers of a stack, several names a fusion."""
    return _with_setup(args, kwargs, False)


def _fusion_setup(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """``train_adapter_fusion(["a", "b"])``."""
    return _with_setup(args, kwargs, True)


def _with_setup(
    args: tuple[Any, ...], kwargs: dict[str, Any], fuse: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = args[0] if args else kwargs.get("adapter_setup")
    found = setup(given, 6, fuse)
    if found is given:
        return args, kwargs
    return ((found, *args[1:]), kwargs) if args else (args, {**kwargs, "adapter_setup": found})


def setup(given: Any, stacklevel: int = 3, fuse: bool = False) -> Any:
    """Return today's form of lists, with a note; anything else as it is.

    A list is a stack (for *fuse*: a fusion). In version 1 inner lists were the layers of a stack, and one
    with several names a fusion.
    """
    if not isinstance(given, (list, tuple)) or not given:
        return given
    found, now = _spelled(given, fuse)
    _old(f"The list {given!r} as a setup", now, stacklevel)
    return found


def _spelled(given: Any, fuse: bool = False) -> tuple[Any, str]:
    """Return today's form of a list, and how it is written."""
    layers, shown = [], []
    for layer in given:
        inner = isinstance(layer, (list, tuple))
        single = inner and len(layer) == 1
        layers.append(layer[0] if single else layer)
        many = inner and not single
        shown.append(f"Fuse({', '.join(map(repr, layer))})" if many else repr(layers[-1]))
    if len(shown) == 1:
        return layers, shown[0]
    fused = fuse and not any(isinstance(layer, (list, tuple)) for layer in given)
    return layers, f"{'Fuse' if fused else 'Stack'}({', '.join(shown)})"


Translation = Callable[
    [Any, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]
]
#: What turns an old call of a method into today's, by the method's name.
TRANSLATIONS: Mapping[str, Translation] = {
    "add_adapter": _add_adapter,
    "load_adapter": _load_adapter,
    "set_active_adapters": _setup,
    "train_adapter": _setup,
    "train_adapter_fusion": _fusion_setup,
}


# -- calls ---------------------------------------------------------------------------------------------


def call_with_names(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``model(…, adapter_names=["en", "sst-2"])``: a setup for one call, a list being a stack.

    Raises:
        ConfigError: a list with one name for each row, as PEFT has it.
    """
    kwargs = dict(kwargs)
    names = kwargs.pop("adapter_names")
    if names is None:
        return call(*args, **kwargs)
    flat = (
        [name for name in names if isinstance(name, str)]
        if isinstance(names, (list, tuple))
        else []
    )
    if len(set(flat)) < len(flat) or "__base__" in flat:
        raise ConfigError(
            f"adapter_names={names!r} is no setup (a list is a stack of different adapters). For an adapter "
            "of each row's own activate Route(*adapters) and pass adapter_rows=[name, …, None], None being "
            "the bare base model."
        )
    listed = isinstance(names, (list, tuple)) and names
    found, now = _spelled(names) if listed else (names, repr(names))
    _old("model(…, adapter_names=…)", f"with AdapterSetup({now}): model(…)", 4)
    from adapterhub.model.setup import AdapterSetup

    with AdapterSetup(found):
        return call(*args, **kwargs)


# -- methods -------------------------------------------------------------------------------------------


class LegacyMethods:
    """Methods that have other names now."""

    def add_fusion(
        self, adapter_names: Any, adapter_fusion_config: Any = None, override_kwargs: Any = None
    ) -> None:
        """Old spelling of ``add_adapter_fusion``."""
        _old("add_fusion", "add_adapter_fusion")
        names = adapter_names
        if isinstance(names, (list, tuple)) and len(names) == 1 and not isinstance(names[0], str):
            names = names[0]
        config = adapter_fusion_config
        if override_kwargs:
            config = AdapterFusionConfig.load(config, **override_kwargs)
        self.add_adapter_fusion(names, config)  # type: ignore[attr-defined]

    def train_fusion(self, adapter_setup: Any, unfreeze_adapters: bool = False) -> None:
        """Old spelling of ``train_adapter_fusion``."""
        _old("train_fusion", "train_adapter_fusion(Fuse(…))")
        with warnings.catch_warnings():  # said already
            warnings.simplefilter("ignore", FutureWarning)
            self.train_adapter_fusion(adapter_setup, unfreeze_adapters)  # type: ignore[attr-defined]

    def delete_fusion(self, adapter_names: Any) -> None:
        """Old spelling of ``delete_adapter_fusion``."""
        _old("delete_fusion", "delete_adapter_fusion")
        self.delete_adapter_fusion(adapter_names)  # type: ignore[attr-defined]

    def set_adapter_config(self, adapter_type: Any, adapter_config: Any) -> None:
        """Version 1: the configuration that ``add_adapter(name, adapter_type)`` takes from then on."""
        _old(
            f"set_adapter_config({adapter_type!s}, …)",
            f"add_adapter(name, config={adapter_config!r})",
        )
        handle: Any = self.adapter_handle  # type: ignore[attr-defined]
        handle.type_configs = {
            **getattr(handle, "type_configs", {}),
            AdapterType(adapter_type): adapter_config,
        }
