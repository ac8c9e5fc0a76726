from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from adapterhub.hub.sniff import sniff
from adapterhub.hub.tensors import read_header
from tests.hub.conftest import floats, safetensors_bytes

WEIGHTS = safetensors_bytes({"a": ("F32", [1], floats(1.0))})


def png(tail: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"") + tail


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x", "y")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO(b""))
    return buffer.getvalue()


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


#: Two pieces (text, score, kind) and the settings of a trainer and a normaliser.
PIECES = (
    field(1, field(1, b"<unk>") + b"\x15\x00\x00\x00\x00" + b"\x18\x02")
    + field(1, field(1, "\u2581the".encode()) + b"\x15\x00\x00\x80\xbf")
    + field(2, b"\x18\x01" + field(2, b"m"))
    + field(3, field(1, b"nmt_nfkc"))
)


class Evil:
    def __reduce__(self):
        return (print, ("never run",))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("adapter.safetensors", WEIGHTS, "safetensors"),
        ("adapter_config.json", b'{"a": 1}', "json"),
        ("README.md", "# Grüße\n".encode(), "text"),
        ("LICENSE", b"Apache License", "text"),
        (".gitattributes", b"*.safetensors filter=lfs", "text"),
        ("notes.txt", b"1. Introduction", "text"),
        ("meta.yaml", b"a: 1", "yaml"),
        ("sub/plot.png", png(), "png"),
        (".gitignore", b"checkpoints/\n", "text"),
        ("merges.txt", b"", "text"),
        ("chat_template.jinja", b"{% for m in messages %}{{ m }}{% endfor %}", "text"),
        ("tokenizer.model", PIECES, "sentencepiece"),
        ("spiece.model", PIECES, "sentencepiece"),
    ],
)
def test_allowed(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    path = tmp_path / "staged"
    path.write_bytes(data)
    assert sniff(path, name) == (kind, [])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("pytorch_adapter.bin", zipped(), "zip archive"),
        ("adapter.safetensors", zipped(), "zip archive"),
        ("README.md", pickle.dumps({"a": 1}), "a pickle"),
        ("README.md", pickle.dumps(Evil(), protocol=0), "pickle in text form"),
        ("x.txt", pickle.dumps(Evil(), protocol=4), "a pickle"),
        ("x.txt", tarred(), "tar archive"),
        ("x.txt", b"7z\xbc\xaf\x27\x1c\0\4", "7z archive"),
        ("x.txt", b"\x1f\x8b\x08", "gzip"),
        ("x.txt", b"\x7fELF\2", "a program"),
        ("run.txt", b"#!/bin/sh\necho", "a script"),
        ("model.py", b"import os\n", "programs are"),
        ("page.html", b"<script>", "programs are"),
        ("picture.svg", b"<svg/>", "programs are"),
        ("x.txt", b"a\0b", "control characters"),
        ("x.txt", b"\x1b[2J", "control characters"),
        ("x.txt", b"\xff\xfe\xfd", "unknown binary kind"),
        ("adapter.safetensors", b"", "empty"),
        ("adapter_config.json", b"", "empty"),
        ("tokenizer.model", PIECES[:-1], "unknown binary kind"),
        ("tokenizer.model", PIECES + b"\x80", "unknown binary kind"),
        ("tokenizer.model", PIECES + field(9, b""), "unknown binary kind"),
        ("tokenizer.model", pickle.dumps({"a": 1}), "a pickle"),
        ("model.txt", PIECES, "must end in .model"),
        ("x.json", b'{"a": 1, "a": 2}', "occurs twice"),
        ("x.json", b"{", "cannot be read"),
        ("x.yaml", b"a: &b 1", "anchors"),
        ("x.png", png(b"PK\x03\x04"), "hidden behind"),
        ("x.png", png()[:-6], "cut off"),
        ("x.png", png().replace(b"IDAT", b"IDAX"), "damaged"),
        ("x.jpg", png(), "must end in .png"),
        ("weights.bin", WEIGHTS, "must end in .safetensors"),
        ("adapter.safetensors", b"version https://git-lfs", "not safetensors"),
    ],
)
def test_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / "staged"
    path.write_bytes(data)
    _, problems = sniff(path, name)
    assert problems
    assert message in problems[0]
    assert problems[0].startswith(name)


@pytest.mark.parametrize("length", [0x0480, 0x0580, 0x8B1F, 0x5A4D, 0x2123])
def test_length_of_a_header_may_look_like_another_kind(tmp_path: Path, length: int) -> None:
    path = tmp_path / "staged"
    path.write_bytes(struct.pack("<Q", length) + b"{}".ljust(length))
    assert sniff(path, "a.safetensors") == ("safetensors", [])
    assert read_header(path).problems == []


def test_way_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "staged"
    path.write_bytes(zipped())
    assert "safetensors" in sniff(path, "pytorch_adapter.bin")[1][0]
