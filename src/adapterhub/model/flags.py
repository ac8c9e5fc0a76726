"""Which parameters of the base model may be trained, and how that was before: :class:`Flags`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn


@dataclass
class _Note:
    parameter: nn.Parameter
    #: ``requires_grad`` before the first change of ours, and what we set it to last.
    before: bool
    ours: bool


class Flags:
    """Changes ``requires_grad`` of parameters and can put it back.

    A flag that somebody else changed in between is theirs: it is the state to come back to, or, if it was
    changed last, stays as it is.
    """

    def __init__(self) -> None:
        self._notes: dict[int, _Note] = {}

    def set(self, parameters: Iterable[nn.Parameter], value: bool) -> None:
        """Let *parameters* be trained, or not."""
        for parameter in parameters:
            note = self._notes.get(id(parameter))
            if note is None or parameter.requires_grad != note.ours:
                if parameter.requires_grad == value:
                    continue
                note = _Note(parameter, parameter.requires_grad, value)
                self._notes[id(parameter)] = note
            parameter.requires_grad_(value)
            note.ours = value

    def restore(self) -> None:
        """Put back every flag that is as it was set here."""
        for note in self._notes.values():
            if note.parameter.requires_grad == note.ours:
                note.parameter.requires_grad_(note.before)
        self._notes.clear()

    def __deepcopy__(self, memo: dict[int, object]) -> Flags:
        import copy

        twin = Flags()
        for note in self._notes.values():
            parameter = copy.deepcopy(note.parameter, memo)
            twin._notes[id(parameter)] = _Note(parameter, note.before, note.ours)
        return twin
