from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.catalogue import read_card
from adapterhub.hub.schema import card_schema

printable = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\n"), max_size=40)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | printable
    | st.sampled_from(
        ["no", "yes", "on", "1e5", "010", "0x1F", "1:30", "2021-01-01", "~", "", "null"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(printable, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(printable, values, max_size=4))
@example({"task": "no", "version": "1", "score": 1e-05, "text": "a\nb\n", "odd": "a\n\n b"})
def test_what_is_written_reads_the_same(card: dict) -> None:
    data = cardfile.dumps(card)
    assert cardfile.loads(data) == card
    # Other people's YAML 1.1 readers see the same.
    assert yaml.safe_load(data) == card


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(HubError):
        assert isinstance(cardfile.loads(data), dict)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", "tags"),
        ("a: !!timestamp 2021-01-01", "tags"),
        ("a: 1\na: 2", "occurs twice"),
        ("1: 2", "must be text"),
        ("[1, 2]", "mapping"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: [" + "1," * 60_000 + "]", "too many values"),
        ("a: 'x", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: " + "x" * 600_000, "larger than"),
        (b"a: \xff\xfe", "not UTF-8"),
        ("", "mapping"),
    ],
)
def test_tricks_are_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(HubError, match=message):
        cardfile.loads(text)


def test_alias_bomb_is_refused_at_once() -> None:
    levels = ["a0: &a0 ['lol']"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
    ]
    with pytest.raises(HubError, match="aliases"):
        cardfile.loads("\n".join(levels))


def test_scalars_follow_yaml_1_2() -> None:
    text = "a: no\nb: 2021-01-01\nc: 1:30\nd: 010\ne: 1e3\nf: true\ng: ~\nh: 3\ni: .inf\nj: 0x1F"
    assert cardfile.loads(text) == {
        "a": "no",
        "b": "2021-01-01",
        "c": "1:30",
        "d": "010",
        "e": 1000.0,
        "f": True,
        "g": None,
        "h": 3,
        "i": ".inf",
        "j": "0x1F",
    }


@pytest.mark.parametrize(
    "kind", ["hub", "adapter_type", "task", "subtask", "architecture", "adapter"]
)
def test_schemas_are_valid(kind) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(card_schema(kind))


odd = st.dictionaries(
    st.sampled_from(
        [
            "type",
            "task",
            "subtask",
            "model_name",
            "config",
            "files",
            "dependencies",
            "language",
            "metric",
            "name",
            "url",
            "github",
            "default_version",
            "hidden_size",
            "twitter",
            "description",
            "values",
        ]
    ),
    scalars
    | st.lists(scalars, max_size=2)
    | st.lists(st.dictionaries(st.sampled_from(["version", "members", "url"]), values), max_size=2),
)


@pytest.mark.parametrize("kind", ["task", "subtask", "architecture", "adapter"])
def test_a_card_of_any_shape_gives_findings_and_no_crash(kind, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("cards")
    path = root / "adapters" / "x" / "y.yaml"
    path.parent.mkdir(parents=True)

    @settings(max_examples=40)
    @given(odd)
    def check(card: dict) -> None:
        path.write_bytes(cardfile.dumps(card))
        record, findings = read_card(root, kind, path)
        assert record is not None or any(f.severity == "error" for f in findings)

    check()
