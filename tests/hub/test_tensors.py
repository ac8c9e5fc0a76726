from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.hub.tensors import number_problems, read_header
from tests.hub.conftest import floats, safetensors_bytes


def write(path: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_files_of_the_real_writer_pass(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    tensors = {
        "a": torch.ones(3, 2),
        "b": torch.ones(5, dtype=torch.bfloat16),
        "c": torch.zeros(0, 4),
        "d": torch.tensor(1.0, dtype=torch.float16),
        "e": torch.arange(3),
        "f": torch.ones(2).to(torch.float8_e4m3fn),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    result = read_header(path)
    assert result.problems == []
    assert result.parameters == sum(t.numel() for t in tensors.values())
    assert number_problems(path, result.tensors) == []


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": tensor()}, b"\0" * 7, "no tensor accounts for"),
        ({"a": tensor()}, b"\0" * 9, "no tensor accounts for"),
        ({"a": tensor(shape=(3,))}, b"\0" * 8, "needs 12 bytes"),
        ({"a": tensor(offsets=(8, 16))}, b"\0" * 16, "gap"),
        ({"a": tensor(), "b": tensor(offsets=(4, 12))}, b"\0" * 12, "overlaps"),
        ({"a": tensor(), "b": tensor()}, b"\0" * 8, "overlaps"),
        ({"a": tensor(dtype="F33")}, b"\0" * 8, "unknown type"),
        ({"a": tensor(dtype=["F32"])}, b"\0" * 8, "unknown type"),
        ({"a": tensor(shape=(-2,))}, b"\0" * 8, "impossible shape"),
        ({"a": tensor(shape=(True, 2))}, b"\0" * 8, "impossible shape"),
        ({"a": tensor(shape=(2**62, 2**62))}, b"\0" * 8, "needs"),
        ({"a": tensor(shape=[1] * 99)}, b"\0" * 8, "impossible shape"),
        ({"a": tensor(offsets=(8, 0))}, b"\0" * 8, "span -8"),
        ({"a": tensor(offsets=(0,))}, b"\0" * 8, "impossible offsets"),
        ({"a": {**tensor(), "more": 1}}, b"\0" * 8, "exactly"),
        ({"a": 1}, b"", "exactly"),
        ({"__metadata__": {"x": 1}}, b"", "text to text"),
        ({"a": tensor(dtype="F4", shape=(3,), offsets=(0, 1))}, b"\0", "needs 1.5 bytes"),
        ([], b"", "not a JSON object"),
        (b'{"a": 1, "a": 2}', b"", "occurs twice"),
        (b'{"a": NaN}', b"", "NaN is not JSON"),
        (b"{" * 50_000, b"", "not valid JSON"),
        (b'{"a":' * 50_000, b"", "not valid JSON"),
        (b'{"a": "\xff"}', b"", "not valid JSON"),
    ],
)
def test_every_lie_is_found(tmp_path: Path, header: object, data: bytes, message: str) -> None:
    problems = read_header(write(tmp_path / "x", header, data)).problems
    assert any(message in problem for problem in problems), problems


def test_lengths(tmp_path: Path) -> None:
    assert "cut off" in read_header(write(tmp_path / "a", b"{}", length=3)).problems[0]
    assert "cut off" in read_header(write(tmp_path / "b", b"{}", length=2**63)).problems[0]
    (tmp_path / "c").write_bytes(b"\1\0")
    assert "cut off" in read_header(tmp_path / "c").problems[0]
    big = tmp_path / "d"
    write(big, b"{}", length=26_000_000)
    with big.open("r+b") as file:
        file.truncate(26_000_100)  # sparse: takes no room on disk
    assert "at most" in read_header(big).problems[0]


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [
        ("F32", floats(float("nan"))),
        ("F32", floats(float("-inf"))),
        ("F64", struct.pack("<d", float("nan"))),
        ("F16", b"\x00\x7c"),
        ("BF16", b"\x80\x7f"),
        ("F8_E4M3", b"\xff"),
        ("F8_E5M2", b"\x7c"),
        ("C64", floats(1.0, float("nan"))),
    ],
)
def test_numbers_that_are_none(tmp_path: Path, dtype: str, raw: bytes) -> None:
    path = tmp_path / "x"
    good = ("F32", [2], floats(1.0, 2.0))
    path.write_bytes(safetensors_bytes({"good": good, "bad": (dtype, [1], raw)}))
    result = read_header(path)
    assert result.problems == []
    (problem,) = number_problems(path, result.tensors)
    assert "'bad'" in problem
    assert "'good'" not in problem


def test_large_but_finite_numbers_pass(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tensors = {"a": ("F32", [1], floats(3e38)), "b": ("BF16", [1], b"\x7f\x7f")}
    tensors["c"] = ("U8", [1], b"\xff")
    path.write_bytes(safetensors_bytes(tensors))
    assert number_problems(path, read_header(path).tensors) == []


@given(data=st.binary(max_size=120), position=st.integers(0, 150), value=st.integers(0, 255))
def test_no_bytes_crash_the_reader(
    tmp_path_factory, data: bytes, position: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(data)
    read_header(path)
    good = bytearray(safetensors_bytes({"a": ("F32", [2], floats(1, 2)), "b": ("U8", [1], b"1")}))
    good[position % len(good)] = value
    path.write_bytes(good)
    result = read_header(path)
    # Whatever was changed: if the header still passes, the tensors lie inside the file.
    assert result.problems or all(t.end <= len(good) for t in result.tensors)
