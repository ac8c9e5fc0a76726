"""Base models for a trial: the shapes of the real one without memory, and a small one that runs.

The real shapes lie on the meta device, which costs nothing, whatever the size. The small one has the real
widths, because an adapter's tensors have them, but few layers and a short vocabulary, and random weights.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from adapterhub.architectures.dummies import working_inputs

#: Names by which configurations tell the number of layers.
_LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
_VOCABULARY = 1024
_SPECIAL = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "cls_token_id",
    "mask_token_id",
    "unk_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)
#: Up to so many weights a trial builds, in float32.
COMFORTABLE, MOST = 30_000_000, 450_000_000


class CannotRun(Exception):
    """The base model cannot be run here, which is no fault of the adapter."""


class NeedsDepth(Exception):
    """The adapter's tensors depend on the number of layers, so no layer can be left out."""


def config_of(values: dict[str, Any]) -> Any:
    """Return the configuration object for plain values; nothing is fetched, no code is taken along."""
    values = {
        key: value
        for key, value in values.items()
        if key not in ("auto_map", "quantization_config", "torch_dtype", "dtype", "architectures")
        and not key.startswith("_")
    }
    return AutoConfig.for_model(values.pop("model_type"), **values)


def on_meta(kind: Any, config: Any) -> PreTrainedModel:
    """Return a model of an ``Auto`` class with shapes only."""
    with torch.device("meta"):
        return kind.from_config(copy.deepcopy(config)).eval()


def thin(
    kind: Any, config: Any, *, whole_vocabulary: bool = False, whole_depth: bool = False
) -> tuple[Any, int | None]:
    """Return a configuration with as many layers as can be run quickly, and how many they are.

    Args:
        kind: the ``Auto`` class that will be built.
        whole_vocabulary: keep all tokens, because the adapter holds something for them.
        whole_depth: keep all layers.

    Raises:
        CannotRun: If that is too large, or the family cannot be had with fewer layers.
    """
    try:
        return _thin(kind, config, whole_vocabulary, whole_depth)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # (The configuration is one that the hub knows, so this says nothing about the adapter.)
        raise CannotRun(f"no small model can be made of the base model: {error}") from error


def _thin(
    kind: Any, config: Any, whole_vocabulary: bool, whole_depth: bool
) -> tuple[Any, int | None]:
    made = copy.deepcopy(config)
    if not whole_vocabulary:
        _shorten_vocabulary(made)
    total = _depth(made)
    if total is None or whole_depth:
        if _size(kind, made) > MOST:
            raise CannotRun(f"this base model is too large ({_size(kind, made):,} weights)")
        return made, total
    one = _with_depth(made, 1)
    rest = _size(kind, one)
    layer = max(_size(kind, _with_depth(made, min(2, total))) - rest, 1) if total > 1 else rest
    depth = max(1, min(total, 1 + (COMFORTABLE - rest) // layer))
    if total > 1 and depth == 1 and rest + layer <= MOST // 2:
        depth = 2  # so that something follows the first layer
    if rest > MOST:
        raise CannotRun(f"this base model is too large ({rest:,} weights with a single layer)")
    return _with_depth(made, int(depth)), int(depth)


def _depth(config: Any) -> int | None:
    found = [value for name in _LAYERS if isinstance(value := getattr(config, name, None), int)]
    return max(found) if found else None


def _with_depth(config: Any, depth: int) -> Any:
    made = copy.deepcopy(config)
    before = _depth(made)
    for name in _LAYERS:
        value = getattr(made, name, None)
        if isinstance(value, int) and value > depth:
            setattr(made, name, depth)
    for name, value in list(vars(made).items()):
        if isinstance(value, list) and len(value) == before and before != depth:
            setattr(made, name, value[:depth])
    return made


def _shorten_vocabulary(config: Any) -> None:
    size = getattr(config, "vocab_size", None)
    if not isinstance(size, int) or size <= _VOCABULARY:
        return
    config.vocab_size = _VOCABULARY
    for name in _SPECIAL:
        value = getattr(config, name, None)
        if isinstance(value, int) and value >= _VOCABULARY:
            setattr(config, name, value % 8)


def _size(kind: Any, config: Any) -> int:
    return sum(parameter.numel() for parameter in on_meta(kind, config).parameters())


def runnable(kind: Any, config: Any) -> tuple[Any, dict[str, Any], torch.Tensor]:
    """Return a model with random weights, inputs on which it runs, and its output for them.

    Raises:
        CannotRun: If it runs on none that we can make up.
    """
    torch.manual_seed(0)
    model = kind.from_config(config).eval()
    if getattr(model.config, "pad_token_id", None) is None:  # some heads look for the last token
        model.config.pad_token_id = 0
    inputs = working_inputs(model)
    if inputs is None:
        raise CannotRun(f"no inputs are known on which a {type(model).__name__} runs")
    return model, inputs, first_output(model(**inputs))


def first_output(result: Any) -> torch.Tensor:
    """Return the tensor that a model's answer is about: logits, hidden states, or what there is.

    Raises:
        ValueError: If there is none.
    """
    for name in ("logits", "last_hidden_state", "start_logits", "prediction_logits"):
        value = getattr(result, name, None)
        if isinstance(value, torch.Tensor):
            return value
    for value in result.values() if hasattr(result, "values") else result:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value
    raise ValueError("the model gives no tensor")
