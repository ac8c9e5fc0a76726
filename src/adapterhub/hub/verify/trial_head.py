"""The trial of the prediction head that lies beside an adapter of our format: does it fit the base model?

Its tensors are compared with what ``head_config.json`` asks for on the real widths of the base model, which
costs nothing on the meta device. What a stranger's configuration asks for is bounded by the tensors that
really came before anything is built from it. :mod:`.trial_headrun` lets it run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from adapterhub.checkpoints import adapters as files
from adapterhub.checkpoints.adapters import HeadFiles
from adapterhub.checkpoints.files import read_json
from adapterhub.errors import ArchitectureError, CheckpointError
from adapterhub.heads.base import head_types, hidden_size
from adapterhub.heads.static import task_of
from adapterhub.hub.verify.trial_base import config_of
from adapterhub.hub.verify.trial_ours import lines_of
from adapterhub.model import headfiles
from adapterhub.model.auto import AutoAdapterModel
from adapterhub.model.handle import attach

_FILE = files.HEAD_CONFIG
#: A head has few choices, and no tensor says how many.
_MOST_CHOICES = 1000
#: As similar as this to a known type, a name is a slip of the pen and no type of somebody's own.
_SLIP = 0.9
#: Tasks of classes of transformers whose outputs have names.
NAMED = ("sequence", "token", "image")


class Unknown(Exception):
    """This head cannot be checked here, which is no fault of its files; the message says why."""


def read(folder: Path) -> HeadFiles:
    """Return the head in a folder; its tensors are by the names that its configuration calls them by.

    Raises:
        CheckpointError: If the files are damaged.
    """
    head = files.read_head(folder)
    if head is None:
        raise CheckpointError(f"there is no {_FILE}")
    name = head.config.get("name") or read_json(folder / files.CONFIG).get("name") or "adapter"
    return HeadFiles({**head.config, "name": str(name)}, head.tensors)


def is_own(head: HeadFiles) -> bool:
    """Whether it is a head of ours, and not one inside a class of transformers."""
    return isinstance(head.config.get("config"), dict)


def fits(folder: Path, base: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Return what does not fit the base model, what is odd, and what was compared.

    Raises:
        Unknown: If the head is of a type, or of a class, that is not known here.
    """
    try:
        head = read(folder)
    except CheckpointError as error:
        return lines_of(error), [], {}
    config = config_of(dict(base))
    problems = _width_problems(head, config)
    found, warned, data = _own(head, config) if is_own(head) else _inside(head, config)
    return problems + found, warned, {**data, "tensors": len(head.tensors)}


def _width_problems(head: HeadFiles, config: Any) -> list[str]:
    said = head.config.get("hidden_size")
    try:
        width = hidden_size(config)
    except ArchitectureError:
        return []
    if not isinstance(said, int) or said == width:
        return []
    return [f"{_FILE} says that the hidden size is {said}, but it is {width}"]


# -- heads of ours -----------------------------------------------------------------------------------


def _own(head: HeadFiles, base: Any) -> tuple[list[str], list[str], dict[str, Any]]:
    config, name = head.config["config"], head.config["name"]
    kind = config.get("head_type")
    data = {"type": str(kind)[:60], "outputs": _count(config)}
    if problem := _type_problem(kind, head.tensors):
        return [problem], [], data
    own = {key: value for key, value in head.tensors.items() if key.startswith(f"heads.{name}.")}
    warned = [
        f"{key} is not of the head {name!r} and will not be loaded"
        for key in list(head.tensors.keys() - own.keys())[:3]
        if own
    ]
    problems = bound_problems(config, own or head.tensors)
    if problems:
        return problems, warned, data
    problems += label_problems(config, own)
    try:
        with torch.device("meta"):
            model = AutoAdapterModel.from_config(base)
        model.check_head_tensors(name, config, own)
    except CheckpointError as error:
        problems += lines_of(error)
    except ArchitectureError as error:
        raise Unknown(str(error)) from error
    except (TypeError, ValueError, AttributeError, RuntimeError, KeyError) as error:
        # (Settings are the stranger's: a number where a name should be, or one beyond all memory.)
        problems.append(f"{_FILE} cannot be used: {str(error).strip()[:200]}")
    return problems, warned, data


