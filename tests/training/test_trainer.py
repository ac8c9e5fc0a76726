"""AdapterTrainer: what it refuses, writes, resumes and adds to the loss."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, TrainingArguments

from adapterhub import AdapterTrainer, Fuse, init
from adapterhub.errors import CheckpointError
from adapterhub.training.evaluate import compute_accuracy
from adapterhub.training.features import EncodedTexts, collator
from adapterhub.training.progress import RichProgress
from adapterhub.training.trainer import TrainingError, read_checkpoint, write_checkpoint


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(**{**settings, **changes})


def trainer(model: Any, tokenizer: Any, task: Any, folder: Path, **changes: Any) -> AdapterTrainer:
    made = AdapterTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=EncodedTexts(tokenizer, task.train),
        eval_dataset=EncodedTexts(tokenizer, task.validation),
        data_collator=collator(tokenizer),
        compute_metrics=compute_accuracy,
    )
    from transformers.trainer_callback import PrinterCallback

    made.remove_callback(PrinterCallback)
    return made


def with_adapter(model: Any, config: str = "seq_bn[reduction_factor=4]") -> Any:
    torch.manual_seed(1)
    model.add_classification_head("toy", num_labels=2, layers=1)
    model.add_adapter("toy", config=config)
    model.train_adapter("toy")
    return model


def _without_dropout(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestRefusals:
    def test_nothing_trainable(self, model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
        with_adapter(model).requires_grad_(False)
        with pytest.raises(TrainingError, match=r"train_adapter\(NAME\) \(adapters here: 'toy'\)"):
            trainer(model, tokenizer, task, tmp_path).train()

    def test_base_not_frozen(self, model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
        with_adapter(model).freeze_model(False)
        before = state(model)
        with pytest.raises(TrainingError, match="base model is not frozen"):
            trainer(model, tokenizer, task, tmp_path).train()
        assert same(before, state(model))

    def test_the_base_may_be_trained_if_asked(
        self, model: Any, tokenizer: Any, task: Any, tmp_path: Path
    ) -> None:
        model.add_classification_head("toy", num_labels=2, layers=1)
        made = trainer(model, tokenizer, task, tmp_path, max_steps=1)
        made._train_base = True
        made.train()

    def test_no_adapters_at_all(
        self, base: Path, tokenizer: Any, task: Any, tmp_path: Path
    ) -> None:
        from transformers import AutoModelForSequenceClassification

        plain = AutoModelForSequenceClassification.from_pretrained(base)
        with pytest.raises(TrainingError, match=r"adapterhub\.init"):
            trainer(plain, tokenizer, task, tmp_path).train()

    def test_embeddings_may_be_trained_along(
        self, model: Any, tokenizer: Any, task: Any, tmp_path: Path
    ) -> None:
        with_adapter(model).train_adapter("toy", train_embeddings=True)
        trainer(model, tokenizer, task, tmp_path, max_steps=1).train()


def test_trains_the_adapter_and_the_head_and_nothing_else(
    model: Any, tokenizer: Any, task: Any, tmp_path: Path
) -> None:
    with_adapter(model)
    before = state(model)
    trainer(model, tokenizer, task, tmp_path).train()
    changed = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert changed
    assert all("adapterhub." in name or name.startswith("heads.toy") for name in changed)


def test_learns(model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
    """A random base needs its embeddings trained along to solve anything."""
    with_adapter(model).train_adapter("toy", train_embeddings=True)
    made = trainer(model, tokenizer, task, tmp_path, max_steps=100)
    made.train()
    assert made.evaluate()["eval_accuracy"] >= 0.9


def test_a_checkpoint_is_small_and_its_adapter_loads_anywhere(
    model: Any, tokenizer: Any, task: Any, tmp_path: Path, base: Path
) -> None:
    from adapterhub.training.base_models import load_base

    with_adapter(model)
    trainer(model, tokenizer, task, tmp_path, save_strategy="steps", save_steps=6).train()
    folder = tmp_path / "checkpoint-6"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {"adapters/toy/adapter.safetensors", "adapters/toy/model_head.safetensors"} <= names
    assert {"trained.safetensors", "optimizer.pt", "trainer_state.json"} <= names
    assert not {"model.safetensors", "pytorch_model.bin"} & names
    fresh = load_base(base)[0]
    fresh.load_adapter(folder / "adapters" / "toy", set_active=True)
    batch = collator(tokenizer)([{"input_ids": tokenizer("the film was good")["input_ids"]}])
    assert torch.equal(model.eval()(**batch).logits, fresh.eval()(**batch).logits)


def sampled(strategy: str) -> dict[str, Any]:
    """Return the training argument for an order of rows; in early releases ``sequential`` is seeded."""
    from transformers import TrainingArguments

    if "train_sampling_strategy" in TrainingArguments.__dataclass_fields__:
        return {"train_sampling_strategy": strategy}
    return {"group_by_length": strategy == "group_by_length"}


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    base: Path, tokenizer: Any, task: Any, tmp_path: Path, sampling: str
) -> None:
    from adapterhub.training.base_models import load_base

    def run(folder: Path, resume: str | None = None) -> Any:
        model = with_adapter(load_base(base)[0])
        made = trainer(
            model,
            tokenizer,
            task,
            folder,
            max_steps=14,
            save_strategy="steps",
            save_steps=5,
            **sampled(sampling),
        )
        made.train(resume_from_checkpoint=resume)
        return model

    whole = run(tmp_path / "a")
    resumed = run(tmp_path / "b", str(tmp_path / "a" / "checkpoint-10"))
    assert same(state(whole), state(resumed))


def test_the_best_model_is_reloaded(model: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
    with_adapter(model)
    made = trainer(
        model,
        tokenizer,
        task,
        tmp_path,
        max_steps=12,
        learning_rate=0.5,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
    )
    parameters = dict(model.named_parameters())
    made.train()
    losses = [e["eval_loss"] for e in made.state.log_history if "eval_loss" in e]
    assert min(losses) < losses[-1], "this test needs a run that gets worse"
    assert made.evaluate()["eval_loss"] == pytest.approx(min(losses))
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in parameters.items()), (
        "optimizers hold these parameters"
    )


def test_head_only_and_embeddings_travel_in_the_checkpoint(model: Any, tmp_path: Path) -> None:
    model.add_classification_head("only", num_labels=2, layers=1)
    model.freeze_model(True)
    model.get_input_embeddings().requires_grad_(True)
    write_checkpoint(model, tmp_path)
    before = state(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    assert not same(before, state(model))
    read_checkpoint(model, tmp_path)
    assert same(before, state(model))


class TestFusion:
    @pytest.fixture
    def fused(self, model: Any) -> Any:
        torch.manual_seed(2)
        for name in "ab":
            model.add_adapter(name, config="seq_bn[reduction_factor=4]")
        model.add_adapter_fusion(Fuse("a", "b"))
        model.add_classification_head("toy", num_labels=2, layers=1)
        model.train_adapter_fusion(Fuse("a", "b"))
        model.active_head = "toy"
        return model

    def test_checkpoint(self, fused: Any, tokenizer: Any, task: Any, tmp_path: Path) -> None:
        trainer(fused, tokenizer, task, tmp_path, save_strategy="steps", save_steps=6).train()
        folder = tmp_path / "checkpoint-6"
        assert not (folder / "adapters").exists(), "frozen adapters are not written again"
        after = state(fused)
        with torch.no_grad():
            for parameter in fused.parameters():
                if parameter.requires_grad:
                    parameter.mul_(2)
        read_checkpoint(fused, folder)
        assert same(after, state(fused))

    def test_regularisation_is_part_of_the_training_loss(
        self, fused: Any, tokenizer: Any, task: Any, tmp_path: Path
    ) -> None:
        made = trainer(fused, tokenizer, task, tmp_path)
        batch = made.data_collator([made.train_dataset[i] for i in range(4)])  # type: ignore[index]
        with torch.no_grad():
            for name, parameter in fused.named_parameters():
                if name.endswith("value_weight"):
                    parameter.add_(0.1)
        without = fused.eval()(**batch).loss
        assert torch.equal(made.compute_loss(fused, dict(batch)), without), "not in evaluation"
        penalty = fused.get_fusion_regularization_loss()
        assert penalty.item() > 0.01
        _without_dropout(fused.train())
        total = made.compute_loss(fused, dict(batch))
        torch.testing.assert_close(total, without + penalty)

    def test_accumulated_steps_weigh_it_once(
        self, base: Path, tokenizer: Any, task: Any, tmp_path: Path
    ) -> None:
        from adapterhub.training.base_models import load_base

        ends = []
        for size, steps in ((8, 1), (2, 4)):
            torch.manual_seed(2)
            model = load_base(base)[0]
            for name in "ab":
                model.add_adapter(name, config="seq_bn[reduction_factor=4]")
            model.add_adapter_fusion(Fuse("a", "b"))
            model.add_classification_head("toy", num_labels=2, layers=1)
            model.train_adapter_fusion(Fuse("a", "b"))
            model.active_head = "toy"
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name.endswith("value_weight"):
                        parameter.add_(0.1)
            _without_dropout(model)
            made = trainer(
                model,
                tokenizer,
                task,
                tmp_path,
                max_steps=1,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=steps,
                **sampled("sequential"),
                optim="sgd",
            )
            made.train()
            ends.append(state(model))
        for name, value in ends[0].items():
            torch.testing.assert_close(value, ends[1][name], msg=name)

    def test_value_matrices_do_not_decay(
        self, fused: Any, tokenizer: Any, task: Any, tmp_path: Path
    ) -> None:
        names = trainer(fused, tokenizer, task, tmp_path).get_decay_parameter_names(fused)
        assert any(name.endswith("query_weight") for name in names)
        assert not any(name.endswith("value_weight") for name in names)


class TestBadCheckpoints:
    def test_missing(self, model: Any, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no checkpoint of an AdapterTrainer"):
            read_checkpoint(with_adapter(model), tmp_path)

    def test_another_model(self, model: Any, base: Path, tmp_path: Path) -> None:
        write_checkpoint(with_adapter(model), tmp_path)
        other = init(AutoModel.from_pretrained(base))
        with pytest.raises(CheckpointError, match="has adapter 'toy', this model does not"):
            read_checkpoint(other, tmp_path)

    def test_another_configuration_changes_nothing(
        self, model: Any, base: Path, tmp_path: Path
    ) -> None:
        from adapterhub.training.base_models import load_base

        write_checkpoint(with_adapter(model), tmp_path)
        other = with_adapter(load_base(base)[0], "seq_bn[reduction_factor=8]")
        before = state(other)
        with pytest.raises(CheckpointError, match="another configuration"):
            read_checkpoint(other, tmp_path)
        assert same(before, state(other))

    def test_truncated(self, model: Any, tmp_path: Path) -> None:
        write_checkpoint(with_adapter(model), tmp_path)
        path = tmp_path / "trained.safetensors"
        path.write_bytes(path.read_bytes()[:20])
        before = state(model)
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(model, tmp_path)
        assert same(before, state(model))


def test_progress_is_ours_unless_silenced(
    model: Any, tokenizer: Any, task: Any, tmp_path: Path
) -> None:
    with_adapter(model)
    shown = trainer(model, tokenizer, task, tmp_path, disable_tqdm=False, max_steps=1)
    kinds = [type(item) for item in shown.callback_handler.callbacks]
    assert RichProgress in kinds
    assert not any(kind.__name__ == "ProgressCallback" for kind in kinds)
    silent = trainer(model, tokenizer, task, tmp_path, max_steps=1)
    assert RichProgress not in [type(item) for item in silent.callback_handler.callbacks]


def test_a_model_of_hugging_face_with_its_own_head(
    base: Path, tokenizer: Any, task: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    model = init(AutoModelForSequenceClassification.from_pretrained(base))
    model.add_adapter("toy", config="lora[r=2]")
    model.train_adapter("toy")
    made = trainer(model, tokenizer, task, tmp_path, save_strategy="steps", save_steps=6)
    made.train()
    after = state(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    read_checkpoint(twin, tmp_path / "checkpoint-6")
    assert same(after, state(twin))
