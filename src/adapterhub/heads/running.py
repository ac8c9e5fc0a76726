"""One forward pass of a model with heads: dividing its arguments, and its batch among heads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch

from adapterhub.composition import BatchSplit
from adapterhub.context import current
from adapterhub.errors import ArchitectureError, CompositionError, ConfigError, did_you_mean
from adapterhub.heads.base import PredictionHead
from adapterhub.heads.generation import SHIFT, shift_right
from adapterhub.heads.outputs import combine, rows
from adapterhub.heads.pooling import pooled_vector
from adapterhub.heads.setup import HeadSetup, names_of

#: Labels of the heads that come with the library, always part of the signature.
#: (``labels_arcs`` and ``labels_rels`` of the parser are not: the Trainer would wait for every argument
#: with "label" in its name; tell it with ``label_names``.)
TARGETS = ("labels", "start_positions", "end_positions", "word_starts")
#: Arguments of the Trainer that are meant for language-model losses.
DROPPED = ("num_items_in_batch", "return_loss")
#: Arguments of every base model, by name or through its output decorators.
COMMON = ("output_attentions", "output_hidden_states")
#: Inputs that may have an axis of choices, and how many axes they have then.
CHOICES = {
    "input_ids": 3,
    "attention_mask": 3,
    "token_type_ids": 3,
    "position_ids": 3,
    "inputs_embeds": 4,
}


@dataclass(frozen=True)
class BaseArguments:
    """What a base model's forward takes: names in order, and whether it takes others as well."""

    names: tuple[str, ...]
    takes_any: bool


