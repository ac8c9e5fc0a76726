"""Finding adapters by words, with typing errors forgiven, and by exact properties.

Every word of the question must be found somewhere in an adapter's texts; where (its task counts
more than its description) and how well (the word itself, its beginning, a part of it, a near
spelling) decides the order; :mod:`adapterhub.hub.wordindex` does the comparing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.confighash import same_method
from adapterhub.hub.entries import Entry
from adapterhub.hub.languages import language_code, language_name


def texts(catalogue: Catalogue, entry: Entry) -> list[tuple[float, str]]:
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


class EntryIndex:
    """The words of some adapters, taken apart once for any number of questions.

    Args:
        catalogue: where their tasks and subtasks are described.
        entries: the adapters.
    """

    def __init__(self, catalogue: Catalogue, entries: Iterable[Entry]) -> None:
        from adapterhub.hub.wordindex import WordIndex, weighted_words  # numpy takes time to import

        # In the order that breaks ties: files are here, marked as default, then the identifier.
        self._entries = sorted(
            entries, key=lambda e: (not e.available, not e.card.default, e.identifier)
        )
        self._index = WordIndex()
        for slot, entry in enumerate(self._entries):
            self._index.put(slot, weighted_words(texts(catalogue, entry)))

    def rank(self, query: str) -> list[Entry]:
        """Return the adapters that contain every word of *query*, best first."""
        import numpy as np

        scores, alive = self._index.scores(query, np.ones(len(self._entries), np.bool_))
        found = np.flatnonzero(alive)
        return [self._entries[slot] for slot in found[np.argsort(-scores[found], kind="stable")]]


def rank(catalogue: Catalogue, entries: Iterable[Entry], query: str) -> list[Entry]:
    """Return those of *entries* that contain every word of *query*; see :meth:`EntryIndex.rank`."""
    return EntryIndex(catalogue, entries).rank(query)


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
