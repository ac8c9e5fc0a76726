"""``adapterhub evaluate``: how good an adapter is on a task, and a signed report of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterhub.cli._adapters import adapter_folder
from adapterhub.cli._screen import HUB_HELP, MODEL_HELP, err, interruptible, out, print_json

if TYPE_CHECKING:
    from adapterhub.hub.reports import Report, SignedReport
    from adapterhub.training.measuring import LabelledData
    from adapterhub.training.metrics import Measurement

SPLITS = ("train", "validation", "test")


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("evaluate")(evaluate)


def evaluate(
    adapter_: Annotated[
        str | None,
        typer.Argument(
            metavar="ADAPTER", help="Folder of the adapter, or its identifier in a hub."
        ),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="The same, as an option.", show_default=False)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="A built-in task, or a .csv, .tsv or .jsonl file to be split."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A .csv, .tsv or .jsonl(.gz) file of examples, all of them used."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric; may be repeated. Default: all that fit the head."),
    ] = None,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "minilm",
    hub: Annotated[Path | None, typer.Option(help=HUB_HELP)] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test (default) of a task; a name for --data."),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts in a file.")] = "",
    pair_column: Annotated[str, typer.Option(help="Column of second texts.")] = "",
    label_column: Annotated[str, typer.Option(help="Column of the labels in a file.")] = "",
    max_length: Annotated[
        int, typer.Option(min=8, help="Longest input in tokens; what is longer is cut.")
    ] = 256,
    report: Annotated[Path | None, typer.Option(help="Write a signed report to this file.")] = None,
    repo: Annotated[
        str | None, typer.Option(help="owner/name of the adapter in the hub, for the report.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="task/subtask by which the hub knows the data.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who measures, for people.")] = "",
    key: Annotated[
        Path | None,
        typer.Option(help="Key to sign with ('adapterhub hub key new'). Default: your own."),
    ] = None,
    submit: Annotated[
        str | None,
        typer.Option(help="Address of a hub server to send the report to, or a hub folder."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="HF_TOKEN", help="Default: that of 'hf auth login'.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure an adapter with its head on labelled examples; sign the result if asked.

    Example: adapterhub evaluate my-adapter --task movies

    Example: adapterhub evaluate @ada/sst --data test.jsonl --split test --dataset sentiment/sst-2
    --report report.json --submit https://hub.example.org
    """
    with interruptible():
        from adapterhub.errors import AdapterHubError

        name = adapter_ or adapter
        if name is None or (task is None) == (data is None):
            raise AdapterHubError("Give one ADAPTER, and either --task or --data.")
        folder = _folder(name, hub, submit, token)
        columns = (text_column, pair_column, label_column)
        if task is not None and not (metric or report or submit):
            _accuracy_on_task(folder, task, model, split or "test", columns, as_json)
            return
        wants_report = report is not None or submit is not None
        signer = _signer(key) if wants_report else None
        repo_id = _repo_id(name, repo) if wants_report else ""
        subject, examples, part, measured = _measured(
            folder, model, task, data, split, columns, max_length, metric or []
        )
        if signer is not None:
            from adapterhub.hub.evaluation import make_report

            made = make_report(
                subject,
                examples,
                measured,
                folder=folder,
                repo=repo_id,
                split=part,
                dataset=dataset,
                by=by,
            )
            _deliver(made, signer, report, submit, token)
        _show(examples, part, measured, as_json)


def _folder(name: str, hub: Path | None, submit: str | None, token: str | None) -> Path:
    """Return the adapter's folder: itself, from a server, or from a folder hub."""
    import os

    from adapterhub.hub import client

    if submit and not client.is_server(submit):
        hub = hub or Path(submit)
    server = submit or os.environ.get("ADAPTERHUB_HUB", "")
    if hub is None and client.is_server(server) and not Path(name).expanduser().is_dir():
        return client.fetch(server, name, token=token)
    return adapter_folder(name, hub)


def _repo_id(name: str, given: str | None) -> str:
    from adapterhub.errors import AdapterHubError

    if given:
        return given.removeprefix("@")
    if name.startswith("@") or (name.count("/") == 1 and not Path(name).expanduser().is_dir()):
        return name.removeprefix("@")
    raise AdapterHubError("A report needs the name of the adapter in the hub: --repo owner/name.")


