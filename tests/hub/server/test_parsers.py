"""Whatever strangers write is understood in one way or refused in one way; nothing else ever happens."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

pytest.importorskip("starlette", reason="the hub server needs the [hub] extra")

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapterhub.errors import HubError
from adapterhub.hub.names import collision_problems, member_path_problems
from adapterhub.hub.server import parts, signed
from adapterhub.hub.server.answers import header_text
from adapterhub.hub.server.identity import secret_of
from adapterhub.hub.server.ranges import OutOfRange, parse_range
from adapterhub.hub.server.routing import Table, get, post
from adapterhub.hub.server.settings import parse_size
from adapterhub.hub.server.signed import Announced
from adapterhub.hub.store.commits import require_reference_name
from adapterhub.hub.store.refusals import Forbidden, Malformed, Unidentified
from adapterhub.hub.tensors import read_header
from adapterhub.hub.verify.files import card_problems

_ANY = st.text(max_size=80)
_KEY = "5a" * 32
_TABLE = Table(
    [
        [
            get("/api/models/{owner}/{name}/tree/{rev}/{path*}", print),
            get("/{owner}/{name}/resolve/{rev}/{path*}", print),
            post("/{owner}/{name}.git/info/lfs/verify", print),
            get("/api/models/{owner}/{name}", print),
        ]
    ]
)


@given(size=st.integers(0, 10**12), start=st.integers(0, 10**12), end=st.integers(0, 10**12))
@example(size=0, start=0, end=0)
def test_ranges(size: int, start: int, end: int) -> None:
    """A range is what RFC 9110 says of ``bytes=start-end``, cut at the end of the file."""
    if start > end:
        assert parse_range(f"bytes={start}-{end}", size) is None
    elif start >= size:
        with pytest.raises(OutOfRange) as raised:
            parse_range(f"bytes={start}-{end}", size)
        assert raised.value.headers == {"Content-Range": f"bytes */{size}"}
    else:
        assert parse_range(f"bytes={start}-{end}", size) == (start, min(end + 1, size))
        assert parse_range(f"bytes={start}-", size) == (start, size)
    if end and size:
        assert parse_range(f"bytes=-{end}", size) == (size - min(end, size), size)


@given(header=_ANY | st.from_regex(r"\A[bytes= ,0-9-]{0,30}\Z"), size=st.integers(0, 100))
@example(header="bytes=0-0,5-6", size=10)
@example(header="bytes=" + "9" * 30 + "-", size=10)
@example(header="bytes=-", size=10)
def test_ranges_that_are_none(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except OutOfRange:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


@given(raw=st.binary(max_size=80) | _ANY.map(lambda text: quote(text, safe="/").encode()))
def test_paths_of_requests(raw: bytes) -> None:
    try:
        route, found, known = _TABLE.find("GET", b"/" + raw)
    except Malformed:
        return
    assert not (route and known)
    assert all("\0" not in value for value in found.values())


@given(
    owner=st.text("abcAB-_.", min_size=1, max_size=20),
    name=st.text("abcAB-_.", min_size=1, max_size=20),
    rev=st.text(min_size=1, max_size=30).filter(lambda text: "\0" not in text),
    path=st.text(min_size=1, max_size=60).filter(lambda text: "\0" not in text),
)
def test_parts_of_a_path_come_as_they_were_sent(owner: str, name: str, rev: str, path: str) -> None:
    try:
        raw = f"/{owner}/{name}/resolve/{quote(rev, safe='')}/{quote(path)}".encode()
    except UnicodeEncodeError:  # half of a pair of surrogates cannot be sent
        return
    route, found, _ = _TABLE.find("GET", raw)
    assert route is not None
    assert found == {"owner": owner, "name": name, "rev": rev, "path": path}


@given(name=_ANY | st.from_regex(r"\A[a-z./@{~^:-]{1,12}\Z"))
def test_names_of_branches(name: str) -> None:
    try:
        require_reference_name(name)
    except Malformed:
        return
    # What is left is what git accepts, and cannot be taken for anything else in an address.
    assert name
    assert not name.startswith(("/", ".", "-", "refs/"))
    assert not name.endswith(("/", ".", ".lock"))
    assert not set(name) & set(" ~^:?*[\\\x7f")
    assert ".." not in name
    assert "//" not in name
    assert name.isprintable() or not any(ord(char) < 32 for char in name)


@given(path=_ANY | st.from_regex(r"\A[a-zA-Z./\\: ]{1,20}\Z"))
def test_names_of_files(path: str) -> None:
    """A path that is accepted stays inside the folder into which it is unpacked, on every system."""
    if member_path_problems(path):
        return
    root = Path("/a/folder")
    assert root in (root / path).resolve().parents
    assert "\\" not in path
    assert ":" not in path
    assert not any(
        part.strip(". ") != part.strip() and part.endswith((".", " ")) for part in path.split("/")
    )


@given(
    paths=st.lists(st.text("aAbB\u00e9e\u0301/", min_size=1, max_size=6), max_size=6, unique=True)
)
def test_files_that_one_disk_would_take_for_another(paths: list[str]) -> None:
    import unicodedata

    def folded(path: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())

    if len({folded(path) for path in paths}) < len(paths):
        assert collision_problems(paths)


_yaml = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_fields = st.sampled_from(
    [
        "license",
        "tags",
        "language",
        "datasets",
        "metrics",
        "base_model",
        "model-index",
        "pipeline_tag",
    ]
)


@settings(max_examples=150, deadline=None)
@given(front=st.dictionaries(_fields, _yaml, max_size=4), rest=_ANY)
def test_front_matter_of_any_shape(front: dict[str, Any], rest: str) -> None:
    """Every field may hold anything: the answer is a list of problems, never an exception."""
    text = f"---\n{json.dumps(front)}\n---\n{rest}"
    problems, warnings, card = card_problems(text)
    assert all(isinstance(line, str) and "\n" not in line for line in [*problems, *warnings])
    assert isinstance(card, dict)


@settings(deadline=None)
@given(text=_ANY | _ANY.map(lambda text: f"---\n{text}\n---\n"))
@example(text="---\n")
@example(text="---\n---")
@example(text="---\na: &a [1]\nb: *a\n---\n")
@example(text="---\n" + "[" * 5000 + "\n---\n")
@example(text="---\n" + "{a: " * 3000 + "\n---\n")
@example(text="---\n? " * 2000 + "\n---\n")
@example(text="---\na: 1\n" + "...\n---\n" * 500)
@example(text="---\na: 2001-99-99\n---\n")
@example(text="---\na: 0o777777777777777777777777777\n---\n")
@example(text="---\n<<: {a: 1}\n---\n")
@example(text="---\nb: !!binary '%%%'\n---\n")
@example(text="\ufeff---\na: 1\n---\n")
@example(text="---\r\na: 1\r\n---\r\n")
def test_front_matter_of_any_text(text: str) -> None:
    problems, warnings, card = card_problems(text)
    assert all(isinstance(line, str) for line in [*problems, *warnings])
    assert isinstance(card, dict)


_entry = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F33", 3, None]),
        "shape": st.lists(st.integers(-1, 4) | st.just(2**63), max_size=3) | st.none(),
        "data_offsets": st.lists(st.integers(-4, 40), min_size=0, max_size=3) | st.none(),
        "more": st.integers(),
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), _entry, max_size=3),
    data=st.integers(0, 40),
    off=st.integers(-3, 3),
    pad=st.integers(0, 3),
)
def test_headers_that_pass_are_read_by_the_real_reader(
    tmp_path: Path, header: dict[str, Any], data: int, off: int, pad: int
) -> None:
    """What our check lets through, the library that others load with accepts, with the same shapes."""
    from safetensors import SafetensorError, safe_open

    text = json.dumps(header).encode() + b" " * pad
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", max(0, len(text) + off)) + text + bytes(data))
    found = read_header(path)
    if found.problems:
        return
    try:
        with safe_open(path, framework="np") as opened:
            shapes = {name: list(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise AssertionError(f"passed our check, but {error}: {header}") from error
    assert shapes == {tensor.name: list(tensor.shape) for tensor in found.tensors}


@given(
    query=st.dictionaries(
        st.sampled_from([*vars(Announced(1, 1, "", 1)), "expires", "signature"]), _ANY
    )
)
def test_signed_addresses_cannot_be_made_up(query: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        signed.check(_KEY, query)


@given(
    item=st.builds(
        Announced,
        repo=st.integers(0, 10**9),
        account=st.integers(0, 10**9),
        oid=st.text("0123456789abcdef", min_size=64, max_size=64),
        size=st.integers(0, 10**13),
        part=st.integers(-1, 1000),
    ),
    field=st.sampled_from(["repo", "account", "oid", "size", "part", "expires"]),
    value=st.integers(-5, 10**6).map(str),
)
def test_signed_addresses_cannot_be_altered(item: Announced, field: str, value: str) -> None:
    from urllib.parse import parse_qsl

    query = dict(parse_qsl(signed.sign(_KEY, item)))
    assert signed.check(_KEY, query) == item
    if query[field] != value:
        with pytest.raises(Forbidden):
            signed.check(_KEY, {**query, field: value})
    with pytest.raises(Forbidden):
        signed.check("00" * 32, query)


@given(
    rows=_yaml
    | st.lists(st.dictionaries(st.sampled_from(["partNumber", "etag"]), _yaml), max_size=4)
)
def test_ends_of_uploads(rows: Any) -> None:
    try:
        parts.wanted({"parts": rows}, Announced(1, 1, "0" * 64, 300), 100)
    except Malformed:
        return
    raise AssertionError(f"{rows!r} was taken for the parts of a file")


@given(header=_ANY | _ANY.map(lambda text: "Basic " + base64.b64encode(text.encode()).decode()))
def test_authorization_headers(header: str) -> None:
    try:
        secret = secret_of(header)
    except Unidentified:
        return
    assert secret is None or secret


@given(text=st.text(max_size=4000))
def test_words_that_stand_in_a_header(text: str) -> None:
    line = header_text(text)
    assert len(line) <= 1500
    assert all(" " <= char <= "~" for char in line)


@given(text=_ANY | st.from_regex(r"\A[0-9]{1,9} ?[kKmMgG]?i?[bB]?\Z"))
def test_sizes(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except HubError:
        return


def test_queries_do_not_matter_to_signatures_in_their_order() -> None:
    item = Announced(1, 2, "0" * 64, 3)
    from urllib.parse import parse_qsl

    pairs = parse_qsl(signed.sign(_KEY, item))
    assert signed.check(_KEY, dict(parse_qsl(urlencode(pairs[::-1])))) == item
