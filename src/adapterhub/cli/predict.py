"""``adapterhub predict``: labels for texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli._adapters import adapter_folder
from adapterhub.cli._screen import HUB_HELP, MODEL_HELP, interruptible, out, print_json


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("predict")(predict)


def predict(
    adapter: Annotated[
        str, typer.Option(help="Folder of the adapter, or its identifier in the hub.")
    ],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "minilm",
    hub: Annotated[Path | None, typer.Option(help=HUB_HELP)] = None,
    file: Annotated[
        Path | None, typer.Option(help="More texts, one a line; '-' reads standard input.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print labels, probabilities and logits.")
    ] = False,
) -> None:
    """Classify texts with an adapter and its head.

    Example: adapterhub predict --adapter my-adapter "A wonderful film." "Two hours I want back."
    """
    with interruptible():
        from adapterhub.errors import AdapterHubError
        from adapterhub.training.loading import load_classifier

        wanted = [*(texts or []), *_lines(file)]
        if not wanted:
            raise AdapterHubError("No texts: give some as arguments, or --file FILE.")
        results = load_classifier(model, adapter_folder(adapter, hub)).classify(wanted)
        if as_json:
            print_json(results)
            return
        for result in results:
            out.print(
                f"{result['label']:>12}  {100 * result['probability']:5.1f} %  ",
                end="",
                highlight=False,
            )
            out.print(result["text"], markup=False, highlight=False)


def _lines(file: Path | None) -> list[str]:
    from adapterhub.errors import AdapterHubError

    if file is None:
        return []
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterHubError(f"{file} cannot be read: {error}") from error
    return [line.strip() for line in content.splitlines() if line.strip()]
