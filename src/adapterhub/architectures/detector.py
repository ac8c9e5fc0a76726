"""A row for a family that the table does not have, read from the module tree: :func:`detect`.

The detector looks for lists of equal blocks that hold an attention (or another mixer), names each
stack by its path, and reads one :class:`Sublayer` per kind of block. It never runs the model; the
probe (:mod:`~adapterhub.architectures.probe`) confirms and corrects what can only be guessed so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from adapterhub.architectures.blocks import BlockParts, read_block
from adapterhub.architectures.paths import blocks_at, find, join, parent_of
from adapterhub.architectures.resolve import base_model_of
from adapterhub.architectures.rows import Row, StackRow, Sublayer
from adapterhub.architectures.structure import (
    expert_lists,
    has_attention,
    is_attention,
    is_list,
    is_mixed_by_tensor,
    is_norm,
    linears,
    merge_paths,
)
from adapterhub.errors import ArchitectureError

_STACK_WORDS = (
    ("vision", ("vision", "visual", "image", "vit", "pixel")),
    ("audio", ("audio", "speech", "acoustic")),
    ("text", ("text", "language")),
    ("decoder", ("decoder",)),
    ("encoder", ("encoder",)),
)


@dataclass(frozen=True)
class Detection:
    """What was found.

    Attributes:
        row: the row. ``notes``: what is missing in it and why, one sentence each, led by the stack.
    """

    row: Row
    notes: tuple[str, ...]


def detect(model: nn.Module) -> Row:
    """Read the row of *model* from its module tree, without running it.

    Raises:
        ArchitectureError: there is no list of blocks with an attention or a mixer.
    """
    return detect_with_notes(model).row


def detect_with_notes(model: nn.Module) -> Detection:
    """As :func:`detect`, with the reasons for everything that was left out."""
    base, _ = base_model_of(model)
    paths = find_stacks(base)
    if not paths:
        raise ArchitectureError(_why_nothing(base))
    config = getattr(base, "config", None)
    names = _stack_names(base, config, paths)
    order = sorted(paths, key=lambda path: names[path].startswith("decoder"))
    encoded = any(name.startswith("encoder") for name in names.values())
    stacks, notes = [], []
    for path in order:
        stack, found = _read_stack(base, names[path], path, encoded)
        stacks.append(stack)
        notes += [f"{stack.name}: {note}" for note in found]
    model_type = getattr(config, "model_type", "") or type(base).__name__
    row = Row(model_type, tuple(stacks), getattr(model, "base_model_prefix", ""), "detected")
    return Detection(row, tuple(notes))


# -- block lists -----------------------------------------------------------------------------------


def find_stacks(base: nn.Module) -> list[str]:
    """Return the paths of the block lists in *base*, in registration order."""
    found: list[str] = []
    _collect(base, "", found)
    return _joined(base, found or _mixer_stacks(base))


def _joined(base: nn.Module, paths: list[str]) -> list[str]:
    """Write the block lists of groups or stages (``groups.0.layers``, …) as one (``groups.*.layers``)."""
    result: list[str] = []
    for path in paths:
        parts = path.split(".")
        numbered = [i for i, part in enumerate(parts[:-1]) if part.isdigit()]
        if len(numbered) == 1:
            number = numbered[0]
            pattern = ".".join([*parts[:number], "*", *parts[number + 1 :]])
            blocks = {id(block.module) for block in blocks_at(base, pattern)}
            others = [p for p in paths if _is_like(p, pattern)]
            apart = [find(base, p) for p in others]
            if len(others) > 1 and blocks == {id(b) for o in apart if o for b in o.children()}:
                path = pattern
        if path not in result:
            result.append(path)
    return result


def _is_like(path: str, pattern: str) -> bool:
    pairs = list(zip(path.split("."), pattern.split("."), strict=False))
    same = path.count(".") == pattern.count(".")
    return same and all(one == two or (two == "*" and one.isdigit()) for one, two in pairs)


def _collect(module: nn.Module, path: str, found: list[str]) -> None:
    if is_list(module) and _is_stack(module):
        found.append(path)
        return
    for name, child in module.named_children():
        _collect(child, join(path, name), found)


def _is_stack(blocks: nn.Module) -> bool:
    """A list in which a block attends, unless whole blocks lie deeper (stages, groups)."""
    children = list(blocks.children())
    if not any(has_attention(child) for child in children):
        return False
    if not all(_is_block(child) for child in children):
        return False
    if all(is_attention(child) and not _is_complete(child) for child in children):
        return False
    return not any(_holds_blocks(child) for child in children)


def _holds_blocks(module: nn.Module) -> bool:
    lists = [child for child in module.modules() if is_list(child) and len(child._modules)]
    return any(all(_is_complete(block) for block in inner.children()) for inner in lists)


def _is_block(module: nn.Module) -> bool:
    return len(linears(module)) + len(expert_lists(module)) >= 2 or is_mixed_by_tensor(module)


def _is_complete(block: nn.Module) -> bool:
    """Whether a block has both an attention and a feed-forward network."""
    return has_attention(block) and "ffn" in read_block(block, True).sublayers


def _mixer_stacks(base: nn.Module) -> list[str]:
    """Lists of equal blocks with a norm and another mixer, for models without any attention."""
    found: list[str] = []
    for path, module in base.named_modules():
        children = list(module.children())
        if not is_list(module) or not children or any(path.startswith(f"{p}.") for p in found):
            continue
        equal = len({type(child) for child in children}) == 1
        normed = all(any(is_norm(m) for m in child.modules()) for child in children)
        mixed = all(
            (is_mixed_by_tensor(c) and len(linears(c)) >= 2)
            or ("ffn" in read_block(c, True).sublayers and not _is_convolutional(c))
            for c in children
        )
        if equal and normed and mixed:
            found.append(path)
    return found


def _is_convolutional(block: nn.Module) -> bool:
    return any(isinstance(child, nn.Conv2d | nn.Conv3d) for child in block.modules())


def _why_nothing(base: nn.Module) -> str:
    name = type(base).__name__
    if not has_attention(base):
        reason = (
            "no module in it owns q, k and v projections, and no list of blocks has another mixer"
        )
    else:
        reason = (
            "its attentions do not lie in one list of blocks, each with its feed-forward network"
        )
    return (
        f"{name}: {reason}. Describe the model by a Row and pass it in "
        "(`attach(model, row=...)` or `register_row(row)`)."
    )


# -- names -----------------------------------------------------------------------------------------


def _stack_names(base: nn.Module, config: Any, paths: list[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for path in paths:
        own = path.rpartition(".")[0]
        name = _by_path(own) or _by_words(str(getattr(config, "model_type", "")), _STACK_WORDS[:3])
        if name is None or (name in ("vision", "audio", "text") and len(paths) == 1):
            name = _by_path(own) if _by_path(own) in ("encoder", "decoder") else None
            name = name or ("decoder" if _is_causal(base, config, path) else "encoder")
        taken = sum(1 for other in names.values() if other.rstrip("0123456789") == name)
        names[path] = f"{name}{taken + 1}" if taken else name
    return names


def _by_path(path: str) -> str | None:
    for part in path.split("."):
        if (name := _by_words(part, _STACK_WORDS)) is not None:
            return name
    return None


def _by_words(text: str, table: tuple[tuple[str, tuple[str, ...]], ...]) -> str | None:
    return next(
        (name for name, words in table if any(word in text.lower() for word in words)), None
    )


def _is_causal(base: nn.Module, config: Any, path: str) -> bool:
    """Whether the stack sees only the past: by the attention's flag, else by the family's heads."""
    for place in blocks_at(base, path):
        for module in place.module.modules():
            flag = getattr(module, "is_causal", None)
            if isinstance(flag, bool):
                return flag
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    model_type = getattr(config, "model_type", None)
    causal = model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return causal and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


# -- one stack -------------------------------------------------------------------------------------


def _read_stack(base: nn.Module, name: str, path: str, encoded: bool) -> tuple[StackRow, list[str]]:
    places = blocks_at(base, path)
    children = [place.module for place in places]
    norm_first = _ends_with_norm(base, path)
    parts = [read_block(block, norm_first) for block in children]
    homes = frozenset(p.homes["ffn"].split(".")[0] for p in parts if p.homes.get("ffn"))
    for index, block in enumerate(children):
        if "self" not in parts[index].sublayers:
            parts[index] = read_block(block, norm_first, homes)
    sublayers, notes = _merge(children, parts)
    decoding = name.startswith("decoder") and ("cross" in sublayers or encoded) and encoded
    embed = None if decoding else f">{places[0].path}"
    bias = _shared_position_bias(children, sublayers.get("self"))
    return StackRow(name, path, sublayers, embed=embed, position_bias=bias), notes


def _merge(
    children: list[nn.Module], parts: list[BlockParts]
) -> tuple[dict[str, Sublayer], list[str]]:
    """One :class:`Sublayer` for all blocks; where blocks differ, paths with alternatives."""
    merged: dict[str, Sublayer] = {}
    notes: list[str] = []
    for name in ("self", "cross", "ffn"):
        having = [
            (child, part.sublayers[name])
            for child, part in zip(children, parts, strict=True)
            if name in part.sublayers
        ]
        if not having:
            continue
        values: dict[str, Any] = {}
        for entry in fields(Sublayer):
            if entry.name in ("qkv", "k_v", "gate_up"):
                given = (getattr(sub, entry.name) for _, sub in having)
                values[entry.name] = next((fused for fused in given if fused), None)
                continue
            if entry.name in ("norm_on", "swapped", "sees_sum"):
                continue
            path, wrong = merge_paths((block, getattr(sub, entry.name)) for block, sub in having)
            values[entry.name] = path
            if wrong:
                notes.append(
                    f"{name}.{entry.name}: blocks differ, {path} is wrong in {wrong} of them"
                )
        merged[name] = Sublayer(**values)
    counted = Counter(note for part in parts for note in part.notes)
    total = len(parts)
    notes += [
        note if n == total else f"{note} ({n} of {total} blocks)" for note, n in counted.items()
    ]
    return merged, notes


def _ends_with_norm(base: nn.Module, path: str) -> bool:
    """Whether a norm follows the list of blocks: the mark of pre-LN stacks."""
    from transformers import PreTrainedModel

    path = path.partition(".*")[0]
    while path:
        owner, name = find(base, parent_of(path)), path.rpartition(".")[2]
        assert owner is not None
        names = list(owner._modules)
        for other in names:
            later = names.index(other) > names.index(name) or "final" in other.lower()
            if later and "embed" not in other.lower() and is_norm(owner._modules[other] or owner):
                return True
        if isinstance(owner, PreTrainedModel):
            return False
        path = parent_of(path)
    return False


def _shared_position_bias(children: list[nn.Module], attention: Sublayer | None) -> str | None:
    """The attention of the first block, if it alone owns a table of relative position biases."""
    if attention is None or attention.kv is None:
        return None

    def owns(block: nn.Module) -> bool:
        core = find(block, attention.kv)
        if core is None or not hasattr(core, "compute_bias"):
            return False
        return any(isinstance(child, nn.Embedding) for child in core.children())

    if owns(children[0]) and not any(owns(block) for block in children[1:]):
        return f"0.{attention.kv}"
    return None
