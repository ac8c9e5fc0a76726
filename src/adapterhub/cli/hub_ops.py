"""``adapterhub hub health``: what a container or a monitor asks a running server."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def register(group: typer.Typer) -> None:
    """Add the command of this file to ``adapterhub hub``."""
    group.command("health")(hub_health)


def hub_health(
    url: Annotated[
        str, typer.Argument(help="Address of the server. Default: this machine, ADAPTERHUB_PORT.")
    ] = "",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 4,
) -> None:
    """Ask a server whether it can answer (database and contents reached); exit 1 if it cannot."""
    import urllib.error
    import urllib.request

    place = url or f"http://127.0.0.1:{os.environ.get('ADAPTERHUB_PORT') or 7788}"
    # A proxy of the environment is for the world outside.
    handlers = [] if url else [urllib.request.ProxyHandler({})]
    opener = urllib.request.build_opener(*handlers)
    try:
        with opener.open(f"{place.rstrip('/')}/readyz", timeout=timeout) as answer:
            typer.echo(answer.read(4096).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        typer.echo(error.read(4096).decode("utf-8", "replace"))
        raise typer.Exit(1) from None
    except (OSError, ValueError) as error:
        typer.echo(f"{place} does not answer: {error}", err=True)
        raise typer.Exit(1) from None