def describe(base: type) -> BaseArguments:
    """Return the arguments of a base model class."""
    parameters = list(inspect.signature(base.forward).parameters.values())[1:]  # type: ignore[attr-defined]
    return BaseArguments(
        tuple(p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def with_signature(forward: Callable[..., Any], base: type) -> Callable[..., Any]:
    """Return *forward* with the signature of the base class's plus the heads' arguments.

    The Trainer drops the columns of a data set that the signature does not name.
    """

    @wraps(forward)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)

    given = inspect.signature(base.forward).parameters.values()  # type: ignore[attr-defined]
    ordered = [p for p in given if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    names = {p.name for p in ordered}
    wanted = ("head", *TARGETS, *COMMON, "logits_to_keep", "return_dict")
    added = [name for name in wanted if name not in names]
    ordered += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in added
    ]
    ordered.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
    call.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    return call


@dataclass(frozen=True)
class Call:
    """The arguments of one call: the base model's *inputs*, the heads' *targets*, and options."""

    inputs: dict[str, Any]
    targets: dict[str, Any]
    return_dict: bool | None
    logits_to_keep: Any = 0
    choices: int | None = None

    @staticmethod
    def split(
        known: BaseArguments,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        heads: Sequence[PredictionHead],
        model: Any,
    ) -> Call:
        """Divide the arguments of ``model(*args, **kwargs)``.

        Raises:
            TypeError: an argument that neither the base model nor a head takes, or too many.
            ConfigError: labels, and no head to use them.
        """
        own = (*TARGETS, *(name for head in heads for name in head.targets))
        if len(args) > len(known.names):
            raise TypeError(
                f"forward() takes {len(known.names)} positional arguments, not {len(args)}."
            )
        given = {**dict(zip(known.names, args, strict=False)), **kwargs}
        targets = {name: given.pop(name) for name in own if name in given}
        return_dict = given.pop("return_dict", None)
        keep = given.pop("logits_to_keep", None)
        inputs = {name: value for name, value in given.items() if name not in DROPPED}
        unknown = [name for name in inputs if name not in known.names and name not in COMMON]
        if unknown and not known.takes_any:
            raise TypeError(
                f"forward() got an unexpected argument '{unknown[0]}': "
                f"{type(model.base_model).__name__} does not take it."
                f"{did_you_mean(unknown[0], (*known.names, *own))}"
            )
        if not heads and any(value is not None for value in targets.values()):
            raise ConfigError(
                f"{', '.join(targets)} given, but no prediction head is active: add one (for "
                "example with add_classification_head) or set active_head."
            )
        choices = None
        if any(head.has_choices for head in heads):
            choices = _choices(inputs)
            inputs = {name: _fold_choices(name, value) for name, value in inputs.items()}
        if getattr(model.config, "is_encoder_decoder", False):
            inputs = with_decoder_inputs(inputs, targets, heads, model)
        return Call(inputs, targets, return_dict, 0 if keep is None else keep, choices)

    def part(self, start: int, stop: int, total: int) -> Call:
        """Return the call for rows *start* to *stop* of *total*."""
        inputs = {name: rows(value, start, stop, total) for name, value in self.inputs.items()}
        targets = {
            name: _label_rows(value, start, stop, total) for name, value in self.targets.items()
        }
        return replace(self, inputs=inputs, targets=targets)


def _choices(inputs: Mapping[str, Any]) -> int | None:
    for name, dimensions in CHOICES.items():
        value = inputs.get(name)
        if isinstance(value, torch.Tensor) and value.dim() == dimensions:
            return value.shape[1]
    return None


def _fold_choices(name: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dim() == CHOICES.get(name):
        return value.flatten(0, 1)
    return value


def with_decoder_inputs(
    inputs: dict[str, Any],
    targets: Mapping[str, Any],
    heads: Sequence[PredictionHead],
    model: Any,
) -> dict[str, Any]:
    """Give the decoder of an encoder-decoder something to read, where the call does not.

    That is the labels, shifted right, for sequence-to-sequence heads; else, where the base model
    does not do so itself, the shifted input (as ``T5ForSequenceClassification`` does), or for
    speech a single start token: heads that classify sound read the encoder.
    """
    own = [inputs.get(name) for name in ("decoder_input_ids", "decoder_inputs_embeds")]
    if any(value is not None for value in own):
        return inputs
    labels = targets.get("labels")
    if isinstance(labels, torch.Tensor) and any(head.generates for head in heads):
        own_way = getattr(model, SHIFT, None)
        shifted = shift_right(model, labels) if own_way is None else own_way(labels)
        return {**inputs, "decoder_input_ids": shifted}
    shift = getattr(model.base_model, "_shift_right", None)
    ids = inputs.get("input_ids")
    if shift is not None and ids is not None:
        return {**inputs, "decoder_input_ids": shift(ids)}
    sound = inputs.get("input_features")
    if isinstance(sound, torch.Tensor):
        start = model.config.decoder_start_token_id
        ids = torch.full((sound.shape[0], 1), start, device=sound.device)
        return {**inputs, "decoder_input_ids": ids}
    return inputs


def _label_rows(labels: Any, start: int, stop: int, total: int) -> Any:
    """Return the labels of rows *start* to *stop*; a label may stand for several rows (choices)."""
    if not isinstance(labels, torch.Tensor):
        return labels
    count = labels.shape[0]
    return labels[start * count // total : stop * count // total]


def run(
    model: Any, setup: HeadSetup, heads: Sequence[PredictionHead], outputs: Any, call: Call
) -> Any:
    """Run *heads* on what the base model returned.

    Raises:
        CompositionError: see :meth:`~adapterhub.heads.ModelWithHeads.forward`.
        ArchitectureError: the base model returns no hidden states, or no pooled output.
    """
    if "last_hidden_state" not in outputs:
        raise ArchitectureError(
            f"{type(model.base_model).__name__} returns no last_hidden_state, so prediction heads "
            "cannot work on it."
        )
    total = outputs[0].shape[0]
    channels = model.parallel_channels()
    if channels > 1 and (not isinstance(setup, list) or len(heads) != channels):
        raise CompositionError(
            f"The output has {channels} parallel channels, but the heads are {setup!r}: set "
            f"active_head to a list of {channels} names, one a channel (a name may be repeated)."
        )
    whole = (0, total, total)
    if isinstance(setup, str):
        return _run_one(model, heads[0], outputs, call, _targets(call, setup, 0, 1), whole)
    if isinstance(setup, BatchSplit):
        bounds = _bounds(setup, total)
    else:
        share = total // channels
        bounds = [
            (share * i, share * (i + 1)) if channels > 1 else (0, total) for i in range(len(heads))
        ]
    results = []
    for i, (name, head, (start, stop)) in enumerate(
        zip(names_of(setup), heads, bounds, strict=True)
    ):
        part = call.part(start, stop, total) if isinstance(setup, BatchSplit) else call
        selected = outputs if stop - start == total else rows(outputs, start, stop, total)
        targets = _targets(part, name, i, len(heads))
        results.append(_run_one(model, head, selected, part, targets, (start, stop, total)))
    return combine(results, outputs)


def seen_by_heads(model: Any, outputs: Any) -> Any:
    """Return the base model's outputs with the hidden states that heads over all positions read."""
    if model._token_scale == 1.0 or "last_hidden_state" not in outputs:
        return outputs
    scaled = outputs["last_hidden_state"] * model._token_scale
    return type(outputs)(**{**outputs, "last_hidden_state": scaled})


def _bounds(setup: BatchSplit, total: int) -> list[tuple[int, int]]:
    sizes = list(setup.batch_sizes)
    wanted = sum(sizes)
    if wanted != total:
        if not current().expandable or total % wanted:
            raise CompositionError(f"{setup!r} is for {wanted} rows, but the batch has {total}.")
        sizes = [size * (total // wanted) for size in sizes]  # (beams)
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]


def _targets(call: Call, name: str, index: int, count: int) -> dict[str, Any]:
    """Return one head's labels: by name of a dict, by position in a list; a tensor is for all."""
    chosen = {}
    for target, value in call.targets.items():
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(value, (list, tuple)):
            if len(value) != count:
                raise CompositionError(f"{target} is a list of {len(value)} for {count} heads.")
            value = value[index]
        chosen[target] = value
    return chosen


def _run_one(
    model: Any,
    head: PredictionHead,
    outputs: Any,
    call: Call,
    targets: Mapping[str, Any],
    part: tuple[int, int, int],
) -> Any:
    """Run one head on *outputs*, which are rows start to stop of total (*part*)."""
    vector = None
    if head.pooled:
        vector = pooled_vector(
            outputs,
            model.config,
            call.inputs,
            rule=head.config.get("pooling") or model._pooling_rule,
            use_pooler=bool(head.config.get("use_pooler")),
        )
    elif head.config.get("scaled", True):
        outputs = seen_by_heads(model, outputs)
    wanted = {name: targets[name] for name in head.targets if name in targets}
    if "invert" in head.extras:
        wanted["invert"] = model.input_inverse(*part)
    if "logits_to_keep" in head.extras:
        wanted["logits_to_keep"] = call.logits_to_keep
    if "choices" in head.extras:
        wanted["choices"] = call.choices
    if "base_model" in head.extras:
        wanted["base_model"] = model.base_model
    return head(
        outputs,
        cls_output=vector,
        attention_mask=call.inputs.get("attention_mask"),
        return_dict=True,
        **wanted,
    )
