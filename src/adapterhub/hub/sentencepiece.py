"""Recognises a SentencePiece model by its content: a protocol buffer that is nothing else.

Tokenizers of many models lie in such a file (``tokenizer.model``, ``spiece.model``). It holds data only, and
its readers are parsers, so it may be published, if the whole file is of that form: pieces (text, score,
kind), then settings. No library is needed to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 64 << 20

_PIECES, _LAST_FIELD = 1, 5
_VARINT, _EIGHT, _TEXT, _FOUR = 0, 1, 2, 5
_MAX_PIECE = 4096


def is_sentencepiece(path: Path) -> bool:
    """Tell whether the whole file at *path* is a SentencePiece model."""
    if path.stat().st_size > MAX_BYTES:
        return False
    data = path.read_bytes()
    pieces = 0
    try:
        for field, kind, begin, end in _fields(data, 0, len(data)):
            if kind != _TEXT or not 1 <= field <= _LAST_FIELD:
                return False
            if field == _PIECES:
                _require_piece(data, begin, end)
                pieces += 1
            else:  # settings: fields of any kind, but well-formed
                for _ in _fields(data, begin, end):
                    pass
    except ValueError:
        return False
    return pieces > 0


def may_be(head: bytes) -> bool:
    """Tell whether a file that begins like this can be one (its first field is a piece)."""
    return len(head) > 3 and head[0] == 0x0A and head[2] == 0x0A


def _require_piece(data: bytes, begin: int, end: int) -> None:
    if end - begin > _MAX_PIECE:
        raise ValueError("too long")
    seen = False
    for field, kind, start, stop in _fields(data, begin, end):
        if (field, kind) == (1, _TEXT):
            data[start:stop].decode("utf-8")
            seen = True
        elif (field, kind) not in ((2, _FOUR), (3, _VARINT)):
            raise ValueError("not a piece")
    if not seen:
        raise ValueError("a piece without text")


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message: number, kind of wire, and where the value begins and ends."""
    while position < end:
        tag, position = _number(data, position, end)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, stop = _number(data, position, end)
        elif kind == _TEXT:
            length, position = _number(data, position, end)
            stop = position + length
        elif kind in (_EIGHT, _FOUR):
            stop = position + (8 if kind == _EIGHT else 4)
        else:
            raise ValueError("no such kind")
        if not field or stop > end:
            raise ValueError("cut off")
        yield field, kind, position, stop
        position = stop


def _number(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("cut off")
