"""``adapterhub hub export``, ``hub mirror``: copies of hubs; and the sending part of ``hub import``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterhub.errors import HubError

if TYPE_CHECKING:
    from adapterhub.hub.copies.origin import Filter
    from adapterhub.hub.copies.run import Progress, Report

_SHOWN = 20

TaskOption = Annotated[str, typer.Option(help="Only this task, or task/subtask.")]
ModelOption = Annotated[str, typer.Option(help="Only for this base model.")]
OwnerOption = Annotated[str, typer.Option(help="Only by this owner.")]
SinceOption = Annotated[str, typer.Option(help="Only what was published since, e.g. 2026-11-01.")]
TokenOption = Annotated[
    str | None,
    typer.Option(envvar="HF_TOKEN", help="For a hub that asks for one.", show_default=False),
]


def register(group: typer.Typer) -> None:
    """Add the commands of this file to ``adapterhub hub``."""
    group.command("export")(hub_export)
    group.command("mirror")(hub_mirror)


def hub_export(
    data: Annotated[
        str, typer.Option("--data", envvar="ADAPTERHUB_DATA", help="Data folder, or address.")
    ],
    to: Annotated[Path, typer.Option(help="New folder, or one of an earlier export.")],
    task: TaskOption = "",
    model: ModelOption = "",
    owner: OwnerOption = "",
    since: SinceOption = "",
) -> None:
    """Write the public adapters of a hub server as a folder of cards and files."""
    with _extra():
        from adapterhub.hub.copies.choose import export

        with _shown() as progress:
            report = export(data, to, wanted=_filter(task, model, owner, since), progress=progress)
    _tell(report, to)


def hub_mirror(
    url: Annotated[str, typer.Argument(help="Address of a hub: a server, or published pages.")],
    folder: Annotated[Path, typer.Argument(help="New folder, or one of an earlier run.")],
    task: TaskOption = "",
    model: ModelOption = "",
    owner: OwnerOption = "",
    since: SinceOption = "",
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="Public key (ed25519:...) that must have signed the index; remembered. Repeatable."
        ),
    ] = None,
    token: TokenOption = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another host to which downloads may be redirected. Repeatable."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what the hub does not have any more.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file that is here, too.")
    ] = False,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take a folder that is no copy of this hub yet.")
    ] = False,
    max_file: Annotated[str, typer.Option(help="Largest file to fetch.")] = "20G",
    max_total: Annotated[
        str, typer.Option(help="Most to fetch in one run. Default: no limit.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Adapters fetched at a time.")] = 4,
) -> None:
    """Copy a hub, or a part of it, into a folder; the next time, only what is new. All is verified."""
    with _extra():
        from adapterhub.hub.copies.choose import mirror
        from adapterhub.hub.copies.published import Published
        from adapterhub.hub.copies.run import Limits
        from adapterhub.hub.server.settings import parse_size

        limits = Limits(parse_size(max_file), parse_size(max_total) if max_total else 1 << 60)
        with _shown() as progress:
            report, origin = mirror(
                url,
                folder,
                wanted=_filter(task, model, owner, since),
                keys=key or (),
                token=token,
                hosts=tuple(allow_host or ()),
                prune=prune,
                verify=verify,
                adopt=adopt,
                limits=limits,
                jobs=jobs,
                progress=progress,
            )
    if isinstance(origin, Published) and origin.seen is not None:
        typer.echo(f"Index signed by {origin.seen.key} on {origin.seen.signed}")
    elif isinstance(origin, Published) and origin.signature is not None:
        typer.echo(
            f"The index is signed by {origin.signature.key}; if you know that this is the hub's key, give "
            "--key, and every later run asks for it"
        )
    _tell(report, folder)


def send_folder(source: Path, to: str, token: str | None, create_owners: bool) -> None:
    """Publish a folder hub on a server (an address), or in the data of one that is not running."""
    with _extra():
        from adapterhub.hub import Hub
        from adapterhub.hub.client import is_server
        from adapterhub.hub.copies.cardsync import send_cards
        from adapterhub.hub.copies.upload import upload

        hub = Hub(source)
        with _shown() as progress:
            if is_server(to):
                cards, broken = send_cards(hub.path, to, token)
                report = upload(
                    hub, to, token=token, create_owners=create_owners, progress=progress
                )
            else:
                from adapterhub.hub.copies.offline import offline_server

                place = Path(to).expanduser()
                with offline_server(place, _first_token) as (url, secret):
                    cards, broken = send_cards(hub.path, url, secret)
                    report = upload(hub, url, token=secret, create_owners=True, progress=progress)
    typer.echo(
        f"{len(report.sent)} version(s) sent to {to}, {len(report.same)} were there, "
        f"{len(report.elsewhere)} adapter(s) without files here"
    )
    if cards is None:
        typer.echo("Cards were not sent: that takes the token of an administrator.", err=True)
    else:
        typer.echo(
            f"{cards} card(s) of tasks, data sets, architectures and adapters elsewhere sent"
        )
    if report.keys or report.reports:
        typer.echo(f"{report.keys} key(s) and {report.reports} evaluation report(s) sent")
    _list(report.unsigned, "not taken")
    for line in broken:
        typer.echo(f"not taken over: {line}", err=True)
    _list(report.refused, "not published")
    if report.refused or broken:
        raise typer.Exit(1)


def _first_token(name: str, token: str) -> None:
    typer.echo(
        f"This hub is new. Its administrator is {name!r}; the token, shown only now, is\n\n    {token}\n"
    )


def working_copy(data: str, work: Path | None) -> Path:
    """Bring the public adapters of a server to a folder to build pages from; return the folder."""
    with _extra():
        from adapterhub.hub.copies.choose import export, working_folder

        folder = work or working_folder(data)
        with _shown() as progress:
            report = export(data, folder, progress=progress)
    _tell(report, folder)
    return folder


def _filter(task: str, model: str, owner: str, since: str) -> Filter:
    from adapterhub.hub.copies.choose import since as checked
    from adapterhub.hub.copies.origin import Filter

    return Filter(task, model, owner.removeprefix("@"), checked(since))


@contextmanager
def _extra() -> Iterator[None]:
    """Say what to install where something is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise HubError(f"this needs {error.name}: pip install 'adapterhub[hub]'") from error


