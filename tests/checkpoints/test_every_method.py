"""Every method, saved from and loaded into every kind of model class, in both layouts of files.

The kinds are the bare base model, the class of transformers with a head of its own, and the class with
heads of ours. All three have the same base weights, so an adapter must do the same in each, and a head
that two of them can hold must give the same logits in both.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

import adapterhub
from tests.rules.families import METHODS

LAYOUTS = {"safetensors": True, "bin": False}
INPUTS = {
    "input_ids": torch.tensor([[5, 9, 33, 2, 17, 8], [41, 7, 12, 30, 1, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]),
}


@dataclass(frozen=True)
class Kinds:
    """Three classes around one base model, and what our head is called that the second one's becomes."""

    config: Any
    base: str
    task: str
    flexible: str
    encoder_decoder: bool = False

    def inputs(self) -> dict[str, torch.Tensor]:
        if not self.encoder_decoder:
            return INPUTS
        return {**INPUTS, "decoder_input_ids": torch.tensor([[0, 4, 50, 6], [0, 22, 3, 9]])}

    def make(self, kind: str) -> Any:
        """Return a model: the same base weights each time, the same head each time."""
        config = copy.deepcopy(self.config)
        torch.manual_seed(0)
        base = getattr(tf, self.base)(config)
        with torch.no_grad():
            for parameter in base.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.2)
        if kind == "base":
            return adapterhub.init(base).eval()
        if kind == "flexible":
            model = getattr(adapterhub, self.flexible)(config).eval()
            model.base_model.load_state_dict(base.state_dict())
            return model
        model = getattr(tf, self.task)(config)
        inner: Any = model if model.base_model is model else model.base_model
        inner.load_state_dict(base.state_dict(), strict=inner is not model)
        return adapterhub.init(model).eval()


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES = {
    "bert": Kinds(
        tf.BertConfig(
            **SIZES,
            intermediate_size=40,
            vocab_size=60,
            max_position_embeddings=40,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=3,
        ),
        "BertModel",
        "BertForSequenceClassification",
        "BertAdapterModel",
    ),
    "llama": Kinds(
        tf.LlamaConfig(
            **SIZES,
            intermediate_size=40,
            vocab_size=60,
            num_key_value_heads=2,
            pad_token_id=0,
            num_labels=3,
        ),
        "LlamaModel",
        "LlamaForSequenceClassification",
        "LlamaAdapterModel",
    ),
    "gpt2": Kinds(
        tf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=40),
        "GPT2Model",
        "GPT2LMHeadModel",
        "GPT2AdapterModel",
    ),
    "t5": Kinds(
        tf.T5Config(
            d_model=32,
            d_kv=8,
            d_ff=40,
            num_layers=2,
            num_heads=4,
            vocab_size=60,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        ),
        "T5Model",
        "T5ForConditionalGeneration",
        "T5AdapterModel",
        encoder_decoder=True,
    ),
}


def randomize(model: Any, *names: str) -> None:
    """Give adapters weights with an effect, orthogonal ones staying so."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name in names:
            for parameter in model.adapter_handle.iter_parameters(name):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


def hidden(model: Any, kinds: Kinds) -> torch.Tensor:
    """Return the last hidden states of the base model."""
    with torch.no_grad():
        output = model.base_model(**kinds.inputs(), output_hidden_states=True)
    if "last_hidden_state" in output:
        return output.last_hidden_state
    return output.decoder_hidden_states[-1]


def logits(model: Any, kinds: Kinds) -> torch.Tensor:
    with torch.no_grad():
        return model(**kinds.inputs()).logits


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to the order of float32 sums, which depends on how memory is aligned."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=5e-6)


def saved_from(kinds: Kinds, kind: str, method: str, folder: Path) -> tuple[Any, Any]:
    """Save an adapter of *method* in both layouts; return hidden states and logits (``None``: no head)."""
    model = kinds.make(kind)
    model.add_adapter("x", config=METHODS[method])
    randomize(model, "x")
    if kind == "flexible":
        # The head of the task class comes through a file of its own, so that its weights are the same.
        task = kinds.make("task")
        task.save_head(folder / "head")
        model.load_head(folder / "head", load_as="x")
    before = hidden(model, kinds)
    model.set_active_adapters("x")
    after = hidden(model, kinds)
    assert after.shape != before.shape or not torch.allclose(after, before, atol=1e-3)
    for layout, safetensors in LAYOUTS.items():
        model.save_adapter(folder / f"{kind}-{layout}", "x", use_safetensors=safetensors)
    return after, None if kind == "base" else logits(model, kinds)


def check_into(kinds: Kinds, kind: str, folder: Path, states: Any, outcome: Any) -> None:
    """Load what lies in *folder* into a fresh model of *kind*; compare with what was saved."""
    model = kinds.make(kind)
    if kind == "task":  # another head than the one that was saved
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.startswith(model.base_model_prefix) and model.base_model is not model:
                    parameter.zero_()
    assert model.load_adapter(folder, set_active=True) == "x"
    same(hidden(model, kinds), states)
    if outcome is not None and kind != "base":
        same(logits(model, kinds), outcome)


@pytest.mark.parametrize("method", METHODS)
def test_bert_from_each_kind_into_each(tmp_path: Path, method: str) -> None:
    kinds = FAMILIES["bert"]
    for source in ("base", "task", "flexible"):
        states, outcome = saved_from(kinds, source, method, tmp_path)
        for layout in LAYOUTS:
            for target in ("base", "task", "flexible"):
                check_into(kinds, target, tmp_path / f"{source}-{layout}", states, outcome)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "bert"])
@pytest.mark.parametrize("method", METHODS)
def test_other_families_in_a_ring(tmp_path: Path, family: str, method: str) -> None:
    """Base into task, task into flexible, flexible into base and task; each in one of the layouts."""
    kinds = FAMILIES[family]
    ring = [
        ("base", "safetensors", "task"),
        ("task", "bin", "flexible"),
        ("flexible", "safetensors", "task"),
        ("flexible", "bin", "base"),
    ]
    found = {
        kind: saved_from(kinds, kind, method, tmp_path) for kind in ("base", "task", "flexible")
    }
    for source, layout, target in ring:
        check_into(kinds, target, tmp_path / f"{source}-{layout}", *found[source])
