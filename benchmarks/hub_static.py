"""Builds the pages of a large hub, and looks at what a browser fetches of them.

    python -m benchmarks.hub_static --adapters 10000

The adapters are made up (cards and small files, the same every time). Bytes are given as they lie on the
disk and as gzip, which every web host sends. Writes ``benchmarks/results/hub_static.json``.
"""

from __future__ import annotations

import argparse
import gzip
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub.browser import Browser, find_chromium, serving
from tests.hub.conftest import LORA, SEQ_BN, make_adapter

from adapterhub.hub import Hub, cardfile
from adapterhub.hub.cards import Member, manifest_sha256
from adapterhub.hub.copies.choose import mirror
from adapterhub.hub.static import build_site
from adapterhub.hub.storage import blob_path, file_sha256
from benchmarks.hub_setups import machine, write

RESULT = Path(__file__).parent / "results" / "hub_static.json"
_TASKS = ("sentiment", "nli", "qa", "ner", "pos", "sts", "topic", "toxicity", "chunk", "parsing")
_MODELS = ("bert-base-uncased", "roberta-base", "xlm-roberta-base", "gpt2", "facebook/bart-base")
_OWNERS = 200
_SETS = 40
_LANGUAGES = ("en", "de", "fr", "sw", "tr", "zh", "ar", "hi", "fi", "et")
_LICENCES = ("MIT", "Apache-2.0", "CC-BY-4.0", None)
_VERBS = ("tells", "finds", "marks", "sorts", "scores", "tags", "ranks", "reads")
_NOUNS = ("reviews", "news", "tweets", "questions", "answers", "claims", "tables", "dialogues")
SEARCHES = ("?q=sentiment", "?q=bert+german", "?q=robreta", "?task=nli&sort=recent", "?q=a1234")


