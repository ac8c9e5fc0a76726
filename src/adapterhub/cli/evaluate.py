"""``adapterhub evaluate``: how often an adapter is right on a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli._adapters import adapter_folder
from adapterhub.cli._screen import HUB_HELP, MODEL_HELP, err, interruptible, out, print_json

SPLITS = ("train", "validation", "test")


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("evaluate")(evaluate)


def evaluate(
    adapter: Annotated[
        str, typer.Option(help="Folder of the adapter, or its identifier in the hub.")
    ],
    task: Annotated[str, typer.Option(help="A built-in task or a .csv, .tsv or .jsonl file.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "minilm",
    hub: Annotated[Path | None, typer.Option(help=HUB_HELP)] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    text_column: Annotated[str, typer.Option(help="Column of the texts in a file.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels in a file.")] = "label",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Test an adapter with its head on a task.

    Example: adapterhub evaluate --adapter my-adapter --task movies
    """
    with interruptible():
        from adapterhub.errors import AdapterHubError, did_you_mean
        from adapterhub.training import load_task
        from adapterhub.training.evaluate import accuracy
        from adapterhub.training.loading import load_classifier
        from adapterhub.training.progress import make_progress

        if split not in SPLITS:
            raise AdapterHubError(
                f"No split '{split}': {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
            )
        data = load_task(task, text_column, label_column)
        classifier = load_classifier(model, adapter_folder(adapter, hub))
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
