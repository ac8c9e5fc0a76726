"""Prediction heads as files: those of our own models, and those that a Hugging Face class brings.

A head can be loaded into the kind of model that it was saved from, and, where the two kinds compute the
same (:mod:`adapterhub.heads.converting`), into the other kind.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING

from adapterhub.checkpoints.adapters import HeadFiles, model_facts
from adapterhub.engine import Engine
from adapterhub.engine.sites import CHILD
from adapterhub.errors import CheckpointError
from adapterhub.heads import converting, static


def collect(engine: Engine, name: str | None) -> HeadFiles | None:
    """Return the head that belongs to adapter *name*, or ``None`` if the model has none for it."""
    model: Any = engine.model
    facts = model_facts(engine)
    if engine.own_heads:
        if name is None or name not in model.heads:
            return None
        return HeadFiles(
            {**facts, "config": model.heads[name].stored_config(), "name": name},
            model.head_tensors(name),
        )
    own = static_tensors(engine)
    tied = _addresses(engine, own)
    tensors = {key: value for key, value in own.items() if value.data_ptr() not in tied}
    if not own:
        return None
    labels = getattr(model.config, "label2id", None)
    facts.update(
        config=None,
        name=None,
        label2id=labels,
        num_labels=getattr(model.config, "num_labels", None),
    )
    return HeadFiles(facts, tensors)


def apart(engine: Engine) -> HeadFiles | None:
    """Return a task class's head unless it is the map to the vocabulary; ``None`` also for our own heads."""
    if engine.own_heads:
        return None
    head, model = collect(engine, None), engine.model
    output = getattr(model, "get_output_embeddings", lambda: None)()
    own = {id(parameter) for parameter in output.parameters()} if output is not None else set()
    tensors = static_tensors(engine, keep_vars=True)
    if head is None or not head.tensors or any(id(tensors[key]) in own for key in head.tensors):
        return None
    return head


def static_tensors(engine: Engine, keep_vars: bool = False) -> dict[str, torch.Tensor]:
    """Return the tensors of a task class that are outside of its base model, by name.

    Args:
        keep_vars: return the parameters themselves.
    """
    model, base = engine.model, engine.resolved.base_path
    if base:
        parts = frozenset({base})
    elif static.task_of(type(model).__name__) is None:
        return {}
    else:  # like T5ForConditionalGeneration, which has the parts of its base model beside its head
        parts = base_parts(type(model.config), model.config)  # type: ignore[arg-type]
        if not parts:
            return {}
    # (Only what stands beside the base model is listed: that may carry hundreds of adapters.)
    state: dict[str, torch.Tensor] = {}
    for name, child in model.named_children():
        if name not in parts and name != CHILD:
            child.state_dict(destination=state, prefix=f"{name}.", keep_vars=keep_vars)
    own = {**model._parameters, **model._buffers}
    state.update({k: v if keep_vars else v.detach() for k, v in own.items() if v is not None})
    return {
        key: value
        for key, value in state.items()
        if f"{CHILD}." not in key and not key.startswith(f"{base}.")
    }


_PARTS: dict[type, frozenset[str]] = {}


def base_parts(kind: type, config: Any) -> frozenset[str]:
    """Return the names of the top modules of the base model for a configuration of class *kind*."""
    if kind not in _PARTS:
        base: Any = MODEL_MAPPING.get(kind, None)
        base = base[0] if isinstance(base, (tuple, list)) else base
        names: list[str] = []
        if base is not None:
            with torch.device("meta"):
                names = [name for name, _ in base(copy.deepcopy(config)).named_children()]
        _PARTS[kind] = frozenset(names)
    return _PARTS[kind]


def _addresses(engine: Engine, own: Mapping[str, torch.Tensor]) -> set[int]:
    """Return where the base model's tensors lie; *own* are those of the head."""
    apart = bool(engine.resolved.base_path)  # else the head's are among them
    return {
        value.data_ptr()
        for key, value in _base_parameters(engine.resolved.base, "")
        if apart or key not in own
    }


