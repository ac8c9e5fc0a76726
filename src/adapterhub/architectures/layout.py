"""How a fused projection lays out q, k and v: watched while the attention takes it apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from adapterhub.architectures.paths import find, parent_of, which
from adapterhub.architectures.rows import Fused, StackRow
from adapterhub.architectures.sizes import Part, fused_parts
from adapterhub.architectures.structure import QKV_NAMES, widths
from adapterhub.architectures.trace import first_tensor
from adapterhub.errors import ArchitectureError

#: Layouts that are looked for, in this order.
_LAYOUTS = ("concat", "grouped")


class LayoutCheck:
    """Watches the fused projections of one stack.

    A layout is confirmed if among the tensors that the attention computes from the projection's output are
    the three parts that it foretells, whatever views are taken of them (heads apart or not).
    """

    def __init__(self, row: StackRow, blocks: list[nn.Module]) -> None:
        self.stated: dict[str, str] = {}
        self.seen: dict[tuple[str, int], dict[str, set[str]]] = {}
        self._pending: tuple[tuple[str, int], dict[str, dict[str, torch.Tensor]]] | None = None
        self._watched: list[tuple[nn.Module, str, int, dict[str, dict[str, Part]]]] = []
        for name, sub in row.sublayers.items():
            if sub.q is not None or name not in ("self", "cross"):
                continue
            for index, block in enumerate(blocks):
                path = which(block, sub.qkv.path) if sub.qkv else _fused_in(block, sub.kv, sub.o)
                module = find(block, path)
                if path is not None and module is not None:
                    self.stated[name] = path
                    layouts = _possible(block, path)
                    self._watched.append((module, name, index, layouts))

    @staticmethod
    @contextmanager
    def watching(checks: list[LayoutCheck]) -> Iterator[None]:
        """Watch during the block of a ``with`` statement."""
        handles = [
            module.register_forward_hook(check._begin(name, index, layouts))
            for check in checks
            for module, name, index, layouts in check._watched
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

    def _begin(self, name: str, index: int, layouts: dict[str, dict[str, Part]]) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            whole = first_tensor(output).clone()
            self.seen[name, index] = {layout: set() for layout in layouts}
            self._pending = (
                (name, index),
                {
                    layout: {
                        point: whole.unflatten(-1, (part.blocks, -1))[
                            ..., part.start : part.stop
                        ].flatten(-2)
                        for point, part in parts.items()
                    }
                    for layout, parts in layouts.items()
                },
            )

        return hook

    def look(self, result: Any) -> None:
        """Compare what a torch function returned with the parts of the pending projection."""
        if self._pending is None:
            return
        key, layouts = self._pending
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
                continue
            for layout, parts in layouts.items():
                seen = self.seen[key][layout]
                for point, part in parts.items():
                    if (
                        point not in seen
                        and tensor.numel() == part.numel()
                        and tensor.is_floating_point()
                        and _same(tensor, part)
                    ):
                        seen.add(point)

    def correct(self, row: StackRow, findings: list[str]) -> StackRow:
        """Write the layouts that were seen into *row*, take out those that were not."""
        sublayers = dict(row.sublayers)
        for name, path in self.stated.items():
            seen = [layouts for (which_name, _), layouts in self.seen.items() if which_name == name]
            if not seen:
                continue
            sub = sublayers[name]
            fitting = [
                layout
                for layout in _LAYOUTS
                if all(block.get(layout) == {"q", "k", "v"} for block in seen)
            ]
            if sub.qkv is not None and (sub.qkv.layout in fitting or sub.qkv.blocks > 1):
                continue
            if fitting:
                sublayers[name] = replace(sub, qkv=Fused(path, layout=fitting[0]))
                findings.append(
                    f"{row.name}.*.{name}: {path} was seen to hold q, k and v ({fitting[0]})."
                )
            elif sub.qkv is not None:
                sublayers[name] = replace(sub, qkv=None)
                findings.append(
                    f"{row.name}.*.{name}: {path} was not seen to be cut into q, k and v in a layout "
                    f"that is known ({', '.join(_LAYOUTS)}), so they are left out."
                )
        return replace(row, sublayers=sublayers)


def _possible(block: nn.Module, path: str) -> dict[str, dict[str, Part]]:
    """The parts that each layout would have, for those that fit the module's width."""
    width = widths(find(block, path) or nn.Identity())
    found = {}
    for layout in _LAYOUTS:
        try:
            found[layout] = fused_parts(block, Fused(path, layout=layout), width[0] if width else 0)
        except (ArchitectureError, ZeroDivisionError):
            continue
    return found


def _same(tensor: torch.Tensor, part: torch.Tensor) -> bool:
    """Whether *tensor* holds the numbers of *part*, in whatever order (heads apart, windows, …).

    Different columns of a projection have different numbers, so nothing is lost by that.
    """
    one, two = tensor.detach().reshape(-1), part.reshape(-1)
    if one.dtype != two.dtype:
        return False
    if torch.equal(one, two):
        return True
    if not torch.equal(torch.stack(one.aminmax()), torch.stack(two.aminmax())):
        return False
    return torch.equal(one.sort().values, two.sort().values)


def _fused_in(block: nn.Module, core: str | None, o: str | None) -> str | None:
    """The fused projection of an attention whose row leaves q, k and v out."""
    home = core if core is not None else (parent_of(o) if o else None)
    owner = find(block, home)
    if owner is None:
        return None
    for name, child in owner.named_children():
        width = widths(child)
        if name.lower() in QKV_NAMES and width is not None and width[1] > width[0]:
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
