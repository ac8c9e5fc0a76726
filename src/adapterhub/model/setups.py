"""Whole compositions on disk: ``adapter_setup.json`` beside one folder for each part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterhub.checkpoints.adapters import HEAD_CONFIG, VERSION, read_head
from adapterhub.checkpoints.atomic import replacing
from adapterhub.checkpoints.files import read_json, write_json
from adapterhub.composition import AdapterCompositionBlock, Fuse, names_in, parse_composition
from adapterhub.errors import CheckpointError
from adapterhub.model import headfiles

SETUP = "adapter_setup.json"


def save(handle: Any, folder: Path, setup: Any, head_setup: Any, options: dict[str, Any]) -> None:
    """Write *setup* and everything in it into *folder*."""
    tree = parse_composition(setup)
    if tree is None:
        raise CheckpointError("There is nothing to save: the setup is empty.")
    names = list(dict.fromkeys(names_in(tree)))
    fusions = _fusions(tree)
    with replacing(folder, (SETUP, *names, *(f.name for f in fusions))) as fresh:
        heads = (
            head_setup.to_dict() if isinstance(head_setup, AdapterCompositionBlock) else head_setup
        )
        write_json(
            fresh / SETUP,
            {"adapter_setup": tree.to_dict(), "head_setup": heads, "version": VERSION},
        )
        for name in names:
            handle.save_adapter(fresh / name, name, **options)
        for block in fusions:
            handle.save_adapter_fusion(fresh / block.name, block)


def load(handle: Any, folder: Path, set_active: bool, options: dict[str, Any]) -> tuple[Any, Any]:
    """Load every part of a saved composition; activate it if asked."""
    data = read_json(folder / SETUP)
    tree = AdapterCompositionBlock.from_dict(data.get("adapter_setup") or {})
    stored = data.get("head_setup")
    heads = AdapterCompositionBlock.from_dict(stored) if isinstance(stored, dict) else stored
    fusions = _fusions(tree)
    parts = [*dict.fromkeys(names_in(tree)), *(block.name for block in fusions)]
    missing = [name for name in parts if not (folder / name).is_dir()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks the folders {', '.join(missing)} of its setup {tree!r}."
        )
    for name in dict.fromkeys(names_in(tree)):
        handle.load_adapter(folder / name, **options)
    for block in fusions:
        handle.load_adapter_fusion(folder / block.name)
    for child in sorted(folder.iterdir()):
        if child.name not in parts and (child / HEAD_CONFIG).is_file() and handle.engine.own_heads:
            head = read_head(child)
            put = None if head is None else headfiles.check(handle.engine, head, None)
            if put is not None:
                put()
    if set_active:
        handle.set_active_adapters(tree)
        if heads and handle.engine.own_heads and not isinstance(heads, bool):
            handle.model.active_head = heads
    return tree, heads


def _fusions(tree: Any) -> list[Fuse]:
    if not isinstance(tree, AdapterCompositionBlock):
        return []
    own = [tree] if isinstance(tree, Fuse) else []
    return own + [block for child in tree.children for block in _fusions(child)]
