"""What one forward pass carries, kept per thread.

Hooks have no argument of their own, and two threads may run one model with different setups, so what
belongs to a single forward pass lives in a :class:`Context` reached through a thread-local.
The evidence for this carrier (``ContextVar`` is not traceable by dynamo, an attribute on the model is
not thread-safe) is in ``docs/design.md``.
"""

from __future__ import annotations

import threading
from typing import Any

import torch


class Context:
    """State of one forward pass, or of the code around it.

    Attributes:
        override: ``{slot index: node}`` of an :class:`AdapterSetup`; ``None``: the model's own setup.
        override_plans: the compiled setups behind it, by engine.
        rows: (batch,) int64, which child of a Route works on which row; -1: none.
        expandable: rows and batch sizes may be repeated for beams (inside ``generate``).
        replicated: inputs are already copied once per Parallel channel.
        open: a forward pass is running in this context.
        residuals: residual input by slot index, written by taps, taken by their consumer.
        replacements: norm outputs to be replaced, by slot index.
        cache: values shared by the layers of one forward pass.
        collect: where attention weights and gates go, if somebody asked.
        heads: the head setup of an :class:`AdapterSetup`, or ``None``.
        sequence: what the running sub-model was told about its sequence (padding, cache), where needed.
        prompt: mask (or ``None``), length, and length at the decoder of the prompt inside ``generate``.
        prompts: what was inserted before the input, by slot index; ``prompted``: it is done already.
        batch: rows of the running sub-model's input, where a composition has to tell them apart.
        finer: how many rows there are at a place for each row of the batch (windows of images).
        superseded: outputs of blocks before and after their adapters, where transformers records the former.
        opened_by: the module whose forward opened this context; ``outer``: the context before it.
    """

    __slots__ = (
        "batch",
        "cache",
        "collect",
        "expandable",
        "finer",
        "heads",
        "open",
        "opened_by",
        "outer",
        "override",
        "override_plans",
        "prompt",
        "prompted",
        "prompts",
        "replacements",
        "replicated",
        "residuals",
        "rows",
        "sequence",
        "superseded",
    )

    def __init__(
        self,
        override: dict[int, Any] | None = None,
        override_plans: dict[int, Any] | None = None,
        rows: torch.Tensor | None = None,
        expandable: bool = False,
        replicated: bool = False,
        open: bool = False,
        collect: dict[str, Any] | None = None,
        heads: Any = None,
        sequence: Any = None,
        prompt: Any = None,
        prompted: bool = False,
        batch: int | None = None,
    ) -> None:
        self.override = override
        self.override_plans = override_plans
        self.rows = rows
        self.expandable = expandable
        self.replicated = replicated
        self.open = open
        self.collect = collect
        self.heads = heads
        self.sequence = sequence
        self.prompt = prompt
        self.prompted = prompted
        self.batch = batch
        self.finer = 1
        self.prompts: dict[int, Any] = {}
        self.residuals: dict[int, torch.Tensor] = {}
        self.replacements: dict[int, torch.Tensor] = {}
        self.cache: dict[Any, Any] = {}
        self.superseded: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.opened_by: Any = None
        self.outer: Context | None = None

    def apart(self, **changes: Any) -> Context:
        """Return a context for code around forward passes, even if one was left open by an interrupt."""
        return self.derive(open=False, replicated=False, collect=None, **changes)

    def derive(self, **changes: Any) -> Context:
        """Return a fresh context (no residuals, no cache) with the same settings but *changes*."""
        settings: dict[str, Any] = {
            "override": self.override,
            "override_plans": self.override_plans,
            "rows": self.rows,
            "expandable": self.expandable,
            "replicated": self.replicated,
            "open": self.open,
            "collect": self.collect,
            "heads": self.heads,
            "sequence": self.sequence,
            "prompt": self.prompt,
            "prompted": self.prompted,
            "batch": self.batch,
        }
        settings.update(changes)
        return Context(**settings)


#: The running thread's context is ``local.ctx``. A plain ``threading.local``: dynamo loses assignments to
#: attributes of a subclass. A thread gets its first context from :func:`current`, which every forward
#: pass calls at its beginning.
local: Any = threading.local()


def current() -> Context:
    """Return the running thread's context, making one if it has none yet."""
    try:
        return local.ctx
    except AttributeError:
        local.ctx = Context()
        return local.ctx


current()


class using:
    """``with using(context):`` makes *context* the running thread's for the block."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __enter__(self) -> Context:
        self.previous = current()
        local.ctx = self.context
        return self.context

    def __exit__(self, *exc: object) -> None:
        local.ctx = self.previous
