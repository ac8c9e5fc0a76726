"""Parts of fused projections: the right rows change, and only they, merged or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import adapterhub
from adapterhub.architectures import Fused, resolve
from adapterhub.architectures.probe import detect_and_probe
from adapterhub.architectures.sizes import fused_parts
from adapterhub.errors import ArchitectureError
from tests.architectures.tiny import tiny_model

H, D = 4, 8  # heads and their width in the tiny models


def _heads(part: int, of: int, heads: int = H) -> list[int]:
    """Rows of one part where every head holds *of* parts of width D."""
    return [(head * of + part) * D + i for head in range(heads) for i in range(D)]


def _span(start: int, stop: int) -> list[int]:
    return list(range(start, stop))


#: model type, changes of its config, part, path of the projection in the block, rows of the part.
CASES: list[tuple[str, dict[str, Any], str, str, list[int]]] = [
    ("gpt2", {}, "k", "attn.c_attn", _span(32, 64)),
    ("gpt_neox", {}, "q", "attention.query_key_value", _heads(0, 3)),
    ("gpt_neox", {}, "v", "attention.query_key_value", _heads(2, 3)),
    ("bloom", {}, "k", "self_attention.query_key_value", _heads(1, 3)),
    ("falcon", {}, "q", "self_attention.query_key_value", _span(0, 32)),
    ("falcon", {}, "v", "self_attention.query_key_value", _span(40, 48)),
    ("falcon", {"multi_query": False}, "v", "self_attention.query_key_value", _heads(2, 3)),
    (
        "falcon",  # two groups: two queries, a key, a value each
        {"new_decoder_architecture": True, "num_kv_heads": 2},
        "q",
        "self_attention.query_key_value",
        [*_span(0, 16), *_span(32, 48)],
    ),
    (
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2},
        "k",
        "self_attention.query_key_value",
        [*_span(16, 24), *_span(48, 56)],
    ),
    ("codegen", {}, "v", "attn.qkv_proj", _heads(1, 3)),
    ("codegen", {}, "k", "attn.qkv_proj", _heads(2, 3)),
    ("phi3", {"num_key_value_heads": 2}, "v", "self_attn.qkv_proj", _span(48, 64)),
    ("deepseek_v3", {}, "v", "self_attn.kv_b_proj", _heads(1, 2)),
    ("gpt_bigcode", {}, "k", "attn.c_attn", _span(32, 40)),
]


@pytest.mark.parametrize(("model_type", "changes", "part", "path", "rows"), CASES)
def test_lora_changes_the_rows_of_its_part(
    model_type: str, changes: dict[str, Any], part: str, path: str, rows: list[int]
) -> None:
    model: Any = tiny_model(model_type, **changes).eval()
    inputs = {"input_ids": torch.randint(4, 60, (2, 6), generator=torch.Generator().manual_seed(1))}
    handle = adapterhub.attach(model)
    handle.add_adapter("a", f"lora[attn_matrices=['{part}'],r=4]")
    for number, parameter in enumerate(handle.iter_parameters("a")):
        generator = torch.Generator().manual_seed(number)
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    handle.set_active_adapters("a")
    active = model(**inputs)[0]
    block = handle.engine.resolved.layers[1]
    host: Any = block.get_submodule(path)
    before = host.weight.detach().clone()
    handle.merge_adapter("a")
    torch.testing.assert_close(model(**inputs)[0], active, atol=2e-5, rtol=1e-4)
    changed = (host.weight - before).abs()
    changed = changed.sum(0 if hasattr(host, "nf") else 1)
    assert changed.nonzero().flatten().tolist() == rows
    handle.reset_adapter()
    assert torch.equal(host.weight, before)


def test_gate_and_up_of_one_projection() -> None:
    model = tiny_model("phi3")
    sites = {key.point: site for key, site in resolve(model).sites.items() if key.layer == 0}
    assert (sites["gate"].slice, sites["up"].slice) == ((0, 48), (48, 96))
    assert sites["gate"].host is sites["up"].host


@pytest.mark.parametrize("heads", [4, 8])
def test_a_layout_that_is_not_known_is_not_guessed(heads: int) -> None:
    # CodeGen orders its parts by training devices; the table knows, watching alone must not mistake it.
    model = tiny_model("codegen", n_head=heads, rotary_dim=4)
    qkv = detect_and_probe(model).corrected.stacks[0].sublayers["self"].qkv
    assert heads == 4 or qkv is None


def test_a_layout_that_does_not_fit_is_an_error() -> None:
    block: Any = nn.Module()
    block.attn = nn.Module()
    block.attn.num_heads, block.attn.head_dim = 4, 8
    block.attn.qkv = nn.Linear(32, 90)
    with pytest.raises(ArchitectureError, match="90 features"):
        fused_parts(block, Fused("attn.qkv", layout="grouped"), 32)
    with pytest.raises(ArchitectureError, match="Unknown layout 'woven'"):
        fused_parts(block, Fused("attn.qkv", layout="woven"), 32)
