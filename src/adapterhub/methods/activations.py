"""Activation functions by the names that adapter configs use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from adapterhub.errors import ConfigError, did_you_mean

Activation = Callable[[torch.Tensor], torch.Tensor]


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x


_gelu_tanh = partial(F.gelu, approximate="tanh")

ACTIVATIONS: dict[str, Activation] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "hardswish": F.hardswish,
    "leakyrelu": F.leaky_relu,
    "linear": _identity,
    "mish": F.mish,
    "relu": torch.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Activation:
    """Return the function called *name* (case does not matter).

    Raises:
        ConfigError: unknown both here and in transformers.
    """
    key = name.lower()
    if key in ACTIVATIONS:
        return ACTIVATIONS[key]
    from transformers.activations import ACT2FN

    if key in ACT2FN:
        return ACT2FN[key]
    known = sorted(set(ACTIVATIONS) | set(ACT2FN))
    raise ConfigError(f"Unknown non_linearity '{name}'.{did_you_mean(key, known)}")
