"""Counters without noise: kernels, Python calls, bytes kept for backward, graphs, modules."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _storages(value: Any) -> set[int]:
    return {
        leaf.untyped_storage().data_ptr()
        for leaf in tree_leaves(value)
        if isinstance(leaf, torch.Tensor)
    }


class KernelCount(TorchDispatchMode):
    """Counts operations that write: into new memory or into their input. Views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._schema.is_mutable or _storages(result) - _storages((args, kwargs)):
            self.names[str(func).removeprefix("aten.")] += 1
        return result


def kernels(call: Callable[[], Any]) -> Counter[str]:
    """Return how often each writing operation is dispatched in one call."""
    with KernelCount() as count:
        call()
    return count.names


def python_calls(call: Callable[[], Any]) -> Counter[str]:
    """Return how often each Python function is entered in one call, as ``folder/file.py:function``."""
    seen: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            seen[frame.f_code.co_filename, frame.f_code.co_name] += 1

    previous, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()  # finalizers of somebody else's objects would be counted
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(previous)
        if collecting:
            gc.enable()
    named: Counter[str] = Counter()
    for (file, function), number in seen.items():
        path = Path(file)
        named[f"{path.parent.name}/{path.name}:{function}"] += number
    return named


def saved_bytes(model: nn.Module, forward: Callable[[], Any]) -> int:
    """Return the bytes that autograd keeps for backward, parameters and buffers left out."""
    own = _storages([*model.parameters(), *model.buffers()])
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    del output
    return sum(storage.nbytes() for storage in kept.values())


@dataclass
class Graphs:
    """A backend for ``torch.compile`` that counts what it is given.

    Args:
        inner: ``"eager"`` or ``"aot_eager"``: who runs the graphs.
    """

    inner: str = "eager"
    count: int = field(default=0, init=False)

    def __call__(self, module: Any, inputs: Any, **options: Any) -> Any:
        from torch._dynamo.backends.registry import lookup_backend

        self.count += 1
        return lookup_backend(self.inner)(module, inputs, **options)


def compiled(model: nn.Module, inner: str = "eager") -> tuple[Any, Graphs]:
    """Compile *model* as one graph from scratch; return it and the counter of its graphs."""
    torch.compiler.reset()
    graphs = Graphs(inner)
    return torch.compile(model, backend=graphs, fullgraph=True), graphs


def module_count(model: nn.Module) -> int:
    """Return how many ``nn.Module`` objects the model is made of."""
    return sum(1 for _ in model.modules())


@dataclass(frozen=True)
class Extra:
    """What a case adds to its base: in every layer, and once a forward pass."""

    layer: float
    once: float


def split_by_depth(extra: dict[int, int]) -> Extra:
    """Turn ``{layers: extra count}`` of two depths into the part of a layer and the rest."""
    (few, at_few), (many, at_many) = sorted(extra.items())
    layer = (at_many - at_few) / (many - few)
    return Extra(layer, at_few - layer * few)
