"""Where a forward pass begins and ends.

Hooks on the model and on every ``PreTrainedModel`` inside it open a fresh context when none is open
(``generate`` calls an encoder directly, so the outermost model is not always the same), take
adapterhub's own keyword arguments out, replicate the batch for Parallel and attach what was collected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers.utils.generic import ModelOutput

from adapterhub.context import Context, current, local
from adapterhub.engine.collect import attach_collected
from adapterhub.engine.numbering import cached_length
from adapterhub.engine.prompts import prepare, widen_outer
from adapterhub.engine.recorded import with_adapters
from adapterhub.methods.positions import SequenceFacts

#: Inputs whose first axis is the batch, in order of preference.
BATCH_INPUTS = (
    "input_ids",
    "inputs_embeds",
    "pixel_values",
    "input_features",
    "input_values",
    "decoder_input_ids",
    "decoder_inputs_embeds",
)
#: Keyword arguments of a forward call that are ours.
OWN_ARGUMENTS = frozenset(
    {
        "adapter_rows",
        "task_ids",
        "output_adapter_fusion_attentions",
        "output_adapter_gating_scores",
        "adapter_input_parallelized",
    }
)
#: Inputs that belong to the state of a generation, which is replicated from its start.
STATEFUL = ("past_key_values", "cache_position", "encoder_outputs")


class Boundary:
    """The hooks that open and close forward passes of one engine."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.modules: list[nn.Module] = []

    def install(self, modules: list[nn.Module]) -> list[Any]:
        """Hook *modules*; return the handles."""
        handles = []
        self.modules = modules
        for module in modules:
            handles.append(module.register_forward_pre_hook(self.enter, with_kwargs=True))
            handles.append(module.register_forward_hook(self.leave, always_call=True))
        return handles

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Open a context if none is open; replicate the inputs if that is due here."""
        # (a plain loop: dynamo misjudges frozenset.isdisjoint over a dict)
        given: dict[str, Any] = {}
        for name in kwargs:
            if name in OWN_ARGUMENTS:
                given[name] = kwargs[name]
        if given:
            kwargs = {name: value for name, value in kwargs.items() if name not in given}
        ctx = current()
        if ctx.opened_by is module and ctx.outer is not None:
            ctx = (
                ctx.outer
            )  # an interrupt (no Exception) skipped the end of this module's last forward
        while ctx.open and ctx.outer is not None and not self._runs_inside(module, ctx.opened_by):
            ctx = ctx.outer  # another model's, which was left open (a failed export runs no hooks)
        if not ctx.open:
            ctx = self._open(module, ctx, given)
        elif given:
            self._apply(ctx, given)
        channels = self.engine.channels(ctx)
        if channels > 1 and not ctx.replicated and self.engine.replicates_at(module):
            ctx.replicated = True
            args, kwargs = replicate_inputs(args, kwargs, channels)
        plan = self.engine.plan_in(ctx)
        if plan is not None and plan.prompts and not ctx.prompted:
            args, kwargs = self._prompt(module, plan, ctx, args, kwargs)
        if plan is not None and plan.by_rows:
            ctx.batch = batch_size(args, kwargs)
        if plan is not None and plan.located:
            ctx.sequence = sequence_facts(ctx, kwargs, args)
        return args, kwargs

    def _runs_inside(self, module: nn.Module, opener: nn.Module) -> bool:
        """Whether a forward pass of *module* can be a part of one of *opener*."""
        for own in self.modules:  # those of one engine may call each other
            if own is opener:
                return True
        return any(inner is module for inner in opener.modules())

    def _open(self, module: nn.Module, outer: Context, given: dict[str, Any]) -> Context:
        ctx = outer.derive(open=True)
        ctx.opened_by, ctx.outer = module, outer
        if given:
            self._apply(ctx, given)
        self.engine.prepare_checkpointing()
        local.ctx = ctx
        return ctx

    def _prompt(
        self,
        module: nn.Module,
        plan: Any,
        ctx: Context,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make room for prompts in the inputs of *module*."""
        for slot, _ in plan.prompts:
            node = slot.node if ctx.override is None else ctx.override.get(slot.index, slot.node)
            if slot.host is module and node is not None:
                return prepare(slot, node, ctx, args, kwargs)
        return widen_outer(plan.prompts, module, ctx, args, kwargs)

    def _apply(self, ctx: Context, given: dict[str, Any]) -> None:
        rows = given.get("adapter_rows", given.get("task_ids"))
        if rows is not None:
            ctx.rows = self.engine.rows_tensor(rows)
        wanted = [n for n in given if n.startswith("output_") and given[n]]
        if wanted:
            ctx.collect = {"wanted": wanted}
        if given.get("adapter_input_parallelized"):
            ctx.replicated = True

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Close the context that this module opened. Also runs when the forward raised."""
        ctx = local.ctx
        if ctx.superseded:
            with_adapters(output, ctx.superseded)
        if ctx.opened_by is not module:
            return None
        assert ctx.outer is not None
        local.ctx = ctx.outer
        if ctx.collect is None or output is None:
            return None
        return attach_collected(self.engine, output, ctx.collect)

    def __deepcopy__(self, memo: dict[int, Any]) -> Boundary:
        import copy

        twin = Boundary(copy.deepcopy(self.engine, memo))
        twin.modules = copy.deepcopy(self.modules, memo)
        return twin


def sequence_facts(
    ctx: Context, kwargs: Mapping[str, Any], args: tuple[Any, ...] = ()
) -> SequenceFacts:
    """Return what a sub-model's inputs tell about padding and cached positions."""
    mask = kwargs.get("attention_mask")
    ids = args[0] if args else kwargs.get("input_ids")
    is_text = isinstance(ids, torch.Tensor) and not ids.is_floating_point()
    text = ids if is_text else kwargs.get("inputs_embeds")
    tokens = text.shape[1] if isinstance(text, torch.Tensor) and text.dim() > 1 else None
    past = cached_length(kwargs, tokens, None if ctx.prompt is None else ctx.prompt[1])
    if isinstance(past, torch.Tensor):
        past = past.clone()  # static caches count in place
    length = None
    if ctx.prompt is not None:
        kept, length, decoder_length = ctx.prompt
        if kwargs.get("encoder_hidden_states") is not None:
            length = decoder_length
        elif not isinstance(mask, torch.Tensor) or mask.dim() != 2:
            mask = kept
    plain = mask if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None
    continued = not (isinstance(past, int) and past == 0)
    return SequenceFacts(plain, past, continued, length, tokens, kwargs.get("grid_thw"))


