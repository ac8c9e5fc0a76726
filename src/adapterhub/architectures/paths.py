"""Paths of modules: with alternatives (``"a|b"``), and lists of blocks (``"groups.*.layers"``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn


class Block(NamedTuple):
    """One block of a stack.

    Attributes:
        path: where it is, relative to the model that was searched.
        module: the block.
        numbers: its name in each list on the way, the outermost first; one for a plain list.
    """

    path: str
    module: nn.Module
    numbers: tuple[str, ...]

    def renamed(self, layers: str) -> str:
        """Return the block's path if the block list were called *layers* (with as many ``*``)."""
        *groups, last = self.numbers
        for group in groups:
            layers = layers.replace("*", group, 1)
        return f"{layers}.{last}"


def join(*parts: str) -> str:
    """Join module paths, skipping empty ones."""
    return ".".join(part for part in parts if part)


def parent_of(path: str) -> str:
    """Return the path of the parent (``""`` for a direct child)."""
    return path.rpartition(".")[0]


def find(root: nn.Module | None, path: str | None) -> nn.Module | None:
    """Return the module at *path*; ``""`` is *root* itself, ``None`` is nothing."""
    if root is None or path is None:
        return None
    module: nn.Module | None = root
    for part in path.split(".") if path else ():
        module = module._modules.get(part) if isinstance(module, nn.Module) else None
    return module


def which(root: nn.Module, path: str | None) -> str | None:
    """Return the first of the ``"a|b"`` alternatives that exists in *root*."""
    for option in (path or "").split("|"):
        if find(root, option.strip() or None) is not None:
            return option.strip()
    return None


def locate(root: nn.Module | None, path: str | None) -> nn.Module | None:
    """Return the module at the first of the alternatives that exists."""
    return None if root is None else find(root, which(root, path))


def blocks_at(root: nn.Module, layers: str) -> list[Block]:
    """Return the blocks of a stack, in order; none if its list is not in *root*.

    Args:
        layers: path of the list. ``*`` stands for every child of a list in between, so that
            ``encoder.groups.*.layers`` are all layers of all groups.
    """
    for option in layers.split("|"):
        found = list(_expand(root, option.strip()))
        if found:
            return found
    return []


def _expand(root: nn.Module, path: str) -> Iterator[Block]:
    head, star, rest = path.partition(".*.")
    holder = find(root, head)
    for name, child in holder._modules.items() if holder is not None else ():
        if child is None:
            continue
        where = join(head, name)
        if not star:
            yield Block(where, child, (name,))
            continue
        for inner in _expand(child, rest):
            yield Block(f"{where}.{inner.path}", inner.module, (name, *inner.numbers))
