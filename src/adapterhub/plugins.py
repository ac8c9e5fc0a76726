"""Methods and model families from other packages, found by their entry points.

A package names a function (or module) in the entry-point group ``adapterhub.plugins``::

    [project.entry-points."adapterhub.plugins"]
    ssf = "my_package.ssf:register"

It is called once per process, when a model is attached or a configuration name is not known, and
registers what it brings: ``register_preset``, ``register_method``, ``register_row``.
See ``docs/extending.md``.
"""

from __future__ import annotations

import threading
import warnings
from importlib.metadata import entry_points

GROUP = "adapterhub.plugins"
_LOCK = threading.Lock()
_done = False


def load_plugins() -> None:
    """Load every plugin that is installed, once. A broken one gives a warning that names it."""
    global _done
    if _done:
        return
    with _LOCK:
        if _done:
            return
        _done = True  # first, so that a plugin may attach a model itself
        for entry in entry_points(group=GROUP):
            try:
                register = entry.load()
                if callable(register):
                    register()
            except Exception as error:  # a stranger's code: report it, and go on without it
                warnings.warn(
                    f"The adapterhub plugin '{entry.name}' ({entry.value}) does not load: {error!r}. "
                    "Uninstall or repair its package.",
                    stacklevel=3,
                )
