"""Detaching puts back what may be trained, but for what the user changed."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers as tf

import adapterhub
from tests import tiny


def flags(model: Any) -> dict[str, bool]:
    return {
        name: p.requires_grad for name, p in model.named_parameters() if "adapterhub" not in name
    }


def test_flags_are_those_before_attach() -> None:
    model = tiny.bert(tf.BertForMaskedLM)
    for name, parameter in model.named_parameters():
        if "layer.0" in name:
            parameter.requires_grad_(False)
    before = flags(model)
    handle = adapterhub.attach(model)
    handle.add_adapter("a")
    handle.add_adapter("b")
    handle.train_adapter("a", train_embeddings=True)
    handle.add_adapter_fusion(["a", "b"])
    handle.train_adapter_fusion(adapterhub.Fuse("a", "b"))
    handle.freeze_model(False)
    handle.freeze_model(True)
    handle.freeze_embeddings(False)
    assert flags(model) != before
    handle.detach()
    assert flags(model) == before


def test_changes_of_the_user_stay() -> None:
    model = tiny.bert()
    before = flags(model)
    handle = adapterhub.attach(model)
    handle.add_adapter("a")
    handle.train_adapter("a")
    model.pooler.requires_grad_(True)  # once after us
    model.encoder.layer[1].output.dense.weight.requires_grad_(True)
    handle.train_adapter("a")  # which freezes it again; what was then, was the user's
    model.embeddings.requires_grad_(False)  # as we had it: nothing of the user's to see
    handle.detach()
    assert flags(model) == before
    handle = adapterhub.attach(model)
    handle.add_adapter("a")
    handle.freeze_model()
    model.pooler.requires_grad_(True)
    handle.freeze_model(False)
    model.encoder.layer[0].requires_grad_(False)
    handle.detach()
    frozen = {name for name, trained in flags(model).items() if not trained}
    assert frozen == {name for name in before if name.startswith("encoder.layer.0.")}


def test_a_copy_has_flags_of_its_own() -> None:
    model = adapterhub.init(tiny.bert())
    before = flags(model)
    model.add_adapter("a")
    model.train_adapter("a")
    twin = copy.deepcopy(model)
    twin.adapter_handle.detach()
    assert flags(twin) == before
    assert not any(flags(model).values())
    model.adapter_handle.detach()
    assert flags(model) == before
    assert not any("adapterhub" in name for name, _ in model.named_parameters())


def test_adapters_do_not_live_on_in_the_notes() -> None:
    model = adapterhub.init(tiny.bert())
    model.add_adapter("a")
    model.train_adapter("a")
    model.freeze_model(False)
    kept = {id(note.parameter) for note in model.adapter_handle.flags._notes.values()}
    assert kept == {id(p) for n, p in model.named_parameters() if "adapterhub" not in n}
    assert all(isinstance(p, torch.nn.Parameter) for p in model.parameters())
