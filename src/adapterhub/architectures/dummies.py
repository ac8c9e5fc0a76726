"""Stand-ins for real inputs, which most models accept: :func:`candidates`, :func:`runnable_parts`."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from adapterhub.architectures.paths import blocks_at
from adapterhub.architectures.rows import Row
from adapterhub.architectures.sizes import hidden_size

BATCH, LENGTH = 2, 8


def dummy_inputs(model: nn.Module) -> dict[str, Any]:
    """Return inputs for one forward of *model*: a batch of two, made from its config and signature.

    Token ids avoid special tokens; nothing is drawn from the global random number generator.
    """
    parameters = inspect.signature(model.forward).parameters
    names = set(parameters)
    main = getattr(model, "main_input_name", "input_ids")
    config = getattr(model, "config", None)
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(0)
    made: dict[str, Any] = {}

    def floats(*shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=generator)
        return values.to(parameter.device, parameter.dtype)

    if "input_ids" in names:
        ids = token_ids(config, generator)
        made["input_ids"] = ids.to(parameter.device)
        if "attention_mask" in names:
            made["attention_mask"] = torch.ones_like(made["input_ids"])
    required = (
        parameters["pixel_values"].default is inspect.Parameter.empty
        if "pixel_values" in names
        else False
    )
    alone = "input_ids" not in names  # some towers inherit the main input of the model around them
    if "pixel_values" in names and (
        main == "pixel_values" or alone or required or _is_dual(config)
    ):
        made["pixel_values"] = floats(BATCH, *image_shape(config))
    if main == "input_features" and main in names:
        positions, mels = (
            getattr(config, "max_source_positions", None),
            getattr(config, "num_mel_bins", None),
        )
        if mels and positions:  # log-mel spectrogram of a fixed length, features first
            made["input_features"] = floats(BATCH, int(mels), 2 * int(positions))
        else:
            features = (
                first_of(config, "input_feat_per_channel", "feature_projection_input_dim") or 80
            )
            made["input_features"] = floats(BATCH, 64, int(features))
    if main == "input_values" and main in names:
        mels, frames = getattr(config, "num_mel_bins", None), getattr(config, "max_length", None)
        spectrogram = (
            isinstance(mels, int) and isinstance(frames, int) and not hasattr(config, "conv_dim")
        )
        made["input_values"] = (
            floats(BATCH, frames or 0, mels or 0) if spectrogram else floats(BATCH, 4000)
        )
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        made["decoder_input_ids"] = token_ids(config, generator).to(parameter.device)
    if "use_cache" in names:
        made["use_cache"] = False
    return made


def candidates(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield inputs for one forward of *model*, the likeliest first: :func:`dummy_inputs` and variations.

    The variations have what some families want besides (boxes, masks, grids of patches) and other shapes of
    images, videos and spectrograms.
    """
    base = dummy_inputs(model)
    yield base
    made = {**base, **_besides(model, base)}
    yield made
    names = set(inspect.signature(model.forward).parameters)
    config = getattr(model, "config", None)
    floats = Floats(model)
    if names & {"input_features", "audio_mel"}:
        yield from _spectrograms(names, config, made, floats)
    if "input_values" in names:
        yield {**made, "input_values": floats(BATCH, 4000)}
        yield {**made, "input_values": floats(BATCH, 1, 4000)}
        yield {**made, "input_values": floats(BATCH, 16, _hidden(config))}
    if any(name.endswith("grid_thw") for name in names):
        yield from _patches(names, config, made, floats)
    images = names & {"pixel_values", "pixel_values_videos"}
    if images:
        shape = image_shape(config)
        frames = first_of(config, "num_frames", "frames_per_clip") or 4
        if "aspect_ratio_mask" in names:  # images in tiles
            yield {**made, "pixel_values": floats(BATCH, 1, 1, *shape)}
        for count in dict.fromkeys((frames, 2, 1)):
            yield {**made, **{name: floats(BATCH, count, *shape) for name in images}}
        side = first_of(getattr(config, "vision_config", config), "patch_size") or 8
        if isinstance(side, int) and shape[0] * side * side < 10_000:
            flat = floats(BATCH, 16, shape[0] * side * side)
            yield {**made, **dict.fromkeys(images, flat)}
    if "inputs_embeds" in names and "input_ids" in made:  # parts that embed nothing themselves
        yield {
            **{k: v for k, v in made.items() if k != "input_ids"},
            "inputs_embeds": floats(BATCH, LENGTH, _hidden(config)),
        }


