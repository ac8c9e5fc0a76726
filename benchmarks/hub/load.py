"""Requests from several clients at once, and how long each took to its first byte and to its last."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

from benchmarks.hub.seed import World

PAGE = {"Accept": "text/html", "Accept-Encoding": "gzip"}


@dataclass
class Times:
    """Milliseconds of one kind of request."""

    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """Return the percentiles; sizes in bytes as transferred."""
        found: dict[str, float] = {"requests": len(self.total), "largest": max(self.sizes)}
        for name, values in (("first_byte", self.first), ("total", self.total)):
            for percent in (50, 95, 99):
                found[f"{name}_p{percent}_ms"] = round(percentile(values, percent), 1)
        return found


def percentile(values: list[float], percent: float) -> float:
    """Return the smallest value that so many per cent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


Question = tuple[str, str, Mapping[str, str]]


class Questions:
    """Draws what to ask: a kind, an address, headers."""

    def __init__(self, world: World, adapters: list[tuple[str, str]], seed: int) -> None:
        self._world, self._adapters = world, adapters
        self._chance = random.Random(seed)
        self._kinds: dict[str, Callable[[], str]] = {
            "search: words": self._words,
            "search: misspelt": self._misspelt,
            "search: facets": self._facets,
            "search: words and facets": lambda: self._facets(self._text()),
            "search: part of a word": lambda: self._search([("q", self._text()[:4])]),
            "search: as JSON": lambda: self._words().replace("/search/", "/search/index.json"),
            "API: search": lambda: (
                f"/api/models?{urlencode({'search': self._text(), 'limit': 25})}"
            ),
            "API: filter": self._filter,
            "page: home": lambda: "/",
            "page: explore": lambda: "/explore/",
            "page: task": lambda: f"/tasks/text_task/{self._task()}/",
            "page: data set": self._dataset,
            "page: languages": lambda: "/languages/",
            "page: language": lambda: f"/languages/{self._chance.choice(world.languages)}/",
            "page: base models": lambda: "/models/",
            "page: base model": lambda: f"/models/{self._chance.choice(world.models[:15])}/",
            "page: publishers": lambda: "/people/",
            "page: publisher": lambda: f"/people/{self._adapter()[0]}/",
            "page: list of all": lambda: f"/adapters/page-{self._chance.randint(2, 90)}/",
            "page: adapter": lambda: f"/adapters/{'/'.join(self._adapter())}/",
            "page: versions": lambda: f"/adapters/{'/'.join(self._adapter())}/versions/",
            "page: files": lambda: f"/adapters/{'/'.join(self._adapter())}/files/",
            "page: compare": self._compare,
            "page: about": lambda: "/about/",
        }

    @property
    def kinds(self) -> list[str]:
        """What can be asked."""
        return list(self._kinds)

    def draw(self, kind: str) -> Question:
        """Return a question of a kind."""
        return kind, self._kinds[kind](), PAGE

    def _adapter(self) -> tuple[str, str]:
        return self._chance.choice(self._adapters)

    def _task(self) -> str:
        return self._chance.choice(self._world.tasks[:20])

    def _text(self) -> str:
        task = self._task()
        pool = [task, self._chance.choice(self._world.datasets[task])]
        pool += [self._chance.choice(self._world.models).rpartition("/")[2]]
        pool += [self._chance.choice(self._world.words)]
        return " ".join(self._chance.sample(pool, self._chance.choice((1, 1, 2))))

    def _search(self, pairs: list[tuple[str, str]]) -> str:
        return f"/search/?{urlencode(pairs)}"

    def _words(self) -> str:
        return self._search([("q", self._text())])

    def _misspelt(self) -> str:
        word = self._chance.choice([word for word in self._world.words[:3000] if len(word) > 5])
        at = self._chance.randrange(1, len(word) - 2)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return self._search([("q", swapped)])

    def _facets(self, words: str = "") -> str:
        chance, pairs = self._chance, [("q", words)] if words else []
        values = {
            "task": self._task(),
            "model": chance.choice(self._world.models[:15]),
            "language": chance.choice(self._world.languages),
            "format": chance.choice(("peft", "adapterhub")),
            "rank": str(chance.choice((4, 8, 16))),
            "license": chance.choice(("MIT", "Apache-2.0")),
        }
        pairs += [(k, values[k]) for k in chance.sample(list(values), chance.choice((1, 1, 2, 3)))]
        pairs.append(("sort", chance.choice(("recent", "score", "downloads", "small", "name"))))
        if chance.random() < 0.3:
            pairs.append(("page", "2"))
        return self._search(pairs)

    def _filter(self) -> str:
        tag = f"base_model:{self._chance.choice(self._world.models[:15])}"
        return f"/api/models?{urlencode({'filter': tag, 'limit': 25, 'sort': 'downloads'})}"

    def _dataset(self) -> str:
        task = self._task()
        return f"/tasks/text_task/{task}/{quote(self._chance.choice(self._world.datasets[task]))}/"

    def _compare(self) -> str:
        chosen = [("a", f"@{'/'.join(self._adapter())}") for _ in range(2)]
        return f"/compare/?{urlencode(chosen)}"


def ask(url: str, questions: list[Question], clients: int) -> dict[str, Times]:
    """Ask all questions, *clients* at a time, each over a connection of its own.

    Raises:
        RuntimeError: If an answer is not 200 (or 404 for a page of something that has no adapter).
    """
    parts = urlsplit(url)
    times: dict[str, Times] = defaultdict(Times)
    waiting, lock, errors = list(reversed(questions)), threading.Lock(), []

    def work() -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        while True:
            with lock:
                if not waiting or errors:
                    break
                kind, path, headers = waiting.pop()
            began = time.perf_counter()
            connection.request("GET", path, headers=dict(headers))
            response = connection.getresponse()
            first = time.perf_counter() - began
            body = response.read()
            total = time.perf_counter() - began
            with lock:
                if response.status not in (200, 404):
                    errors.append(f"{path}: {response.status} {body[:200]!r}")
                times[kind].first.append(first * 1000)
                times[kind].total.append(total * 1000)
                times[kind].sizes.append(len(body))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise RuntimeError(errors[0])
    return dict(times)
