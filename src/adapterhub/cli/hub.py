"""``adapterhub publish`` and ``hub ...``: the hub from the command line (``search``: :mod:`.hub_find`).

Tables are for people and fit 80 columns; ``--json`` prints the same as data. Exit codes: 0 done,
1 not found or refused, 2 wrong usage. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterhub.cli import hub_folder, hub_keys, hub_ops
from adapterhub.errors import AdapterHubError

if TYPE_CHECKING:
    from adapterhub.hub import Entry, Finding, Hub

HubOption = Annotated[
    Path | None,
    typer.Option(
        "--hub",
        envvar="ADAPTERHUB_HUB",
        help="Hub folder. Default: ~/.local/share/adapterhub/hub.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data for scripts.")]

group = typer.Typer(no_args_is_help=True, help="Create, check, list, import and show a hub folder.")
hub_folder.register(group)
hub_ops.register(group)
group.add_typer(hub_keys.group, name="key")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the main command."""
    from adapterhub.cli import hub_find

    app.command()(hub_find.search)
    app.command()(publish)
    app.command()(hub_find.pull)
    app.add_typer(group, name="hub")


@contextmanager
def errors() -> Iterator[None]:
    """Show an expected error as one message instead of a traceback, and exit with 1."""
    try:
        yield
    except AdapterHubError as error:
        typer.secho(f"Error: {error}", err=True, fg="red")
        raise typer.Exit(1) from None


def _open(path: Path | None) -> Hub:
    from adapterhub.hub import Hub

    return Hub(path)


