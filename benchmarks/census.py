"""Which model types take which methods: every type of the installed transformers, tried one by one.

    python -m benchmarks.census                      # all types; goes on where it was interrupted
    python -m benchmarks.census --types llama,vit    # some, again
    python -m benchmarks.census --methods lora,ia3   # only these methods
    python -m benchmarks.census --report docs/coverage.md

Every type is built from a shrunken configuration in a process of its own. Each method is added with random
weights, run forward and backward, and detached; afterwards outputs and ``state_dict`` keys must be those of
the bare model, bit for bit. One line of JSON a type goes to ``--out``, a file for each version of
transformers. The report has the matrix of the newest version that there is a file of, and a line of sums for
every other; to add an older one, run the census in an environment that has it.
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

#: What is tried, by the name it has in the report: small, and with everything that can be trained in use.
#: ``gelu``: dead units would look like missing gradients.
METHODS = {
    "lora": "lora",
    "ia3": "ia3",
    "dora": "dora",
    "vera": "vera[r=4]",
    "mtl_lora": "mtl_lora[r=4,n_up_projection=2]",
    "seq_bn": "seq_bn[non_linearity='gelu',reduction_factor=4]",
    "double_seq_bn": "double_seq_bn[non_linearity='gelu',reduction_factor=4]",
    "par_bn": "par_bn[non_linearity='gelu',reduction_factor=4]",
    "compacter": "compacter[non_linearity='gelu',reduction_factor=4]",
    "seq_bn_inv": "seq_bn_inv[non_linearity='gelu',inv_adapter_reduction_factor=4,reduction_factor=4]",
    "prefix_tuning": "prefix_tuning[prefix_length=3,bottleneck_size=8]",
    "prompt_tuning": "prompt_tuning[prompt_length=3]",
    "loreft": "loreft[r=2]",
    "bitfit": "bitfit",
    "ln_tuning": "ln_tuning",
}
#: Where the results are kept, one file a version.
FOLDER = Path(".cache/census")


Record = dict[str, Any]
Records = dict[str, Record]


def versions() -> dict[str, str]:
    """Return the versions that a record is made with."""
    import torch
    import transformers

    return {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}


def model_types() -> list[str]:
    """Return all model types that the installed transformers knows."""
    from transformers import CONFIG_MAPPING

    return sorted(CONFIG_MAPPING.keys())


def try_in_process(model_type: str, methods: dict[str, str], seconds: float) -> Record:
    """Try one type in a forked child, which is ended after *seconds*; what it found by then counts."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(model_type, methods, there), daemon=True)
    started = time.perf_counter()
    child.start()
    there.close()
    record: Record = {"model_type": model_type, "built": False, "methods": {}}
    why = "the process died"
    while True:
        left = started + seconds - time.perf_counter()
        if not here.poll(max(left, 0)):
            why = f"took longer than {seconds:.0f} s"
            break
        try:
            record, complete = here.recv()
        except EOFError:
            break
        if complete:
            why = ""
            break
    child.kill()
    child.join()
    here.close()
    if why:
        record["why"] = why
    record["seconds"] = round(time.perf_counter() - started, 2)
    return record


def _child(model_type: str, methods: dict[str, str], answer: Connection) -> None:
    from benchmarks.census_trial import try_type

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    os.dup2(sys.stdout.fileno(), 2)
    record = try_type(model_type, methods, lambda so_far: answer.send((so_far, False)))
    answer.send((record, True))
    answer.close()


def read(path: Path) -> Records:
    """Return the records of a result file by type; the last of each counts."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return {line["model_type"]: line for line in lines}


def missing(record: Record | None, methods: dict[str, str]) -> dict[str, str]:
    """Return the methods that have not been tried on a type; none for one that cannot be tried at all."""
    if record is None:
        return methods
    if record.get("why"):
        return {}
    return {name: config for name, config in methods.items() if name not in record["methods"]}


def chosen(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield types and what to try on each: those named with everything, else what has no record yet."""
    known = model_types()
    methods = METHODS
    if arguments.methods:
        names = arguments.methods.split(",")
        if unknown := [name for name in names if name not in METHODS]:
            raise SystemExit(f"Unknown method {unknown[0]!r}; there are: {', '.join(METHODS)}.")
        methods = {name: METHODS[name] for name in names}
    if arguments.types:
        names = arguments.types.split(",")
        if unknown := [name for name in names if name not in known]:
            raise SystemExit(f"Unknown model type {unknown[0]!r} in transformers.")
        yield from ((name, methods) for name in names)
        return
    done = {} if arguments.fresh else read(arguments.out)
    for name in known:
        if left := missing(done.get(name), methods):
            yield name, left


def run(tasks: list[tuple[str, dict[str, str]]], out: Path, seconds: float) -> None:
    """Try what *tasks* say and append one line each to *out*."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    import benchmarks.census_trial  # noqa: F401  (the children inherit what is imported)

    out.parent.mkdir(parents=True, exist_ok=True)
    done = read(out)
    columns = (
        TextColumn("{task.description:32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, out.open("a") as lines:
        task = progress.add_task("", total=len(tasks))
        for model_type, methods in tasks:
            progress.update(task, description=model_type)
            record = try_in_process(model_type, methods, seconds)
            before = done.get(model_type, {}).get("methods", {})
            record["methods"] = {**before, **record["methods"]}
            record.update(versions())
            lines.write(json.dumps(record) + "\n")
            lines.flush()
            progress.advance(task)


def main(argv: list[str] | None = None) -> None:
    """Run the census and print and write its report."""
    parser = argparse.ArgumentParser(description="Which model types take which methods.")
    parser.add_argument("--types", help="comma-separated; default: all without a record")
    parser.add_argument("--methods", help="comma-separated; default: all")
    parser.add_argument(
        "--out", type=Path, help=f"default: {FOLDER}/VERSION.jsonl, by the version of transformers"
    )
    parser.add_argument("--fresh", action="store_true", help="begin again")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a type")
    parser.add_argument("--report", type=Path, help="write the matrix as Markdown")
    parser.add_argument(
        "--records", type=Path, nargs="+", help=f"for the report; default: --out and {FOLDER}/*"
    )
    parser.add_argument("--no-run", action="store_true", help="only report")
    arguments = parser.parse_args(argv)
    if arguments.out is None:
        arguments.out = FOLDER / f"{versions()['transformers']}.jsonl"
    if arguments.fresh and not arguments.no_run:
        arguments.out.unlink(missing_ok=True)
    if not arguments.no_run:
        run(list(chosen(arguments)), arguments.out, arguments.timeout)
    from benchmarks.census_report import markdown, summary

    print(summary(read(arguments.out), list(METHODS)))
    if arguments.report:
        files = arguments.records or dict.fromkeys([arguments.out, *sorted(FOLDER.glob("*.jsonl"))])
        arguments.report.write_text(markdown([read(file) for file in files], list(METHODS)))
        print(f"Matrix written to {arguments.report}.")


if __name__ == "__main__":
    main()
