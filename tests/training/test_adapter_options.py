"""Options of training: AdapterDrop, LoRA+, rank-stabilised scaling, feed-forward projections by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

import adapterhub
from adapterhub import AdapterTrainer, ConfigError
from adapterhub.training import AdapterDrop, lora_plus_groups
from tests.rules.families import FAMILIES


def classifier() -> Any:
    config = FAMILIES["bert"].model().config
    model = adapterhub.BertAdapterModel(config)
    model.add_classification_head("a", num_labels=2)
    model.add_adapter("a", config="seq_bn[reduction_factor=4]")
    model.train_adapter("a")
    return model


class Spy(TrainerCallback):
    """Notes which layers have adapters in every step, and at evaluation."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.evaluated: list[int] = []

    def on_substep_end(self, *args: Any, **kwargs: Any) -> None:
        self.seen.append(len(kwargs["model"].adapter_handle.engine.active.nodes))

    on_optimizer_step = on_substep_end

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.evaluated.append(len(kwargs["model"].adapter_handle.engine.active.nodes))


def test_adapter_drop_leaves_out_the_lowest_layers(tmp_path: Any) -> None:
    model, drop, spy = classifier(), AdapterDrop(1, seed=3), Spy()
    data = [
        {"input_ids": torch.randint(2, 60, (5,)), "labels": torch.tensor(i % 2)} for i in range(24)
    ]
    trainer = AdapterTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=2, report_to=[],
            eval_strategy="steps", eval_steps=4, save_strategy="no", use_cpu=True,
        ),
        train_dataset=data,
        eval_dataset=data[:4],
        callbacks=[drop, spy],
    )  # fmt: skip
    trainer.train()
    assert spy.seen == [2 - drop.dropped(step) for step in range(12)]
    assert set(spy.seen) == {1, 2}
    assert spy.evaluated == [2, 2, 2]
    assert len(model.adapter_handle.engine.active.nodes) == 2
    with pytest.raises(ConfigError, match="2 layers"):
        AdapterTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(tmp_path), max_steps=1, report_to=[], use_cpu=True
            ),
            train_dataset=data,
            callbacks=[AdapterDrop(2)],
        ).train()


def test_lora_plus_divides_the_parameters() -> None:
    model = adapterhub.init(FAMILIES["bert"].model())
    model.add_adapter("a", config="lora")
    with pytest.raises(ConfigError, match="train_adapter"):
        lora_plus_groups(adapterhub.init(FAMILIES["bert"].model()).requires_grad_(False), 1e-3)
    model.train_adapter("a")
    slow, fast = lora_plus_groups(model, 1e-3, ratio=8)
    assert (slow["lr"], fast["lr"]) == (1e-3, 8e-3)
    modules = model.adapter_handle.engine.adapters["a"].modules.values()
    assert {id(p) for p in fast["params"]} == {id(m.lora_B) for m in modules}
    assert {id(p) for p in slow["params"]} == {id(m.lora_A) for m in modules}


def test_rank_stabilised_scaling_and_named_projections() -> None:
    config = adapterhub.LoRAConfig(
        r=4, alpha=6, use_rslora=True, attn_matrices=["o"], ffn_matrices=["gate"]
    )
    model = adapterhub.init(FAMILIES["llama"].model())
    model.add_adapter("a", config=config)
    keys = {key.pattern() for key in model.adapter_handle.engine.adapters["a"].modules}
    assert keys == {"decoder.*.self.o", "decoder.*.ffn.gate"}
    for module in model.adapter_handle.engine.adapters["a"].modules.values():
        assert module.scaling == 3.0
    assert "use_rslora" not in adapterhub.LoRAConfig().to_dict()
    assert adapterhub.AdapterConfig.from_dict(config.to_dict()) == config
    with pytest.raises(adapterhub.ArchitectureError, match="gate"):
        adapterhub.init(FAMILIES["bert"].model()).add_adapter(
            "a", config="lora[ffn_matrices=['gate']]"
        )
    with pytest.raises(ConfigError, match="ffn_matrices"):
        adapterhub.LoRAConfig(ffn_matrices=["middle"])
