"""The trial of a prediction head, second part: it runs on a thin base model, with its adapter active.

Of a head that scores the vocabulary only the rows of the short vocabulary are run. What it gives must have
the shape that its type promises, and be finite; what is the same whatever goes in is worth a hint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModel

from adapterhub.architectures.dummies import working_inputs
from adapterhub.checkpoints.adapters import HeadFiles
from adapterhub.errors import CheckpointError
from adapterhub.heads.running import CHOICES
from adapterhub.heads.static import task_of
from adapterhub.hub.verify import trial_head
from adapterhub.hub.verify.trial_base import CannotRun, NeedsDepth, config_of, first_output, thin
from adapterhub.hub.verify.trial_ours import assemble
from adapterhub.model import headfiles
from adapterhub.model.auto import AutoAdapterModel
from adapterhub.model.handle import attach

_PARSER = "dependency_parsing"
_CHOICE = "multiple_choice"
#: More choices would only make the batch larger.
_MOST_CHOICES = 8
#: Choices for classes of transformers, which take any number.
_TWO = {"num_choices": 2}
#: Less than this, as a share of the largest value, is no difference between two inputs.
_DIFFERENCE = 1e-6


def run(folder: Path, base: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    """Run the head; return errors, warnings, and the shapes of what it gave.

    Raises:
        CannotRun: If the base model cannot be run here.
    """
    head = trial_head.read(folder)
    try:
        outputs, wanted, layers = _outputs(folder, dict(base), head, whole_depth=False)
    except NeedsDepth:
        outputs, wanted, layers = _outputs(folder, dict(base), head, whole_depth=True)
    errors, warned = judge(outputs, wanted)
    shapes = {name: list(value.shape) for name, value in outputs.items()}
    return errors, warned, {"layers": layers, "shapes": shapes}


def judge(
    outputs: Mapping[str, torch.Tensor], wanted: Mapping[str, tuple[int | None, ...]]
) -> tuple[list[str], list[str]]:
    """Return errors and warnings that follow from what a head gave.

    Args:
        outputs: by name, the first axis being the inputs.
        wanted: the shape that each must have; ``None``: any length.
    """
    errors: list[str] = []
    for name, shape in wanted.items():
        value = outputs.get(name)
        if value is None:
            errors.append(f"the head gives no {name}")
        elif value.dim() != len(shape) or any(
            size is not None and size != real for size, real in zip(shape, value.shape, strict=True)
        ):
            expected = ["any" if size is None else size for size in shape]
            errors.append(
                f"the head's {name} has the shape {list(value.shape)}; expected {expected}"
            )
        elif not bool(torch.isfinite(value).all()):
            errors.append(f"the head's {name} holds NaN or infinity, even on small random inputs")
    if errors:
        return errors, []
    same = all(
        value.shape[0] > 1
        and float((value[0] - value[1]).abs().max())
        <= _DIFFERENCE * float(value.abs().max().clamp_min(1e-12))
        for value in outputs.values()
    )
    return [], ["the head gives the same whatever the input: it does not seem trained"] * same


def _outputs(folder: Path, base: dict[str, Any], head: HeadFiles, *, whole_depth: bool) -> Any:
    make = _own if trial_head.is_own(head) else _inside
    with torch.no_grad():
        torch.manual_seed(0)
        return make(folder, base, head, whole_depth)


def _put_adapter(handle: Any, folder: Path, whole_depth: bool) -> None:
    try:
        handle._put(assemble(handle.engine, folder))
    except CheckpointError as error:
        if whole_depth:
            raise
        raise NeedsDepth from error
    handle.set_active_adapters("adapter")


def _with_tokens(model: Any) -> Any:
    """Name the tokens that heads look for, where the configuration does not."""
    for name in ("pad_token_id", "decoder_start_token_id"):
        if getattr(model.config, name, None) is None:
            setattr(model.config, name, 0)
    return model


def _own(folder: Path, base: dict[str, Any], head: HeadFiles, whole_depth: bool) -> Any:
    full = config_of(base)
    config, depth = thin(AutoModel, full, whole_depth=whole_depth)
    model = _with_tokens(AutoAdapterModel.from_config(config).eval())
    _put_adapter(model.adapter_handle, folder, whole_depth)
    stored, prefix = head.config["config"], f"heads.{head.config['name']}."
    rows = (getattr(full, "vocab_size", None), getattr(config, "vocab_size", None))
    if stored.get("vocab_size") == rows[0] and stored["head_type"].endswith("_lm"):
        stored = {**stored, "vocab_size": rows[1]}
    else:
        rows = (None, None)
    tensors = {
        f"heads.adapter.{key.removeprefix(prefix)}": _cut(value, *rows)
        for key, value in head.tensors.items()
        if key.startswith(prefix)
    }
    model.load_head_tensors("adapter", stored, tensors, set_active=True)
    inputs = _inputs(model.base_model, stored)
    result = model(**inputs)
    wanted = _wanted(stored, len(next(iter(_tensors(inputs).values()))))
    return {name: result[name] for name in wanted if name in result}, wanted, depth


def _cut(value: torch.Tensor, before: int | None, after: int | None) -> torch.Tensor:
    """Shorten what has a row for each word to the short vocabulary."""
    return value[:after].clone() if before is not None and value.shape[:1] == (before,) else value


def _inputs(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    inputs = working_inputs(model)
    if inputs is None:
        raise CannotRun(f"no inputs are known on which a {type(model).__name__} runs")
    ids, end = inputs.get("input_ids"), getattr(model.config, "eos_token_id", None)
    words = getattr(model.config, "vocab_size", 0)
    if isinstance(ids, torch.Tensor) and isinstance(end, int) and end < words:
        ids[:, -1] = end  # some heads read what is there
    if config["head_type"] == _CHOICE:
        return _with_choices(inputs, min(config["num_choices"], _MOST_CHOICES))
    if config["head_type"] == _PARSER:  # as if each token were a word
        if not isinstance(inputs.get("input_ids"), torch.Tensor):
            raise CannotRun("the base model reads no words")
        count, length = inputs["input_ids"].shape
        return {**inputs, "word_starts": torch.arange(length + 1).expand(count, -1)}
    return inputs


def _with_choices(inputs: dict[str, Any], count: int) -> dict[str, Any]:
    if not isinstance(inputs.get("input_ids"), torch.Tensor):
        raise CannotRun("the base model reads no text")
    kept = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
    made = dict(kept)
    for name, value in _tensors(kept).items():
        if value.dim() == CHOICES.get(name, 0) - 1:
            made[name] = torch.stack([value.roll(number, 0) for number in range(count)], dim=1)
    # The choices of an example differ from each other, too (but for the last token, which may count).
    ids = made["input_ids"][..., :-1]
    ids += torch.arange(count)[:, None] * (ids < 8)
    return made


def _tensors(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor) and v.dim()}


def _wanted(config: Mapping[str, Any], count: int) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of what a head of ours must give for so many inputs."""
    kind, labels = config["head_type"], config.get("num_labels")
    if kind == "question_answering":
        return {"start_logits": (count, None), "end_logits": (count, None)}
    if kind == _PARSER:
        return {"arc_preds": (count, None, None), "rel_preds": (count, None, None, labels)}
    if kind == _CHOICE:
        return {"logits": (count, min(config["num_choices"], _MOST_CHOICES))}
    if kind == "tagging":
        return {"logits": (count, None, labels)}
    if "vocab_size" in config:
        return {"logits": (count, None, config["vocab_size"])}
    return {"logits": (count, labels)}


def _inside(folder: Path, base: dict[str, Any], head: HeadFiles, whole_depth: bool) -> Any:
    full = config_of(base)
    kind = trial_head.task_class(head, full)
    task = task_of(kind.__name__)
    full = trial_head.with_outputs(head, full, task in trial_head.NAMED)
    config, depth = thin(
        SimpleNamespace(from_config=kind._from_config), full, whole_depth=whole_depth
    )
    model = _with_tokens(kind._from_config(config).eval())
    handle = attach(model)
    _put_adapter(handle, folder, whole_depth)
    rows = (getattr(full, "vocab_size", None), getattr(config, "vocab_size", None))
    tensors = {
        key: _cut(value, *rows) if task in ("masked", "text") else value
        for key, value in head.tensors.items()
    }
    put = headfiles.check(handle.engine, HeadFiles({**head.config, "name": None}, tensors), None)
    if put is not None:
        put()
    inputs = _inputs(_base_of(model), {"head_type": _CHOICE if task == "choice" else "", **_TWO})
    result = first_output(model(**inputs))
    return {"logits": result}, {"logits": (None, *(None for _ in result.shape[1:]))}, depth


def _base_of(model: Any) -> Any:
    return getattr(model, model.base_model_prefix, model)
