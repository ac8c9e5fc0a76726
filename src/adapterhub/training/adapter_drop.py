"""Robust AdapterDrop: train with a random number of the lowest layers' adapters left out.

Rücklé et al. 2021, "AdapterDrop: On the Efficiency of Adapters in Transformers", section 4. Afterwards the
first n layers may go without adapters at inference (``set_active_adapters(setup, skip_layers=range(n))``)
at little loss, and a batch for several adapters shares these layers.
"""

from __future__ import annotations

import random
from typing import Any

from transformers import TrainerCallback

from adapterhub.errors import ConfigError


class AdapterDrop(TrainerCallback):
    """Draw n uniformly from 0 to *most* in each step, and leave out the adapters of the first n layers.

    Pass it to a trainer as one of its ``callbacks``. Evaluation and the end of training see all layers.

    Args:
        most: largest number of layers left out in a step; below the number of layers.
        seed: of the draws; each step's draw depends on it and the step alone, so a resumed run repeats them.

    Raises:
        ConfigError: *most* is negative, or (when training begins) not below the number of layers.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        if most < 0:
            raise ConfigError(f"AdapterDrop: most={most}; a number of layers is not negative.")
        self.most, self.seed = most, seed
        self._setup: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        handle = _handle(kwargs["model"])
        layers = len(handle.engine.resolved.layers)
        if self.most >= layers:
            raise ConfigError(f"AdapterDrop: most={self.most}, but the model has {layers} layers.")
        self._setup = handle.active_adapters

    def dropped(self, step: int) -> int:
        """Return how many layers go without adapters in training step *step*."""
        return random.Random(f"{self.seed} {step}").randint(0, self.most)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        handle = _handle(kwargs["model"])
        handle.engine.activate(self._setup, list(range(self.dropped(state.global_step))))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        _handle(kwargs["model"]).engine.activate(self._setup)


def _handle(model: Any) -> Any:
    return getattr(model, "module", model).__dict__["_adapterhub"]
