"""Stand-ins for what vision-language models read: text with as many places for images as they need."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from adapterhub.architectures.dummies import BATCH, Floats, first_of, image_shape, token_ids

#: What configs call the token that stands for a piece of an image.
_TOKEN = ("image_token_id", "image_token_index")


def pictured(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield inputs with images for one forward of *model*; nothing for models that read none with text.

    The vision part is run on made-up images, and the text gets one place for each feature that comes out.
    """
    names = set(inspect.signature(model.forward).parameters)
    features_of: Any = getattr(model, "get_image_features", None)
    config: Any = getattr(model, "config", None)
    token = first_of(config, *_TOKEN)
    if not {"input_ids", "pixel_values"} <= names or token is None:
        return
    if "cross_attention_mask" in names:  # images stay beside the text
        for images in _images(config, Floats(model)):
            if set(images) <= names:
                yield _written(names, config, int(token), 1, images)
    if features_of is None:
        return
    wanted = set(inspect.signature(features_of).parameters)
    for images in _images(config, Floats(model)):
        given = {name: value for name, value in images.items() if name in wanted | {"pixel_values"}}
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                count = _count(features_of(**given))
        except Exception:  # (another shape of images, then)
            continue
        if count and not count % BATCH:
            yield _written(names, config, int(token), count // BATCH, images)


def _images(config: Any, floats: Floats) -> Iterator[dict[str, Any]]:
    shape = image_shape(config)
    vision = getattr(config, "vision_config", None) or config
    side = first_of(vision, "patch_size", "spatial_patch_size") or 8
    time = first_of(vision, "temporal_patch_size") or 1
    device = floats.like.device
    sizes = {"image_sizes": torch.tensor([shape[1:]] * BATCH, device=device)}
    tiles = {
        "aspect_ratio_ids": torch.ones(BATCH, 1, dtype=torch.long, device=device),
        "aspect_ratio_mask": torch.ones(BATCH, 1, 1, dtype=torch.long, device=device),
    }
    yield {"pixel_values": floats(BATCH, *shape)}
    yield {"pixel_values": floats(BATCH, 1, *shape), **sizes}
    yield {"pixel_values": floats(BATCH, 1, 1, *shape), **tiles}
    if isinstance(side, int):
        flat, grid = shape[0] * side * side, torch.tensor([[1, 4, 4]] * BATCH, device=device)
        yield {"pixel_values": floats(BATCH * 16, time * flat), "image_grid_thw": grid}
        across = torch.cartesian_prod(torch.arange(4), torch.arange(4)).expand(BATCH, -1, -1)
        yield {"pixel_values": floats(BATCH, 16, flat), "image_position_ids": across.to(device)}


def _count(features: Any) -> int:
    """How many positions of text the features of all images take."""
    found = getattr(features, "pooler_output", None)
    found = getattr(features, "last_hidden_state", features) if found is None else found
    if isinstance(found, torch.Tensor):
        return found.numel() // found.shape[-1]
    return sum(_count(part) for part in found)


def _written(
    names: set[str], config: Any, token: int, places: int, images: dict[str, Any]
) -> dict[str, Any]:
    device = images["pixel_values"].device
    text = token_ids(config, torch.Generator().manual_seed(0)).to(device)
    ids = torch.cat([text[:, :1], text.new_full((BATCH, places), token), text[:, 1:]], 1)
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    made["mm_token_type_ids"] = made["token_type_ids"] = (ids == token).long()
    made = {name: value for name, value in made.items() if name in names}
    return {**made, **{name: value for name, value in images.items() if name in names}}
