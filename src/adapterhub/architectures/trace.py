"""What flows through one block in one forward: every module's input and output, by value.

Two tensors with the same numbers get the same *value number*, so "the dropout's output enters the
addition" becomes a comparison of integers. Shapes do not matter, only the order of the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass
class Call:
    """One call of one module: times on the block's clock, value numbers of input and output.

    Attributes:
        positional: the input came as the first positional argument.
    """

    path: str
    start: int
    end: int = -1
    given: int | None = None
    made: int | None = None
    positional: bool = False


@dataclass
class BlockTrace:
    """All calls in one run of a block.

    Attributes:
        calls: in the order of their start. ``values``: by value number, flattened.
        entry, result: the block's own input and output. ``width``: features of a position.
    """

    calls: list[Call] = field(default_factory=list)
    values: list[torch.Tensor] = field(default_factory=list)
    entry: int | None = None
    result: int | None = None
    clock: int = 0
    width: int = 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def number(self, tensor: Any) -> int | None:
        """Return the number of *tensor*; ``None`` if it is not as large as the block's input."""
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            return None
        if self.values and tensor.numel() != self.values[0].numel():
            return None
        flat = tensor.detach().reshape(-1)
        for index, known in enumerate(self.values):
            if known.dtype == flat.dtype and torch.equal(known, flat):
                return index
        self.values.append(flat.clone())  # later in-place additions must not reach it
        return len(self.values) - 1

    def once(self) -> dict[str, Call]:
        """Return the modules called exactly once, by path."""
        counts: dict[str, int] = {}
        for call in self.calls:
            counts[call.path] = counts.get(call.path, 0) + 1
        return {call.path: call for call in self.calls if counts[call.path] == 1}

    def counts(self) -> dict[str, int]:
        """Return how often each module was called, by path."""
        found: dict[str, int] = {}
        for call in self.calls:
            found[call.path] = found.get(call.path, 0) + 1
        return found


def first_tensor(value: Any) -> Any:
    """Return *value* or, for a tuple, list or output object, its first item."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, tuple | list) and value:
        return first_tensor(value[0])
    if isinstance(value, dict) and value:
        return first_tensor(next(iter(value.values())))
    return None


class Recorder:
    """Hooks on one block and everything in it; calls *done* at the end of the block's first run."""

    def __init__(self, block: nn.Module, done: Callable[[BlockTrace], None]) -> None:
        self.block = block
        self.done = done
        self.trace: BlockTrace | None = None
        self.runs = 0
        self.handles: list[Any] = []
        self._open: dict[str, list[Call]] = {}
        for path, module in block.named_modules():
            self.handles.append(
                module.register_forward_pre_hook(self._before(path), with_kwargs=True)
            )
            self.handles.append(module.register_forward_hook(self._after(path)))

    def remove(self) -> None:
        """Take all hooks away."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def _before(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not path:
                self.runs += 1
                if self.runs > 1:
                    return
                self.trace = BlockTrace()
                stream = _stream(args, kwargs)
                self.trace.entry = self.trace.number(stream)
                self.trace.width = 0 if stream is None else stream.shape[-1]
            trace = self.trace
            if trace is None or trace.entry is None or not path:
                return
            call = Call(path, trace.tick(), positional=bool(args))
            call.given = trace.number(args[0] if args else _stream(args, kwargs))
            trace.calls.append(call)
            self._open.setdefault(path, []).append(call)

        return hook

    def _after(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            trace = self.trace
            if trace is None:
                return
            if not path:
                self.trace = None
                if trace.entry is not None:
                    trace.result = trace.number(first_tensor(output))
                self.done(trace)
            elif self._open.get(path):
                call = self._open[path].pop()
                call.end = trace.tick()
                call.made = trace.number(first_tensor(output))

        return hook


def _stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The hidden states among a call's arguments."""
    for value in (*args, kwargs.get("hidden_states"), *kwargs.values()):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value
    return None