def working_inputs(model: nn.Module) -> dict[str, Any] | None:
    """Return inputs on which *model* runs, ``None`` if it runs on none.

    Text with images in it where the model reads that, else the first of the :func:`candidates`.
    """
    from adapterhub.architectures.pictures import pictured  # reads this module

    try:
        for inputs in itertools.chain(pictured(model), candidates(model)):
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    model(**inputs)
                return inputs
            except Exception:  # whatever a stranger's forward raises, it does not run
                continue
    except Exception:  # a config that even making inputs stumbles over
        return None
    return None


class Floats:
    """Makes normal floats where the model is, the same ones each time."""

    def __init__(self, model: nn.Module) -> None:
        self.like = next(model.parameters())
        self.generator = torch.Generator().manual_seed(1)

    def __call__(self, *shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=self.generator)
        return values.to(self.like.device, self.like.dtype)


def _besides(model: nn.Module, made: dict[str, Any]) -> dict[str, Any]:
    """Return what a few families want besides the usual inputs."""
    names = set(inspect.signature(model.forward).parameters) - set(made)
    config: Any = getattr(model, "config", None)
    floats = Floats(model)
    device, hidden = floats.like.device, _hidden(config)
    length = first_of(config, "context_length", "seq_length") or 32
    channels = first_of(config, "num_input_channels") or 1
    past = (BATCH, length, channels) if hasattr(config, "num_input_channels") else (BATCH, length)
    known: dict[str, Any] = {
        "bbox": torch.arange(4, device=device).expand(BATCH, LENGTH, 4),
        "inputs_embeds": None if "input_ids" in made else floats(BATCH, LENGTH, hidden),
        "query_embeds": floats(BATCH, LENGTH, hidden),
        "noise_embeds": floats(BATCH, LENGTH, hidden),
        "encoder_hidden_states": None if "input_ids" in made else floats(BATCH, LENGTH, hidden),
        "context_hidden_states": floats(BATCH, LENGTH, hidden),
        "visual_feats": floats(BATCH, 4, first_of(config, "visual_feat_dim") or hidden),
        "visual_pos": floats(BATCH, 4, 4).sigmoid(),
        "past_values": floats(*past),
        "past_values_padding": torch.zeros(BATCH, length, dtype=torch.long, device=device),
        "freq": torch.zeros(BATCH, 1, dtype=torch.long, device=device),
        "lang_ids": torch.zeros(BATCH, dtype=torch.long, device=device),
        "task_inputs": torch.ones(BATCH, LENGTH, dtype=torch.long, device=device),
        "pixel_attention_mask": torch.ones(BATCH, 16, dtype=torch.long, device=device),
        "spatial_shapes": torch.full((BATCH, 2), 4, dtype=torch.long, device=device),
        "pixel_position_ids": torch.cartesian_prod(torch.arange(4), torch.arange(4))
        .expand(BATCH, -1, -1)
        .to(device),
        "context": floats(BATCH, LENGTH, hidden),
        "attention_mask": torch.ones(BATCH, LENGTH, device=device) if "context" in names else None,
        "mask": torch.ones(BATCH, 64, dtype=torch.bool, device=device),
        "hidden_states": floats(BATCH, 64, first_of(config, "input_size") or hidden)
        if "mask" in names
        else None,
        "aspect_ratio_ids": torch.ones(BATCH, 1, dtype=torch.long, device=device),
        "aspect_ratio_mask": torch.ones(BATCH, 1, 1, dtype=torch.long, device=device),
        "image_attention_mask": torch.ones(BATCH, LENGTH, 1, dtype=torch.long, device=device),
        "target_sizes": torch.full((BATCH, 2), 4, dtype=torch.long, device=device),
    }
    wanted = {name: known[name] for name in names & known.keys() if known[name] is not None}
    if "input_features" in made and "input_features_mask" in names:
        frames = made["input_features"].shape[1]
        wanted["input_features_mask"] = torch.ones(BATCH, frames, dtype=torch.long, device=device)
    if "pixel_values" in names and "input_ids" in made:
        wanted["pixel_values"] = floats(BATCH, *image_shape(config))
    return wanted


def _spectrograms(
    names: set[str], config: Any, made: dict[str, Any], floats: Floats
) -> Iterator[dict[str, Any]]:
    """Features of sound, time first and time last, with a mask if there is a place for it."""
    audio = getattr(config, "audio_config", None) or config
    inner = [value for value in vars(config).values() if hasattr(value, "to_dict")]
    values = {k: v for source in (*inner, config) for k, v in vars(source).items()}
    widths = [
        value
        for name, value in values.items()
        if isinstance(value, int)
        and (any(word in name for word in ("mel", "feat")) or name.startswith("input_"))
        and 8 <= value <= 1024
    ]
    key = "input_features" if "input_features" in names else "audio_mel"
    positions = first_of(audio, "max_source_positions") or 32
    for width in dict.fromkeys([*widths, 128, 80]):
        for shape in ((64, width), (width, 64), (width, 2 * positions)):
            inputs = {**made, key: floats(BATCH, *shape)}
            for mask in names & {"input_features_mask", "audio_mel_mask"}:
                time = shape[0] if shape[1] == width else shape[1]
                kind = torch.bool if mask == "audio_mel_mask" else torch.long
                value = torch.ones(BATCH, time, dtype=kind, device=floats.like.device)
                inputs[mask] = ~value if kind is torch.bool else value
            yield inputs


