from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.errors import HubError
from adapterhub.hub import AdapterKey, TaskQuery, parse_identifier

part = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs"), exclude_characters="@/\\:"),
    min_size=1,
    max_size=20,
).filter(lambda text: text not in (".", ".."))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@ukp/bert_sst", AdapterKey("ukp", "bert_sst")),
        ("  @ukp/bert_sst \n", AdapterKey("ukp", "bert_sst")),
        ("sentiment/sst-2", TaskQuery("sentiment", "sst-2")),
        ("sentiment/sst-2@ukp", TaskQuery("sentiment", "sst-2", "ukp")),
        ("sst-2", TaskQuery("sst-2")),
        ("sst-2@ukp", TaskQuery("sst-2", None, "ukp")),
        ("/sst-2@ukp", TaskQuery(None, "sst-2", "ukp")),
        ("@ukp", TaskQuery(None, None, "ukp")),
        ('text-classification"/x', TaskQuery('text-classification"', "x")),
    ],
)
def test_forms(text: str, expected: object) -> None:
    assert parse_identifier(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "@",
        "/",
        "a/",
        "a@",
        "@/x",
        "@a/",
        "@a/b/c",
        "a/b/c",
        "a@b@c",
        "a/b@c/d",
        "@../x",
        "../..",
        "a/..@b",
        "a\\b",
        "a\0b",
        "https://example.org/a",
        "x" * 600,
        None,
    ],
)
def test_refused_with_the_forms_that_exist(text: str) -> None:
    with pytest.raises(HubError, match="write '@owner/name'"):
        parse_identifier(text)


@given(part, part)
def test_key_round_trip(owner: str, stem: str) -> None:
    key = AdapterKey(owner, stem)
    assert parse_identifier(str(key)) == key


@given(st.none() | part, st.none() | part, st.none() | part)
def test_query_round_trip(first: str | None, subtask: str | None, owner: str | None) -> None:
    query = TaskQuery(first, subtask, owner)
    if not str(query):
        return
    parsed = parse_identifier(str(query))
    # "@owner" alone and "@owner/..." never collide: a query with an owner has it last.
    assert parsed == query


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse_identifier(text)
    except HubError:
        return
    assert str(parsed) == text.strip()
    assert parse_identifier(str(parsed)) == parsed


def test_other_reading_of_a_pair() -> None:
    assert TaskQuery("ukp", "stem").as_key() == AdapterKey("ukp", "stem")
    assert TaskQuery("ukp").as_key() is None
    assert TaskQuery("a", "b", "c").as_key() is None
