"""The text language: what is written is read back, and nothing else gets through."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.configs import (
    ADAPTER_CONFIG_MAP,
    AdapterConfig,
    ConfigUnion,
    config_from_file,
    parse_config_string,
    resolve_config,
)
from adapterhub.errors import ConfigError

PROBABILITY = st.floats(0, 0.99)
LAYERS = st.lists(st.integers(0, 40))
FACTOR = st.one_of(
    st.integers(1, 64),
    st.floats(0.1, 64),
    st.dictionaries(
        st.integers(0, 40).map(str) | st.just("default"), st.integers(1, 64), min_size=1
    ),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
#: name -> fields that may be written in its brackets
FIELDS = {
    "seq_bn": {"reduction_factor": FACTOR, "dropout": PROBABILITY, "leave_out": LAYERS},
    "lora": {
        "r": st.integers(1, 64),
        "attn_matrices": st.lists(st.sampled_from("qkvo"), unique=True),
        "use_gating": st.booleans(),
    },
    "prefix_tuning": {"non_linearity": TEXT, "leave_out": LAYERS},
    "prompt_tuning": {"prompt_init_text": TEXT | st.none()},
}
PARTS = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries({}, optional=FIELDS[name]))
)
SPACE = st.sampled_from(["", " ", "  ", "\n"])


@given(st.lists(PARTS, min_size=1, max_size=4, unique_by=lambda part: part[0]), SPACE)
def test_what_is_written_is_read_back(parts: list, space: str) -> None:
    written = (
        f"{name}[{f',{space}'.join(f'{k}{space}={space}{v!r}' for k, v in fields.items())}]"
        for name, fields in parts
    )
    found = parse_config_string(f"{space}|{space}".join(written))
    members = [ADAPTER_CONFIG_MAP[name].replace(**fields) for name, fields in parts]
    assert found == (ConfigUnion(*members) if len(members) > 1 else members[0])


def crash_free(text: str) -> None:
    try:
        found = parse_config_string(text)
    except ConfigError:
        return
    assert isinstance(found, AdapterConfig)


@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    crash_free(text)


@given(st.sampled_from(["r", "dropout", "alpha", "leave_out", "attn_matrices", "dtype"]), st.data())
def test_any_literal_as_a_value(name: str, data: st.DataObject) -> None:
    value = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        )
    )
    crash_free(f"lora[{name}={value!r}]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lora|", "name"),
        ("|", "name"),
        ("lora]", "Did you mean 'lora'"),
        ("lora[r=1][alpha=2]", "literal"),
        ("lora[r=1,r=2]", "twice"),
        ("lora[,]", "field=value"),
        ("lora[r=1,,alpha=2]", "field=value"),
        ("lora[r=__import__('os')]", "literal"),
        (f"lora[r={'(' * 4000}]", "literal"),
        (f"lora[r={'-' * 9000}1]", "literal|allowed"),
        (f"lora[r=0x{'f' * 6000}]", "allowed"),
        (f"seq_bn[scaling=0x{'f' * 6000}]", "allowed"),
        ("a" * 10_001, "at most"),
        ("lora[r='\0']", "literal|allowed"),
    ],
)
def test_malformed_texts(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_config_string(text)
    assert len(str(caught.value)) < 1500


def test_no_text_takes_long() -> None:
    start = time.perf_counter()
    for text in (f"a{' ' * 9000}b]", "[" * 9999, "lora|" * 1999, f"lora[{'r=1,' * 2400}]"):
        with pytest.raises(ConfigError):
            parse_config_string(text)
    assert time.perf_counter() - start < 2


def test_small_freedoms() -> None:
    for text in ("lora [r=4]", "lora[r=4,]", "lora[ r = 4 ]"):
        assert resolve_config(text) == resolve_config("lora", r=4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "config": JSON
            | st.fixed_dictionaries(
                {
                    "architecture": st.sampled_from([None, "lora", "union", "bottleneck", "reft"])
                    | JSON
                },
                optional=dict.fromkeys(
                    ("non_linearity", "invertible_adapter", "r", "vera_d", "configs"), JSON
                ),
            ),
            "version": JSON | st.sampled_from(["adapters.1.0.0", "adapters.1.3.0", "3.0"]),
        },
    )
    | JSON
)
def test_any_file_is_a_configuration_or_a_config_error(facts: object) -> None:
    try:
        found = config_from_file(facts)  # pyright: ignore[reportArgumentType]
    except ConfigError:
        return
    assert isinstance(found, AdapterConfig)
