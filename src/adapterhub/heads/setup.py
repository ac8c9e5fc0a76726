"""Which heads a setup means: a name, a list of names, or a ``BatchSplit`` of names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from adapterhub.composition import AdapterCompositionBlock, BatchSplit, Parallel, Stack, names_in
from adapterhub.errors import CompositionError, UnknownAdapterError, did_you_mean

#: One head; several, each on its channel or all on everything; one for each part of the batch.
HeadSetup = str | list[str] | BatchSplit | None


def implied(setup: Any) -> HeadSetup:
    """Return the heads that an *adapter* setup implies, by their adapters' names; ``None``: none.

    A Stack implies the head of its last child, Parallel a list with the last name of each child,
    BatchSplit a BatchSplit of them. Blocks that mix outputs imply no head.
    """
    if isinstance(setup, Stack):
        return implied(setup.children[-1])
    if isinstance(setup, str):
        return setup
    if isinstance(setup, (Parallel, BatchSplit)) and all(
        child is not None for child in setup.children
    ):
        last = [
            child if isinstance(child, str) else child.last() for child in setup.children if child
        ]
        if isinstance(setup, BatchSplit):
            return BatchSplit(*last, batch_sizes=setup.batch_sizes)
        return last
    return None


def explicit(setup: Any, known: Iterable[str]) -> HeadSetup:
    """Check what a user asked for as heads; return it in its plain form.

    Args:
        setup: a name, a list or tuple of names, a composition block that implies heads, or
            ``None``.
        known: the names of the model's heads.

    Raises:
        CompositionError: not a head setup. UnknownAdapterError: a head that the model has not.
    """
    if setup is None or isinstance(setup, str):
        found: HeadSetup = setup
    elif (
        isinstance(setup, (list, tuple)) and setup and all(isinstance(name, str) for name in setup)
    ):
        found = list(setup)
    else:
        found = implied(setup) if isinstance(setup, AdapterCompositionBlock) else None
        if found is None:
            raise CompositionError(
                "Heads are given as a name, a list of names or BatchSplit(names, batch_sizes=…), "
                f"not {setup!r}."
            )
    for name in names_of(found):
        require(name, known)
    return found


def names_of(setup: HeadSetup) -> list[str]:
    """Return the names of the heads in a plain setup, in order."""
    if isinstance(setup, list):
        return setup
    return list(names_in(setup))


def require(name: str, known: Iterable[str]) -> None:
    """Raise UnknownAdapterError unless *name* is one of the *known* heads."""
    known = list(known)
    if name not in known:
        raise UnknownAdapterError(
            f"No prediction head '{name}'; there are: {', '.join(known) or 'none'}."
            f"{did_you_mean(name, known)}"
        )
