"""``adapterhub search`` and ``pull``: over all the hubs of a user, folders and servers."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterhub.cli.hub import (
    JsonOption,
    adapter_table,
    entry_row,
    errors,
    print_json,
    printable,
)
from adapterhub.errors import HubError, did_you_mean

if TYPE_CHECKING:
    from adapterhub.hub import Hub

HubsOption = Annotated[
    str | None,
    typer.Option(
        "--hub",
        envvar="ADAPTERHUB_HUB",
        help="Hub folder, or address of a server; several with commas. Default: "
        "~/.local/share/adapterhub/hub.",
        show_default=False,
    ),
]
TaskFilter = Annotated[str | None, typer.Option(help="Task, subtask or task/subtask.")]
LanguageFilter = Annotated[str | None, typer.Option(help="Language tag or English name.")]
BaseModelFilter = Annotated[str | None, typer.Option(help="Id of the base model.")]
ArchitectureFilter = Annotated[
    str | None, typer.Option(help="Architecture or method, or a config hash.")
]
OwnerFilter = Annotated[str | None, typer.Option(help="Who published it.")]
Signed = Annotated[
    str | None,
    typer.Option(
        "--require-signature",
        help="Whose signature is needed: 1 (of a trusted key), hub, a key (ed25519:...), a list of keys.",
        show_default=False,
    ),
]


@dataclass
class _Found:
    """What one hub has: how many in all, the best of them as data and as rows, and what to try instead."""

    total: int
    records: list[dict[str, Any]]
    rows: list[list[str]]
    name: str
    hints: list[str] = field(default_factory=list)


def search(
    query: Annotated[list[str] | None, typer.Argument(help="Words to look for.")] = None,
    task: TaskFilter = None,
    language: LanguageFilter = None,
    base_model: BaseModelFilter = None,
    architecture: ArchitectureFilter = None,
    owner: OwnerFilter = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 20,
    signed: Signed = None,
    hub: HubsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find adapters by words (typing errors forgiven) and properties, in folders and on servers.

    Of several hubs, the best of each come in turns; one that cannot be asked is left out with a warning.
    """
    from adapterhub.hub.client import is_server
    from adapterhub.hub.listing import ask_all, listable

    words = " ".join(query or ())
    given = {
        "task": task,
        "language": language,
        "base_model": base_model,
        "architecture": architecture,
        "owner": owner,
    }

    def ask(place: str) -> _Found:
        if is_server(place):
            return _on_server(place, words, given, limit, signed)
        return _in_folder(place, words, given, limit)

    with errors():
        hubs = listable(hub or "")
        answers = ask_all(hubs, ask, _warn)
        if len(hubs) > 1:
            for place, found in answers:
                found.records = [{**record, "hub": place} for record in found.records]
                found.rows = [_with_hub(row, place) for row in found.rows]
        records = _in_turns([found.records for _, found in answers])[:limit]
        if as_json:
            print_json(records)
        elif records:
            total = sum(found.total for _, found in answers)
            names = ", ".join(found.name for _, found in answers)
            where = names if len(answers) == 1 else f"in {len(answers)} hubs"
            shown = f", the first {limit}" if total > limit else ""
            title = f"{total} adapter{'s' if total != 1 else ''} {where}{shown}"
            adapter_table(title, _in_turns([found.rows for _, found in answers])[:limit])
        if not records:
            lines = list(dict.fromkeys(line for _, found in answers for line in found.hints))
            typer.echo(printable("\n".join(lines)), err=True)
            raise typer.Exit(1)


def _on_server(
    url: str, words: str, given: Mapping[str, str | None], limit: int, signed: str | None
) -> _Found:
    from adapterhub.hub.remote import RemoteHub
    from adapterhub.hub.signedfolder import requirement_of

    required = None if signed is None else requirement_of(signed)
    server = RemoteHub(url, os.environ.get("HF_TOKEN"), require_signature=required)
    hits = server.search(words, limit=limit, **given)
    if hits.left_out:
        _warn(
            f"{url}: {hits.left_out} left out, which the signed index does not list (not for everybody, or "
            "very new)"
        )
    hints = [f"Nothing at {url} fits."]
    if hits.suggestions:
        hints.append("Did you mean " + " or ".join(f"'{n}'" for n in hits.suggestions) + "?")
    rows = [_record_row(item) for item in hits.adapters]
    return _Found(hits.total, hits.adapters, rows, f"at {url}", hints)


