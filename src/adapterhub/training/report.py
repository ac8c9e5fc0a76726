"""Results for people (Rich), for documents (Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from adapterhub.training.evaluate import Result

#: "MB" is what has to be kept on disk besides the base model.
HEADER = ("method", "accuracy, %", "trained", "%", "MB", "s/step", "peak MB")


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return the cells of the result table: one row a method, means where there are several seeds."""
    methods = list(dict.fromkeys(result.method for result in results))
    return [_row([r for r in results if r.method == method]) for method in methods]


def _row(group: Sequence[Result]) -> tuple[str, ...]:
    def mean(name: str) -> float:
        return sum(getattr(result, name) for result in group) / len(group)

    first = group[0]
    accuracies = [100 * result.test.accuracy for result in group]
    average = sum(accuracies) / len(group)
    score = f"{average:.1f} ± {100 * first.test.standard_error:.1f}"
    if len(group) > 1:
        spread = math.sqrt(sum((a - average) ** 2 for a in accuracies) / (len(group) - 1))
        listed = ", ".join(f"{a:.1f}" for a in accuracies)
        score = f"{score} (seeds: {listed}; sd {spread:.1f})"
    return (
        first.method,
        score,
        f"{first.trainable:,}",
        f"{100 * first.trainable_share:.2f}",
        f"{first.megabytes:.2f}",
        f"{mean('seconds_per_step'):.3f}",
        f"{max(result.peak_memory for result in group):,.0f}",
    )


def rich_table(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """Return a Rich table; the first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, name in enumerate(header):
        table.add_column(
            name,
            justify="left" if index == 0 else "right",
            no_wrap=index == 0 and name != "sentence",
        )
    for row in cells:
        table.add_row(*map(escape, row))
    return table


def markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *cells]
    return (
        "\n".join(
            "| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines
        )
        + "\n"
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file as a whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
