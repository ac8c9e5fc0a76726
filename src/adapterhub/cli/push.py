"""``adapterhub push``: publish a folder to a hub server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.errors import HubError


def register(app: typer.Typer) -> None:
    """Add the command to the main command."""
    app.command()(push)


def push(
    folder: Annotated[
        Path, typer.Argument(help="Folder that save_adapter or save_pretrained wrote.")
    ],
    repo: Annotated[str, typer.Argument(help="namespace/name to publish as.")],
    task: Annotated[str | None, typer.Option(help="task/subtask, e.g. sentiment/sst-2.")] = None,
    hub: Annotated[
        str,
        typer.Option(
            "--hub", envvar=["ADAPTERHUB_HUB", "HF_ENDPOINT"], help="Address of the hub server."
        ),
    ] = "",
    token: Annotated[
        str | None, typer.Option(envvar="HF_TOKEN", help="Default: that of 'hf auth login'.")
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="SPDX id, e.g. Apache-2.0.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language tag, e.g. en.")] = None,
    description: Annotated[str, typer.Option(help="A sentence for a new card.")] = "",
    revision: Annotated[str | None, typer.Option(help="Branch. Default: main.")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the card and every check; send nothing.")
    ] = False,
) -> None:
    """Check an adapter folder and publish it on a hub server; only what changed is sent."""
    import os

    # Before anything imports the client, which reads it then: hubs of ours take large files by LFS.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    from adapterhub.hub import client

    prepared = client.prepare(
        folder, task=task, license=license_, language=language, description=description
    )
    if dry_run:
        _show(prepared)
        raise typer.Exit(1 if prepared.problems else 0)
    if not client.is_server(hub):
        raise HubError("say where to publish: --hub https://... (or ADAPTERHUB_HUB or HF_ENDPOINT)")
    commit = client.push(prepared, repo, url=hub, token=token, private=private, revision=revision)
    typer.echo(f"Published {repo} at {hub.rstrip('/')}/{repo}, commit {commit}")
    if not prepared.facts.get("license") and not license_:
        typer.echo("No licence is stated; push again with --license so that others may use it.")


def _show(prepared: object) -> None:
    from adapterhub.cli.hub import _printable
    from adapterhub.hub.client import Prepared

    assert isinstance(prepared, Prepared)
    typer.echo(_printable(prepared.card))
    for name, results in prepared.results.items():
        for item in results:
            typer.echo(_printable(f"{item.outcome:8} {name}: {item.name} {item.message}".rstrip()))
    for problem in prepared.problems:
        typer.secho(_printable(f"refused: {problem}"), fg="red")
    if not prepared.problems:
        facts = prepared.facts
        weights = sum(facts.get("parameters", {}).values())
        typer.echo(
            f"Would be published: {facts.get('method')} for {facts.get('base_model')}, {weights:,} weights"
        )
