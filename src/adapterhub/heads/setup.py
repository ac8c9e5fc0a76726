"""Which heads a setup means: a name, a list of them, or ``BatchSplit`` or ``Route`` blocks of names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapterhub.composition import (
    AdapterCompositionBlock,
    BatchSplit,
    Parallel,
    Route,
    Stack,
    names_in,
)
from adapterhub.errors import CompositionError, UnknownAdapterError, did_you_mean

#: One head; several, each on its channel or all on everything; one for each part of the batch; the one
#: that a row's adapter has. Entries of a list may be blocks themselves.
HeadSetup = str | list[Any] | BatchSplit | Route | None


def implied(setup: Any) -> HeadSetup:
    """Return the heads that an *adapter* setup implies, by their adapters' names; ``None``: none.

    A Stack implies the head of its last child, Parallel a list of those of its channels, BatchSplit and
    Route (or MultiTask) a block of the same kind, whose rows without an adapter have no head. Inside
    them a block that mixes outputs implies the head of its last adapter, alone it implies none.
    """
    if isinstance(setup, Stack):
        return implied(setup.children[-1])
    if isinstance(setup, str):
        return setup
    if isinstance(setup, Parallel) and all(child is not None for child in setup.children):
        found: list[Any] = []
        for child in setup.children:
            head = _of_part(child)
            found += head if isinstance(head, list) else [head]
        return found
    if isinstance(setup, BatchSplit):
        return BatchSplit(*map(_of_part, setup.children), batch_sizes=setup.batch_sizes)
    if isinstance(setup, Route):
        return type(setup)(*map(_of_part, setup.children))
    return None


def _of_part(child: Any) -> Any:
    found = implied(child)
    return child.last() if found is None and child is not None else found


def explicit(setup: Any, known: Iterable[str]) -> HeadSetup:
    """Check what a user asked for as heads; return it in its plain form.

    Args:
        setup: a name, a list or tuple of names and blocks, a composition block that implies heads, or
            ``None``.
        known: the names of the model's heads.

    Raises:
        CompositionError: not a head setup. UnknownAdapterError: a head that the model has not.
    """
    found: HeadSetup
    if setup is None or isinstance(setup, str):
        found = setup
    elif isinstance(setup, (list, tuple)) and setup and all(map(_one, setup)):
        found = [item if isinstance(item, str) else implied(item) for item in setup]
    else:
        found = implied(setup) if isinstance(setup, AdapterCompositionBlock) else None
        if found is None:
            raise CompositionError(
                "Heads are given as a name, a list of names, BatchSplit(names, batch_sizes=…) or "
                f"Route(names), not {setup!r}."
            )
    for name in names_of(found):
        require(name, known)
    return found


def _one(item: Any) -> bool:
    return isinstance(item, (str, BatchSplit, Route))


def names_of(setup: HeadSetup) -> list[str]:
    """Return the names of the heads in a plain setup, in order."""
    if isinstance(setup, list):
        return [name for item in setup for name in names_in(item)]
    return list(names_in(setup))


def require(name: str, known: Iterable[str]) -> None:
    """Raise UnknownAdapterError unless *name* is one of the *known* heads."""
    known = list(known)
    if name not in known:
        raise UnknownAdapterError(
            f"No prediction head '{name}'; there are: {', '.join(known) or 'none'}."
            f"{did_you_mean(name, known)}"
        )
