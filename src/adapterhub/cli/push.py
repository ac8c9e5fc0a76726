"""``adapterhub push``: publish a folder to a hub server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterhub.errors import HubError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from adapterhub.hub.client import Prepared
    from adapterhub.hub.sending import Progress, Sent
    from adapterhub.hub.signing import SigningKey

_WAIT_SECONDS = 300.0


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
            "--hub",
            envvar=["ADAPTERHUB_HUB", "HF_ENDPOINT"],
            help="Address of the hub server.",
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
    sign: Annotated[
        bool, typer.Option("--sign", help="Sign all files with your key (adapterhub hub key new).")
    ] = False,
    key: Annotated[
        Path | None, typer.Option(help="Key file. Default: yours. Implies --sign.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove what the repository has and the folder not.")
    ] = False,
    trial: Annotated[
        bool | None,
        typer.Option(
            help="Check it here against its base model, too. Default: with --dry-run.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait until the hub has checked it, and say how that ended.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the card and every check; send nothing.")
    ] = False,
) -> None:
    """Check an adapter folder and publish it on a hub server; only what changed is sent.

    Started again after a break, it goes on where it stopped.
    """
    from adapterhub.hub import client, pushing
    from adapterhub.hub.verify.deep import DeepChecks

    checks = DeepChecks() if (dry_run if trial is None else trial) else None
    prepared = client.prepare(
        folder,
        task=task,
        license=license_,
        language=language,
        description=description,
        trial=checks,
    )
    if prepared.left_out:
        typer.echo(f"Left out, as nobody needs it: {', '.join(prepared.left_out)}", err=True)
    if dry_run:
        _show(prepared)
        raise typer.Exit(1 if prepared.problems else 0)
    server = first_server(hub)
    own = _key(key) if sign or key is not None else None
    with _bars() as progress:
        sent = pushing.publish(
            prepared,
            repo,
            url=server,
            token=token,
            private=private,
            revision=revision,
            key=own,
            replace=replace,
            progress=progress,
        )
    if sent.status == "pending" and wait:
        sent = _settled(sent, repo, server, token)
    _tell(sent, repo, server)
    if not prepared.facts.get("license") and not license_:
        typer.echo("No licence is stated; push again with --license so that others may use it.")
    typer.echo(f"commit {sent.commit}")


def first_server(hub: str) -> str:
    """Return the first address of a server in a list of hubs.

    Raises:
        HubError: If there is none.
    """
    from adapterhub.hub.sources import places

    for place in places(hub):
        if place.startswith(("http://", "https://")):
            return place.rstrip("/")
    raise HubError("say where to publish: --hub https://... (or ADAPTERHUB_HUB or HF_ENDPOINT)")


def _key(path: Path | None) -> SigningKey:
    from adapterhub.hub.trust import own_key

    return own_key(path)


@contextmanager
def _bars() -> Iterator[Progress]:
    """Show a bar for each file that is sent, where there is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, TransferSpeedColumn(), console=console, transient=True) as bars:

        def note(name: str, done: int, size: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(_printable(name), total=size)
            bars.update(tasks[name], completed=done)

        yield note


def _settled(sent: Sent, repo: str, server: str, token: str | None) -> Sent:
    """Wait for the checks of a commit, for five minutes at most."""
    from dataclasses import replace as changed

    from huggingface_hub import get_token

    from adapterhub.hub.sending import Sender

    sender = Sender(server, repo, token or get_token())
    typer.echo("Sent; the hub checks it against its base model ...", err=True)
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        place = f"/api/hub/v1/repos/{repo}/checks?revision={sent.commit}"
        _, _, answer = sender.ask("GET", place)
        status = answer.get("status") if isinstance(answer, dict) else None
        if status in ("verified", "held", "rejected"):
            return changed(sent, status=status, warning=str(answer.get("reason") or ""))
        time.sleep(1.0)
    return sent


def _tell(sent: Sent, repo: str, server: str) -> None:
    if sent.status in ("held", "rejected"):
        raise HubError(f"{repo} is stored at {server}, but only you see it: {sent.warning}")
    if sent.status == "pending":
        typer.echo(f"Sent {repo} to {server}; it is published when its checks have passed")
    else:
        typer.echo(f"Published {repo} at {server}/{repo}")


def _show(prepared: Prepared) -> None:
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


def _printable(text: str) -> str:
    from adapterhub.cli.hub import printable

    return printable(text)
