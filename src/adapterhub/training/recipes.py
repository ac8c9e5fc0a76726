"""Settings that work, and the functions that train with them.

The three methods that the demo compares see the same batches in the same order for the same number of
steps, from the same initial head. Each has a learning rate of its own, chosen on the movie reviews'
validation set.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from adapterhub.composition import Fuse
from adapterhub.training.base_models import load_base, quiet
from adapterhub.training.evaluate import (
    PeakMemory,
    Result,
    Score,
    StepTimes,
    accuracy,
    compute_accuracy,
    megabytes,
    parameter_counts,
    predict_logits,
)
from adapterhub.training.features import EncodedTexts, collator
from adapterhub.training.progress import RichProgress
from adapterhub.training.tasks import Examples, TextTask
from adapterhub.training.trainer import AdapterTrainer, write_checkpoint

HEAD, ADAPTER, FULL = "head only", "adapter", "full fine-tuning"


@dataclass(frozen=True)
class Recipe:
    """How to train one method.

    Attributes:
        method: ``"head only"``, ``"adapter"`` or ``"full fine-tuning"``.
        learning_rate: peak; 10 % linear warm-up, then linear to 0.
        config: adapter configuration, for the adapter method.
    """

    method: str
    learning_rate: float
    config: str | None = None
    weight_decay: float = 0.01

    @property
    def label(self) -> str:
        """Name for tables."""
        if self.method != ADAPTER or self.config is None:
            return self.method
        return f"{self.config.partition('[')[0]} adapter"


#: One recipe a method, for MiniLM-sized encoders and a few hundred steps.
RECIPES = {
    HEAD: Recipe(HEAD, 2e-2),
    ADAPTER: Recipe(ADAPTER, 2e-3, "seq_bn[reduction_factor=4]"),
    FULL: Recipe(FULL, 1e-4),
}
#: For a fusion layer over trained adapters, with a fresh head.
FUSION = Recipe("fusion", 5e-4)


@dataclass(frozen=True)
class Budget:
    """How much to train.

    Attributes:
        steps: optimizer steps.
        batch_size: texts a step.
        evaluations: points of the learning curve.
        test_texts: at most this many test texts; ``None``: all.
        validation_texts: at most this many validation texts; ``None``: all.
    """

    steps: int
    batch_size: int = 16
    evaluations: int = 6
    test_texts: int | None = None
    validation_texts: int | None = None


@dataclass
class Trained:
    """A trained model in memory, with what was measured."""

    model: Any
    tokenizer: Any
    result: Result


def train(
    task: TextTask,
    recipe: Recipe,
    base: Path,
    budget: Budget,
    seed: int = 0,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> Trained:
    """Train one method on one task, starting from the base model, and test it.

    Args:
        task: what to learn; adapter and head get its name.
        recipe: the method and its settings.
        base: folder of the base model.
        budget: how much.
        seed: of the head's and adapter's initial weights, dropout and the order of the batches.
        progress: running bars to show it in; default: own bars.
        checkpoints: keep a checkpoint at every evaluation in this folder.
        resume: go on from the last checkpoint in *checkpoints*.
    """
    set_seed(seed)
    model, tokenizer = load_base(base)
    add_head(model, task.name, task)
    if recipe.method == ADAPTER:
        model.add_adapter(task.name, config=recipe.config)
        model.train_adapter(task.name)
    else:
        model.freeze_model(recipe.method == HEAD)
    model.active_head = task.name
    return _fit(model, tokenizer, task, recipe, budget, seed, progress, checkpoints, resume)


def train_fusion(
    task: TextTask,
    adapters: dict[str, Path],
    base: Path,
    budget: Budget,
    seed: int = 0,
    progress: Progress | None = None,
    recipe: Recipe = FUSION,
    head_name: str = "fusion",
) -> Trained:
    """Train an AdapterFusion layer over trained adapters, and a fresh head, on one task.

    Pfeiffer et al., "AdapterFusion: Non-Destructive Task Composition", EACL 2021.

    Args:
        adapters: folders of the trained adapters, by name; they stay as they are.
        head_name: name of the new head; see :func:`train` for the others.
    """
    set_seed(seed)
    model, tokenizer = load_base(base)
    names = [
        model.load_adapter(folder, load_as=name, with_head=False)
        for name, folder in adapters.items()
    ]
    fuse = Fuse(*names)
    model.add_adapter_fusion(fuse)
    add_head(model, head_name, task)
    model.train_adapter_fusion(fuse)
    model.active_head = head_name
    return _fit(model, tokenizer, task, recipe, budget, seed, progress)


def add_head(model: Any, name: str, task: TextTask) -> None:
    """Add a linear classification head for a task to a model of ours."""
    model.add_classification_head(
        name, num_labels=len(task.label_names), layers=1, id2label=task.id2label
    )


def _fit(
    model: Any,
    tokenizer: Any,
    task: TextTask,
    recipe: Recipe,
    budget: Budget,
    seed: int,
    progress: Progress | None,
    checkpoints: Path | None = None,
    resume: bool = False,
) -> Trained:
    started = time.perf_counter()
    validation, test = (
        cut(task.validation, budget.validation_texts),
        cut(task.test, budget.test_texts),
    )
    times, bar = StepTimes(), RichProgress(f"{task.name}: {recipe.label}", progress)
    with tempfile.TemporaryDirectory(prefix="adapterhub-") as scratch, quiet():
        trainer = AdapterTrainer(
            model=model,
            args=_arguments(
                recipe,
                budget,
                seed,
                Path(scratch) if checkpoints is None else checkpoints,
                checkpoints,
            ),
            train_dataset=EncodedTexts(tokenizer, task.train),
            eval_dataset=EncodedTexts(tokenizer, by_length(validation)),
            data_collator=collator(tokenizer),
            compute_metrics=compute_accuracy,
            callbacks=[times, bar],
            train_base=recipe.method == FULL,
        )
        trainer.remove_callback(PrinterCallback)
        try:
            with PeakMemory() as peak:
                trainer.train(resume_from_checkpoint=_last(checkpoints) if resume else None)
        finally:
            bar.close()
        size = _size_on_disk(model, recipe, Path(scratch) / "size")
    curve = [
        (int(entry["step"]), float(entry["eval_accuracy"]))
        for entry in trainer.state.log_history
        if "eval_accuracy" in entry
    ]
    trainable, total = parameter_counts(model)
    tested = accuracy(predict_logits(model, tokenizer, test.texts)[0], test.labels)
    result = Result(
        task=task.name,
        method=recipe.label,
        seed=seed,
        steps=budget.steps,
        learning_rate=recipe.learning_rate,
        test=tested,
        validation=Score(curve[-1][1], len(validation)),
        trainable=trainable,
        total=total,
        megabytes=size,
        seconds_per_step=times.mean(),
        seconds=time.perf_counter() - started,
        peak_memory=peak.megabytes,
        curve=curve,
    )
    model.eval()
    return Trained(model, tokenizer, result)


def _arguments(
    recipe: Recipe, budget: Budget, seed: int, folder: Path, checkpoints: Path | None
) -> TrainingArguments:
    every = max(1, budget.steps // budget.evaluations)
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": budget.steps,
        "per_device_train_batch_size": budget.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "warmup_steps": max(1, budget.steps // 10),
        "lr_scheduler_type": "linear",
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "no" if checkpoints is None else "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "logging_steps": max(1, min(10, every)),
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": seed,
    }
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    if "train_sampling_strategy" in known:
        settings["train_sampling_strategy"] = "group_by_length"
    else:  # its name before
        settings["group_by_length"] = True
    return TrainingArguments(**settings)


def _last(checkpoints: Path | None) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    if checkpoints is None or not checkpoints.is_dir():
        return None
    return get_last_checkpoint(str(checkpoints))


def _size_on_disk(model: Any, recipe: Recipe, folder: Path) -> float:
    """Return the megabytes that have to be kept of a trained model, besides the base model."""
    if recipe.method == FULL:
        return (
            sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad) / 1e6
        )
    folder.mkdir(parents=True)
    write_checkpoint(model, folder)
    if recipe.method == ADAPTER:  # the head is in the adapter's folder already
        folder = folder / "adapters"
    return megabytes(folder)


def cut(examples: Examples, count: int | None) -> Examples:
    """Return the first *count* examples (their order is random already), or all."""
    if count is None:
        return examples
    return Examples(examples.texts[:count], examples.labels[:count])


def by_length(examples: Examples) -> Examples:
    """Return the examples ordered by length, so that batches need little padding."""
    order = sorted(range(len(examples)), key=lambda index: len(examples.texts[index]))
    return Examples(
        tuple(examples.texts[i] for i in order), tuple(examples.labels[i] for i in order)
    )