def _patches(
    names: set[str], config: Any, made: dict[str, Any], floats: Floats
) -> Iterator[dict[str, Any]]:
    """Images as a list of patches, with the grid that each of them has."""
    vision = getattr(config, "vision_config", None) or config
    side = first_of(vision, "patch_size", "spatial_patch_size") or 8
    time = first_of(vision, "temporal_patch_size") or 1
    channels = first_of(vision, "in_channels", "num_channels", "in_chans") or 3
    grid = torch.tensor([[1, 4, 4]] * BATCH, device=floats.like.device)
    grids = {name: grid for name in names if name.endswith("grid_thw")}
    if "merge_sizes" in names:
        grids["merge_sizes"] = torch.ones(BATCH, dtype=torch.long, device=grid.device)
    key = "hidden_states" if "hidden_states" in names else "pixel_values"
    shapes = [(channels * time * side * side,), (channels * side * side,), (channels, side, side)]
    for shape in (*shapes, (channels, time, side, side)):
        yield {**made, **grids, key: floats(BATCH * 16, *shape)}
        yield {**made, **grids, key: floats(1, BATCH * 16, *shape)}


def _hidden(config: Any) -> int:
    return hidden_size(config) or 32


def runnable_parts(model: nn.Module, row: Row) -> list[tuple[nn.Module, dict[str, Any]]]:
    """Return what has to be called, and with what, so that as many stacks of *row* run as possible.

    The model itself comes first, if it runs on dummy inputs; then sub-models around stacks that did not run
    by then (a vision tower behind text). Empty if nothing runs.
    """
    from transformers import PreTrainedModel

    found: list[tuple[nn.Module, dict[str, Any]]] = []
    base = model
    prefix = getattr(model, "base_model_prefix", "")
    if prefix and isinstance(inner := getattr(model, prefix, None), nn.Module):
        base = inner
    firsts = {stack.name: blocks_at(base, stack.layers) for stack in row.stacks}
    ran: set[str] = set()

    def attempt(part: nn.Module) -> None:
        handles = [
            blocks[0].module.register_forward_pre_hook(lambda *_, name=name: names.add(name))
            for name, blocks in firsts.items()
            if blocks
        ]
        names: set[str] = set()
        try:
            inputs = working_inputs(part)
        finally:
            for handle in handles:
                handle.remove()
        if inputs is not None and (names - ran or part is model):
            found.append((part, inputs))
            ran.update(names)

    attempt(model)
    tried = {id(model)}
    for name, blocks in firsts.items():
        path = blocks[0].path if blocks else ""
        while path and name not in ran:
            path = path.rpartition(".")[0]
            owner = base.get_submodule(path)
            if isinstance(owner, PreTrainedModel) and id(owner) not in tried:
                tried.add(id(owner))
                attempt(owner)
    return found


def token_ids(config: Any, generator: torch.Generator) -> torch.Tensor:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    vocabulary = first_of(text, "vocab_size") or first_of(config, "vocab_size") or 32
    special = {
        value
        for source in (config, text)
        for name, value in vars(source).items()
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int)
    }
    usable = [i for i in range(min(vocabulary, 4096)) if i not in special] or [0]
    drawn = torch.randint(len(usable), (BATCH, LENGTH), generator=generator)
    return torch.tensor(usable)[drawn]


def _is_dual(config: Any) -> bool:
    """Whether the model takes text and images side by side (rather than images as tokens)."""
    names = vars(config) if config is not None else {}
    tokens = any(name.startswith("image_token") for name in names)
    towers = {"text_config", "vision_config"} <= set(names)
    patches = {"vocab_size", "patch_size", "image_size", "num_channels"} <= set(names)
    return (towers or patches) and not tokens


def image_shape(config: Any) -> tuple[int, ...]:
    encoder = getattr(config, "encoder", None)
    vision = getattr(config, "vision_config", None) or encoder or config
    size = first_of(vision, "image_size") or first_of(config, "image_size") or 224
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = first_of(vision, "num_channels", "in_channels", "in_chans") or 3
    return channels, height, width


def first_of(config: Any, *names: str) -> Any:
    return next((v for n in names if (v := getattr(config, n, None)) is not None), None)
