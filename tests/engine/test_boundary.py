"""Where forward passes begin and end."""

from __future__ import annotations

import torch

import adapterhub
from adapterhub import Parallel
from adapterhub.context import local
from tests.rules.families import FAMILIES
from tests.rules.test_rules import output, randomize


def test_a_pass_that_was_left_open_does_not_reach_into_other_models() -> None:
    """A failed export, say, runs no hooks after it; the thread's next model must not notice."""
    inputs = FAMILIES["bert"].inputs()
    models = []
    for _ in range(2):
        model = adapterhub.init(FAMILIES["bert"].model())
        for name in ("a", "b"):
            model.add_adapter(name, config="lora[init_weights='bert']")
        randomize(model, "a", "b")
        model.set_active_adapters(Parallel("a", "b"))
        models.append(model)
    expected = output(models[1], inputs)
    before = local.ctx
    boundary = models[0].adapter_handle.engine._boundary
    boundary.enter(models[0], (), dict(inputs))  # and never left
    assert local.ctx is not before
    for _ in range(2):
        torch.testing.assert_close(output(models[1], inputs), expected, rtol=0, atol=0)
    torch.testing.assert_close(output(models[0], inputs), expected, rtol=0, atol=1e-6)