@contextmanager
def _shown() -> Iterator[Progress]:
    """Show a bar on a terminal; elsewhere nothing, so that logs stay readable."""
    from rich import progress as rich
    from rich.console import Console

    from adapterhub.hub.copies.run import Progress

    console = Console(stderr=True)
    if not console.is_terminal or os.environ.get("ADAPTERHUB_NO_PROGRESS"):
        yield Progress()
        return
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[got]}"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console) as bars:
        task = bars.add_task("adapters", total=None, got="")

        class Bar(Progress):
            got, all = 0, 0

            def begin(self, cards: int) -> None:
                self.all += cards
                bars.update(task, total=self.all)

            def card(self, path: str) -> None:
                bars.advance(task)

            def bytes(self, count: int) -> None:
                self.got += count
                bars.update(task, got=rich.filesize.decimal(self.got))

        yield Bar()


def _tell(report: Report, folder: Path) -> None:
    new, old = len(report.added), len(report.updated)
    typer.echo(
        f"{folder}: {new} card(s) new, {old} changed, {report.same} as before, "
        f"{len(report.removed)} removed; {report.files} file(s), {report.bytes:,} bytes fetched"
    )
    if report.gone:
        typer.echo(
            f"{len(report.gone)} card(s) are not at the source any more; --prune removes them: "
            f"{', '.join(report.gone[:3])}{' ...' if len(report.gone) > 3 else ''}"
        )
    if report.left_out:
        files = sum(len(names) for names in report.left_out.values())
        typer.echo(f"{files} file(s) of a kind that is not copied (pickles, programs) left out")
    _list(report.refused, "refused")
    if report.refused:
        raise typer.Exit(1)


def _list(refused: dict[str, str], what: str) -> None:
    for name, reason in sorted(refused.items())[:_SHOWN]:
        line = f"{what}: {name}: {reason}"
        typer.secho("".join(c if c.isprintable() else "?" for c in line), err=True, fg="red")
    if len(refused) > _SHOWN:
        typer.echo(f"... and {len(refused) - _SHOWN} more", err=True)
    sys.stderr.flush()
