"""``adapterhub hub import`` and ``hub build``: a folder of cards in, a web site out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.errors import AdapterHubError


def register(group: typer.Typer) -> None:
    """Add the commands of this file to ``adapterhub hub``."""
    group.command("import")(hub_import)
    group.command("build")(hub_build)


def hub_import(
    source: Annotated[
        Path, typer.Argument(help="Folder of cards, e.g. a clone of AdapterHub/Hub.")
    ],
    to: Annotated[
        Path | None, typer.Option(help="Hub folder; made if it is new. Default: see --hub.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole log.")] = False,
) -> None:
    """Take a collection of cards over whole: mend what can be, keep the rest, log every change."""
    from adapterhub.hub.importer import LOG_FILE, import_cards
    from adapterhub.hub.importer.records import CODES

    try:
        hub, log = import_cards(source, to)
    except AdapterHubError as error:
        typer.secho(f"Error: {error}", err=True, fg="red")
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(log.dumps().decode(), nl=False)
        return
    plural = {"adapter_type": "adapter types"}
    shown = [f"{count} {plural.get(kind, kind + 's')}" for kind, count in log.counts.items()]
    typer.echo(f"Imported {', '.join(shown)} into {hub.path}")
    for action, codes in log.summary().items():
        typer.echo(f"\n{action}:")
        for code, count in sorted(codes.items(), key=lambda pair: -pair[1]):
            typer.echo(f"  {count:>5}  {code}: {CODES[code]}")
    typer.echo(f"\nEvery record is in {hub.path / LOG_FILE}")
    if "failed" in log.summary():
        raise typer.Exit(1)


def hub_build(
    out: Annotated[Path, typer.Argument(help="New folder, or one of an earlier build.")],
    base_url: Annotated[
        str | None,
        typer.Option(help="Address that the pages will have, for snippets and previews."),
    ] = None,
    hub: Annotated[
        Path | None,
        typer.Option("--hub", envvar="ADAPTERHUB_HUB", help="Hub folder.", show_default=False),
    ] = None,
) -> None:
    """Write the whole hub as pages for any web server, with a search that needs none."""
    from adapterhub.hub import Hub

    try:
        from adapterhub.hub.static import build_site
    except ModuleNotFoundError as error:
        message = (
            f"Error: the pages need {error.name}; install it with pip install 'adapterhub[hub]'"
        )
        typer.secho(message, err=True, fg="red")
        raise typer.Exit(1) from None
    try:
        built = build_site(Hub(hub), out, base_url=base_url)
    except AdapterHubError as error:
        typer.secho(f"Error: {error}", err=True, fg="red")
        raise typer.Exit(1) from None
    size, path = built.largest
    typer.echo(
        f"{built.pages} pages in {built.root}, no dead link; the largest has {size / 1e3:.0f} kB"
    )
    typer.echo(
        f"  {built.written} file(s) written, {built.removed} removed (largest page: /{path})"
    )
