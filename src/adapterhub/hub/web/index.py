"""All adapters of a hub in memory, to be searched and counted within milliseconds.

An adapter is a number (a *slot*) in arrays: one of facet values, one of sort positions, one of who may
see it. A search is a few operations on whole arrays. Adapters come and go one at a time, so that a
running server keeps its index in step with its database; whoever may not see an adapter gets answers in
which nothing depends on it, neither counts nor suggestions nor the guess at a typing error.

A full-text index of the database would not be faster at ten thousand adapters, forgives no typing error,
and differs between SQLite and PostgreSQL; this gives the same answer on both, and the same as the search
in the browser of a published site.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterhub.hub.web.query import FACETS, ORDERS, Found, Query, facet_values, labels_of
from adapterhub.hub.web.source import Adapter
from adapterhub.hub.wordindex import Mask, WordIndex, weighted_words

#: The group of what everybody may see; any other number is the account that owns it.
EVERYBODY = 0
#: Whoever may see everything.
ALL_GROUPS = None
Groups = frozenset[int] | None
_KEPT = 500
_SUGGESTED = ("task", "dataset", "model", "owner")
Numbers = NDArray[np.int64]


class _Facet:
    """The values of one facet: the first one of each slot in an array, further ones as pairs."""

    def __init__(self, room: int) -> None:
        self.codes: dict[str, int] = {}
        self.values: list[str] = []
        self.first = np.full(room, -1, np.int64)
        self.more: dict[int, list[int]] = {}
        self._pairs: tuple[Numbers, Numbers] | None = None

    def grow(self, room: int) -> None:
        self.first = np.concatenate([self.first, np.full(room - len(self.first), -1, np.int64)])

    def put(self, slot: int, values: Sequence[str]) -> None:
        for value in values:
            if value not in self.codes:
                self.codes[value] = len(self.values)
                self.values.append(value)
        codes = [self.codes[value] for value in dict.fromkeys(values)]
        self.first[slot] = codes[0] if codes else -1
        if self.more.pop(slot, None) is not None or len(codes) > 1:
            self._pairs = None
        if len(codes) > 1:
            self.more[slot] = codes[1:]

    def _further(self) -> tuple[Numbers, Numbers]:
        if self._pairs is None:
            flat = [(slot, code) for slot, codes in self.more.items() for code in codes]
            array = np.array(flat, np.int64).reshape(-1, 2)
            self._pairs = (array[:, 0], array[:, 1])
        return self._pairs

    def having(self, wanted: Iterable[str]) -> Mask:
        """Return which slots have one of these values."""
        table = np.zeros(len(self.values) + 1, np.bool_)  # the last one is for "no value"
        table[[self.codes[value] for value in wanted if value in self.codes]] = True
        mask = table[self.first]
        slots, codes = self._further()
        mask[slots[table[codes]]] = True
        return mask

    def count(self, mask: Mask) -> dict[str, int]:
        """Return how many of some slots have each value, the most frequent first."""
        first = self.first[mask]
        counts = np.bincount(first[first >= 0], minlength=len(self.values))
        slots, codes = self._further()
        if len(slots):
            counts = counts + np.bincount(codes[mask[slots]], minlength=len(self.values))
        present = [(self.values[code], int(counts[code])) for code in np.flatnonzero(counts)]
        return dict(sorted(present, key=lambda pair: (-pair[1], pair[0])))


class AdapterIndex:
    """Adapters by a key of the caller's, searchable by words and facets. Safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._room = 64
        self._slots: dict[Hashable, int] = {}
        self._free: list[int] = []
        self._adapters: list[Adapter | None] = []
        self._group = np.full(self._room, -1, np.int64)
        self._facets = {name: _Facet(self._room) for name in FACETS}
        self._labels: dict[str, dict[str, str]] = {}
        self._words = WordIndex()
        self._keys: dict[str, dict[int, Any]] = {}
        self._orders: dict[str, Numbers] = {}
        self._stale: set[str] = set(ORDERS)
        self._kept: dict[Hashable, Any] = {}
        #: Goes up with every change.
        self.version = 0

    def __len__(self) -> int:
        return len(self._slots)

    def put(
        self,
        key: Hashable,
        adapter: Adapter,
        texts: Iterable[tuple[float, str]],
        group: int = EVERYBODY,
    ) -> None:
        """Add an adapter, or put it in the place of the one with this key.

        Args:
            texts: what its words are found in, each with a weight.
            group: who may see it: :data:`EVERYBODY`, or only those that ask with this number.
        """
        found = weighted_words(texts)
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._free.pop() if self._free else len(self._adapters)
                self._slots[key] = slot
            if slot == len(self._adapters):
                self._adapters.append(None)
            if slot >= self._room:
                self._grow()
            self._adapters[slot] = adapter
            self._group[slot] = group
            for name, values in facet_values(adapter).items():
                self._facets[name].put(slot, values)
            for name, labels in labels_of([adapter]).items():
                self._labels.setdefault(name, {}).update(labels)
            self._words.put(slot, found)
            self._resort(slot, adapter)

    def replace(self, key: Hashable, adapter: Adapter) -> None:
        """Exchange the record of an adapter of which only numbers have changed (its downloads)."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None:
                self._adapters[slot] = adapter
                self._resort(slot, adapter)

    def drop(self, key: Hashable) -> None:
        """Forget an adapter."""
        with self._lock:
            slot = self._slots.pop(key, None)
            if slot is None:
                return
            self._adapters[slot] = None
            self._group[slot] = -1
            for facet in self._facets.values():
                facet.put(slot, ())
            self._words.drop(slot)
            for keys in self._keys.values():
                keys.pop(slot, None)
            self._free.append(slot)
            self._changed(set(ORDERS))

    def _grow(self) -> None:
        self._room *= 2
        self._group = np.concatenate(
            [self._group, np.full(self._room - len(self._group), -1, np.int64)]
        )
        for facet in self._facets.values():
            facet.grow(self._room)

    def _resort(self, slot: int, adapter: Adapter) -> None:
        stale = set()
        for name, key in ORDERS.items():
            keys = self._keys.setdefault(name, {})
            value = (*key(adapter), adapter.identifier)
            if keys.get(slot) != value:
                keys[slot] = value
                stale.add(name)
        self._changed(stale)

    def _changed(self, stale: set[str]) -> None:
        self._stale |= stale
        self._kept.clear()
        self.version += 1

    def _order(self, name: str) -> Numbers:
        """Return all slots in an order. Sorting what is sorted but for a few takes little time."""
        if name in self._stale:
            keys = self._keys.get(name, {})
            before = [
                slot for slot in self._orders.get(name, np.zeros(0, np.int64)) if slot in keys
            ]
            known = set(before)
            slots = before + [slot for slot in keys if slot not in known]
            self._orders[name] = np.array(sorted(slots, key=keys.__getitem__), np.int64)
            self._stale.discard(name)
        return self._orders[name]

    def _visible(self, groups: Groups) -> Mask:
        if groups is ALL_GROUPS:
            return self._group >= 0
        mask = self._group == EVERYBODY
        return mask | np.isin(self._group, sorted(groups)) if groups else mask

    def get(self, key: Hashable) -> Adapter | None:
        """Return an adapter by its key."""
        with self._lock:
            slot = self._slots.get(key)
            return self._adapters[slot] if slot is not None else None

    def kept(self, name: Hashable, groups: Groups, make: Any) -> Any:
        """Return what *make* gives for these viewers, kept until the next change of an adapter."""
        key = ("kept", name, groups)
        with self._lock:
            version = self.version
            if key in self._kept:
                return self._kept[key]
        value = make()
        with self._lock:
            if version == self.version:
                self._keep(key, value)
        return value

    def _keep(self, key: Hashable, value: Any) -> None:
        self._kept[key] = value
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]

    def search(self, query: Query, groups: Groups = frozenset()) -> Found:
        """Return one page of what fits, the total, and the counts beside each facet.

        Args:
            groups: what may be seen beyond what everybody sees; ``None``: everything.
        """
        key = (
            query.words,
            tuple(sorted(query.chosen.items())),
            query.order,
            query.page,
            query.page_size,
            query.counted,
            groups,
        )
        with self._lock:
            found = self._kept.pop(key, None) or self._search(query, groups)
            self._keep(key, found)  # at the end: the first is the one not used for longest
            return found

    def _search(self, query: Query, groups: Groups) -> Found:
        visible = self._visible(groups)
        scores, ranked = self._words.scores(query.words, visible)
        masks = {name: self._facets[name].having(values) for name, values in query.chosen.items()}
        kept = ranked.copy()
        for mask in masks.values():
            kept &= mask
        counts = {}
        for name, facet in self._facets.items() if query.counted else ():
            among = kept
            if name in masks:  # what would be there, were another value of this facet chosen
                among = ranked.copy()
                for other, mask in masks.items():
                    if other != name:
                        among &= mask
            counts[name] = facet.count(among)
        slots = self._sorted(kept, scores, query)
        first = (query.page - 1) * query.page_size
        page = [self._adapters[slot] for slot in slots[first : first + query.page_size]]
        labels = {
            name: {value: titles[value] for value in counts[name] if value in titles}
            for name, titles in self._labels.items()
            if name in counts
        }
        suggestions = self._suggest(query.words, visible) if query.words and not len(slots) else ()
        shown = [adapter for adapter in page if adapter is not None]
        return Found(shown, len(slots), counts, labels, suggestions)

    def _sorted(self, kept: Mask, scores: NDArray[np.float64], query: Query) -> Numbers:
        """Return the slots that were kept in the order that is asked for."""
        order = self._order(query.order)
        slots = order[kept[order]]
        if query.order != "best" or not query.words:
            return slots
        return slots[np.argsort(-scores[slots], kind="stable")]

    def keys(self, query: Query, groups: Groups = frozenset()) -> list[Hashable]:
        """Return the keys of all that fits, in order."""
        with self._lock:
            scores, kept = self._words.scores(query.words, self._visible(groups))
            for name, values in query.chosen.items():
                kept &= self._facets[name].having(values)
            of = {slot: key for key, slot in self._slots.items()}
            return [of[int(slot)] for slot in self._sorted(kept, scores, query)]

    def _suggest(self, words: str, visible: Mask) -> list[str]:
        """Return names of tasks, data sets, models and publishers that look like some words."""
        known = {
            value.casefold(): value
            for name in _SUGGESTED
            for value in self._facets[name].count(visible)
        }
        known |= {value.rpartition("/")[2].casefold(): value for value in known.values()}
        close = difflib.get_close_matches(words.strip().casefold()[:60], known, n=3, cutoff=0.6)
        return list(dict.fromkeys(known[name] for name in close))
