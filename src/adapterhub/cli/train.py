"""``adapterhub train``: one adapter on one classification task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli._screen import MODEL_HELP, err, interruptible, out, print_json


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("train")(train)


def train(
    task: Annotated[
        str,
        typer.Option(
            help="movies, tweets, products, editorials; or a .csv, .tsv or .jsonl file with texts and labels."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the adapter, checkpoints and results.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "minilm",
    config: Annotated[
        str, typer.Option(help="Adapter configuration, e.g. seq_bn, lora[r=16], prefix_tuning.")
    ] = "seq_bn",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 700,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts a step.")] = 16,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", "--lr", help="Peak learning rate.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of initial weights, dropout and batches.")] = 0,
    evaluations: Annotated[
        int, typer.Option(min=1, help="How often to evaluate while training.")
    ] = 6,
    text_column: Annotated[str, typer.Option(help="Column of the texts in a file.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the labels in a file.")] = "label",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train an adapter and its head on a frozen base model.

    Example: adapterhub train --task movies --config seq_bn --output my-adapter
    """
    with interruptible("Go on with --resume."):
        from dataclasses import replace

        from adapterhub.training import load_task, recipes, report
        from adapterhub.training.base_models import base_model_path

        data = load_task(task, text_column, label_column)
        recipe = replace(recipes.RECIPES[recipes.ADAPTER], config=config)
        if learning_rate > 0:
            recipe = replace(recipe, learning_rate=learning_rate)
        trained = recipes.train(
            data,
            recipe,
            base_model_path(model),
            recipes.Budget(steps, batch_size, min(evaluations, steps)),
            seed,
            checkpoints=output / "checkpoints",
            resume=resume,
        )
        folder = output / data.name
        trained.model.save_adapter(folder, data.name)
        result = trained.result
        report.write_json(output / "results.json", result.to_json())
        if as_json:
            print_json({**result.to_json(), "adapter": str(folder)})
            return
        out.print(
            report.rich_table(
                f"{data.name} ({result.steps} steps)", report.HEADER, report.rows([result])
            )
        )
        err.print(
            f"Saved in {folder}. Try: adapterhub predict --model {model} --adapter {folder} 'A text.'"
        )
