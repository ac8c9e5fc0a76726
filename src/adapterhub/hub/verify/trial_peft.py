"""The trial of an adapter in PEFT's format, by PEFT itself.

The class of the base model is not in the files for certain: the task type, the name of the class that PEFT
noted, and then the other classes are tried, and the one whose names fit counts.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import (  # pyright: ignore[reportMissingImports]
    PeftConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file

from adapterhub.hub.verify.trial_base import (
    NeedsDepth,
    config_of,
    first_output,
    on_meta,
    runnable,
    thin,
)
from adapterhub.hub.verify.trial_ours import compare, distance

WEIGHTS = "adapter_model.safetensors"
_CLASSES = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
_HEADS = (".score.", ".classifier.", ".out_proj.", ".qa_outputs.", ".classification_head.")
_PREFIX = "base_model.model."
_SHOWN = 20


def fits(folder: Path, base: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return what does not fit the real base model, and what was compared (for the class that fits best)."""
    tensors = load_file(folder / WEIGHTS)
    best: tuple[list[str], dict[str, Any]] | None = None
    for kind in _kinds(folder, config_of(base)):
        try:
            model = on_meta(kind, _with_labels(config_of(base), tensors))
        except ValueError:  # this family has no such class
            continue
        found = _compare(folder, model, tensors)
        if best is None or len(found[0]) < len(best[0]):
            best = found[0], {**found[1], "class": type(model).__name__, "auto": kind.__name__}
        if not best[0]:
            break
    if best is None:
        return ["transformers has no class of this family for the task type"], {}
    problems, data = best
    more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return problems[:_SHOWN] + more, data


def _kinds(folder: Path, config: Any) -> list[Any]:
    """Return the ``Auto`` classes to try, the likeliest first."""
    stated = _config(folder)
    names = [_CLASSES[stated.task_type]] if stated.task_type in _CLASSES else []
    noted = (stated.auto_mapping or {}).get("base_model_class")
    for name in _CLASSES.values():
        mapping = getattr(transformers, name)._model_mapping
        found = mapping.get(type(config), None)
        several = found if isinstance(found, tuple) else (found,)
        if noted and noted in {getattr(cls, "__name__", "") for cls in several}:
            names.insert(0, name)
    return [getattr(transformers, name) for name in dict.fromkeys([*names, *_CLASSES.values()])]


def _config(folder: Path) -> PeftConfig:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of keys that other versions of PEFT write
        config = PeftConfig.from_pretrained(str(folder))
    # Starts that look at the weights of the base are for training, and the base here is another one.
    if isinstance(getattr(config, "init_lora_weights", None), str):
        config.init_lora_weights = True  # type: ignore[attr-defined]
    config.inference_mode = True
    return config


def _with_labels(config: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Give the head of the base as many labels as the adapter's own head has."""
    for name, value in tensors.items():
        if name.endswith(".weight") and any(word in name for word in _HEADS) and value.dim() == 2:
            config.num_labels = value.shape[0]
    return config


def _wrap(folder: Path, model: Any, *, empty: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, _config(folder), low_cpu_mem_usage=empty)


def _compare(folder: Path, model: Any, tensors: dict[str, torch.Tensor]) -> Any:
    plain = dict(model.named_parameters())
    try:
        wrapped = _wrap(folder, model, empty=True)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        return [f"PEFT cannot put this adapter into {type(model).__name__}: {error}"], {}
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    problems = []
    for name, value in expected.items():
        if name not in tensors:
            problems.append(f"missing: {name} {list(value.shape)}")
        elif tensors[name].shape != value.shape:
            shape = list(tensors[name].shape)
            problems.append(
                f"shape: {name} is {shape} in the file, {list(value.shape)} in the model"
            )
    for name, value in tensors.items():
        if name in expected:
            continue
        own = plain.get(name.removeprefix(_PREFIX))
        # Whole embeddings come along when tokens were added, so their number is another one.
        if own is None or own.dim() != value.dim() or own.shape[1:] != value.shape[1:]:
            problems.append(f"unexpected: {name} {list(value.shape)}")
    return problems, {"modules": len(expected)}


def forward(
    folder: Path, base: dict[str, Any], *, auto: str, whole_depth: bool = False
) -> dict[str, Any]:
    """Run a thin base model with and without the adapter, and merged with it; see :func:`.trial.judge`.

    Args:
        auto: the ``Auto`` class that :func:`fits` found.

    Raises:
        CannotRun: If the base model cannot be run here.
        NeedsDepth: If the adapter needs all layers.
    """
    kind = getattr(transformers, auto)
    tensors = load_file(folder / WEIGHTS)
    config = _with_labels(config_of(base), tensors)
    whole = any(
        word in name
        for name in tensors
        for word in ("embed", "lm_head", "wte")
        if not name.startswith("prompt_")
    )
    config, depth = thin(kind, config, whole_vocabulary=whole, whole_depth=whole_depth)
    with torch.no_grad():
        model, inputs, without = runnable(kind, config)
        wrapped = _wrap(folder, model, empty=False).eval()
        _load(wrapped, tensors)
        result = first_output(wrapped(**inputs))
        found = {"layers": depth, **compare(without, result)}
        found["merged"] = _merged(wrapped, inputs, result, without)
    return found


def _load(wrapped: Any, tensors: dict[str, torch.Tensor]) -> None:
    """Load what there is room for: a thin model has fewer layers."""
    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    kept = {name: value for name, value in tensors.items() if name in expected}
    wrong = [name for name, value in kept.items() if value.shape != expected[name].shape]
    if wrong:
        raise NeedsDepth(wrong[0])
    set_peft_model_state_dict(wrapped, kept)


def _merged(wrapped: Any, inputs: Any, result: Any, without: Any) -> dict[str, Any] | None:
    """Merge the adapter and take it out again; ``None`` if its method cannot be merged."""
    tuner = wrapped.base_model
    heads = getattr(wrapped, "modules_to_save", None)
    if not hasattr(tuner, "merge_adapter") or not hasattr(tuner, "unmerge_adapter"):
        return None
    try:
        tuner.merge_adapter()
        merged = first_output(wrapped(**inputs))
        tuner.unmerge_adapter()
    except (NotImplementedError, AttributeError, ValueError):
        return None
    found: dict[str, Any] = {"merged": distance(merged, result)}
    with wrapped.disable_adapter():
        again = first_output(wrapped(**inputs))
    if not heads and again.shape == without.shape:
        found["restored"] = distance(again, without)
    return found