def _base_parameters(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters under *module* by name, without those of adapters."""
    for name, value in module._parameters.items():
        if value is not None:
            yield prefix + name, value
    for name, child in module._modules.items():
        if child is not None and name != CHILD:
            yield from _base_parameters(child, f"{prefix}{name}.")


def check(engine: Engine, head: HeadFiles, name: str | None) -> Callable[[], None] | None:
    """Check a stored head against this model; return what puts it in, or ``None`` if it has no place here.

    Args:
        name: the adapter it belongs to, whose name it gets; default: its own.

    Raises:
        CheckpointError: the head is of this kind, but its tensors do not fit.
    """
    flexible = isinstance(head.config.get("config"), dict)
    if engine.own_heads:
        return _check_own(engine, head, name) if flexible else _check_converted(engine, head, name)
    if not flexible and head.config.get("model_class") != type(engine.model).__name__:
        _skip(engine, head, f"this is a {type(engine.model).__name__}")
        return None
    tensors = _deconverted(engine, head) if flexible else _without_base(engine, head.tensors)
    return None if tensors is None else _check_static(engine, tensors)


def name_for(engine: Engine, head: HeadFiles, name: str | None) -> str | None:
    """Return the name that a stored head gets: *name*, its own, ``"default"``; ``None``: heads have none."""
    return name or head.config.get("name") or ("default" if engine.own_heads else None)


def _check_own(engine: Engine, head: HeadFiles, name: str | None) -> Callable[[], None]:
    model: Any = engine.model
    stored = head.config.get("name") or name
    target, config = name or stored, head.config["config"]
    own = {f"heads.{target}.{key}": value for key, value in _of_head(head.tensors, stored).items()}
    model.check_head_tensors(target, config, own)
    return lambda: model.load_head_tensors(target, config, own)


def _of_head(tensors: Mapping[str, torch.Tensor], name: str | None) -> dict[str, torch.Tensor]:
    """Return one head's tensors by their names in it: files of the peer may hold neighbours too."""
    prefix = f"heads.{name}."
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _check_converted(
    engine: Engine, head: HeadFiles, name: str | None
) -> Callable[[], None] | None:
    """Turn the head of a task class into one of ours."""
    model: Any = engine.model
    facts, target = head.config, str(name_for(engine, head, name))
    tensors = _without_base(engine, head.tensors)
    bias = tensors.pop(static.LOGITS_BIAS, None)
    found = converting.convert(
        str(facts.get("model_class")),
        model.config,
        {key: value.shape for key, value in tensors.items()},
        facts.get("label2id"),
        facts.get("num_labels"),
    )
    if found is None:
        _skip(engine, head, "no head here computes the same")
        return None
    own = {f"heads.{target}.{ours}": tensors[key] for key, ours in found.names.items()}
    config = found.config
    if bias is not None and bool(bias.any()):
        key = f"heads.{target}.{config['layers'] - 1}.bias"
        config, own[key] = {**config, "bias": True}, bias.flatten() + own.get(key, 0)
    model.check_head_tensors(target, config, own)
    return lambda: model.load_head_tensors(target, config, own)


def _without_base(engine: Engine, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out what files of classes like ``WhisperForAudioClassification`` hold beside the head."""
    if engine.own_heads:
        model: Any = engine.model
        parts = {name for name, _ in model.base_model.named_children()}
    elif engine.resolved.base_path:
        return dict(tensors)
    else:
        parts = base_parts(type(engine.model.config), engine.model.config)  # type: ignore[arg-type]
    return {key: value for key, value in tensors.items() if key.partition(".")[0] not in parts}


def _deconverted(engine: Engine, head: HeadFiles) -> dict[str, torch.Tensor] | None:
    """Turn one of our heads into the one that this task class has."""
    config: Any = engine.model.config
    own = static_tensors(engine)
    found = converting.deconvert(
        type(engine.model).__name__,
        config,
        {key: value.shape for key, value in own.items()},
        head.config["config"],
    )
    if isinstance(found, str):
        _skip(engine, head, found)
        return None
    tensors = _of_head(head.tensors, head.config.get("name"))
    unknown = [key for key in tensors if key not in found]
    if unknown:
        _skip(engine, head, f"{unknown[0]} has no place in {type(engine.model).__name__}")
        return None
    return {found[key]: value for key, value in tensors.items()}


def _check_static(engine: Engine, tensors: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    ours = static_tensors(engine, keep_vars=True)
    tied = _addresses(engine, ours)
    problems = [f"unexpected: {key}" for key in tensors if key not in ours]
    problems += [
        f"shape: {key} is {list(value.shape)} in the file, {list(ours[key].shape)} in the model"
        for key, value in tensors.items()
        if key in ours and value.shape != ours[key].shape
    ]
    if problems:
        raise CheckpointError(
            f"The stored head does not fit this {type(engine.model).__name__}, nothing was loaded "
            "(pass with_head=False to load the adapter alone):\n  - " + "\n  - ".join(problems)
        )

    def put() -> None:
        with torch.no_grad():
            for key, value in tensors.items():
                if ours[key].data_ptr() not in tied:
                    ours[key].copy_(value)
                elif not torch.equal(value.to(ours[key]), ours[key]):
                    _untie(engine.model, key, value.to(ours[key]))

    return put


def _untie(model: Any, key: str, value: torch.Tensor) -> None:
    """Give a weight that the model ties to its embeddings a value of its own."""
    path, _, name = key.rpartition(".")
    setattr(model.get_submodule(path), name, nn.Parameter(value.clone()))
    getattr(model, "all_tied_weights_keys", {}).pop(key, None)


def _skip(engine: Engine, head: HeadFiles, why: str) -> None:
    """Say that a stored head was not loaded; a bare base model is expected to have no place for it."""
    if engine.own_heads or static_tensors(engine):
        what = head.config.get("model_class")
        warnings.warn(
            f"The folder holds a head of {what}, which was not loaded: {why}.", stacklevel=5
        )
