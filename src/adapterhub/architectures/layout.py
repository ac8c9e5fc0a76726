"""How a fused projection lays out q, k and v: watched while the attention takes it apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from adapterhub.architectures.rows import Fused, StackRow
from adapterhub.architectures.structure import QKV_NAMES, find, parent_of, which, widths
from adapterhub.architectures.trace import first_tensor


class LayoutCheck:
    """Watches the fused projections of one stack.

    The layout is ``concat`` with equal parts if the attention cuts its output into three tensors
    that are its thirds along the last axis, whatever views it takes of them (heads apart or not).
    """

    def __init__(self, row: StackRow, blocks: list[nn.Module]) -> None:
        self.stated: dict[str, str] = {}
        self.seen: dict[tuple[str, int], set[int]] = {}
        self._pending: tuple[tuple[str, int], torch.Tensor] | None = None
        self._watched: list[tuple[nn.Module, str, int]] = []
        for name, sub in row.sublayers.items():
            if sub.q is not None or name not in ("self", "cross"):
                continue
            for index, block in enumerate(blocks):
                path = which(block, sub.qkv.path) if sub.qkv else _fused_in(block, sub.kv, sub.o)
                module = find(block, path)
                if path is not None and module is not None:
                    self.stated[name] = path
                    self._watched.append((module, name, index))

    @staticmethod
    @contextmanager
    def watching(checks: list[LayoutCheck]) -> Iterator[None]:
        """Watch during the block of a ``with`` statement."""
        handles = [
            module.register_forward_hook(check._begin(name, index))
            for check in checks
            for module, name, index in check._watched
        ]
        try:
            if handles:
                with _Mode(checks):
                    yield
            else:
                yield
        finally:
            for handle in handles:
                handle.remove()
            for check in checks:
                check._pending = None

    def _begin(self, name: str, index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.seen[name, index] = set()
            self._pending = ((name, index), first_tensor(output).clone())

        return hook

    def look(self, result: Any) -> None:
        """Compare what a torch function returned with the thirds of the pending projection."""
        if self._pending is None:
            return
        for tensor in result if isinstance(result, tuple | list) else (result,):
            key, output = self._pending
            if not isinstance(tensor, torch.Tensor) or 3 * tensor.numel() != output.numel():
                continue
            for part, third in enumerate(output.chunk(3, -1)):
                if part not in self.seen[key] and _same(tensor, third):
                    self.seen[key].add(part)

    def correct(self, row: StackRow, findings: list[str]) -> StackRow:
        """Add the projections seen to be concatenated to *row*, take out those seen not to be."""
        sublayers = dict(row.sublayers)
        for name, path in self.stated.items():
            seen = [parts for (which_name, _), parts in self.seen.items() if which_name == name]
            if not seen:
                continue
            concat = all(parts == {0, 1, 2} for parts in seen)
            sub = sublayers[name]
            if concat and sub.qkv is None:
                sublayers[name] = replace(sub, qkv=Fused(path))
                findings.append(
                    f"{row.name}.*.{name}: {path} was seen to hold q, k and v one after the other."
                )
            elif not concat and sub.qkv is not None:
                sublayers[name] = replace(sub, qkv=None)
                findings.append(
                    f"{row.name}.*.{name}: {path} is not cut into three equal parts one after the "
                    "other, so q, k and v are left out."
                )
        return replace(row, sublayers=sublayers)


def _same(tensor: torch.Tensor, third: torch.Tensor) -> bool:
    """Whether *tensor* holds the numbers of *third*, (…, width) or (batch, heads, length, dim)."""
    flat = third.reshape(-1)
    if tensor.dtype != flat.dtype or tensor.is_meta:
        return False
    if torch.equal(tensor.reshape(-1), flat):
        return True
    return tensor.dim() == 4 and torch.equal(tensor.transpose(1, 2).reshape(-1), flat)


def _fused_in(block: nn.Module, core: str | None, o: str | None) -> str | None:
    """The fused projection of an attention whose row leaves q, k and v out."""
    home = core if core is not None else (parent_of(o) if o else None)
    owner = find(block, home)
    if owner is None:
        return None
    for name, child in owner.named_children():
        width = widths(child)
        if name.lower() in QKV_NAMES and width is not None and width[1] == 3 * width[0]:
            return f"{home}.{name}" if home else name
    return None


class _Mode(TorchFunctionMode):
    """Shows every result of a torch function to the checks."""

    def __init__(self, checks: list[LayoutCheck]) -> None:
        super().__init__()
        self.checks = checks

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for check in self.checks:
            check.look(result)
        return result