def _type_problem(kind: Any, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return what is wrong with a type that cannot be meant; ``""`` if it is known.

    Raises:
        Unknown: If it may be a type of somebody's own.
    """
    known = head_types()
    if kind in known:
        return ""
    first = next(iter(sorted(tensors)), "its tensors")
    if not isinstance(kind, str) or not kind.strip():
        return f"{_FILE}: 'head_type' does not say of which type the head of {first} is"
    near = [name for name in known if _is_slip(kind, name)]
    if near:
        return (
            f"{_FILE}: unknown head type {kind[:60]!r} for {first}; "
            f"write {near[0]!r}, if that is meant"
        )
    raise Unknown(
        f"the head is of the type {kind[:60]!r}, which is not one of the library; whoever loads it "
        "needs the code that registers it"
    )


def _is_slip(written: str, known: str) -> bool:
    one, other = ("".join(filter(str.isalnum, name.lower())) for name in (written, known))
    # (Something before or behind a known name, such as a number, makes another type on purpose.)
    ends = (one[:1], one[-1:]) == (other[:1], other[-1:])
    return ends and difflib.SequenceMatcher(None, one, other).ratio() >= _SLIP


def _count(config: Mapping[str, Any]) -> Any:
    for key in ("num_choices", "num_labels", "vocab_size"):
        if isinstance(config.get(key), int):
            return config[key]
    return None


def bound_problems(
    config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], place: str = _FILE
) -> list[str]:
    """Return which numbers of a head's configuration the tensors contradict, before it is built."""
    problems = []
    layers = config.get("layers", 1)
    if (
        isinstance(layers, int) and layers > len(tensors) + 1
    ):  # (a tied last layer is not in the file)
        problems.append(
            f"{place} says layers = {layers}, but {files.HEAD_WEIGHTS} has {len(tensors)} tensors"
        )
    last = last_of(tensors)
    count = config.get("num_labels")
    rows = {value.shape[0] for value in tensors.values() if value.dim()}
    if isinstance(count, int) and count not in rows:
        shape = (
            f"{last} has the shape {list(tensors[last].shape)}" if last else "there is no tensor"
        )
        problems.append(f"{place} says num_labels = {count}, but {shape}")
    choices = config.get("num_choices")
    if isinstance(choices, int) and not 1 <= choices <= _MOST_CHOICES:
        problems.append(f"{place} says num_choices = {choices}; up to {_MOST_CHOICES} make sense")
    return problems


def label_problems(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return in which way the names of a head's outputs are not those of its outputs."""
    key = "num_choices" if "num_choices" in config else "num_labels"
    count = config.get(key)
    names = config.get("label2id")
    stated = "label2id"
    if names is None and isinstance(config.get("id2label"), dict):
        stated, names = "id2label", {str(v): k for k, v in config["id2label"].items()}
    if names is None or not isinstance(count, int):
        return []
    last = last_of(tensors)
    about = f"{key} = {count}" + (f", as {last} has" if key == "num_labels" else "")
    if not isinstance(names, dict):
        return [f"{_FILE}: {stated} must be an object of names and numbers ({about})"]
    ids = {str(value) for value in names.values()}
    if len(names) == count and ids == {str(number) for number in range(count)}:
        return []
    shown = ", ".join(sorted(ids)[:8]) or "none"
    return [
        f"{_FILE}: {stated} names {len(names)} outputs with the numbers {shown}, but {about}: one "
        f"name for each number from 0 to {count - 1} is needed"
    ]


def last_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the name of the last weight, which makes the outputs; ``""`` if there is none."""

    def place(name: str) -> tuple[int, str]:
        numbers = [int(part) for part in name.split(".") if part.isdecimal() and len(part) < 6]
        return (numbers[-1] if numbers else -1, name)

    weights = [name for name, value in tensors.items() if value.dim() > 1] or list(tensors)
    return max(weights, key=place, default="")


# -- heads inside a class of transformers ------------------------------------------------------------


def task_class(head: HeadFiles, base: Any) -> type[PreTrainedModel]:
    """Return the class of transformers that a head is from.

    Raises:
        Unknown: If there is none of that name, or none for this family.
    """
    name = head.config.get("model_class")
    found = (
        getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else 0
    )
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise Unknown(
            f"the head is that of {str(name)[:60]}, which transformers does not have here"
        )
    if not isinstance(base, getattr(found, "config_class", None) or ()):
        raise Unknown(
            f"the head is that of {name}, and the base model is of type {base.model_type}"
        )
    return found


def _inside(head: HeadFiles, base: Any) -> tuple[list[str], list[str], dict[str, Any]]:
    kind = task_class(head, base)
    data = {"type": kind.__name__, "outputs": head.config.get("num_labels")}
    named = task_of(kind.__name__) in NAMED
    problems = bound_problems(head.config, head.tensors) if named else []
    if problems:
        return problems, [], data
    if named:
        problems += label_problems(head.config, head.tensors)
    config = with_outputs(head, base, named)
    try:
        with torch.device("meta"):
            engine = attach(kind._from_config(config)).engine
        headfiles.check(engine, HeadFiles({**head.config, "name": None}, head.tensors), None)
    except CheckpointError as error:
        problems += lines_of(error)
    except (TypeError, ValueError, AttributeError, RuntimeError, KeyError) as error:
        problems.append(f"{_FILE} cannot be used: {str(error).strip()[:200]}")
    else:
        problems += _missing(engine, head)
    return problems, [], data


def with_outputs(head: HeadFiles, base: Any, named: bool) -> Any:
    """Return the configuration of the base model with as many outputs as the head has."""
    count = head.config.get("num_labels")
    if named and isinstance(count, int):
        base.num_labels = count
    return base


def _missing(engine: Any, head: HeadFiles) -> list[str]:
    """Return the parameters that the class has beside its base model, and the file has not."""
    own = headfiles.static_tensors(engine, keep_vars=True)
    apart = {
        id(value)
        for name, value in engine.model.named_parameters(remove_duplicate=False)
        if name not in own
    }
    return [
        f"missing: {name} {list(value.shape)}"
        for name, value in own.items()
        if name not in head.tensors
        and isinstance(value, torch.nn.Parameter)
        and id(value) not in apart  # a weight that is tied to the embeddings comes with the base
    ]
