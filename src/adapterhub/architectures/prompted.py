"""Whether a stack runs with more positions than its input has: :func:`only_promptable`.

Prompts in front of a picture or a sound make its sequence longer. Encoders that fold positions back into a
grid, look positions up in a table of the image's size, or pack several images into one row cannot take that.
Instead of knowing which do, one is put in and the model is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from adapterhub.architectures.dummies import runnable_parts
from adapterhub.architectures.resolve import ResolvedSite, resolve
from adapterhub.architectures.rows import Row
from adapterhub.errors import AdapterHubError


def only_promptable(
    model: nn.Module, row: Row, runs: Iterable[tuple[nn.Module, dict[str, Any]]]
) -> Row:
    """Return *row* without places for prompts where longer sequences do not run.

    Args:
        model: in evaluation mode, with real weights.
        runs: parts of the model, and inputs that they run on. Nothing is concluded where no run reaches a
            place, and where prompts are inserted among tokens.
    """
    try:
        sites = list(resolve(model, row).select(point="prompt"))
    except AdapterHubError:
        return row
    tried = list(runs)
    answers = {site.key.stack: _runs_longer(site, tried) for site in sites if _is_inserted(site)}
    if None in answers.values():  # the model as a whole did not run; its parts may
        parts = runnable_parts(model, row)
        for site in sites:
            if answers.get(site.key.stack, True) is None:
                answers[site.key.stack] = _runs_longer(site, parts)
    refused = {name for name, answer in answers.items() if answer is False}
    stacks = (
        replace(stack, prompted=False) if stack.name in refused else stack for stack in row.stacks
    )
    return replace(row, stacks=tuple(stacks)) if refused else row


def _is_inserted(site: ResolvedSite) -> bool:
    return site.insert_after is not None or site.insert_before is not None


def _runs_longer(site: ResolvedSite, runs: list[tuple[nn.Module, dict[str, Any]]]) -> bool | None:
    """Return whether a run that reaches the place goes on with a longer sequence; ``None``: none does."""
    answer = None
    for part, inputs in runs:
        for given in _unmasked(inputs):
            longer = _Longer(site)
            handle = longer.install()
            try:
                with torch.no_grad():
                    part(**given)
                if longer.inserted:
                    return longer.is_sequence
            except Exception:  # whatever a stranger's forward raises, it is not made for it
                answer = False if longer.inserted else answer
            finally:
                handle.remove()
    return answer


def _unmasked(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield *inputs* with a mask that does not contradict a longer sequence: none, and one that is longer."""
    mask = inputs.get("attention_mask")
    yield {name: value for name, value in inputs.items() if not name.endswith("attention_mask")}
    if isinstance(mask, torch.Tensor) and mask.dim() == 2:
        yield {**inputs, "attention_mask": torch.cat([mask[:, :1], mask], 1)}


class _Longer:
    """Puts the first position of a sequence in once more, where a prompt would be inserted."""

    def __init__(self, site: ResolvedSite) -> None:
        self.site = site
        self.inserted = False
        self.is_sequence = True

    def install(self) -> Any:
        if self.site.insert_after is not None:
            return self.site.insert_after.register_forward_hook(self._after)
        before: Any = self.site.insert_before
        return before.register_forward_pre_hook(self._before, with_kwargs=True)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (self._longer(output[0]), *output[1:])
        return self._longer(output)

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (self._longer(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._longer(kwargs["hidden_states"])}

    def _longer(self, h: Any) -> Any:
        self.inserted = True
        self.is_sequence = isinstance(h, torch.Tensor) and h.dim() == 3
        return torch.cat([h[:, :1], h], 1) if self.is_sequence else h
