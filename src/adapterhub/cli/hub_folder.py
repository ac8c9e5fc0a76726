"""``adapterhub hub import`` and ``hub build``: a folder of cards in, a web site out."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from adapterhub.cli import hub_copies
from adapterhub.errors import AdapterHubError


def register(group: typer.Typer) -> None:
    """Add the commands of this file to ``adapterhub hub``."""
    group.command("import")(hub_import)
    group.command("build")(hub_build)
    hub_copies.register(group)


def hub_import(
    source: Annotated[
        Path, typer.Argument(help="Folder of cards, e.g. a clone of AdapterHub/Hub.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            help="Hub folder (made if it is new), address of a server, or data folder of one that does "
            "not run. Default: see --hub. What is new or empty becomes data of a server if SOURCE is a hub "
            "with the files of its adapters, else a hub folder."
        ),
    ] = None,
    token: hub_copies.TokenOption = None,
    create_owners: Annotated[
        bool,
        typer.Option(
            "--create-owners", help="On a server: make an organisation for each unknown owner."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole log.")] = False,
) -> None:
    """Take a collection of cards over whole: mend what can be, keep the rest, log every change.

    Into a server go the adapters of a hub folder with all their versions, by the way of any push; and as
    cards, the names of tasks and data sets and the adapters whose files are elsewhere.
    """
    from adapterhub.hub.check import HUB_FILE
    from adapterhub.hub.importer import LOG_FILE, import_cards
    from adapterhub.hub.importer.records import CODES

    if to is not None and (_is_live(to) or (_has_files(source) and _is_free(to))):
        if (source / HUB_FILE).is_file():
            hub_copies.send_folder(source, to, token, create_owners)
            return
        with TemporaryDirectory(prefix="adapterhub-") as mended:
            import_cards(source, Path(mended) / "hub")
            hub_copies.send_folder(Path(mended) / "hub", to, token, create_owners)
        return

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


def _is_live(place: str) -> bool:
    """Tell whether a place is a server or the data of one, and not a folder of cards."""
    if place.startswith(("http://", "https://")):
        return True
    folder = Path(place).expanduser()
    # (With PostgreSQL there is no hub.db, but the folder in which uploads arrive.)
    return (folder / "hub.db").is_file() or (folder / "staging").is_dir()


def _has_files(source: Path) -> bool:
    """Tell whether a folder is a hub that holds adapters, which another folder of cards would lose."""
    return any((source / "blobs" / "sha256").glob("*/*"))


def _is_free(place: str) -> bool:
    """Tell whether there is nothing at a place yet."""
    folder = Path(place).expanduser()
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


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
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Build from a server instead: its data folder, or its address."
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="With --data: folder for the copy to build from. Default: in the cache."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Key file ('hub key new') to sign the list of all cards with."),
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, help="How long that signature holds.")] = 14,
) -> None:
    """Write the whole hub as pages for any web server, with a search that needs none."""
    from adapterhub.hub import Hub
    from adapterhub.hub.trust import own_key

    if data is not None:
        hub = hub_copies.working_copy(data, work)
    try:
        from adapterhub.hub.static import build_site
    except ModuleNotFoundError as error:
        message = (
            f"Error: the pages need {error.name}; install it with pip install 'adapterhub[hub]'"
        )
        typer.secho(message, err=True, fg="red")
        raise typer.Exit(1) from None
    try:
        signer = own_key(key) if key is not None else None
        built = build_site(Hub(hub), out, base_url=base_url, key=signer, days=days)
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