def print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _table(
    title: str, columns: Mapping[str, Mapping[str, Any]], rows: Sequence[Sequence[str]]
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name, options in columns.items():
        table.add_column(name, overflow="fold", **options)
    for row in rows:
        # Text, so that brackets in names are not taken for Rich markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)


def printable(text: str) -> str:
    """Cards are written by strangers; an escape sequence must not reach the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _entry_table(title: str, entries: Sequence[Entry]) -> None:
    adapter_table(title, [entry_row(entry) for entry in entries])


def entry_row(entry: Entry) -> list[str]:
    """Return the cells of an adapter: two lines, as names get long and a folded one cannot be copied."""
    elsewhere = "" if entry.available else ", files elsewhere"
    score = entry.version.score
    return [
        f"{entry.identifier}\n  {entry.card.model_name}{elsewhere}",
        f"{entry.card.task}/{entry.card.subtask}\n{entry.card.using} {entry.summary}",
        f"{score:g}" if score is not None else "",
    ]


def adapter_table(title: str, rows: list[list[str]]) -> None:
    """Print a table of adapters; its last column, the score, only if there is one."""
    longest = max((len(row[0].partition("\n")[0]) for row in rows), default=0)
    columns: dict[str, dict[str, Any]] = {
        "adapter": {"min_width": min(longest, 56)},
        "task, method": {"min_width": 12},
        "score": {"justify": "right"},
    }
    if not any(row[2] for row in rows):
        del columns["score"]
        rows = [row[:2] for row in rows]
    _table(title, columns, rows)


def _metrics(pairs: Sequence[str]) -> dict[str, float]:
    result = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            result[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"{pair!r} is not NAME=NUMBER, e.g. accuracy=0.92", param_hint="--metric"
            ) from None
    return result


def publish(
    folder: Annotated[Path, typer.Argument(help="Folder that save_adapter wrote.")],
    task: Annotated[str, typer.Option(help="Task id, e.g. sentiment.")],
    subtask: Annotated[str, typer.Option(help="Data set or corpus, e.g. sst-2.")],
    owner: Annotated[str, typer.Option(help="Who publishes.")],
    name: Annotated[str | None, typer.Option(help="Name of the adapter. Default: made up.")] = None,
    version: Annotated[str, typer.Option(help="Version name; never changes later.")] = "1",
    type_: Annotated[
        str | None, typer.Option("--type", help="Adapter type, e.g. text_task or text_lang.")
    ] = None,
    description: Annotated[str, typer.Option(help="For people.")] = "",
    license_: Annotated[
        str | None, typer.Option("--license", help="SPDX id, e.g. Apache-2.0.")
    ] = None,
    author: Annotated[str | None, typer.Option(help="Full name. Default: the owner.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Id of the base model, if the files do not say it.")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Language; may be repeated.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER, e.g. accuracy=0.92; may be repeated.")
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Take this one among those for the same task.")
    ] = False,
    new_task: Annotated[
        bool, typer.Option("--new-task", help="The task is new, although a like one exists.")
    ] = False,
    hub: HubOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check an adapter folder and publish it; nothing is visible unless all is well."""
    metrics = _metrics(metric or ())
    with errors():
        entry = _open(hub).publish(
            folder,
            task=task,
            subtask=subtask,
            owner=owner,
            name=name,
            version=version,
            type=type_,
            description=description,
            license=license_,
            author=author,
            base_model=base_model,
            language=language,
            metrics=metrics,
            default=default,
            new_task=new_task,
        )
        if as_json:
            print_json(entry.to_json())
            return
        typer.echo(f"Published {entry.identifier} version {entry.version.version}")
        typer.echo(f"  {entry.task_identifier}, {entry.card.model_name}, {entry.card.using}")
        typer.echo(f"  {entry.version.parameters:,} weights, {entry.version.size:,} bytes")
        typer.echo(f"  sha256 {entry.version.sha256}")
        if entry.card.license is None:
            typer.echo("  No licence is stated; publish with --license so that others may use it.")


@group.command("init")
def hub_init(
    path: Annotated[Path | None, typer.Argument(help="Folder; see --hub for the default.")] = None,
    name: Annotated[str | None, typer.Option(help="Name shown to people.")] = None,
    description: Annotated[str, typer.Option(help="What the hub is for.")] = "",
    workflow: Annotated[
        bool, typer.Option(help="Write a GitHub Actions workflow that checks and shows the hub.")
    ] = True,
    hub: HubOption = None,
) -> None:
    """Make a new folder (or a folder of cards) a hub to publish to."""
    from adapterhub.hub import Hub
    from adapterhub.hub.static.workflow import WORKFLOW_PATH, write_workflow

    with errors():
        made = Hub.init(path or hub, name=name, description=description)
        typer.echo(f"Hub {made.name} is ready at {made.path}")
        if workflow and write_workflow(made.path):
            typer.echo(f"On GitHub, {WORKFLOW_PATH} checks its cards and publishes its pages.")


@group.command("check")
def hub_check(
    path: Annotated[Path | None, typer.Argument(help="Folder; see --hub for the default.")] = None,
    files: Annotated[bool, typer.Option(help="Read every stored file.")] = True,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show notes, too.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Data of a server instead: run the checks of its adapters again."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="With --data: not only what older versions of checks saw."),
    ] = False,
    hub: HubOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every card, every reference and every stored byte; exit 1 if there are errors."""
    if data is not None:
        from adapterhub.cli.hub_recheck import check_data

        with errors():
            check_data(data, everything=everything, as_json=as_json)
        return
    with errors():
        folder = _open(path or hub)
        findings = folder.check(files=files)
    counts = {level: sum(f.severity == level for f in findings) for level in _LEVELS}
    if as_json:
        print_json([finding.to_json() for finding in findings])
    else:
        _show_findings(findings, verbose)
        total = ", ".join(f"{counts[level]} {level}(s)" for level in _LEVELS)
        typer.echo(f"{len(folder.cards())} adapters in {folder.path}: {total}")
        if counts["note"] and not verbose:
            typer.echo("Show the notes with --verbose.")
    if counts["error"]:
        raise typer.Exit(1)


_LEVELS = {"error": "red", "warning": "yellow", "note": "blue"}


def _show_findings(findings: Sequence[Finding], verbose: bool) -> None:
    for finding in findings:
        if finding.severity == "note" and not verbose:
            continue
        typer.secho(f"{finding.severity}: ", nl=False, fg=_LEVELS[finding.severity])
        typer.echo(printable(f"{finding.where}: {finding.message}"))


@group.command("list")
def hub_list(
    kind: Annotated[
        str, typer.Argument(help="adapter, task, subtask or architecture.")
    ] = "adapter",
    hub: HubOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all adapters, or the tasks, subtasks (data sets) or architectures."""
    kind = kind.removesuffix("s")
    with errors():
        folder = _open(hub)
        if kind == "adapter":
            entries = folder.catalogue.entries
            if as_json:
                print_json([entry.to_json() for entry in entries])
            else:
                _entry_table(f"{len(entries)} adapter(s) in {folder.name}", entries)
            return
        if kind not in _LISTS:
            raise typer.BadParameter(
                f"{kind!r} is none of adapter, {', '.join(_LISTS)}.", param_hint="KIND"
            )
        counts = folder.catalogue.facets().get(kind, {})
        rows = [_LISTS[kind](card, counts) for card in folder.cards(kind)]
    names = ("id", "type", "name", "adapters")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    columns: dict[str, dict[str, Any]] = {name: {} for name in names}
    columns["adapters"]["justify"] = "right"
    cells = [[str(cell) for cell in row] for row in rows]
    _table(f"{len(rows)} {kind}(s) in {folder.name}", columns, cells)


_LISTS: dict[str, Callable[[Any, Mapping[str, int]], list[Any]]] = {
    "task": lambda card, counts: [card.task, card.type, card.displayname, counts.get(card.task, 0)],
    "subtask": lambda card, counts: [
        f"{card.task}/{card.subtask}",
        card.type,
        card.displayname,
        counts.get(card.subtask, 0),
    ],
    "architecture": lambda card, counts: [
        card.name,
        "",
        card.displayname,
        counts.get(card.name, 0),
    ],
}
