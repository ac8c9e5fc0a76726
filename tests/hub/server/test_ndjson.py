"""The reader of commits gives the same lines however the body is cut into pieces."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the hub server needs the [hub] extra")

from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub.hub.server.ndjson import MAX_LINE, CommitReader, Line
from adapterhub.hub.store.refusals import Malformed, Refusal, TooLarge


def read(
    body: bytes, step: int = 7, **limits: int
) -> list[tuple[str, dict[str, Any], bytes | None]]:
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_file": 10**6, "max_total": 10**7, **limits}
        reader = CommitReader(Path(folder), **options)
        try:
            for start in range(0, len(body), step):
                reader.feed(body[start : start + step])
            return [_plain(line) for line in reader.finish()]
        finally:
            reader.close()


def _plain(line: Line) -> tuple[str, dict[str, Any], bytes | None]:
    return line.key, line.value, line.staged.path.read_bytes() if line.staged else None


def body(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def file_line(path: str, data: bytes, order: int = 0) -> dict[str, Any]:
    pairs = [("content", base64.b64encode(data).decode()), ("path", path), ("encoding", "base64")]
    return {"key": "file", "value": dict(pairs[order:] + pairs[:order])}


paths = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(st.tuples(paths, st.binary(max_size=400), st.integers(0, 2)), max_size=5),
    title=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    step=st.integers(1, 300),
    last_newline=st.booleans(),
)
def test_any_pieces(
    files: list[tuple[str, bytes, int]], title: str, step: int, last_newline: bool
) -> None:
    head = {"key": "header", "value": {"summary": title, "description": '"content": "QUJD"'}}
    data = body(head, *(file_line(*item) for item in files))
    lines = read(data if last_newline else data.rstrip(b"\n"), step)
    assert lines[0] == ("header", head["value"], None)
    assert [(line[1]["path"], line[2]) for line in lines[1:]] == [
        (path, data) for path, data, _ in files
    ]
    assert all(line[1]["content"] == "" for line in lines[1:])


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=300) | st.text('{}[]":,\\ \nakeycontvlue', max_size=200).map(str.encode),
    st.integers(1, 40),
)
def test_any_rubbish_is_refused_or_read(data: bytes, step: int) -> None:
    try:
        read(data, step)
    except Refusal:
        return


def test_words_that_look_like_a_content() -> None:
    for path in ('a"content": "QUJD', "content", '\\"content\\":\\"QUJD'):
        ((_, value, data),) = read(body(file_line(path, b"abc")))
        assert (value["path"], data) == (path, b"abc")
    ((_, value, data),) = read(body({"key": "x", "value": {"deep": {"content": "QUJD"}}}))
    assert (value, data) == ({"deep": {"content": "QUJD"}}, None)
    ((_, value, data),) = read(b'{"content":"QUJD","key":"x","value":{}}\n')
    assert (value, data) == ({}, None)


def test_large_content_is_not_kept_in_memory() -> None:
    import tracemalloc

    data = bytes(24 << 20)
    text = body(file_line("x", data))
    with tempfile.TemporaryDirectory() as folder:
        reader = CommitReader(Path(folder), max_file=10**8, max_total=10**8)
        tracemalloc.start()
        for start in range(0, len(text), 1 << 20):
            reader.feed(text[start : start + (1 << 20)])
        (line,) = reader.finish()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert line.staged is not None
    assert line.staged.size == len(data)
    assert peak < 8 << 20


@pytest.mark.parametrize("content", ["QUJD=", "QU=D", "QUI=QUI=", "Q", "QUJ", "====", "QU\\u004a"])
def test_bad_base64(content: str) -> None:
    line = b'{"key":"file","value":{"path":"a","content":"%s"}}\n' % content.encode()
    for step in (1, 3, 1000):
        with pytest.raises(Malformed):
            read(line, step)


def test_limits() -> None:
    big = body(file_line("a", bytes(1000)))
    with pytest.raises(TooLarge):
        read(big, max_file=999)
    with pytest.raises(TooLarge):
        read(big + big, max_file=1000, max_total=1500)
    with pytest.raises(TooLarge):
        read(body({"key": "x", "value": {"path": "a" * MAX_LINE}}), 4096)
    with pytest.raises(TooLarge):
        read(body({"key": "x", "value": {}}) * 2001, 4096)
