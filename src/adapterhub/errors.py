"""Every error that the library raises on purpose.

All derive from :class:`AdapterHubError`, and from the built-in that a caller would expect
(``ValueError`` for a bad value, ``KeyError``-like look-ups are ``LookupError``), so that both a broad
and a narrow ``except`` work. A message names the thing, the place and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdapterHubError(Exception):
    """Base of all errors raised on purpose by adapterhub."""


class ConfigError(AdapterHubError, ValueError):
    """An adapter configuration is malformed: unknown field, bad value, bad string."""


class CompositionError(AdapterHubError, ValueError):
    """A composition tree has no defined meaning, or does not fit the batch it is given."""


class UnknownAdapterError(AdapterHubError, LookupError):
    """A name (adapter, head, fusion, method, hub entry) is not known here."""


class ArchitectureError(AdapterHubError, ValueError):
    """A model has no place of the kind that a method needs, or its structure is not understood."""


class CheckpointError(AdapterHubError, ValueError):
    """Files of an adapter are missing, damaged, unsafe or made for something else."""


class HubError(AdapterHubError, ValueError):
    """A hub folder, card or identifier is malformed, ambiguous or not to be found.

    Attributes:
        final: what was asked for is here, but wrong or not clear: no other hub may be asked instead.
    """

    final = False


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Return ``" Did you mean 'x' or 'y'?"`` for the nearest of *known*, or ``""``."""
    close = difflib.get_close_matches(name, list(known), n=limit, cutoff=0.5)
    if not close:
        return ""
    quoted = [f"'{item}'" for item in close]
    return " Did you mean " + " or ".join(quoted) + "?"