def _signer(path: Path | None) -> Any:
    from adapterhub.hub.trust import own_key

    return own_key(path)


def _measured(
    folder: Path,
    model: str,
    task: str | None,
    data: Path | None,
    split: str | None,
    columns: tuple[str, str, str],
    max_length: int,
    names: list[str],
) -> tuple[Any, LabelledData, str, list[Measurement]]:
    """Return the loaded adapter, the examples, which part of the data they are, and what came out."""
    from adapterhub.training.measuring import Columns, load_subject, measure, read_data, task_data
    from adapterhub.training.progress import make_progress

    if data is not None:
        examples, part = read_data(data, Columns(*columns)), split or "all"
    else:
        part = split or "test"
        examples = task_data(_task(str(task), part, columns), part)
    subject = load_subject(model, folder, max_length=max_length)
    with make_progress(err) as progress:
        bar = progress.add_task(f"{examples.name}: {part}", total=len(examples), note="")
        found = measure(
            subject, examples, names, on_batch=lambda count: progress.advance(bar, count)
        )
    return subject, examples, part, found


def _task(name: str, split: str, columns: tuple[str, str, str]) -> Any:
    from adapterhub.errors import AdapterHubError, did_you_mean
    from adapterhub.training import load_task

    if split not in SPLITS:
        raise AdapterHubError(
            f"No split '{split}': {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
        )
    return load_task(name, columns[0] or "text", columns[2] or "label")


def _deliver(
    made: Report, signer: Any, path: Path | None, submit: str | None, token: str | None
) -> None:
    from adapterhub.hub.client import is_server
    from adapterhub.hub.reports import SignedReport

    signed: SignedReport = SignedReport.make(made, signer)
    if path is not None:
        signed.save(path)
        err.print(f"Report signed by key {signer.public.id} written to {path}", highlight=False)
    if submit is not None and not is_server(submit):
        from adapterhub.hub import Hub
        from adapterhub.hub.folderreports import keep

        hub = Hub(submit)
        kept = keep(hub.path, hub.catalogue, signed)
        err.print(f"Kept as {hub.path / kept.path}", markup=False, highlight=False)
    elif submit is not None:
        from adapterhub.hub.evaluation import submit as send

        answer = send(submit, signed, token)
        err.print(
            f"Sent to {submit}: report {answer.get('id')} about {answer.get('repo')}",
            markup=False,
            highlight=False,
        )


def _show(examples: LabelledData, split: str, measured: list[Measurement], as_json: bool) -> None:
    if as_json:
        facts = {"data": examples.name, "split": split, "sha256": examples.sha256}
        print_json({**facts, "results": [item.to_json() for item in measured]})
        return
    out.print(f"{examples.name}, {split}: {len(examples):,} examples", markup=False)
    for item in measured:
        out.print(
            f"  {item.metric:<16} {item.value:8.4f} ± {item.standard_error:.4f}", highlight=False
        )


def _accuracy_on_task(
    folder: Path,
    name: str,
    model: str,
    split: str,
    columns: tuple[str, str, str],
    as_json: bool,
) -> None:
    """Print how often the adapter is right on a task with the labels of its head."""
    from adapterhub.errors import AdapterHubError
    from adapterhub.training.evaluate import accuracy
    from adapterhub.training.loading import load_classifier
    from adapterhub.training.progress import make_progress

    data = _task(name, split, columns)
    classifier = load_classifier(model, folder)
    if classifier.labels != data.label_names:
        raise AdapterHubError(
            f"The adapter's head knows the labels {', '.join(classifier.labels)}; "
            f"the task has {', '.join(data.label_names)}."
        )
    examples = getattr(data, split)
    with make_progress(err) as progress:
        bar = progress.add_task(f"{data.name}: {split}", total=len(examples), note="")
        logits = classifier.logits(examples.texts, on_batch=lambda n: progress.advance(bar, n))
    score = accuracy(logits, examples.labels)
    if as_json:
        result = {"task": data.name, "split": split, "accuracy": score.accuracy}
        print_json({**result, "standard_error": score.standard_error, "count": score.count})
    else:
        out.print(f"{data.name}, {split}: {score} % accuracy on {score.count:,} texts")
