"""The mathematics of adapters: one file a method, each a small ``nn.Module`` with its formula and paper.

A method knows places by their canonical names and widths, never a class of transformers. It has two
halves: a :class:`~adapterhub.methods.base.Method` (which places a configuration asks for, and the modules
to put there) and a :class:`~adapterhub.methods.base.Family` (how such modules act in a composition).
A new method is one file and one :func:`register_method`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from adapterhub.architectures import ResolvedModel
from adapterhub.configs import ConfigUnion
from adapterhub.errors import ArchitectureError, ConfigError
from adapterhub.methods.base import Built, Family, Method, Placed
from adapterhub.methods.bottleneck import Bottleneck
from adapterhub.methods.fusion import AdapterFusion
from adapterhub.methods.prefix import PrefixTuning
from adapterhub.methods.projections import LoRAMethod
from adapterhub.methods.prompt import PromptTuning
from adapterhub.methods.reft import ReftMethod
from adapterhub.methods.tuning import BitFit, NormTuning

METHODS: list[Method] = [
    Bottleneck(),
    LoRAMethod(),
    PrefixTuning(),
    PromptTuning(),
    ReftMethod(),
    BitFit(),
    NormTuning(),
]


def register_method(method: Method) -> None:
    """Make a method known; the newest one that fits a configuration is taken."""
    METHODS.insert(0, method)


def file_groups() -> tuple[str, ...]:
    """Return what methods put before an adapter's name in files, beside what files have always had."""
    return tuple(dict.fromkeys(group for method in METHODS for group in method.file_groups))


def members(config: Any) -> tuple[Any, ...]:
    """Return the single-method configurations of *config* (itself, or the members of a union)."""
    return tuple(config.configs) if isinstance(config, ConfigUnion) else (config,)


def method_for(config: Any) -> Method:
    """Return the method of a single-method configuration. Raises ConfigError if there is none."""
    for method in METHODS:
        if isinstance(config, method.config_type):
            return method
    known = ", ".join(method.name for method in METHODS)
    raise ConfigError(f"No method for {type(config).__name__} yet; there are: {known}.")


def build(config: Any, model: ResolvedModel) -> Built:
    """Make all modules of an adapter, and check that the model has the places for them.

    Raises:
        ConfigError: no such method, or a value it does not know.
        ArchitectureError: the model has none of the places, or lacks one that was asked for by name.
    """
    placed: list[Placed] = []
    shared: dict[str, nn.Module] = {}
    for part in members(config):
        method = method_for(part)
        missing = method.describe_missing(part, model)
        if missing:
            raise ArchitectureError(
                f"{type(part).__name__} asks for {missing} at '{model.row.model_type}'; "
                "`adapterhub inspect` lists what there is."
            )
        built = method.build(part, model)
        if not built.placed:
            raise ArchitectureError(
                f"{type(part).__name__} finds no place in '{model.row.model_type}'; "
                "`adapterhub inspect` lists what there is."
            )
        placed += built.placed
        again = shared.keys() & built.shared.keys()
        if again:
            raise ConfigError(
                f"Two members of the union have shared parts of one kind ({', '.join(sorted(again))}), which "
                "one adapter cannot hold; make two adapters and stack them."
            )
        shared.update(built.shared)
    keys = [item.site.key for item in placed]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"Two members of the union want the same place: {', '.join(twice[:3])}.")
    return Built(placed, shared)


__all__ = [
    "METHODS",
    "AdapterFusion",
    "Built",
    "Family",
    "Method",
    "Placed",
    "build",
    "file_groups",
    "members",
    "method_for",
    "register_method",
]
