"""A row as Python source, to review, correct and pass back in: :func:`row_to_source`."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from adapterhub.architectures.rows import Row

_NAMES = ("Fused", "Part", "PeerPaths", "Row", "StackRow", "Sublayer", "Variant")
_WIDTH = 100


def row_to_source(row: Row, name: str = "ROW") -> str:
    """Return a small Python module that defines *row* under *name*.

    Fields at their default are left out. Executing the text gives an equal row; edit it and pass
    the row to ``attach(model, row=...)`` or :func:`~adapterhub.architectures.register_row`.
    """
    written = _write(row, 0, len(name) + 3)
    used = ", ".join(n for n in _NAMES if f"{n}(" in written)
    return f"from adapterhub.architectures import {used}\n\n{name} = {written}\n"


def _write(value: Any, indent: int, used: int = 0) -> str:
    """Write *value* on one line if it fits, else one item a line."""
    flat = _flat(value)
    if indent + used + len(flat) < _WIDTH or (
        not isinstance(value, dict | tuple) and not is_dataclass(value)
    ):
        return flat
    pad, close = " " * (indent + 4), " " * indent
    if is_dataclass(value):
        items = [f"{k}={_write(v, indent + 4, len(k) + 2)}" for k, v in _given(value)]
        opening, closing = f"{type(value).__name__}(", ")"
    elif isinstance(value, dict):
        items = [f"{_quote(k)}: {_write(v, indent + 4, len(k) + 5)}" for k, v in value.items()]
        opening, closing = "{", "}"
    else:
        items = [_write(item, indent + 4) for item in value]
        opening, closing = "(", ")"
    return opening + "\n" + "".join(f"{pad}{item},\n" for item in items) + close + closing


def _flat(value: Any) -> str:
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(f'{k}={_flat(v)}' for k, v in _given(value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(k)}: {_flat(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        inner = ", ".join(_flat(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return _quote(value) if isinstance(value, str) else repr(value)


def _given(value: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that are not at their default."""
    found = []
    for entry in fields(value):
        default = entry.default
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        content = getattr(value, entry.name)
        if default is MISSING or content != default:
            found.append((entry.name, content))
    return found


def _quote(text: str) -> str:
    quoted = repr(text)
    return '"' + quoted[1:-1] + '"' if quoted.startswith("'") and '"' not in quoted else quoted
