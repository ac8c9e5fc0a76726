from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.hub.languages import language_code, split_languages
from adapterhub.hub.licenses import normalize_license
from adapterhub.hub.names import (
    collision_problems,
    member_path_problems,
    model_id_problems,
    slug_problems,
    slugify,
)


@pytest.mark.parametrize("path", ["adapter.safetensors", "sub/x.json", ".gitattributes", "ä.md"])
def test_usual_member_names(path: str) -> None:
    assert member_path_problems(path) == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/./b",
        "a\0b",
        "a\nb",
        "a\x1b[31m",
        "a\u2028b",
        "C:/x",
        "a\\b",
        ".git/config",
        "x/.GIT/hooks",
        "nul",
        "sub/Con.txt",
        "x.",
        "x ",
        "e" * 256,
        "ä" * 128,
        "/".join("abcdefghij"),
        "a\udcff",
    ],
)
def test_dangerous_member_names(path: str) -> None:
    assert member_path_problems(path)


def test_names_that_fall_together_elsewhere() -> None:
    assert collision_problems(["a/x", "a/y", "b"]) == []
    assert collision_problems(["README.md", "readme.md"])
    assert collision_problems(["a/x", "A/y"])
    assert collision_problems(["\u00e9.md", "e\u0301.md"])


@pytest.mark.parametrize("value", ["ukp", "sst-2", "a", "1.0", "pfeiffer+inv", "x_"])
def test_slugs(value: str) -> None:
    assert slug_problems("name", value) == []


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a..b", "-a", "a/b", "a b", "a@b", "ä", "con", "x" * 97, "a\n", ".a"]
)
def test_not_slugs(value: str) -> None:
    assert slug_problems("name", value)


@given(st.text(min_size=1))
def test_slugify_gives_slugs_or_nothing(text: str) -> None:
    slug = slugify(text)
    assert not slug or all(char.isascii() and not char.isspace() for char in slug)
    assert "/" not in slug
    assert ".." not in slug


@pytest.mark.parametrize("name", ["gpt2", "facebook/bart-base", "a/b.c_d-e"])
def test_model_ids(name: str) -> None:
    assert model_id_problems(name) == []


@pytest.mark.parametrize(
    "name", ["", "/tmp/x", "./x", "../x", "~/m", "a/b/c", "C:\\m", "a b", "a/../b"]
)
def test_local_paths_are_not_model_ids(name: str) -> None:
    assert "base_model=" in model_id_problems(name)[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("apache-2.0", "Apache-2.0"),
        ("MIT", "MIT"),
        ("other", "other"),
        ("LicenseRef-Mine", "LicenseRef-Mine"),
        ("mit or (apache-2.0 and cc-by-4.0)", "MIT OR (Apache-2.0 AND CC-BY-4.0)"),
    ],
)
def test_licenses(given: str, expected: str) -> None:
    assert normalize_license(given) == (expected, [])


@pytest.mark.parametrize(
    "value", ["", "apache 2", "MIT OR", "(MIT", "MIT)", "AND MIT", "Apache2.0"]
)
def test_not_licenses(value: str) -> None:
    assert normalize_license(value)[1]


def test_license_hint() -> None:
    assert "'apache-2.0'" in normalize_license("apache-2")[1][0]


def test_languages() -> None:
    assert {language_code(name) for name in ("english", "English", "en", "EN")} == {"en"}
    assert split_languages("en, de, Chinese") == ("en", "de", "zh")
    assert split_languages(["en", "English"]) == ("en",)
    assert split_languages("Hinglish") == ("hinglish",)
    assert language_code("zh_yue") == "yue"
    assert split_languages(None) == ()
