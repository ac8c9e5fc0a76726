"""Files that training leaves beside an adapter, which nobody needs to load it.

Several of them are pickles (the arguments and the state of a Trainer), so they cannot be published; but
``push_to_hub`` of a Trainer always sends them along, and refusing the whole upload for them would help
nobody. They are left out, and whoever sends them is told.
"""

from __future__ import annotations

import re

_LEFT_OUT = re.compile(
    r"(?:training_args\.bin|optimizer\.(?:pt|bin)|scheduler\.(?:pt|bin)|scaler\.pt"
    r"|rng_state(?:_[0-9]+)?\.pth|events\.out\.tfevents\.[^/]+|\.DS_Store|Thumbs\.db)"
)


def is_leftover(path: str) -> bool:
    """Tell whether a file of an upload is left out; by its name alone, wherever it lies."""
    return _LEFT_OUT.fullmatch(path.rpartition("/")[2]) is not None


def left_out(paths: list[str]) -> str:
    """Return what to tell who sent them."""
    return f"left out, as loading needs none of it: {', '.join(sorted(paths))}"
