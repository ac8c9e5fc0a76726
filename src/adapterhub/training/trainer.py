"""The stock transformers ``Trainer``, with checkpoints of adapter size.

Schedules, logging, callbacks, mixed precision and everything else are transformers' own. Added here are
only the three things the stock Trainer cannot know: what to write into a checkpoint of a frozen model
and how to get it back, that AdapterFusion has a regularisation term, and when a model is not ready to
train adapters.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Seq2SeqTrainer, Trainer
from transformers.trainer_callback import ProgressCallback

from adapterhub.checkpoints.adapters import read_adapter
from adapterhub.checkpoints.fusions import read_fusion
from adapterhub.errors import AdapterHubError, CheckpointError
from adapterhub.training.progress import RichProgress
from adapterhub.training.sampler import reproducible

ADAPTERS, FUSIONS = "adapters", "fusions"
REST = "trained.safetensors"


class TrainingError(AdapterHubError, ValueError):
    """The model is not set up for the training that was asked for."""


class _AdapterTraining:
    """What both adapter trainers add to transformers' trainers."""

    model: Any
    args: Any
    accelerator: Any
    state: Any
    model_accepts_loss_kwargs: bool

    def __init__(
        self, *args: Any, adapter_names: Any = None, train_base: bool = False, **kwargs: Any
    ) -> None:
        self._train_base = train_base
        super().__init__(*args, **kwargs)
        if adapter_names is not None:
            _handle(self.model).set_active_adapters(adapter_names)
        if any(type(item) is ProgressCallback for item in self.callback_handler.callbacks):  # type: ignore[attr-defined]
            self.remove_callback(ProgressCallback)  # type: ignore[attr-defined]
            self.add_callback(RichProgress())  # type: ignore[attr-defined]

    # -- checks ------------------------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, after a check that adapters or heads are trained and the base is frozen.

        Raises:
            TrainingError: nothing is trainable, or the base model is. Nothing has been changed then.
        """
        if getattr(self, "model_init", None) is None:
            check_ready(self.model, self._train_base)
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def call_model_init(self, trial: Any = None) -> Any:
        """Make the model, and check it."""
        model = super().call_model_init(trial)  # type: ignore[misc]
        check_ready(model, self._train_base)
        return model

    # -- data and optimizer ------------------------------------------------------------------------

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        sampler = super()._get_train_sampler(*args, **kwargs)  # type: ignore[misc]
        return reproducible(sampler, self.args)

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """As in transformers, without the fusion value matrices: they are drawn to the identity instead."""
        names = super().get_decay_parameter_names(model)  # type: ignore[misc]
        values = {
            id(module.value_weight)
            for record in _handle(self.model).engine.fusions.values()
            for module in record.modules.values()
            if hasattr(module, "value_weight")
        }
        kept = {name for name, parameter in model.named_parameters() if id(parameter) not in values}
        return [name for name in names if name in kept]

    # -- loss --------------------------------------------------------------------------------------

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The model's loss; while training, plus 0.01 * sum of ||I - V||^2 of the trained fusion layers."""
        stock: Any = super()
        result = stock.compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        loss, outputs = result
        if model.training:
            penalty = _handle(self.model).get_fusion_regularization_loss()
            if penalty is not None:
                loss = loss + penalty.to(loss.device) / self._accumulated(num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _accumulated(self, num_items_in_batch: Any) -> int:
        """Return by what the Trainer will *not* divide: its accumulation steps, if the loss is a share."""
        scaled = getattr(self, "loss_is_scaled_for_ga", None)
        if scaled is None:
            by_items = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            scaled = by_items or getattr(self, "compute_loss_func", None) is not None
        steps = getattr(
            self, "current_gradient_accumulation_steps", self.args.gradient_accumulation_steps
        )
        return int(steps) if scaled else 1

    # -- checkpoints -------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write what is being trained: adapters and fusions as folders, all else in one small file."""
        if not self.args.should_save:
            return
        folder = Path(output_dir if output_dir is not None else self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(self.model, folder)
        tokenizer = getattr(self, "processing_class", None) or getattr(
            getattr(self, "data_collator", None), "tokenizer", None
        )
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        torch.save(self.args, os.path.join(folder, "training_args.bin"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        read_checkpoint(self.model if model is None else model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        read_checkpoint(self.model, Path(self.state.best_model_checkpoint))


class AdapterTrainer(_AdapterTraining, Trainer):
    """``transformers.Trainer`` for adapters, fusion layers and heads on a frozen base model.

    Args:
        adapter_names: setup to activate before training; default: leave the active one.
        train_base: allow that weights of the base model are trained along.
        args, kwargs: as of ``transformers.Trainer``.

    A checkpoint folder holds ``adapters/NAME`` and ``fusions/NAME``, ordinary folders for
    ``load_adapter`` and ``load_adapter_fusion``, and ``trained.safetensors`` with every other trained
    tensor (heads, unfrozen embeddings). Resuming and reloading the best model copy into the model's
    parameters, so optimizers and wrappers that hold them stay valid.
    """


class Seq2SeqAdapterTrainer(_AdapterTraining, Seq2SeqTrainer):
    """``transformers.Seq2SeqTrainer`` for adapters; see :class:`AdapterTrainer`."""


def check_ready(model: Any, train_base: bool = False) -> None:
    """Check that a model is set up to train adapters, fusion layers or heads.

    Raises:
        TrainingError: adapterhub is not attached, nothing is trainable, or the base model is.
    """
    engine = _handle(model).engine
    if not any(p.requires_grad for p in model.parameters()):
        known = ", ".join(f"'{name}'" for name in engine.adapters) or "none yet"
        raise TrainingError(
            f"Nothing in this {type(model).__name__} is trainable. Call model.train_adapter(NAME) "
            f"(adapters here: {known}) or model.train_adapter_fusion(...) before trainer.train()."
        )
    if train_base:
        return
    ours = {id(p) for p in _adapter_parameters(engine)}
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    if embeddings is not None:
        ours |= {id(p) for p in embeddings.parameters()}
    base = [
        (name, parameter)
        for name, parameter in engine.resolved.base.named_parameters()
        if id(parameter) not in ours
    ]
    loose = [name for name, parameter in base if parameter.requires_grad]
    if loose:
        raise TrainingError(
            f"The base model is not frozen: {len(loose)} of its {len(base)} tensors would be trained, "
            f"first '{loose[0]}'. Call model.train_adapter(NAME) or model.freeze_model(). To train "
            "everything use transformers.Trainer, or AdapterTrainer(..., train_base=True)."
        )


def write_checkpoint(model: Any, folder: Path) -> None:
    """Write everything trainable of *model* into *folder*; see :class:`AdapterTrainer` for the layout."""
    handle = _handle(model)
    engine = handle.engine
    covered: set[int] = set()
    for name, record in engine.adapters.items():
        if any(p.requires_grad for p in record.parameters()):
            handle.save_adapter(folder / ADAPTERS / name, name)
            covered |= {id(p) for p in record.parameters()}
    for name, record in engine.fusions.items():
        if any(p.requires_grad for p in record.parameters()):
            handle.save_adapter_fusion(folder / FUSIONS / name, name, with_head=True)
            covered |= {id(p) for p in record.parameters()}
    rest = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) not in covered
    }
    save_file(rest, folder / REST, metadata={"format": "pt"})


def read_checkpoint(model: Any, folder: Path) -> None:
    """Copy a checkpoint of :func:`write_checkpoint` into the parameters of *model*.

    Everything is read and checked before the first parameter is changed.

    Raises:
        CheckpointError: no such checkpoint, damaged files, or adapters that are not in the model.
    """
    engine = _handle(model).engine
    if not (folder / REST).is_file():
        raise CheckpointError(f"{folder} is no checkpoint of an AdapterTrainer: it has no {REST}.")
    copies: list[tuple[nn.Module, nn.Module]] = []
    for kind, records in ((ADAPTERS, engine.adapters), (FUSIONS, engine.fusions)):
        for path in sorted(p for p in (folder / kind).glob("*") if p.is_dir()):
            if path.name not in records:
                raise CheckpointError(
                    f"{folder} has {kind[:-1]} '{path.name}', this model does not; "
                    "add it with the same configuration before resuming."
                )
            stored = (
                read_adapter(engine, path, with_head=False).record
                if kind == ADAPTERS
                else read_fusion(engine, path)
            )
            copies += _pairs(records[path.name], stored, path)
    rest = _read_rest(model, folder / REST)
    with torch.no_grad():
        for target, source in copies:
            target.load_state_dict(source.state_dict())
        for parameter, value in rest:
            parameter.copy_(value)


def _pairs(record: Any, stored: Any, path: Path) -> list[tuple[nn.Module, nn.Module]]:
    pairs = []
    for here, there in (
        (record.modules, stored.modules),
        (getattr(record, "shared", {}), getattr(stored, "shared", {})),
    ):
        for key in dict.fromkeys([*here, *there]):
            shapes = [
                {name: tuple(value.shape) for name, value in side[key].state_dict().items()}
                if key in side
                else {}
                for side in (here, there)
            ]
            if shapes[0] != shapes[1]:
                raise CheckpointError(
                    f"{path} was trained with another configuration: it differs at {key}."
                )
            pairs.append((here[key], there[key]))
    return pairs


def _read_rest(model: Any, path: Path) -> list[tuple[nn.Parameter, torch.Tensor]]:
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    own = dict(model.named_parameters())
    problems = [
        f"{name}: {'not in the model' if name not in own else 'has another shape'}"
        for name, value in stored.items()
        if name not in own or own[name].shape != value.shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} does not fit this {type(model).__name__}:\n  - " + "\n  - ".join(problems)
        )
    return [(own[name], value) for name, value in stored.items()]


def _adapter_parameters(engine: Any) -> list[nn.Parameter]:
    records = [*engine.adapters.values(), *engine.fusions.values()]
    return [parameter for record in records for parameter in record.parameters()]


def _handle(model: Any) -> Any:
    handle = getattr(model, "__dict__", {}).get("_adapterhub")
    if handle is None:
        raise TrainingError(
            f"This {type(model).__name__} has no adapters: call adapterhub.init(model) (or adapterhub."
            "attach), then add_adapter and train_adapter; or use transformers.Trainer for plain models."
        )
    return handle
