"""Prediction heads as files: those of our own models, and those that a Hugging Face class brings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from adapterhub.checkpoints.adapters import HeadFiles, model_facts
from adapterhub.engine import Engine
from adapterhub.errors import CheckpointError


def collect(engine: Engine, name: str | None) -> HeadFiles | None:
    """Return the head that belongs to adapter *name*, or ``None`` if the model has none for it."""
    model: Any = engine.model
    facts = model_facts(engine)
    if engine.own_heads:
        if name is None or name not in model.heads:
            return None
        return HeadFiles(
            {**facts, "config": model.heads[name].config, "name": name}, model.head_tensors(name)
        )
    tensors = _static_tensors(engine)
    if not tensors:
        return None
    labels = getattr(model.config, "label2id", None)
    facts.update(
        config=None,
        name=None,
        label2id=labels,
        num_labels=getattr(model.config, "num_labels", None),
    )
    return HeadFiles(facts, tensors)


def _static_tensors(engine: Engine) -> dict[str, torch.Tensor]:
    """Return the tensors outside of the base model, except those tied to its embeddings."""
    base = engine.resolved.base_path
    if not base:
        return {}
    tied = {p.data_ptr() for p in engine.resolved.base.parameters()}
    return {
        key: value
        for key, value in engine.model.state_dict().items()
        if not key.startswith(f"{base}.")
        and "adapterhub." not in key
        and value.data_ptr() not in tied
    }


def check(engine: Engine, head: HeadFiles, name: str | None) -> Callable[[], None] | None:
    """Check a stored head against this model; return what puts it in, or ``None`` if it has no place here.

    Raises:
        CheckpointError: the head is of this kind, but its tensors do not fit.
    """
    model: Any = engine.model
    if engine.own_heads:
        if not isinstance(head.config.get("config"), dict):
            _skip(f"a head of {head.config.get('model_class')}", "it is not a flexible head")
            return None
        stored = head.config.get("name") or name
        own = {
            key.replace(f"heads.{stored}.", f"heads.{name or stored}.", 1): value
            for key, value in head.tensors.items()
            if key.startswith(f"heads.{stored}.")
        }
        config = head.config["config"]
        target = name or stored
        model.check_head_tensors(target, config, own)
        return lambda: model.load_head_tensors(target, config, own)
    if (
        head.config.get("config") is not None
        or head.config.get("model_class") != type(model).__name__
    ):
        if engine.resolved.base_path:
            _skip(
                f"a head of {head.config.get('model_class')}", f"this is a {type(model).__name__}"
            )
        return None
    return _check_static(engine, head)


def _check_static(engine: Engine, head: HeadFiles) -> Callable[[], None]:
    ours = {
        key: value
        for key, value in engine.model.state_dict(keep_vars=True).items()
        if not key.startswith(f"{engine.resolved.base_path}.") and "adapterhub." not in key
    }
    problems = [f"unexpected: {key}" for key in head.tensors if key not in ours]
    problems += [
        f"shape: {key} is {list(value.shape)} in the file, {list(ours[key].shape)} in the model"
        for key, value in head.tensors.items()
        if key in ours and value.shape != ours[key].shape
    ]
    if problems:
        raise CheckpointError(
            f"The stored head does not fit this {type(engine.model).__name__}, nothing was loaded "
            "(pass with_head=False to load the adapter alone):\n  - " + "\n  - ".join(problems)
        )

    def put() -> None:
        with torch.no_grad():
            for key, value in head.tensors.items():
                ours[key].copy_(value)

    return put


def _skip(what: str, why: str) -> None:
    warnings.warn(f"The folder holds {what}, which was not loaded: {why}.", stacklevel=4)
