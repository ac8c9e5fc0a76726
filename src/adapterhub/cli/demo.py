"""``adapterhub demo``: the whole life of an adapter on real text, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli._screen import MODEL_HELP, interruptible

SENTENCES = (
    "A tender, funny film that earns every one of its tears.",
    "Two hours of noise and not a single idea worth the ticket.",
    "The plot is thin, but the performances make it a joy to watch.",
)


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("demo")(demo)


def demo(
    sentences: Annotated[list[str] | None, typer.Argument(help="Sentences to classify.")] = None,
    output: Annotated[
        Path, typer.Option(help="Folder for adapters, hub, pictures and results.")
    ] = Path("demo-output"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer steps: under 3 minutes, worse numbers.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, help="Train the comparison with this many seeds.")
    ] = 1,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "minilm",
    restart: Annotated[
        bool, typer.Option("--restart", help="Start over instead of going on where a run stopped.")
    ] = False,
) -> None:
    """Train, compare, publish, find, load, compose: the whole life of an adapter.

    Takes a real encoder and real rated sentences, needs no GPU. Interrupt it at any time; run it again
    and it goes on with the stage where it stopped.
    """
    with interruptible("Run the same command again to go on."):
        from adapterhub.cli._demo_story import Story

        Story(output, model, quick, seeds, restart).tell(sentences or list(SENTENCES))
