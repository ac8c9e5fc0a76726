"""The command; see ``python -m benchmarks.matrix --help``.

python -m benchmarks.matrix                                  # all cells; goes on where it was interrupted
python -m benchmarks.matrix --families llama,t5 --rules 3 --again all
python -m benchmarks.matrix --no-run --report docs/matrix.md
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a result file by cell; the last of each counts."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {f"{r['family']}/{r['method']}/{r['check']}": r for r in lines}


def run(cells: list[Any], out: Path) -> None:
    """Try *cells* and append one line each to *out*."""
    import torch
    import transformers
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from benchmarks.matrix.cells import run_cell
    from benchmarks.matrix.subject import Subject, Unbuilt

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    out.parent.mkdir(parents=True, exist_ok=True)
    bar = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description:60}"), *bar) as progress, out.open("a") as lines:
        task = progress.add_task("", total=len(cells))
        subject: Any = None
        for cell in cells:
            progress.update(task, description=cell.key)
            if subject is None or subject.family != cell.family:
                try:
                    subject = Subject(cell.family)
                except Exception as error:  # its cells fail with it
                    subject = Unbuilt(cell.family, error)
            found = run_cell(subject, cell)
            record = {
                "family": cell.family,
                "method": cell.method,
                "check": cell.check,
                "outcome": found.kind,
                "why": found.why,
                "seconds": found.seconds,
            }
            if found.reason:
                record["reason"] = found.reason
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            progress.advance(task)


def distribute(families: list[str], methods: list[str], out: Path) -> None:
    """Try rule 8 and append one line a cell to *out*."""
    from benchmarks.matrix.distributed import distributed_outcomes

    found = distributed_outcomes([(family, method) for family in families for method in methods])
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as lines:
        for cell, ways in found.items():
            family, method = cell.split("/")
            for way, why in ways.items():
                record = {"family": family, "method": method, "check": f"8 {way}", "seconds": 0.0}
                lines.write(
                    json.dumps({**record, "outcome": "FAILED" if why else "ok", "why": why}) + "\n"
                )


def _chosen(text: str | None, known: list[str], what: str) -> list[str]:
    if text is None:
        return known
    found: list[str] = []
    for word in text.split(","):
        fitting = [name for name in known if name == word or name.split(" ")[0] == word]
        if not fitting:
            raise SystemExit(f"No {what} '{word}'; there are: {', '.join(known)}.")
        found += [name for name in fitting if name not in found]
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the matrix, print its sums, write its report."""
    from tests.architectures.tiny import CONFIGS
    from tests.rules.families import METHODS

    from adapterhub.architectures import TABLE
    from benchmarks.matrix.cells import BLOCKS, FAMILY_RULES, RULES, Cell, cells_of
    from benchmarks.matrix.report import markdown, summary

    parser = argparse.ArgumentParser(
        description="Rules and blocks over all methods and all families of the table."
    )
    parser.add_argument("--families", help="comma-separated model types; default: the whole table")
    parser.add_argument("--methods", help="comma-separated names of methods; default: all")
    parser.add_argument("--rules", help='comma-separated, e.g. "1,3"; default: all; "none"')
    parser.add_argument("--blocks", help='comma-separated, e.g. "Stack"; default: all; "none"')
    parser.add_argument(
        "--generate", type=int, default=4, help="in how many blocks each method generates"
    )
    parser.add_argument(
        "--graphs", type=int, default=3, help="how many methods are compiled in each family; 0: all"
    )
    parser.add_argument(
        "--again", choices=["failed", "all"], help="run cells again that have a record"
    )
    parser.add_argument(
        "--passes",
        type=int,
        default=8,
        help="go over everything so often, each time with other cells, drawn evenly; an interrupted run then "
        "has some of everything",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="instead, rule 8 in two processes, on bert and llama or the families named",
    )
    parser.add_argument("--out", type=Path, default=Path(".cache/matrix.jsonl"))
    parser.add_argument("--fresh", action="store_true", help="begin again")
    parser.add_argument("--report", type=Path, help="write the matrix as Markdown")
    parser.add_argument("--no-run", action="store_true", help="only report")
    options = parser.parse_args(argv)
    if options.fresh:
        options.out.unlink(missing_ok=True)
    families = _chosen(options.families, sorted(n for n in TABLE if n in CONFIGS), "family")
    methods = _chosen(options.methods, list(METHODS), "method")
    rules = (
        [] if options.rules == "none" else _chosen(options.rules, [*RULES, *FAMILY_RULES], "rule")
    )
    blocks = [] if options.blocks == "none" else _chosen(options.blocks, list(BLOCKS), "block")
    if options.distributed:
        distribute(families if options.families else ["bert", "llama"], methods, options.out)
    elif not options.no_run:
        generate = ["generation"] if options.generate and blocks else []
        checks = [*rules, *blocks, *generate]
        graphs = options.graphs or None
        cells = list(cells_of(families, methods, checks, options.generate, graphs))
        done = read(options.out)
        if options.again == "failed":
            failed = [r for r in done.values() if r["outcome"] == "FAILED"]
            cells = [
                Cell(r["family"], r["method"], r["check"])
                for r in failed
                if r["family"] in families
            ]
        elif not options.again:
            cells = [c for c in cells if c.key not in done]
        cells.sort(
            key=lambda c: zlib.crc32(c.key.encode()) % options.passes
        )  # (keeps families together)
        run(cells, options.out)
    records = read(options.out)
    print(summary(records))
    if options.report:
        options.report.write_text(markdown(records))
        print(f"Matrix written to {options.report}.")


if __name__ == "__main__":
    main()
