"""Every method on every family of the table: it acts, learns, survives a file, and goes without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapterhub
from adapterhub.architectures import TABLE, resolve
from adapterhub.architectures.dummies import runnable_parts
from adapterhub.errors import AdapterHubError
from tests.architectures.tiny import CONFIGS, tiny_model
from tests.rules.families import METHODS
from tests.rules.test_rules import randomize

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]
_PREFIXES = ("prefix_tuning", "prefix_tuning_flat", "mam", "unipelt")
_LORAS = (
    "lora",
    "lora_all",
    "lora_gated",
    "lora_pissa",
    "ia3",
    "dora",
    "vera",
    "dvora",
    "mtl_lora",
)


def _none(methods: tuple[str, ...], words: str, *families: str) -> dict[tuple[str, str], str]:
    return {(family, method): words for family in families for method in methods}


#: What has no meaning, by family and method, and a word of the error that says so.
MEANINGLESS = {
    # Patches that have their places in a grid, by distances or when they are put together afterwards.
    **_none(("prompt_tuning",), "finds no place", "beit", "swin", "pixtral"),
    **_none(("prompt_tuning",), "finds no place", "qwen2_vl_vision", "qwen2_5_vl_vision"),
    **_none(("prompt_tuning",), "finds no place", "qwen3_vl_vision", "qwen3_vl_moe_vision"),
    **_none(("prompt_tuning",), "finds no place", "qwen3_5_vision", "llama4_vision_model"),
    **_none(("prompt_tuning",), "finds no place", "mllama_vision_model", "gemma4_vision"),
    **_none(("prompt_tuning",), "finds no place", "phi4_multimodal_vision"),
    # Sounds in chunks with masks of their own; vectors that are no input.
    **_none(("prompt_tuning",), "finds no place", "gemma3n_audio", "gemma4_audio"),
    **_none(("prompt_tuning",), "finds no place", "phi4_multimodal_audio", "idefics2_perceiver"),
    # No attention, or one whose keys are cut into overlapping windows.
    **_none(_PREFIXES, "finds no place", "mamba", "falcon_mamba", "mamba2", "rwkv"),
    **_none(_PREFIXES, "finds no place", "gemma3n_audio", "gemma4_audio"),
    **_none(_PREFIXES, "cannot act in LongT5LocalAttention", "longt5"),
    # No modules that make queries, keys and values.
    **_none(_LORAS, "asks for attn_matrices", "mamba", "falcon_mamba", "mamba2", "xlnet"),
    ("xlnet", "unipelt"): "asks for attn_matrices",
    # Norms without weights.
    ("olmo", "ln_tuning"): "finds no place",
}

Parts = list[tuple[Any, dict[str, Any]]]


def forward(parts: Parts) -> list[torch.Tensor]:
    """Return every floating-point tensor of the outputs."""
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

    for model, inputs in parts:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            output = model(**inputs)
        known = isinstance(output, (dict, tuple, torch.Tensor))
        collect(output if known else vars(output))
    return tensors


def reached(plain: Any, parts: Parts) -> set[int]:
    """Return the ids of the modules that run, but those of blocks that the outputs do not depend on."""
    ran: set[int] = set()
    hooks = [m.register_forward_pre_hook(lambda m, _: ran.add(id(m))) for m in plain.modules()]
    sum(t.float().pow(2).mean() for t in forward(parts) if t.requires_grad).backward()  # type: ignore[union-attr]
    for hook in hooks:
        hook.remove()
    for block in resolve(plain).layers:
        if all(p.grad is None for p in block.parameters()):
            ran -= {id(module) for module in block.modules()}
    plain.zero_grad()
    return ran


def without_gradient(handle: Any, ran: set[int]) -> int:
    """How many parameters of adapter "a" got no gradient, among those at modules that ran."""
    record, sites = handle.engine.adapters["a"], handle.engine.resolved.sites
    # (The norm behind the last block runs, but towers may hand on what is before it.)
    counted = {
        key: m for key, m in record.modules.items() if (key.sublayer, key.layer) != ("norm", None)
    }
    modules = [module for key, module in counted.items() if id(sites[key].host) in ran]
    if len(modules) == len(record.modules):  # (else some may be shared by modules that did not)
        modules += record.shared.values()
    return sum(p.grad is None for module in modules for p in module.parameters() if p.requires_grad)


def differ_by(one: torch.Tensor, two: torch.Tensor) -> float:
    """The largest difference between two outputs, as a part of their largest value if that is over 1."""
    one, two = one.detach(), two.detach()
    return float((one - two).abs().max() / one.abs().max().clamp_min(1.0))


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
    # The model itself and, where it does not run all of its towers on made-up inputs, those as well.
    parts = runnable_parts(plain, resolve(plain).row)
    assert parts[0][0] is plain
    keys = list(plain.state_dict())
    ran = reached(plain, parts)
    with torch.no_grad():
        before = forward(parts)
    problems = []
    for method, config in METHODS.items():
        model = adapterhub.init(plain)
        expected = MEANINGLESS.get((family, method))
        try:
            model.add_adapter("a", config=config)
            randomize(model, "a")
            model.train_adapter("a")
            model.eval()
            after = forward(parts)
            if not differs(after, before):
                problems.append(f"{method}: no effect")
            sum(t.float().pow(2).mean() for t in after if t.requires_grad).backward()  # type: ignore[union-attr]
            if missing := without_gradient(model.adapter_handle, ran):
                problems.append(f"{method}: {missing} parameters without gradient")
            model.save_adapter(tmp_path / method, "a")
            model.load_adapter(tmp_path / method, load_as="b", set_active=True)
            with torch.no_grad():
                again = forward(parts)
            # (without gradients some constants are kept that are computed otherwise with them)
            if any(differ_by(x, y) > 1e-5 for x, y in zip(after, again, strict=True)):
                problems.append(f"{method}: another function after saving and loading")
            if expected:
                problems.append(f"{method}: works, although it is listed as meaningless")
        except (AdapterHubError, RuntimeError) as error:
            said = isinstance(error, AdapterHubError) and bool(expected)
            if not said or str(expected) not in str(error):
                problems.append(f"{method}: {type(error).__name__}: {str(error)[:160]}")
        model.adapter_handle.detach()
        model.zero_grad()
        plain.requires_grad_(True)  # (torch computes frozen models with other kernels)
        with torch.no_grad():
            bare = forward(parts)
        if list(plain.state_dict()) != keys or any(
            not torch.equal(x, y) for x, y in zip(bare, before, strict=True)
        ):
            problems.append(f"{method}: left a trace")
    assert not problems, "\n".join(problems)