def prompt_facts(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, int | None, int] | None:
    """Return mask, length (if known) and length at the decoder of the prompt of a call of ``generate``."""
    given = next(
        (
            value
            for value in (*args[:1], *(kwargs.get(name) for name in ("input_ids", "inputs_embeds")))
            if isinstance(value, torch.Tensor)
        ),
        None,
    )
    start = kwargs.get("decoder_input_ids")
    before = 1 if start is None else start.shape[1]
    if given is None:  # sounds or images, whose length in the encoder is not that of the input
        return None if batch_size(args, kwargs) is None else (None, None, before)
    return kwargs.get("attention_mask"), given.shape[1], before


def batch_size(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """Return the batch size of a call, or ``None`` if no input tells it."""
    for value in args:
        if isinstance(value, torch.Tensor):
            return value.shape[0]
    for name in BATCH_INPUTS:
        value = kwargs.get(name)
        if isinstance(value, torch.Tensor):
            return value.shape[0]
    encoded = kwargs.get("encoder_outputs")
    if encoded is not None:
        return encoded[0].shape[0]
    tensors = (v for v in kwargs.values() if isinstance(v, torch.Tensor) and v.dim() > 1)
    return next((v.shape[0] for v in tensors), None)  # inputs by a name of the model's own


def replicate_inputs(
    args: tuple[Any, ...], kwargs: dict[str, Any], channels: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Repeat every tensor whose first axis is the batch, channel after channel."""
    size = batch_size(args, kwargs)
    if size is None:
        return args, kwargs
    new = {
        name: value if name in STATEFUL[:2] else repeat(value, size, channels)
        for name, value in kwargs.items()
    }
    return tuple(repeat(value, size, channels) for value in args), new


def repeat(value: Any, size: int, channels: int) -> Any:
    """Repeat one input, looking into tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        if value.dim() == 0 or value.shape[0] != size:
            return value
        return value.repeat(channels, *([1] * (value.dim() - 1)))
    if isinstance(value, ModelOutput):
        return type(value)(**{key: repeat(item, size, channels) for key, item in value.items()})
    if isinstance(value, dict):
        return {key: repeat(item, size, channels) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
        return type(value)(repeat(item, size, channels) for item in value)
    return value


class CheckpointInContext:
    """A gradient-checkpointing function that recomputes in the context of its forward pass.

    Autograd recomputes a block long after the forward pass has closed its context, perhaps on another
    thread. *function* is transformers' own (``torch.utils.checkpoint.checkpoint`` with arguments).
    """

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, run: Any, *args: Any, **kwargs: Any) -> Any:
        keywords = getattr(self.function, "keywords", {})
        if keywords.get("use_reentrant", True) and torch.is_grad_enabled():
            args = _with_gradient(args)
        return self.function(RunInContext(run, local.ctx), *args, **kwargs)


def _with_gradient(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Reentrant checkpointing returns gradients only if an input wants one; a frozen base has none."""
    tensors = [
        i for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.is_floating_point()
    ]
    if not tensors or any(args[i].requires_grad for i in tensors):
        return args
    changed = list(args)
    changed[tensors[0]] = args[tensors[0]].detach().requires_grad_(True)
    return tuple(changed)


class RunInContext:
    """Calls *run*; outside of the forward pass it was made in, with a fresh copy of its context.

    Either way with an empty cache: what a block uses it must compute itself, or its recomputation would
    run other operations than its forward pass did.
    """

    def __init__(self, run: Any, ctx: Context) -> None:
        self.run = run
        self.ctx = ctx
        self.sequence = ctx.sequence  # of this sub-model; the next one overwrites it

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current() is self.ctx:
            kept, self.ctx.cache = self.ctx.cache, {}
            try:
                return self.run(*args, **kwargs)
            finally:
                self.ctx.cache = kept
        previous = current()
        local.ctx = self.ctx.derive(collect=None, sequence=self.sequence)
        try:
            return self.run(*args, **kwargs)
        finally:
            local.ctx = previous
