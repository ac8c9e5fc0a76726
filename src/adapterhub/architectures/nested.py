"""Models that are made of models, each of a family of its own: :func:`expanded`, :func:`nested_row`."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from adapterhub.architectures.paths import find, join, which
from adapterhub.architectures.resolve import base_model_of, row_of
from adapterhub.architectures.rows import Part, Row, StackRow
from adapterhub.architectures.table import row_for
from adapterhub.architectures.table.multimodal import ENCODER_DECODER
from adapterhub.errors import ArchitectureError


def expanded(base: nn.Module, row: Row) -> Row:
    """Return *row* as it is for *base*: with the stacks of its parts, or those of a variant.

    A part that the model lacks (built without its vision tower, say), or in which nothing is found (a tower
    of convolutions), brings no stacks.

    Raises:
        ArchitectureError: the family that a part is said to have is not in the table, or not what it is.
    """
    config = getattr(base, "config", None)
    for variant in row.variants:
        if getattr(config, variant.field, None) == variant.value:
            row = replace(row, stacks=variant.stacks)
            break
    row = replace(row, variants=()) if row.variants else row
    if not row.parts:
        return row
    stacks: list[StackRow] = []
    for part in row.parts:
        path = which(base, part.path)
        inside = find(base, path)
        if path is None or not isinstance(inside, nn.Module):
            continue
        try:
            stacks += _stacks_of(inside, path, part)
        except ArchitectureError:
            if part.family:
                raise
    return replace(row, stacks=(*stacks, *row.stacks), parts=())


def nested_row(base: nn.Module) -> Row | None:
    """Return the row of an encoder-decoder made of two models, ``None`` if *base* is none."""
    config = getattr(base, "config", None)
    for part in ENCODER_DECODER:
        inside, own = base._modules.get(part.path), getattr(config, part.path, None)
        if not isinstance(inside, PreTrainedModel) or not isinstance(own, PreTrainedConfig):
            return None
    return expanded(base, Row(getattr(config, "model_type", ""), parts=ENCODER_DECODER))


def _stacks_of(model: nn.Module, path: str, part: Part) -> list[StackRow]:
    inner, below = base_model_of(model)
    root = join(path, below)
    if not part.family:
        row = row_of(inner)
    elif (row := row_for(part.family)) is None:
        raise ArchitectureError(
            f"The table has no row for '{part.family}', which {path} is to have."
        )
    else:
        row = expanded(inner, row)
    stacks = []
    for index, stack in enumerate(row.stacks):
        moved = _moved(stack, root)
        if not part.embedded:
            moved = replace(moved, embed=None, invertible=None)
        prompted, placed = moved.prompted and part.prompted, moved.placed or part.placed
        moved = replace(moved, prompted=prompted, placed=placed)
        name = part.name if len(row.stacks) == 1 else f"{part.name}_{stack.name}"
        stacks.append(replace(moved, name=name, renumber=part.renumber and not index))
    return stacks


def _moved(stack: StackRow, root: str) -> StackRow:
    """Return *stack* with its paths relative to what holds *root*."""

    def there(path: str | None) -> str | None:
        if path is None:
            return None
        options = (option.strip() for option in path.removeprefix(">").split("|"))
        return ">" * path.startswith(">") + "|".join(join(root, option) for option in options)

    peer = stack.peer
    if peer is not None:
        peer = replace(
            peer,
            layers=join(root, peer.layers),
            embed=join(root, peer.embed),
            root=join(root, peer.root),
        )
    return replace(
        stack,
        layers=str(there(stack.layers)),
        embed=there(stack.embed),
        invertible=there(stack.invertible),
        peer=peer,
    )
