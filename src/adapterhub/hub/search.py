"""Finding adapters by words, with typing errors forgiven, and by exact properties.

Every word of the question must be found somewhere in an adapter's texts; where (its task counts
more than its description) and how well (the word itself, its beginning, a part of it, a near
spelling) decides the order. A few thousand cards need no index structure: each distinct word of
the hub is compared once per word of the question.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable

from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.confighash import same_method
from adapterhub.hub.entries import Entry
from adapterhub.hub.languages import language_code, language_name

_WORD = re.compile(r"[^\W_]+")
_NAME = re.compile(r"[^\s/@_,;:()\"']+")


def words(text: str) -> set[str]:
    """Return the words of *text*: whole names such as ``sst-2`` and their parts ``sst``, ``2``."""
    folded = text.casefold()
    names = {name.strip(".-+!?*`") for name in _NAME.findall(folded)}
    return {word for word in names | set(_WORD.findall(folded)) if word}


def edit_distance(one: str, other: str, limit: int) -> int:
    """Count the insertions, deletions, changes and swaps of neighbours that turn one into other.

    Stops early: any distance above *limit* is returned as ``limit + 1``.
    """
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, right in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if last and i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)


def likeness(query: str, word: str) -> float:
    """Return how much of *word* the query word is, from 0 (not in it) to 1 (the same)."""
    if query == word:
        return 1.0
    if len(query) >= 2 and word.startswith(query):
        return 0.8
    return 0.6 if len(query) >= 3 and query in word else 0.0


def misspelt(query: str, word: str) -> float:
    """Return 0.5 if the query word may be *word* with a typing error, else 0."""
    # Short words and those with digits mean something else with one letter changed (sst-2, sst-5).
    if len(query) < 4 or any(char.isdigit() for char in query):
        return 0.0
    limit = 1 if len(query) < 8 else 2
    return 0.5 if edit_distance(query, word, limit) <= limit else 0.0


def _texts(catalogue: Catalogue, entry: Entry) -> list[tuple[float, str]]:
    """Return the searchable texts of an adapter with their weights."""
    card = entry.card
    task = catalogue.tasks.get((card.type, card.task))
    subtask = catalogue.subtasks.get((card.type, card.task, card.subtask))
    languages = " ".join(f"{code} {language_name(code)}" for code in entry.languages)
    return [
        (10.0, f"{card.task} {card.subtask}"),
        (8.0, f"{task.displayname if task else ''} {subtask.displayname if subtask else ''}"),
        (6.0, languages),
        (6.0, f"{card.stem} {card.model_name}"),
        (5.0, f"{card.using} {entry.method} {card.owner}"),
        (3.0, f"{card.description} {card.author} {card.model_type}"),
        (1.0, f"{task.description if task else ''} {subtask.description if subtask else ''}"),
    ]


class WordIndex:
    """The words of some adapters, taken apart once for any number of questions.

    Args:
        catalogue: where their tasks and subtasks are described.
        entries: the adapters.
    """

    def __init__(self, catalogue: Catalogue, entries: Iterable[Entry]) -> None:
        self._entries = list(entries)
        self._weights: list[dict[str, float]] = []
        self._holders: dict[str, list[int]] = defaultdict(list)
        for index, entry in enumerate(self._entries):
            found: dict[str, float] = {}
            for weight, text in _texts(catalogue, entry):
                for word in words(text):
                    found[word] = max(found.get(word, 0.0), weight)
            self._weights.append(found)
            for word in found:
                self._holders[word].append(index)

    def rank(self, query: str) -> list[Entry]:
        """Return the adapters that contain every word of *query*, best first.

        Ties are broken by: files are here, marked as default, then the identifier.
        """
        scores = [0.0] * len(self._entries)
        alive = set(range(len(self._entries)))
        # Split at blanks and slashes only, so that sst-2 stays one word of the question.
        for query_word in [part for part in re.split(r"[\s/@,]+", query.casefold()) if part]:
            best = self._best(query_word)
            alive &= best.keys()
            for index in alive:
                scores[index] += best[index]

        def order(index: int) -> tuple[float, bool, bool, str]:
            entry = self._entries[index]
            return (-scores[index], not entry.available, not entry.card.default, entry.identifier)

        return [self._entries[index] for index in sorted(alive, key=order)]

    def _best(self, query_word: str) -> dict[int, float]:
        """Return how well each adapter that has the word has it."""
        best: dict[int, float] = {}
        # A typing error is assumed only if the word as typed is nowhere: "bart" is not "bert".
        for measure in (likeness, misspelt):
            for word, indices in self._holders.items():
                quality = measure(query_word, word)
                for index in indices if quality else ():
                    best[index] = max(best.get(index, 0.0), quality * self._weights[index][word])
            if best:
                break
        return best


def rank(catalogue: Catalogue, entries: Iterable[Entry], query: str) -> list[Entry]:
    """Return those of *entries* that contain every word of *query*; see :meth:`WordIndex.rank`."""
    return WordIndex(catalogue, entries).rank(query)


def filters(
    task: str | None,
    language: str | None,
    base_model: str | None,
    architecture: str | None,
    owner: str | None,
) -> list[Callable[[Entry], bool]]:
    """Return one test per given property; see :meth:`adapterhub.hub.Hub.search`."""
    tests: list[Callable[[Entry], bool]] = []
    if task is not None:
        wanted = task.casefold()
        tests.append(lambda e: wanted in _task_names(e))
    if language is not None:
        code = language_code(language)
        tests.append(lambda e: any(_is_language(code, have) for have in e.languages))
    if base_model is not None:
        tests.append(lambda e: is_model(base_model, e.card.model_name))
    if architecture is not None:
        name = architecture
        tests.append(lambda e: is_architecture(name, e))
    if owner is not None:
        person = owner.removeprefix("@").casefold()
        tests.append(lambda e: e.card.owner.casefold() == person)
    return tests


def _task_names(entry: Entry) -> set[str]:
    task, subtask = entry.card.task.casefold(), entry.card.subtask.casefold()
    return {task, subtask, f"{task}/{subtask}"}


def _is_language(wanted: str, have: str) -> bool:
    return have == wanted or have.startswith(wanted + "-") or language_code(have) == wanted


def is_model(wanted: str, have: str) -> bool:
    """Tell whether a base model is meant: its full id, or the part after the slash, in any case."""
    wanted, have = wanted.casefold(), have.casefold()
    return have == wanted or ("/" not in wanted and have.rpartition("/")[2] == wanted)


def is_architecture(wanted: str, entry: Entry) -> bool:
    """Tell whether an architecture name, method name or configuration hash means *entry*."""
    # The method stands in for a name only where the card names no architecture of the hub.
    own = entry.card.values is not None
    names = (entry.card.using, entry.method) if own else (entry.card.using,)
    return any(same_method(wanted, name) for name in names) or wanted in entry.hashes