def _record_row(item: Mapping[str, Any]) -> list[str]:
    elsewhere = ", files elsewhere" if item["status"] == "elsewhere" else ""
    return [
        f"@{item['owner']}/{item['name']}\n{item['base_model']}{elsewhere}",
        f"{item['task']}/{item['subtask']}\n{item['architecture']} {item['settings']}",
        f"{item['score']:g}" if item["score"] is not None else "",
    ]


def _in_folder(place: str, words: str, given: Mapping[str, str | None], limit: int) -> _Found:
    from adapterhub.hub import Hub

    folder = Hub(place or None)
    found = folder.search(words, **given)
    hints: list[str] = []
    if not found:
        hints = _unknown_filters(folder, given) or [f"Nothing in {folder.name} fits."]
        close = folder.nearest(words) if words else []
        if close:
            hints.append("Did you mean " + " or ".join(f"'{name}'" for name in close) + "?")
    best = found[:limit]
    records = [entry.to_json() for entry in best]
    rows = [entry_row(entry) for entry in best]
    return _Found(len(found), records, rows, f"in {folder.name}", hints)


def _unknown_filters(hub: Hub, given: Mapping[str, str | None]) -> list[str]:
    """Say which filter value does not occur in this hub at all, with the nearest that do."""
    messages = []
    facets = hub.catalogue.facets()
    for name, value in given.items():
        if value is None:
            continue
        known = {**facets[name], **(facets["subtask"] if name == "task" else {})}
        if not hub.search(**{name: value}):
            hint = did_you_mean(value, known)
            option = name.replace("_", "-")
            messages.append(f"No adapter here has --{option} {value}.{hint}")
    return messages


def _with_hub(row: Sequence[str], place: str) -> list[str]:
    return [f"{row[0]}\n  {place}", *row[1:]]


def _in_turns(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the first of each, then the second of each, and so on."""
    nothing = object()
    every = chain.from_iterable(zip_longest(*lists, fillvalue=nothing))
    return [item for item in every if item is not nothing]


def _warn(text: str) -> None:
    typer.secho(printable(f"Warning: {text}"), err=True, fg="yellow")


def pull(
    identifier: Annotated[str, typer.Argument(help="@owner/name, task/subtask, subtask@owner ...")],
    to: Annotated[Path | None, typer.Option(help="New folder. Default: the cache.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Base model that it must be for.")] = None,
    config: Annotated[
        str | None, typer.Option(help="Config name, e.g. pfeiffer or lora[r=8], or its hash.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version (of a server: branch, tag or commit).")
    ] = None,
    signed: Signed = None,
    hub: HubsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an adapter into a folder, with every checksum verified, and print the folder."""
    from adapterhub.hub.client import is_server
    from adapterhub.hub.signedfolder import requirement_of, verify_folder
    from adapterhub.hub.sources import HUGGING_FACE, folder_for, places

    required = None if signed is None else requirement_of(signed)
    options = {"base_model": base_model, "config": config, "version": version}
    hubs = places(hub or "")
    with errors():
        if len(hubs) > 1 or any(is_server(place) or place == HUGGING_FACE for place in hubs):
            found = folder_for(identifier, **options, require_signature=required, hubs=hubs)
            path = found if to is None else _copy(found, to.expanduser())
            if as_json:
                print_json({"id": identifier, "path": str(path)})
                return
            typer.echo(f"{identifier}, all checksums right", err=True)
            typer.echo(str(path))
            return
        from adapterhub.hub import Hub

        folder = Hub(hubs[0] if hubs else None)
        entry = folder.resolve(identifier, **options)
        path = folder.pull(entry.identifier, to, version=entry.version.version)
        verify_folder(path, f"{entry.card.owner}/{entry.card.stem}", required)
        if as_json:
            print_json({**entry.to_json(), "path": str(path)})
            return
        chosen = f" ({entry.reason})" if entry.reason else ""
        message = f"{entry.identifier} version {entry.version.version}{chosen}, all checksums right"
        typer.echo(message, err=True)
        typer.echo(str(path))


def _copy(source: Path, target: Path) -> Path:
    """Copy a folder of the cache to a new or empty place, whole or not at all."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise HubError(f"{target} holds something else; give an empty or new folder")
    part = target.parent / f".tmp-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, part)
        if target.is_dir():
            target.rmdir()
        os.rename(part, target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise HubError(f"{target} could not be written: {error}") from error
    return target
