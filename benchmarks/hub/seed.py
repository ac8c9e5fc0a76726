"""Synthetic adapters in a store: made by rule, the same every time, as many as wanted.

Rows are written as a push would leave them: what the checks say about the files is what the real checks
say, and the facts follow from that; only the way through HTTP is left out.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from adapterhub.configs import parse_config_string
from adapterhub.hub.languages import NAMES
from adapterhub.hub.live import cardrows
from adapterhub.hub.store.blobs import FolderBlobs
from adapterhub.hub.store.database import Database
from adapterhub.hub.store.models import (
    Account,
    Blob,
    Check,
    Commit,
    File,
    Reference,
    Repo,
    RepoTag,
    utcnow,
)
from adapterhub.hub.verify import adapter as whole
from adapterhub.hub.verify import facts
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.results import Result

_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu bra cle dri flo gru"
_MODELS = (
    "bert-base-uncased bert-base-cased roberta-base roberta-large xlm-roberta-base gpt2 t5-small "
    "distilbert-base-uncased facebook/bart-base albert-base-v2 google/electra-base-discriminator "
    "microsoft/deberta-v3-base meta-llama/Llama-3.2-1B mistralai/Mistral-7B-v0.3 Qwen/Qwen2.5-0.5B"
)
_TASKS = (
    "sentiment nli ner pos chunk qa summarization translation paraphrase similarity toxicity emotion "
    "topic intent dialogue coreference parsing argument stance sarcasm spam readability entailment"
)
_METHODS = ("seq_bn", "double_seq_bn", "par_bn", "lora[r=8]", "lora[r=16]", "ia3", "prefix_tuning")
_RANKS = (4, 8, 16, 32, 64)
_LICENSES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "bsd-3-clause", None)
_METRICS = ("accuracy", "f1", "matthews", "rouge", "bleu")


def _weights(rank: int) -> bytes:
    shape = [rank, 16]
    names = [f"base.layer.{i}.q.{part}.weight" for i in range(2) for part in ("lora_A", "lora_B")]
    size = 4 * rank * 16
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [i * size, (i + 1) * size]}
        for i, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", 0.5) * (rank * 16 * len(names))


@dataclass
class World:
    """What adapters are drawn from."""

    chance: random.Random
    words: list[str]
    tasks: list[str]
    datasets: dict[str, list[str]]
    models: list[str]
    owners: list[str]
    configs: dict[str, dict[str, Any]]
    languages: list[str] = field(default_factory=lambda: sorted(NAMES)[:60])


def make_world(seed: int, adapters: int) -> World:
    """Return a world for so many adapters: names of tasks, data sets, models and people."""
    chance = random.Random(seed)
    words = sorted(
        {"".join(chance.choices(_SYLLABLES.split(), k=chance.randint(2, 4))) for _ in range(6000)}
    )
    chance.shuffle(words)
    tasks = _TASKS.split() + words[: max(0, min(40, adapters // 250))]
    names = iter(words[100:])
    datasets = {
        task: [f"{next(names)}-{chance.randint(1, 9)}" for _ in range(chance.randint(3, 12))]
        for task in tasks
    }
    models = _MODELS.split() + [f"{next(names)}/{next(names)}-base" for _ in range(45)]
    owners = [f"{next(names)}{i}" for i in range(max(10, adapters // 12))]
    configs = {name: parse_config_string(name).to_dict() for name in _METHODS}
    return World(chance, words, tasks, datasets, models, owners, configs)


def _skewed(chance: random.Random, items: list[str]) -> str:
    """Draw so that the first ones come often, as names of tasks and models do."""
    return items[min(int(chance.paretovariate(0.7)) - 1, chance.randrange(len(items)))]


@dataclass
class Synthetic:
    """One adapter: where it goes and its files."""

    owner: str
    name: str
    private: bool
    gated: bool
    held: bool
    downloads: int
    files: dict[str, bytes]


def adapters(world: World, number: int) -> Iterator[Synthetic]:
    """Yield so many adapters."""
    chance = world.chance
    for index in range(number):
        task = _skewed(chance, world.tasks)
        dataset = chance.choice(world.datasets[task])
        model = _skewed(chance, world.models)
        peft = chance.random() < 0.4
        rank = chance.choice(_RANKS)
        method = f"lora-r{rank}" if peft else chance.choice(_METHODS)
        files = _files(world, task, dataset, model, method, rank, peft)
        short = model.rpartition("/")[2]
        plain = method.replace("[", "-").replace("=", "").replace("]", "")
        held = chance.random() < 0.02
        if held:
            files = {"README.md": files["README.md"]}
        yield Synthetic(
            owner=_skewed(chance, world.owners),
            name=f"{short}-{dataset}-{plain}-{index}",
            private=chance.random() < 0.1,
            gated=chance.random() < 0.03,
            held=held,
            downloads=int(chance.paretovariate(0.8)),
            files=files,
        )


def _files(
    world: World, task: str, dataset: str, model: str, method: str, rank: int, peft: bool
) -> dict[str, bytes]:
    chance = world.chance
    if peft:
        info: dict[str, Any] = {
            "peft_type": "LORA",
            "base_model_name_or_path": model,
            "r": rank,
            "lora_alpha": 2 * rank,
            "task_type": "SEQ_CLS",
        }
        weights = "adapter_model.safetensors"
    else:
        config = world.configs[method]
        info = {
            "config": config,
            "hidden_size": 768,
            "model_class": "BertAdapterModel",
            "model_name": model,
            "model_type": "bert",
            "name": task,
            "version": "adapters.1.3.0",
        }
        rank = config.get("r") or 8
        weights = "adapter.safetensors"
    license_ = chance.choice(_LICENSES)
    about = " ".join(chance.choices(world.words, k=25)).capitalize()
    metric, value = chance.choice(_METRICS), round(chance.uniform(0.4, 0.97), 4)
    front = [
        f"tags: ['adapterhub:{task}/{dataset}']",
        f"language: [{', '.join(chance.sample(world.languages, chance.choice((1, 1, 1, 2))))}]",
        *([f"license: {license_}"] if license_ else []),
        "model-index:",
        f"- name: {task}",
        "  results:",
        f"  - task: {{type: text-classification}}\n    dataset: {{name: {dataset}, type: {dataset}, "
        f"split: test}}\n    metrics: [{{type: {metric}, value: {value}}}]",
    ]
    card = "---\n" + "\n".join(front) + f"\n---\n# {dataset} for {model}\n\n{about}.\n"
    return {
        "adapter_config.json": json.dumps(info).encode(),
        weights: _weights(rank),
        "README.md": card.encode(),
    }


def cards(world: World) -> dict[str, dict[str, Any]]:
    """Return cards of the tasks and data sets, so that they have names and descriptions."""
    found: dict[str, dict[str, Any]] = {}
    for task in world.tasks:
        about = " ".join(world.chance.choices(world.words, k=12)).capitalize() + "."
        found[f"tasks/text_task/{task}.yaml"] = {
            "task": task,
            "displayname": task.capitalize(),
            "description": about,
        }
        for dataset in world.datasets[task]:
            found[f"subtasks/text_task/{task}_{dataset}.yaml"] = {
                "task": task,
                "subtask": dataset,
                "displayname": dataset.capitalize(),
                "description": about,
                "metric": {"name": "accuracy", "higher_is_better": True},
            }
    return found


class Writer:
    """Writes adapters into a store, a few hundred in one transaction."""

    def __init__(self, database: Database, blobs: Path, staging: Path) -> None:
        self._database, self._home = database, FolderBlobs(blobs)
        self._staging = staging
        self._owners: dict[str, int] = {}
        self._results: dict[tuple[str, str], dict[str, Result]] = {}
        self._stored: dict[bytes, tuple[str, str]] = {}
        self._began = utcnow() - timedelta(days=700)

    def write(self, world: World, number: int) -> None:
        """Write so many adapters, and the cards."""
        with self._database.write() as session:
            cardrows.replace(session, cards(world))
        batch: list[Synthetic] = []
        count = 0
        for item in adapters(world, number):
            batch.append(item)
            if len(batch) == 500:
                count = self._write(batch, count)
                batch = []
        self._write(batch, count)

    def _write(self, batch: list[Synthetic], count: int) -> int:
        with self._database.write() as session:
            rows: dict[type, list[dict[str, Any]]] = {
                model: [] for model in (Blob, Repo, Commit, File, Reference, Check, RepoTag)
            }
            for item in batch:
                count += 1
                self._rows(session, item, count, rows)
            for model, found in rows.items():
                if found:
                    session.execute(insert(model), found)
        return count

    def _rows(
        self, session: Session, item: Synthetic, number: int, rows: dict[type, list[dict[str, Any]]]
    ) -> None:
        owner = self._owner(session, item.owner)
        when = self._began + timedelta(minutes=100 * number)
        commit = hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()
        hashes = {path: self._store(data, path, rows[Blob]) for path, data in item.files.items()}
        found = {path: self._results[sha256, path] for path, (sha256, _) in hashes.items()}
        learnt = facts.derive(found, sum(len(data) for data in item.files.values()))
        status = "held" if item.held else "verified"
        shared = {"created": when, "facts": learnt}
        rows[Repo].append(
            {
                "id": number,
                "owner_id": owner,
                "name": item.name,
                "key": item.name.casefold(),
                "private": item.private,
                "gated": "manual" if item.gated else None,
                "modified": when,
                "downloads": item.downloads,
                "published_id": None if item.held else commit,
                **shared,
            }
        )
        rows[Commit].append(
            {
                "id": commit,
                "number": 2,
                "repo_id": number,
                "reference_id": number,
                "author": item.owner,
                "title": "Publish an adapter",
                "status": status,
                **shared,
            }
        )
        rows[Reference].append(
            {
                "id": number,
                "repo_id": number,
                "kind": "branch",
                "name": "main",
                "commit_id": commit,
                "published_id": None if item.held else commit,
            }
        )
        results = {**found, "": {"adapter": whole.check_set(found)}}
        for path, checks in results.items():
            sha256, oid = hashes.get(path, ("", ""))
            if path:
                size = len(item.files[path])
                rows[File].append(
                    {
                        "commit_id": commit,
                        "path": path,
                        "sha256": sha256,
                        "size": size,
                        "git_oid": oid,
                        "lfs": path.endswith(".safetensors"),
                    }
                )
            rows[Check] += [
                {
                    "commit_id": commit,
                    "path": path,
                    "sha256": sha256,
                    "name": check.name,
                    "version": check.version,
                    "outcome": check.outcome,
                    "message": check.message,
                    "data": check.data,
                }
                for check in checks.values()
            ]
        if not item.held:
            rows[RepoTag] += [
                {"repo_id": number, "tag": tag, "position": place}
                for place, tag in enumerate(learnt["tags"])
            ]

    def _owner(self, session: Session, name: str) -> int:
        if name not in self._owners:
            account = Account(name=name, key=name.casefold(), kind="user", fullname=name.title())
            session.add(account)
            session.flush()
            self._owners[name] = account.id
        return self._owners[name]

    def _store(self, data: bytes, path: str, blobs: list[dict[str, Any]]) -> tuple[str, str]:
        known = self._stored.get(data)
        if known is None:
            sha256 = hashlib.sha256(data).hexdigest()
            header = b"blob %d\0" % len(data)
            oid = hashlib.sha1(header + data, usedforsecurity=False).hexdigest()
            known = self._stored[data] = (sha256, oid)
            target = self._home.path(sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            blobs.append({"sha256": sha256, "size": len(data), "git_oid": oid, "state": "live"})
        if (known[0], path) not in self._results:
            results = examine(self._home.path(known[0]), path)
            self._results[known[0], path] = {result.name: result for result in results}
        return known


def fill(database: Database, blobs: Path, number: int, seed: int = 0) -> World:
    """Put *number* synthetic adapters into an empty store; return what they were drawn from."""
    world = make_world(seed, number)
    Writer(database, blobs, blobs).write(world, number)
    return make_world(seed, number)


def describe(world: World) -> Mapping[str, int]:
    """Return how many names of each kind there are."""
    return {
        "tasks": len(world.tasks),
        "data sets": sum(map(len, world.datasets.values())),
        "base models": len(world.models),
        "publishers": len(world.owners),
        "languages": len(world.languages),
    }
