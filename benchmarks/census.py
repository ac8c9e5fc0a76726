"""Which model types take which methods: every type of the installed transformers, tried one by one.

    python -m benchmarks.census                    # all types; goes on where it was interrupted
    python -m benchmarks.census --types llama,vit  # some, again
    python -m benchmarks.census --report docs/coverage.md

Every type is built from a shrunken configuration in a process of its own. Each method is added with random
weights, run forward and backward, and detached; afterwards outputs and ``state_dict`` keys must be those of
the bare model, bit for bit. One line of JSON a type goes to ``--out``; the report is made from that file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

#: What is tried, by the name it has in the report. ``gelu``: dead units would look like missing gradients.
METHODS = {
    "lora": "lora",
    "seq_bn": "seq_bn[non_linearity='gelu',reduction_factor=4]",
    "double_seq_bn": "double_seq_bn[reduction_factor=4]",
    "prefix_tuning": "prefix_tuning[prefix_length=3,bottleneck_size=8]",
}


def model_types() -> list[str]:
    """Return all model types that the installed transformers knows."""
    from transformers import CONFIG_MAPPING

    return sorted(CONFIG_MAPPING.keys())


def try_in_process(model_type: str, seconds: float) -> dict[str, Any]:
    """Try one type in a forked child, which is ended after *seconds*."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(model_type, there), daemon=True)
    started = time.perf_counter()
    child.start()
    there.close()
    record: dict[str, Any] = {"model_type": model_type, "built": False}
    try:
        if here.poll(seconds):
            record = here.recv()
        else:
            record["why"] = f"took longer than {seconds:.0f} s"
    except EOFError:
        record["why"] = "the process died"
    finally:
        child.kill()
        child.join()
        here.close()
    record["seconds"] = round(time.perf_counter() - started, 2)
    return record


def _child(model_type: str, answer: Connection) -> None:
    from benchmarks.census_trial import try_type

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    os.dup2(sys.stdout.fileno(), 2)
    answer.send(try_type(model_type, METHODS))
    answer.close()


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a result file by type; the last of each counts."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {line["model_type"]: line for line in lines}


def run(types: list[str], out: Path, seconds: float) -> None:
    """Try *types* and append one line each to *out*."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    import benchmarks.census_trial  # noqa: F401  (the children inherit what is imported)

    out.parent.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, out.open("a") as lines:
        task = progress.add_task("", total=len(types))
        for model_type in types:
            progress.update(task, description=model_type)
            record = try_in_process(model_type, seconds)
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            progress.advance(task)


def chosen(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the types to try: those named, else those without a record yet."""
    known = model_types()
    if arguments.types:
        names = arguments.types.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise SystemExit(f"Unknown model type {unknown[0]!r} in transformers.")
        yield from names
        return
    done = {} if arguments.fresh else read(arguments.out)
    yield from (name for name in known if name not in done)


def main(argv: list[str] | None = None) -> None:
    """Run the census and print and write its report."""
    parser = argparse.ArgumentParser(description="Which model types take which methods.")
    parser.add_argument(
        "--types", help="comma-separated model types; default: all without a record"
    )
    parser.add_argument("--out", type=Path, default=Path(".cache/census.jsonl"))
    parser.add_argument("--fresh", action="store_true", help="begin again")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a type")
    parser.add_argument("--report", type=Path, help="write the matrix as Markdown")
    parser.add_argument("--no-run", action="store_true", help="only report")
    arguments = parser.parse_args(argv)
    if arguments.fresh:
        arguments.out.unlink(missing_ok=True)
    if not arguments.no_run:
        run(list(chosen(arguments)), arguments.out, arguments.timeout)
    from benchmarks.census_report import markdown, summary

    records = read(arguments.out)
    print(summary(records, list(METHODS)))
    if arguments.report:
        arguments.report.write_text(markdown(records, list(METHODS)))
        print(f"Matrix written to {arguments.report}.")


if __name__ == "__main__":
    main()
