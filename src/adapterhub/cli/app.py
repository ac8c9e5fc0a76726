"""The Typer application, put together from the command groups."""

from __future__ import annotations

import importlib

import typer
from typer.core import TyperGroup

from adapterhub._version import __version__
from adapterhub.errors import did_you_mean

GROUPS = ("demo", "train", "evaluate", "predict", "inspect", "info", "hub", "serve", "push")


class _Group(TyperGroup):
    """Commands in the order they are registered; an unknown one answers with the nearest."""

    def resolve_command(self, ctx, args):  # type: ignore[no-untyped-def]
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            ctx.fail(f"No command '{name}'.{did_you_mean(name, known) or ' Try --help.'}")
        return super().resolve_command(ctx, args)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"adapterhub {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """Return the application with every command group registered."""
    app = typer.Typer(
        cls=_Group,
        name="adapterhub",
        help="The whole life of an adapter: train, evaluate, share, find, load, use.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback()
    def _options(
        version: bool = typer.Option(
            False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
        ),
    ) -> None: ...

    for name in GROUPS:
        importlib.import_module(f"adapterhub.cli.{name}").register(app)
    return app
