"""``python -m benchmarks.run``: time adapters against the bare base model, as JSON and Markdown.

Every ratio is one process, one thread, process CPU time, base and cases interleaved, median over the
rounds with the smallest and largest beside it. Weights are random, dropout is 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import transformers
from rich.console import Console

import adapterhub
from benchmarks import counts, lifecycle, speed
from benchmarks.models import SPECS
from benchmarks.records import Options, Record

SUITES: dict[str, Callable[[Options], Iterator[Record]]] = {
    "forward": speed.forward,
    "train": speed.train,
    "generate": speed.generate,
    "mixed": speed.mixed,
    "lifecycle": lifecycle.lifecycle,
    "compile": counts.compile_,
    "counts": counts.counts,
}


def main() -> None:
    """Run the suites asked for and write ``results.json`` and ``results.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default=",".join(SUITES), help="comma-separated; default: all")
    parser.add_argument("--models", default=",".join(SPECS), help="comma-separated; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each timing (default 7)")
    parser.add_argument(
        "--quick", action="store_true", help="shorter generations, fewer repetitions"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    suites, models = arguments.suite.split(","), tuple(arguments.models.split(","))
    for name, known in [(s, SUITES) for s in suites] + [(m, SPECS) for m in models]:
        if name not in known:
            parser.error(f"unknown: {name}; known: {', '.join(known)}")
    torch.set_num_threads(1)
    options = Options(models, arguments.rounds, arguments.quick)
    console = Console()
    records: list[Record] = []
    for suite in suites:
        with console.status(f"{suite} …"):
            for record in SUITES[suite](options):
                records.append(record)
                console.print(line(record), highlight=False)
    arguments.output.mkdir(parents=True, exist_ok=True)
    facts = about(arguments.rounds)
    data = {"about": facts, "records": [dataclasses.asdict(record) for record in records]}
    (arguments.output / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    (arguments.output / "results.md").write_text(markdown(facts, records))


def about(rounds: int) -> dict[str, str]:
    """Return what the figures were measured with."""
    return {
        "adapterhub": adapterhub.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, CPU, one thread",
        "rounds": str(rounds),
    }


def line(record: Record) -> str:
    """Return one figure as a line."""
    spread = "" if record.low == record.high else f"  ({record.low:.3f} to {record.high:.3f})"
    note = f"  {record.note}" if record.note else ""
    head = f"{record.suite:9} {record.model:5} {record.case:34}"
    return f"{head} {record.value:9.3f} {record.unit}{spread}{note}"


def markdown(facts: dict[str, str], records: list[Record]) -> str:
    """Return all figures as Markdown tables, one a suite and model."""
    parts = ["# Benchmark results", ", ".join(f"{key} {value}" for key, value in facts.items()), ""]
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.suite, record.model), []).append(record)
    for (suite, model), found in groups.items():
        parts += [
            f"## {suite}: {model}",
            "",
            "| case | value | unit | spread | note |",
            "|---|---|---|---|---|",
        ]
        for record in found:
            spread = "" if record.low == record.high else f"{record.low:.3f} – {record.high:.3f}"
            parts.append(
                f"| {record.case} | {record.value:.3f} | {record.unit} | {spread} | {record.note} |"
            )
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
