"""Every method on every family of the table: it acts, learns, survives a file, and goes without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapterhub
from adapterhub.architectures import TABLE
from adapterhub.architectures.dummies import working_inputs
from adapterhub.errors import AdapterHubError
from tests.architectures.tiny import CONFIGS, tiny_model
from tests.rules.families import METHODS
from tests.rules.test_rules import randomize

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
#: What has no meaning, by family and method, and a word of the error that says so.
MEANINGLESS = {("beit", "prompt_tuning"): "finds no place"}  # (distances between image patches)


def forward(model: Any, inputs: dict[str, Any]) -> list[torch.Tensor]:
    """Return every floating-point tensor of the output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model(**inputs)
    tensors = []

    def collect(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point():
                tensors.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                collect(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                collect(item)

    collect(output if isinstance(output, (dict, tuple)) else vars(output))
    return tensors


def differs(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    """Whether some output changed, or became longer."""
    return any(
        a.shape != b.shape or bool((a - b).abs().max() > 1e-5)
        for a, b in zip(one, two, strict=False)
    )


@pytest.mark.parametrize("family", sorted(name for name in TABLE if name in CONFIGS))
def test_every_method_on(family: str, tmp_path: Any) -> None:
    plain: Any = tiny_model(family)
    plain.eval()
    inputs = working_inputs(plain)
    assert inputs is not None
    keys = list(plain.state_dict())
    with torch.no_grad():
        before = forward(plain, inputs)
    problems = []
    for method, config in METHODS.items():
        model = adapterhub.init(plain)
        expected = MEANINGLESS.get((family, method))
        try:
            model.add_adapter("a", config=config)
            randomize(model, "a")
            model.train_adapter("a")
            model.eval()
            after = forward(model, inputs)
            if not differs(after, before):
                problems.append(f"{method}: no effect")
            sum(t.float().pow(2).mean() for t in after if t.requires_grad).backward()  # type: ignore[union-attr]
            missing = sum(p.grad is None for p in model.adapter_handle.iter_parameters("a"))
            if missing:
                problems.append(f"{method}: {missing} parameters without gradient")
            model.save_adapter(tmp_path / method, "a")
            model.load_adapter(tmp_path / method, load_as="b", set_active=True)
            with torch.no_grad():
                again = forward(model, inputs)
            # (without gradients some constants are kept that are computed otherwise with them)
            if any(not torch.allclose(x, y, atol=1e-5) for x, y in zip(after, again, strict=True)):
                problems.append(f"{method}: another function after saving and loading")
            if expected:
                problems.append(f"{method}: works, although it is listed as meaningless")
        except (AdapterHubError, RuntimeError) as error:
            said = isinstance(error, AdapterHubError) and bool(expected)
            if not said or str(expected) not in str(error):
                problems.append(f"{method}: {type(error).__name__}: {str(error)[:160]}")
        model.adapter_handle.detach()
        model.zero_grad()
        with torch.no_grad():
            bare = forward(plain, inputs)
        if list(plain.state_dict()) != keys or any(
            not torch.equal(x, y) for x, y in zip(bare, before, strict=True)
        ):
            problems.append(f"{method}: left a trace")
    assert not problems, "\n".join(problems)
