"""The probe reads the forward, corrects a wrong row and leaves no trace in the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from adapterhub.architectures import TABLE, Fused, Row, StackRow, Sublayer
from adapterhub.architectures.probe import detect_and_probe, probe
from tests.architectures.tiny import tiny_model


def _hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize(
    "model_type", ["bert", "gpt2", "t5", "vit", "deberta-v2", "mixtral", "whisper"]
)
def test_the_model_is_left_as_it_was(model_type: str) -> None:
    model = tiny_model(model_type).train()
    next(model.children()).eval()  # a mixed setting, to be kept
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    attributes = [set(vars(module)) for module in model.modules()]
    hooks, config, state = _hooks(model), model.config.to_dict(), torch.get_rng_state()
    assert detect_and_probe(model).confirmed
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == training
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert _hooks(model) == hooks
    assert model.config.to_dict() == config
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def _change(row: Row, name: str, **changes: Any) -> Row:
    stack = row.stacks[0]
    sublayers = {**stack.sublayers, name: replace(stack.sublayers[name], **changes)}
    return replace(row, stacks=(replace(stack, sublayers=sublayers), *row.stacks[1:]))


@pytest.mark.parametrize(
    ("model_type", "sublayer", "wrong"),
    [
        ("bert", "self", {"out": "attention.output.dense"}),
        ("bert", "ffn", {"norm": None, "residual": "output.dense"}),
        ("llama", "self", {"out": "self_attn.o_proj", "norm": "post_attention_layernorm"}),
        ("bart", "self", {"residual": "self_attn_layer_norm", "norm": None}),
        ("t5", "ffn", {"out": "layer.1.DenseReluDense", "residual": None}),
        ("vit", "ffn", {"residual": "layernorm_before"}),
    ],
)
def test_a_wrong_row_is_corrected(model_type: str, sublayer: str, wrong: dict[str, Any]) -> None:
    right = TABLE[model_type]
    report = probe(tiny_model(model_type), _change(right, sublayer, **wrong))
    assert report.corrected.stacks[0].sublayers[sublayer] == right.stacks[0].sublayers[sublayer]
    for point in wrong:
        assert any(f".*.{sublayer}.{point}: the row says" in text for text in report.findings)


def test_a_fused_layout_that_is_not_so_is_corrected() -> None:
    model = tiny_model("gpt_neox")
    row = detect_and_probe(model).corrected
    report = probe(model, _change(row, "self", qkv=Fused("attention.query_key_value")))
    assert report.corrected == row
    assert any("was seen to hold q, k and v (grouped)" in text for text in report.findings)


def test_a_module_that_runs_twice_is_not_taken_for_out() -> None:
    # Phi's block sends both branches through one dropout; DeBERTa its positions through q and k.
    report = detect_and_probe(tiny_model("phi"))
    (stack,) = report.corrected.stacks
    assert {sub.out for sub in stack.sublayers.values()} == {"self_attn", "mlp"}
    report = detect_and_probe(tiny_model("deberta-v2"))
    assert report.sites["encoder.0.self.k"].calls > 1
    assert not report.sites["encoder.0.self.k"].confirmed
    assert any("encoder.*.self.k" in text and "runs 2 times" in text for text in report.findings)
    assert report.corrected.stacks[0].sublayers["self"].residual == "attention.self.value_proj"


def test_shared_layers_are_said_to_be_shared() -> None:
    findings = detect_and_probe(tiny_model("albert", num_hidden_groups=1)).findings
    assert any("runs 2 times a forward" in text for text in findings)


def test_scaled_branches_are_found_and_told() -> None:
    report = detect_and_probe(tiny_model("granite"))
    assert report.wirings["decoder", 0, "self"].scale == (1.0, 0.22)
    assert any("the output times 0.22" in text for text in report.findings)


def test_a_learned_scale_for_each_feature_is_seen_through() -> None:
    model = tiny_model("beit")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lambda" in name:
                parameter.copy_(torch.linspace(0.05, 0.5, parameter.numel()))
    report = detect_and_probe(model)
    assert report.confirmed
    assert report.topology == {"encoder": {"self": "pre", "ffn": "pre"}}


def test_half_precision() -> None:
    report = detect_and_probe(tiny_model("llama").to(torch.bfloat16))
    assert report.confirmed
    assert report.corrected.stacks[0].sublayers == TABLE["llama"].stacks[0].sublayers


def test_meta_weights_are_not_run() -> None:
    with torch.device("meta"):
        model = tiny_model("llama")
    report = detect_and_probe(model)
    assert report.corrected == report.row
    assert not report.confirmed
    assert any("meta" in text for text in report.findings)


def test_a_forward_that_fails_is_a_finding_and_leaves_no_hooks() -> None:
    model = tiny_model("bert")
    report = probe(model, TABLE["bert"], {"input_ids": torch.full((1, 3), 999)})
    assert not report.confirmed
    assert report.corrected == TABLE["bert"]
    assert any("BertModel failed (IndexError" in text for text in report.findings)
    assert _hooks(model) == 0


def test_a_tower_behind_text_is_run_by_itself() -> None:
    model = tiny_model("clip")
    row = detect_and_probe(model).corrected
    report = probe(model.vision_model, replace(row, stacks=(_relative(row.stacks[1]),)))
    assert report.confirmed
    if not isinstance(model.vision_model, PreTrainedModel):
        pytest.skip("the towers of CLIP are no models of their own in this release of transformers")
    text = {"input_ids": torch.arange(4, 12).view(2, 4)}
    assert probe(model, row, text).ran == ("text", "vision")


def _relative(stack: StackRow) -> StackRow:
    cut = stack.layers.removeprefix("vision_model.")
    return replace(stack, layers=cut, embed=f">{cut}.0")


class _Wired(nn.Module):
    """A block with every oddity that can be asked for."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.ln1, self.ln2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(16, 16) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(16, 24), nn.Linear(24, 16)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.softmax(self.q_proj(x) @ self.k_proj(x).transpose(-1, -2), -1)
        return self.o_proj(scores @ self.v_proj(x))

    def _feed(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "pre":
            x = x + self._attend(self.ln1(x))
            return x + self._feed(self.ln2(x))
        if self.kind == "in place":
            a = self._attend(self.ln1(x))
            a += x
            f = self._feed(self.ln2(a))
            f += a
            return f
        if self.kind == "post":
            x = self.ln1(x + self._attend(x))
            return self.ln2(x + self._feed(x))
        if self.kind == "sandwich":
            x = x + self.ln1(self._attend(x))
            return x + self.ln2(self._feed(x))
        if self.kind == "parallel":
            return x + self._attend(self.ln1(x)) + self._feed(self.ln2(x))
        if self.kind == "weighted":
            x = 0.5 * x + 2.0 * self._attend(self.ln1(x))
            return 0.5 * x + 2.0 * self._feed(self.ln2(x))
        return self._feed(self.ln2(self._attend(self.ln1(x))))  # no residual at all


class _Toy(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_Wired(kind), _Wired(kind)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


_ROW = Row(
    "toy",
    (
        StackRow(
            "encoder",
            "blocks",
            {
                "self": Sublayer(q="q_proj", k="k_proj", v="v_proj", o="o_proj"),
                "ffn": Sublayer(up="fc1", down="fc2"),
            },
        ),
    ),
)


@pytest.mark.parametrize(
    ("kind", "topology", "attention", "ffn"),
    [
        ("pre", "pre", ("o_proj", "ln1", None), ("fc2", "ln2", None)),
        ("in place", "pre", ("o_proj", "ln1", None), ("fc2", "ln2", None)),
        ("post", "post", ("o_proj", "q_proj", "ln1"), ("fc2", "fc1", "ln2")),
        ("sandwich", "sandwich", ("ln1", "q_proj", None), ("ln2", "fc1", None)),
        ("parallel", "parallel", ("o_proj", "ln1", None), ("fc2", "ln2", None)),
        ("weighted", "pre", ("o_proj", "ln1", None), ("fc2", "ln2", None)),
        ("none", None, (None, None, None), (None, None, None)),
    ],
)
def test_every_wiring(kind: str, topology: str | None, attention: Any, ffn: Any) -> None:
    torch.manual_seed(0)
    report = probe(_Toy(kind), _ROW, {"x": torch.randn(2, 6, 16)})
    assert report.topology == {"encoder": {"self": topology, "ffn": topology}}
    found = report.corrected.stacks[0].sublayers
    for sub, expected in ((found["self"], attention), (found["ffn"], ffn)):
        assert (sub.out, sub.residual, sub.norm) == expected
    assert report.confirmed == (topology is not None)
    if kind == "none":
        assert any("no later value is a sum" in text for text in report.findings)