def fill(hub: Hub, folder: Path, count: int) -> None:
    """Write *count* cards; ten different sets of files are shared by them."""
    chance = random.Random(7)
    kinds = []
    for number in range(10):
        config = LORA if number % 2 else SEQ_BN
        made = make_adapter(folder / str(number), config=config, weights=(1.0,) * (50 + number))
        members = []
        for path in sorted(made.iterdir()):
            sha256, size = file_sha256(path)
            target = blob_path(hub.path, sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            members.append(Member(path.name, size, sha256))
        kinds.append((dict(config), members))
    for task in _TASKS:
        (hub.path / "tasks/text_task").mkdir(parents=True, exist_ok=True)
        (hub.path / "subtasks/text_task").mkdir(parents=True, exist_ok=True)
        card = {"task": task, "displayname": task.title(), "description": f"All about {task}."}
        (hub.path / f"tasks/text_task/{task}.yaml").write_bytes(cardfile.dumps(card))
        for number in range(_SETS):
            name = f"{task}-{number}"
            card = {"task": task, "subtask": name, "description": f"Data set {number} of {task}."}
            place = hub.path / f"subtasks/text_task/{task}_{name}.yaml"
            place.write_bytes(cardfile.dumps(card))
    for number in range(count):
        config, members = kinds[number % 10]
        task, owner = chance.choice(_TASKS), f"owner{chance.randrange(_OWNERS)}"
        card: dict[str, Any] = {
            "type": "text_task",
            "task": task,
            "subtask": f"{task}-{chance.randrange(_SETS)}",
            "model_type": "bert",
            "model_name": chance.choice(_MODELS),
            "config": {"using": "lora" if number % 2 else "seq_bn", "values": config},
            "author": owner.title(),
            "license": chance.choice(_LICENCES),
            "language": [chance.choice(_LANGUAGES)],
            "description": f"It {chance.choice(_VERBS)} {chance.choice(_NOUNS)} number {number}.",
            "default_version": "1",
            "files": [
                {
                    "version": "1",
                    "sha256": manifest_sha256(members),
                    "published": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T12:00:00Z",
                    "parameters": 50 + number % 10,
                    "metrics": {"accuracy": round(chance.random(), 3)},
                    "members": [member.to_json() for member in members],
                }
            ],
        }
        path = hub.path / f"adapters/{owner}/a{number}-{card['subtask']}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {key: value for key, value in card.items() if value is not None}
        path.write_bytes(cardfile.dumps(kept))


def sizes(root: Path, names: list[str]) -> dict[str, int]:
    """Return how many bytes these files have together, as they are and as gzip."""
    found = [(root / name).read_bytes() for name in names]
    packed = [min(len(gzip.compress(data)), len(data)) for data in found]
    return {"files": len(names), "bytes": sum(map(len, found)), "gzip": sum(packed)}


def page_sizes(root: Path) -> dict[str, Any]:
    """Return the largest page of each kind with all that it fetches by itself."""
    assets = [p.relative_to(root).as_posix() for p in sorted((root / "assets").iterdir())]
    shared = [name for name in assets if not name.split("/")[1].startswith(("search.", "account"))]
    largest: dict[str, tuple[int, str]] = {}
    for path in root.rglob("index.html"):
        name = path.relative_to(root).as_posix()
        kind = name.split("/")[0] if "/" in name else "home"
        depth = name.count("/")
        kind = f"{kind}/{depth}" if kind == "adapters" else kind
        largest[kind] = max(largest.get(kind, (0, "")), (path.stat().st_size, name))
    return {
        kind: {"page": name, **sizes(root, [name, *shared])}
        for kind, (_, name) in sorted(largest.items())
    }


def searched(root: Path, profile: Path) -> dict[str, Any]:
    """Return what a real browser fetches for some searches, each in a fresh page with an empty cache."""
    command = find_chromium()
    if command is None:
        return {}
    found = {}
    with serving(root) as url:
        for query in ("", *SEARCHES):
            browser = Browser(command, profile / str(len(found)))
            try:
                browser.look()
                began = time.monotonic()
                browser.open(f"{url}search/{query}")
                browser.wait("document.getElementById('search').getAttribute('data-ready')", 120)
                seconds = time.monotonic() - began
                names = browser.run(
                    "performance.getEntriesByType('resource').map(e => new URL(e.name).pathname)"
                )
                total = browser.run("document.getElementById('total').textContent")
            finally:
                browser.close()
            paths = [unquote(urlsplit(name).path).lstrip("/") for name in names]
            found[query or "(none)"] = {
                "results": total,
                "seconds_until_drawn": round(seconds, 2),
                **sizes(root, ["search/index.html", *dict.fromkeys(paths)]),
            }
    return found


def cpu() -> float:
    """Return the seconds of processor time that this process has had."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(action: Any) -> tuple[Any, dict[str, float]]:
    """Call *action*; return what it gives, and the seconds that it took, by the clock and of processor."""
    began, used = time.monotonic(), cpu()
    result = action()
    taken = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(cpu() - used, 1)}
    return result, taken


def main() -> None:
    """Run everything and write the record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--adapters", type=int, default=10_000)
    count = parser.parse_args().adapters
    with tempfile.TemporaryDirectory(prefix="adapterhub-") as name:
        folder = Path(name)
        hub = Hub.init(folder / "hub", name="Large")
        fill(hub, folder, count)
        site = folder / "site"
        built, first = timed(lambda: build_site(hub, site))
        parts = [p for p in (site / "search-index").rglob("*") if p.is_file()]
        record: dict[str, Any] = {
            "command": f"python -m benchmarks.hub_static --adapters {count}",
            "machine": machine(),
            "adapters": count,
            "build": {"pages": built.pages, "files": len(built.files), **first, "dead_links": 0},
            "largest_html": {"bytes": built.largest[0], "page": built.largest[1]},
            "pages_with_all_they_fetch": page_sizes(site),
            "search_index": {
                "head_bytes": (site / "search-index.json").stat().st_size,
                "parts": len(parts),
                "largest_part_bytes": max((p.stat().st_size for p in parts), default=0),
                "all_parts_bytes": sum(p.stat().st_size for p in parts),
            },
            "searches_in_a_browser": searched(site, folder),
        }
        write(RESULT, record)  # what follows takes long, too
        with serving(site) as url:
            (copied, _), record["mirror"] = timed(lambda: mirror(url, folder / "mirror"))
            (same, _), nothing = timed(lambda: mirror(url, folder / "mirror"))
        assert not copied.refused
        assert not same.changed
        record["mirror"] |= {"cards": len(copied.added), "files": copied.files}
        record["mirror_again_does_nothing"] = nothing
        write(RESULT, record)
        again, record["build_again_writes_nothing"] = timed(lambda: build_site(Hub(hub.path), site))
        assert (again.written, again.removed) == (0, 0)
        write(RESULT, record)


if __name__ == "__main__":
    main()
