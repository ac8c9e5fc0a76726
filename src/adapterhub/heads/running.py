"""One forward pass of a model with heads: dividing its arguments, and its batch among heads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch

from adapterhub.composition import BatchSplit, Route
from adapterhub.context import current
from adapterhub.errors import ArchitectureError, CompositionError, ConfigError, did_you_mean
from adapterhub.heads.base import PredictionHead
from adapterhub.heads.dividing import Part, Rows, divide, numbers
from adapterhub.heads.generation import SHIFT, shift_right
from adapterhub.heads.outputs import combine, rows
from adapterhub.heads.pooling import pooled_vector
from adapterhub.heads.setup import HeadSetup

#: Labels of the heads that come with the library, always part of the signature.
#: (``labels_arcs`` and ``labels_rels`` of the parser are not: the Trainer would wait for every argument
#: with "label" in its name; tell it with ``label_names``.)
TARGETS = ("labels", "start_positions", "end_positions", "word_starts")
#: Which adapter, and so which head, each row of the batch has.
ROUTING = ("adapter_rows", "task_ids")
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
    wanted = ("head", *TARGETS, *ROUTING, *COMMON, "logits_to_keep", "return_dict")
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
    #: The vector that stands for each row, if the caller has it already.
    vector: torch.Tensor | None = None

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

    def part(self, index: Rows, total: int) -> Call:
        """Return the call for the rows *index* of *total*."""
        inputs = {name: rows(value, index, total) for name, value in self.inputs.items()}
        return replace(self, inputs=inputs, vector=rows(self.vector, index, total))


def route_choices(call: Call) -> None:
    """Let each choice of an example go where its example goes, where the call routes examples."""
    ctx, choices = current(), call.choices
    folded = next(
        (value for name in CHOICES if isinstance(value := call.inputs.get(name), torch.Tensor)),
        None,
    )
    if choices is None or ctx.rows is None or folded is None:
        return
    if ctx.rows.shape[0] * choices == folded.shape[0]:
        ctx.rows = ctx.rows.repeat_interleave(choices)


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


def _label_rows(labels: Any, part: Part, batch: int, choices: int) -> Any:
    """Return the labels of a part's rows, of labels for the whole batch or for these rows alone.

    Args:
        choices: how many rows have one label.
    """
    if not isinstance(labels, torch.Tensor) or not labels.dim():
        return labels
    if not len(part):
        return None  # (the mean loss of no rows is no number)
    if labels.shape[0] != batch // choices:
        return labels
    if isinstance(part.input, slice):
        return labels[part.input.start // choices : part.input.stop // choices]
    return labels[part.input[::choices] // choices]


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
    hidden = outputs[0]
    total, channels = hidden.shape[0], model.parallel_channels()
    parts = divide(setup, total, channels, hidden.device)
    if isinstance(setup, str):
        return _run_one(
            model, heads[0], outputs, call, _targets(call, setup, 0, 1), parts[0], total
        )
    batch = total // channels
    results = []
    for i, (part, head) in enumerate(zip(parts, heads, strict=True)):
        own = isinstance(part.input, torch.Tensor) or len(part) < batch
        mine = call.part(part.input, batch) if own else call
        selected = outputs if not own and channels == 1 else rows(outputs, part.output, total)
        targets = _targets(call, part.name, i, len(heads))
        if own:
            each = call.choices or 1
            targets = {k: _label_rows(value, part, batch, each) for k, value in targets.items()}
        results.append(_run_one(model, head, selected, mine, targets, part, total))
    return combine(results, outputs, numbers(parts, hidden.device) if _by_rows(setup) else None)


def _by_rows(setup: HeadSetup) -> bool:
    """Whether the heads of a setup have rows of their own."""
    return isinstance(setup, (BatchSplit, Route))


def seen_by_heads(model: Any, outputs: Any) -> Any:
    """Return the base model's outputs with the hidden states that heads over all positions read."""
    if model._token_scale == 1.0 or "last_hidden_state" not in outputs:
        return outputs
    scaled = outputs["last_hidden_state"] * model._token_scale
    return type(outputs)(**{**outputs, "last_hidden_state": scaled})


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
    part: Part,
    total: int,
) -> Any:
    """Run one head on *outputs*, which are those of *part* of *total* rows."""
    vector = call.vector
    if head.pooled and vector is None:
        vector = pooled_vector(
            outputs,
            model.config,
            call.inputs,
            rule=head.config.get("pooling") or model._pooling_rule,
            use_pooler=bool(head.config.get("use_pooler")),
        )
    elif not head.pooled and head.config.get("scaled", True):
        outputs = seen_by_heads(model, outputs)
    wanted = {name: targets[name] for name in head.targets if name in targets}
    if "invert" in head.extras:
        wanted["invert"] = model.input_inverse(part.output, total)
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
