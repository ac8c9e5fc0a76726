"""A row printed as source is the same row when executed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.architectures import TABLE, Fused, PeerPaths, Row, StackRow, Sublayer
from adapterhub.architectures.detector import detect
from adapterhub.architectures.source import row_to_source
from tests.architectures.tiny import tiny_model


def _execute(source: str, name: str = "ROW") -> Row:
    space: dict[str, Any] = {}
    exec(source, space)
    return space[name]


@pytest.mark.parametrize("model_type", sorted(TABLE))
def test_rows_of_the_table(model_type: str) -> None:
    source = row_to_source(TABLE[model_type], "MINE")
    assert _execute(source, "MINE") == TABLE[model_type]
    assert max(len(line) for line in source.splitlines()) <= 100


def test_a_detected_row() -> None:
    row = detect(tiny_model("deepseek_v3"))
    source = row_to_source(row)
    assert _execute(source) == row
    assert 'source="detected"' in source
    assert "None" not in source  # defaults are left out


_text = st.text(max_size=12)
_paths = st.none() | _text
_sublayers = st.builds(
    Sublayer,
    q=_paths,
    out=_paths,
    norm=_paths,
    qkv=st.none() | st.builds(Fused, _text, st.tuples(_text, _text), _text),
)
_stacks = st.builds(
    StackRow,
    _text,
    _text,
    st.dictionaries(_text, _sublayers, max_size=3),
    embed=_paths,
    cross_is_mh=st.booleans(),
    peer=st.none() | st.builds(PeerPaths, _text, st.dictionaries(_text, _text, max_size=3)),
)


@given(st.builds(Row, _text, st.lists(_stacks, max_size=3).map(tuple), _text, _text))
def test_any_row(row: Row) -> None:
    assert _execute(row_to_source(row)) == row
