"""The index of the search in the browser for large hubs: parts, of which a search fetches those it needs.

``search-index.json`` then only says where the parts are: below a folder that is named by the hash of what is
in it, so that a browser never joins parts of two builds. Adapters are numbered in the order that breaks ties.

- ``rows-K.json``: what results show, eight adapters a file.
- ``facet-NAME.json``: the values of one facet, what people call them, and for each adapter the number of its
  value (16 or 32 bits).
- ``order-NAME.json``: the place of each adapter in one order.
- ``words-K.json``: distinct words, and how many bytes of ``holders-K.bin`` belong to each: the numbers of the
  adapters that have it (steps, seven bits a byte), each followed by its weight.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterhub.hub.static.searchindex import (
    adapters_in_order,
    facet_labels,
    row_of,
    search_index,
    weighted_texts,
)
from adapterhub.hub.web.query import FACETS, ORDERS, facet_values
from adapterhub.hub.web.site import facet_label
from adapterhub.hub.web.source import Adapter, Source
from adapterhub.hub.wordindex import weighted_words

HEAD = "search-index.json"
#: An index above this many bytes is cut into parts.
LARGE = 120_000
#: Adapters in a file of rows; a page of results needs at most 25 such files.
ROWS = 8
_HOLDERS, _WORDS = 24_000, 40_000


def search_files(source: Source) -> dict[str, bytes]:
    """Return the files of the index by their paths: one, or a head and its parts."""
    adapters = adapters_in_order(source)
    # Rows alone take more than a hundred bytes an adapter.
    if len(adapters) * 100 <= LARGE:
        whole = search_index(source)
        if len(whole) <= LARGE:
            return {HEAD: whole}
    parts = {**_rows(adapters), **_facets(adapters), **_orders(adapters)}
    words, count = _words(adapters, source)
    parts |= words
    digest = hashlib.sha256()
    for name, data in sorted(parts.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    folder = f"search-index/{digest.hexdigest()[:12]}/"
    head = {
        "format": 2,
        "hub": source.hub().name,
        "count": len(adapters),
        "facets": dict(FACETS),
        "folder": folder,
        "rows": ROWS,
        "words": count,
    }
    return {HEAD: _json(head), **{folder + name: data for name, data in parts.items()}}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _rows(adapters: Sequence[Adapter]) -> dict[str, bytes]:
    rows = [
        {
            **row_of(adapter),
            "architecture": adapter.architecture,
            "model": adapter.base_model,
            "status": adapter.status,
            "status_label": facet_label(adapter.status, "status"),
        }
        for adapter in adapters
    ]
    return {
        f"rows-{first // ROWS}.json": _json(rows[first : first + ROWS])
        for first in range(0, len(rows), ROWS)
    }


def _numbers(values: Iterable[int]) -> dict[str, Any]:
    """Return numbers as base64 of 16 or 32 bits each, the lowest byte first."""
    found = list(values)
    width = 2 if max(found, default=0) < 1 << 16 else 4
    data = b"".join(number.to_bytes(width, "little") for number in found)
    return {"width": width, "at": base64.b64encode(data).decode()}


def _facets(adapters: Sequence[Adapter]) -> dict[str, bytes]:
    values = [facet_values(adapter) for adapter in adapters]
    labels = facet_labels(values, adapters)
    files = {}
    for name in FACETS:
        known: dict[tuple[str, ...], int] = {}
        codes = [known.setdefault(tuple(item[name]), len(known)) for item in values]
        content = {
            "values": [list(item) for item in known],
            "labels": labels.get(name, {}),
            **_numbers(codes),
        }
        files[f"facet-{name}.json"] = _json(content)
    return files


def _orders(adapters: Sequence[Adapter]) -> dict[str, bytes]:
    files = {}
    for name, key in ORDERS.items():
        if name == "best":  # the order of the numbers themselves
            continue
        ordered = sorted(
            range(len(adapters)), key=lambda i: (*key(adapters[i]), adapters[i].identifier)
        )
        places = [0] * len(ordered)
        for place, number in enumerate(ordered):
            places[number] = place
        files[f"order-{name}.json"] = _json(_numbers(places))
    return files


def _words(adapters: Sequence[Adapter], source: Source) -> tuple[dict[str, bytes], int]:
    holders: dict[str, list[tuple[int, int]]] = {}
    for number, texts in enumerate(weighted_texts(adapters, source)):
        for word, weight in weighted_words(texts).items():
            holders.setdefault(word, []).append((number, round(weight)))
    files: dict[str, bytes] = {}
    words: list[str] = []
    sizes: list[int] = []
    packed = bytearray()
    count = letters = 0
    for word in sorted(holders):
        data = _packed(holders[word])
        if packed and (len(packed) + len(data) > _HOLDERS or letters > _WORDS):
            files |= _part(count, words, sizes, bytes(packed))
            count, letters = count + 1, 0
            words, sizes, packed = [], [], bytearray()
        words.append(word)
        sizes.append(len(data))
        packed += data
        letters += len(word.encode())
    if words:
        files |= _part(count, words, sizes, bytes(packed))
        count += 1
    return files, count


def _part(number: int, words: list[str], sizes: list[int], packed: bytes) -> Mapping[str, bytes]:
    return {
        f"words-{number}.json": _json({"words": words, "bytes": sizes}),
        f"holders-{number}.bin": packed,
    }


def _packed(pairs: Sequence[tuple[int, int]]) -> bytes:
    data, before = bytearray(), 0
    for number, weight in pairs:
        step, before = number - before, number
        while step > 127:
            data.append(step & 127 | 128)
            step >>= 7
        data += bytes((step, weight))
    return bytes(data)
