"""Models that are made of two models, each of a family of its own: :func:`nested_row`."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from adapterhub.architectures.paths import join
from adapterhub.architectures.resolve import base_model_of, row_of
from adapterhub.architectures.rows import Row, StackRow


def nested_row(base: nn.Module) -> Row | None:
    """Return the row of an encoder-decoder made of two models, ``None`` if *base* is none.

    Layers of the decoder are numbered from 0 again, and each part has prefix pools of its own, as in the
    peer's files.
    """
    config = getattr(base, "config", None)
    stacks: list[StackRow] = []
    for part in ("encoder", "decoder"):
        model = base._modules.get(part)
        if not isinstance(model, PreTrainedModel) or not isinstance(
            getattr(config, part, None), PreTrainedConfig
        ):
            return None
        inner, path = base_model_of(model)
        root = join(part, path)
        row = row_of(inner)
        for index, stack in enumerate(row.stacks):
            name = part if len(row.stacks) == 1 else f"{part}_{stack.name}"
            moved = _moved(stack, root)
            if part == "decoder":  # its input is not the model's
                moved = replace(moved, embed=None, invertible=None)
            stacks.append(replace(moved, name=name, renumber=not index))
    return Row(getattr(config, "model_type", ""), tuple(stacks))


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
