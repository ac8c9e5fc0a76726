"""The composition tree: parsing, validation, immutability, JSON."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.composition import (
    AdapterCompositionBlock,
    Average,
    BatchSplit,
    Fuse,
    MultiTask,
    Parallel,
    Route,
    Split,
    Stack,
    parse_composition,
    width,
)
from adapterhub.errors import CompositionError

NAMES = st.sampled_from(["a", "b", "c", "sst-2", "x/y", "a,b"])


def _average(children: list[Any]) -> Average:
    return Average(*children, weights=[float(i + 1) for i in range(len(children))])


def blocks(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        some.map(lambda c: Stack(*c)),
        some.map(lambda c: Fuse(*c)),
        some.map(lambda c: Route(*c)),
        some.map(lambda c: MultiTask(*c)),
        some.map(lambda c: Parallel(*c)),
        some.map(_average),
        some.map(lambda c: BatchSplit(*c, batch_sizes=list(range(len(c))))),
        some.map(lambda c: Split(*c, splits=2)),
    )


TREES = st.recursive(NAMES, blocks, max_leaves=8)


@given(TREES)
def test_json_pickle_copy_and_repr(tree: Any) -> None:
    if isinstance(tree, str):
        tree = Stack(tree)
    stored = json.loads(json.dumps(tree.to_dict()))
    assert AdapterCompositionBlock.from_dict(stored) == tree
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert copy.deepcopy(tree) is tree
    assert hash(AdapterCompositionBlock.from_dict(stored)) == hash(tree)
    assert eval(repr(tree)) == tree


@given(TREES)
def test_width_or_a_composition_error(tree: Any) -> None:
    with contextlib.suppress(CompositionError):
        assert width(tree) >= 1


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda c: st.lists(c) | st.dictionaries(st.text(max_size=8), c),
        max_leaves=8,
    )
)
def test_reading_anything_is_a_tree_or_a_composition_error(data: Any) -> None:
    with contextlib.suppress(CompositionError):
        AdapterCompositionBlock.from_dict(data)


def test_what_users_write() -> None:
    assert parse_composition("a") == Stack("a")
    assert parse_composition(["a", "b"]) == Stack("a", "b")
    assert parse_composition([["a", "b", "c"]]) == Stack(Fuse("a", "b", "c"))
    assert parse_composition(["x", ["a", "b"]]) == Stack("x", Fuse("a", "b"))
    for empty in (None, "", [], ()):
        assert parse_composition(empty) is None
    with pytest.raises(CompositionError, match="int"):
        parse_composition(3)


def test_widths() -> None:
    assert width(Stack("lang", Parallel("a", "b", Fuse("a", "b")))) == 3
    assert width(Parallel(Parallel("a", "b"), "c")) == 3
    assert width(BatchSplit("a", None, batch_sizes=2)) == 1
    with pytest.raises(CompositionError, match="outside"):
        parse_composition(BatchSplit(Parallel("a", "b"), "c", batch_sizes=1))
    with pytest.raises(CompositionError, match="equally many"):
        parse_composition(Stack(Parallel("a", "b"), Parallel("a", "b", "c")))


def test_average_weights_are_a_mean() -> None:
    assert Average("a", "b").weights == (0.5, 0.5)
    assert Average("a", "b", weights=[1, 3]).weights == (0.25, 0.75)
    assert Average("a", "b", weights=[1, 3], normalize_weights=False).weights == (1.0, 3.0)
    with pytest.raises(CompositionError, match="2 children but 1"):
        Average("a", "b", weights=[1])
    with pytest.raises(CompositionError, match="sum is 0"):
        Average("a", "b", weights=[1, -1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stack(),
        lambda: Stack(None),
        lambda: Stack(3),
        lambda: Fuse("a", None),
        lambda: BatchSplit("a", "b", batch_sizes=[1]),
        lambda: BatchSplit("a", "b", batch_sizes=[1, -1]),
        lambda: Split("a", "b", splits=[1.5, 2]),
    ],
)
def test_bad_blocks(make: Any) -> None:
    with pytest.raises(CompositionError):
        make()


def test_fuse_mixes_whole_outputs_only() -> None:
    with pytest.raises(CompositionError, match="Fuse mixes"):
        parse_composition(Fuse("a", BatchSplit("b", "c", batch_sizes=1)))


def test_immutable() -> None:
    tree = Stack("a")
    with pytest.raises(AttributeError):
        tree.children = ("b",)  # type: ignore[misc]
    assert (Fuse("a", Stack("b", "c")).name, Fuse("a", "b", name="n").name) == ("a,c", "n")
    assert Stack("a", Fuse("b", "c")).flatten() == {"a", "b", "c"}
