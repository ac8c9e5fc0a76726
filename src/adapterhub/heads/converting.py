"""From the head inside a task class of transformers to one of ours, and back.

:func:`convert` finds our head for the modules of a task class, :func:`deconvert` the place of one of our
heads in a task class, both by the table in :mod:`~adapterhub.heads.static`. Neither touches a tensor: they
say which parameter is which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapterhub.heads.base import RARE
from adapterhub.heads.language_modeling import logit_options
from adapterhub.heads.static import StaticHead, find_row


@dataclass(frozen=True)
class Converted:
    """A head of ours for the modules of a task class.

    Attributes:
        config: its configuration.
        names: ``{name in the task class: name in the head}`` of all its parameters.
    """

    config: dict[str, Any]
    names: dict[str, str]


def convert(
    class_name: str,
    config: Any,
    shapes: Mapping[str, Any],
    label2id: Mapping[str, int] | None = None,
    num_labels: int | None = None,
) -> Converted | None:
    """Return the head that a task class's own modules are, or ``None`` if there is none.

    Args:
        class_name: e.g. ``"BertForSequenceClassification"``.
        config: the configuration of its model.
        shapes: ``{parameter name: shape}`` of everything outside of the base model. The weight of a
            last layer that is tied to the embeddings may lack.
        label2id: the labels' names; default: those of *config*.
        num_labels: for multiple choice: the number of choices; default: that of *config*.
    """
    row = find_row(class_name, config, shapes)
    if row is None:
        return None
    names = {
        name: f"{row.slots[path]}.{kind}"
        for name in shapes
        for path, _, kind in [name.rpartition(".")]
        if path in row.slots
    }
    last = max(row.slots, key=lambda path: row.slots[path])
    bias = f"{last.rpartition('.')[0]}.bias"
    if bias in shapes and f"{last}.bias" not in shapes:
        names[bias] = f"{row.slots[last]}.bias"
    sizes = {names[name]: tuple(shape) for name, shape in shapes.items() if name in names}
    count = num_labels or getattr(config, "num_labels", None) or 2
    made = _configuration(row, config, sizes, count)
    if "label2id" in made:
        labels = label2id if label2id is not None else getattr(config, "label2id", None)
        size: Any = made.get("num_labels", made.get("num_choices"))
        fits = labels is not None and len(labels) == size
        made["label2id"] = (
            {str(label): int(i) for label, i in labels.items()}  # type: ignore[union-attr]
            if fits
            else {f"LABEL_{i}": i for i in range(size)}
        )
    return Converted(made, names)


def _configuration(
    row: StaticHead, config: Any, sizes: Mapping[str, tuple[int, ...]], choices: int
) -> dict[str, Any]:
    """Return the configuration of a row's head, for parameters of these *sizes* (names as in it)."""
    options = {key: _resolved(value, config) for key, value in row.options.items()}
    indices = sorted(row.slots.values())
    last, linear = indices[-1], [i for i in indices if len(sizes.get(f"{i}.weight", (0, 0))) == 2]
    outputs = next(
        (sizes[key][0] for key in (f"{last}.weight", f"{last}.bias") if key in sizes), None
    )
    if row.writes:
        return _language_configuration(row, config, sizes, options, outputs)
    made: dict[str, Any] = {"head_type": row.head_type, "layers": len(linear)}
    if row.head_type == "ctc":
        del made["layers"]
        return {**made, "vocab_size": outputs, "dropout_prob": None}
    if row.head_type == "multiple_choice":
        made["num_choices"] = choices
    else:
        made["num_labels"] = outputs
    several = getattr(config, "problem_type", None) == "multi_label_classification"
    if row.head_type in ("classification", "image_classification"):
        made.update(use_pooler=False, bias=f"{last}.bias" in sizes)
        if row.head_type == "image_classification":
            made["multilabel"] = several
        elif several:
            made["head_type"] = "multilabel_classification"
    if row.head_type == "audio_classification":
        made["projection_size"] = sizes[f"{indices[0]}.weight"][0]
    if options.get("layer_norm"):
        options["hidden_bias"] = f"{indices[0]}.bias" in sizes
        options["norm_bias"] = f"{indices[1]}.bias" in sizes
    return {**made, "dropout_prob": None, **options, "label2id": None}


def _language_configuration(
    row: StaticHead,
    config: Any,
    sizes: Mapping[str, tuple[int, ...]],
    options: dict[str, Any],
    outputs: int | None,
) -> dict[str, Any]:
    normed = bool(options.get("layer_norm"))
    made: dict[str, Any] = {
        "head_type": row.head_type,
        "vocab_size": outputs,
        "layers": 2 if normed else 1,
        "layer_norm": normed,
        "bias": f"{max(row.slots.values())}.bias" in sizes,
        "shift_labels": row.head_type == "causal_lm",
        **options,
    }
    if normed:
        made["embedding_size"] = sizes["0.weight"][0]
        made["hidden_bias"] = "0.bias" in sizes
        made["norm_bias"] = "2.bias" in sizes
    if row.task == "text":
        made.update(logit_options(config))
    return made


def _resolved(value: Any, config: Any) -> Any:
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    attribute, _, default = value[1:].partition("|")
    return getattr(config, attribute, default or None)


#: Entries of a configuration that do not change what is computed.
_FREE = ("label2id", "dropout_prob", "num_labels", "num_choices", "vocab_size", "shift_labels")


def deconvert(
    class_name: str, config: Any, shapes: Mapping[str, Any], head: Mapping[str, Any]
) -> dict[str, str] | str:
    """Return where the parameters of one of our heads go in a task class; a text says why nowhere.

    Args:
        class_name, config, shapes: the task class, as for :func:`convert`.
        head: the configuration of our head.

    Returns:
        ``{name in the head: name in the task class}``.
    """
    found = convert(class_name, config, shapes)
    if found is None:
        return f"no head here corresponds to the one inside {class_name}"
    ours, theirs = _essence(head), _essence(found.config)
    for key in sorted(ours.keys() | theirs.keys(), key=lambda key: (key != "head_type", key)):
        if ours.get(key) != theirs.get(key):
            return (
                f"it has {key}={ours.get(key)!r}, and the one inside {class_name} has "
                f"{theirs.get(key)!r}"
            )
    return {ours: theirs for theirs, ours in found.names.items()}


def _essence(head: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a configuration decides about the function, with defaults filled in."""
    found: dict[str, Any] = {"bias": True, "embedding_size": None, "use_pooler": False, **RARE}
    found.update({key: value for key, value in head.items() if key not in _FREE})
    found["head_type"] = found["head_type"].removeprefix("multilabel_")
    found.pop("multilabel", None)
    if found.get("layers") == 1:
        for key in ("activation_function", "layer_norm", "hidden_bias", "norm_bias"):
            found.pop(key, None)
    if found.get("layers") == 1 or found["embedding_size"] is None:
        found.pop("embedding_size", None)
    return found
