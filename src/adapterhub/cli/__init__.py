"""The ``adapterhub`` command: one file a group of commands, each with a ``register(app)``.

Commands are thin: they read arguments, call the library and print. Heavy imports happen inside the
commands, so ``adapterhub --help`` answers at once.

Exit codes: 0 done, 1 not found or failed (with one clear message), 2 wrong usage.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; errors of ours end it with a message instead of a traceback."""
    import typer

    from adapterhub.cli.app import build_app
    from adapterhub.errors import AdapterHubError

    try:
        build_app()()
    except AdapterHubError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("Interrupted.", fg="yellow", err=True)
        sys.exit(130)
