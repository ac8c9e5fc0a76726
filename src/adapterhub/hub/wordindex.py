"""Which documents have a word, exactly or nearly: the index behind every search of this package.

Each document is a number (a *slot*) with weighted words. A word of a question is compared with the
distinct words of all documents, not with the documents: as it is, as the beginning or a part of one,
and only where that finds nothing, as a misspelling. Documents come and go one at a time, at the cost
of their own words.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+")
_NAME = re.compile(r"[^\s/@_,;:()\"']+")
#: Words of a question that are looked at; each costs time.
MAX_WORDS = 12
_MAX_WORD = 60
_FEW = 12
_KEPT_SPELLINGS = 500

Mask = NDArray[np.bool_]
Scores = NDArray[np.float64]


@lru_cache(maxsize=10_000)  # names of tasks, models and people come again and again
def words(text: str) -> frozenset[str]:
    """Return the words of *text*: whole names such as ``sst-2`` and their parts ``sst``, ``2``."""
    folded = text.casefold()
    names = {name.strip(".-+!?*`") for name in _NAME.findall(folded)}
    return frozenset(word for word in names | set(_WORD.findall(folded)) if word)


def weighted_words(texts: Iterable[tuple[float, str]]) -> dict[str, float]:
    """Return each word of some texts with the largest weight of a text that has it."""
    found: dict[str, float] = {}
    for weight, text in texts:
        for word in words(text):
            if found.get(word, 0.0) < weight:
                found[word] = weight
    return found


def question_words(query: str) -> list[str]:
    """Return the words of a question; split at blanks and slashes only, so that sst-2 stays one."""
    parts = [part[:_MAX_WORD] for part in re.split(r"[\s/@,]+", query.casefold()) if part]
    return list(dict.fromkeys(parts))[:MAX_WORDS]


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


def errors_allowed(query: str) -> int:
    """Return how many typing errors a word of a question may have."""
    # Short words and those with digits mean something else with one letter changed (sst-2, sst-5).
    if len(query) < 4 or any(char.isdigit() for char in query):
        return 0
    return 1 if len(query) < 8 else 2


def misspelt(query: str, word: str) -> float:
    """Return 0.5 if the query word may be *word* with a typing error, else 0."""
    limit = errors_allowed(query)
    return 0.5 if limit and edit_distance(query, word, limit) <= limit else 0.0


def _letters(word: str) -> int:
    """Return the set of letters of a word as bits; one edit changes at most two of them."""
    bits = 0
    for char in word:
        bits |= 1 << (ord(char) & 63)
    return bits


class WordIndex:
    """Weighted words of numbered documents."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[int, float]] = {}
        self._words_of: dict[int, dict[str, float]] = {}
        #: Slots and weights of words that many documents have, made when they are first asked for.
        self._arrays: dict[str, tuple[NDArray[np.intp], Scores]] = {}
        self._size = 0
        self._forget_vocabulary()

    def _forget_vocabulary(self) -> None:
        self._vocabulary: list[str] | None = None
        self._spellings: OrderedDict[str, list[str]] = OrderedDict()

    def put(self, slot: int, found: Mapping[str, float]) -> None:
        """Set the words of a document, each with its weight, in place of those it had."""
        self.drop(slot)
        self._words_of[slot] = dict(found)
        self._size = max(self._size, slot + 1)
        for word, weight in found.items():
            holders = self._holders.get(word)
            if holders is None:
                holders = self._holders[word] = {}
                self._forget_vocabulary()
            holders[slot] = weight
            self._arrays.pop(word, None)

    def drop(self, slot: int) -> None:
        """Forget a document."""
        for word in self._words_of.pop(slot, ()):
            holders = self._holders[word]
            del holders[slot]
            self._arrays.pop(word, None)
            if not holders:
                del self._holders[word]
                self._forget_vocabulary()

    def scores(self, query: str, visible: Mask) -> tuple[Scores, Mask]:
        """Return how well each document has the words of a question, and which have all of them.

        Args:
            query: words; none of them: every visible document has them.
            visible: which documents exist for whoever asks; nothing depends on the others.
        """
        total = np.zeros(len(visible))
        alive = visible.copy()
        for word in question_words(query):
            best = self._best(word, visible)
            alive &= best > 0
            total += best
        return total, alive

    def _best(self, query: str, visible: Mask) -> Scores:
        """Return how well each visible document has one word of a question."""
        best = self._holding(self._containing(query), visible)
        # A typing error is assumed only if the word as typed is nowhere: "bart" is not "bert".
        if not best.any():
            best = self._holding(dict.fromkeys(self._near(query), 0.5), visible)
        return best

    def _holding(self, qualities: Mapping[str, float], visible: Mask) -> Scores:
        best = np.zeros(len(visible))
        slots: list[int] = []
        values: list[float] = []
        for word, quality in qualities.items():
            holders = self._holders[word]
            if len(holders) <= _FEW:
                slots += holders
                values += [quality * weight for weight in holders.values()]
                continue
            if word not in self._arrays:
                count = len(holders)
                self._arrays[word] = (
                    np.fromiter(holders.keys(), np.intp, count),
                    np.fromiter(holders.values(), np.float64, count),
                )
            at, weights = self._arrays[word]
            best[at] = np.maximum(best[at], quality * weights)
        if slots:
            np.maximum.at(best, np.array(slots, np.intp), np.array(values))
        best[~visible] = 0
        return best

    def _containing(self, query: str) -> dict[str, float]:
        """Return the words that are, begin with, or contain a word of a question."""
        if len(query) < 2:
            return {query: 1.0} if query in self._holders else {}
        self._know_vocabulary()
        assert self._vocabulary is not None
        wanted = query if len(query) >= 3 else f"\n{query}"
        found: dict[str, float] = {}
        position = self._joined.find(wanted)
        while position >= 0:
            # Each word stands behind a line feed; the one around this position began last before it.
            index = bisect_right(self._starts, position + (wanted[0] == "\n")) - 1
            word = self._vocabulary[index]
            found[word] = likeness(query, word)
            position = self._joined.find(wanted, self._starts[index] + len(word))
        return found

    def _near(self, query: str) -> list[str]:
        """Return the words that a word of a question may mean, with typing errors."""
        limit = errors_allowed(query)
        if not limit:
            return []
        self._know_vocabulary()
        known = self._spellings.get(query)
        if known is None:
            bits = _letters(query)
            known = [
                word
                for length in range(len(query) - limit, len(query) + limit + 1)
                for word, letters in self._by_length.get(length, ())
                if (bits ^ letters).bit_count() <= 2 * limit
                and edit_distance(query, word, limit) <= limit
            ]
            self._spellings[query] = known
            if len(self._spellings) > _KEPT_SPELLINGS:
                self._spellings.popitem(last=False)
        return known

    def _know_vocabulary(self) -> None:
        """Write all words into one text: finding a part of a word is then one search in it."""
        if self._vocabulary is not None:
            return
        self._vocabulary = list(self._holders)
        self._joined = "\n" + "\n".join(self._vocabulary) + "\n"
        lengths = (len(word) + 1 for word in self._vocabulary)
        self._starts = list(accumulate(lengths, initial=1))[:-1]
        self._by_length: dict[int, list[tuple[str, int]]] = {}
        for word in self._vocabulary:
            self._by_length.setdefault(len(word), []).append((word, _letters(word)))
