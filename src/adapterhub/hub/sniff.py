"""Tells what a file is by its content, and refuses what could run or hide something.

Names lie: scanners that looked at the extension first were fooled. Here the content decides the
kind first, and then the name must be one that this kind may have. Only six kinds exist:
safetensors, JSON, YAML, text (Markdown and chat templates among it), PNG, and the models of
SentencePiece, which tokenizers need. Everything else is refused, with the way out.
"""

from __future__ import annotations

import io
import pickletools
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Literal

from adapterhub.errors import HubError
from adapterhub.hub import cardfile, sentencepiece
from adapterhub.hub.tensors import strict_json

Kind = Literal["safetensors", "json", "yaml", "text", "png", "sentencepiece"]

MAX_TEXT_BYTES = 32 * 1024 * 1024
MAX_PNG_BYTES = 16 * 1024 * 1024

SAVE_AS_SAFETENSORS = (
    "save the adapter again as safetensors (save_adapter in this library does; in the 'adapters' "
    "library pass use_safetensors=True) and remove this file"
)

_ALLOWED_NAMES: dict[Kind, tuple[str, ...]] = {
    "safetensors": (".safetensors",),
    "json": (".json",),
    "yaml": (".yaml", ".yml"),
    "text": (
        *(".md", ".rst", ".txt", ".bib", ".cff", ".gitattributes", ".gitignore"),
        *(".jinja", ".jinja2", ".csv", ".tsv", ".jsonl", ".vocab"),
    ),
    "png": (".png",),
    "sentencepiece": (".model", ".spm"),
}
_TEXT_WITHOUT_SUFFIX = ("license", "licence", "notice", "readme", "copying", "citation")

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive (torch.save writes such files, with pickle inside)"),
    (b"PK\x05\x06", "a zip archive"),
    (b"PK\x07\x08", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"Rar!", "a rar archive"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy file"),
    (b"GGUF", "a GGUF file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"#!", "a script"),
)
_PNG = b"\x89PNG\r\n\x1a\n"


def sniff(path: Path, name: str) -> tuple[Kind | None, list[str]]:
    """Return the kind of the file at *path*, to be called *name*, and why it is refused, if so."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        problems = _name_problems(name, "text")
        return "text", [f"{name} is empty; remove it"] if problems else []
    if head.startswith(_PNG):
        problem = "is larger than a preview may be" if size > MAX_PNG_BYTES else _png_problem(path)
        return "png", [f"{name} {problem}"] if problem else _name_problems(name, "png")
    binary = _binary_kind(head)
    if binary == "safetensors":
        return "safetensors", _name_problems(name, "safetensors")
    if binary is not None:
        return None, [f"{name} is {binary}, which is refused; {SAVE_AS_SAFETENSORS}"]
    if sentencepiece.may_be(head) and sentencepiece.is_sentencepiece(path):
        return "sentencepiece", _name_problems(name, "sentencepiece")
    if size > MAX_TEXT_BYTES:
        return None, [f"{name} is larger than the {MAX_TEXT_BYTES >> 20} MiB that text may have"]
    return _text_kind(path.read_bytes(), name)


def _binary_kind(head: bytes) -> str | None:
    # First, because the length that starts a safetensors file may spell any two bytes, such as those
    # of a pickle. Eight letters of text make a far larger number; the header check does the rest.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 48:
        return "safetensors"
    for magic, label in _MAGIC:
        if head.startswith(magic):
            return label
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        return "a pickle (loading one can run any program)"
    return None


def _text_kind(data: bytes, name: str) -> tuple[Kind | None, list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None, [f"{name} is of an unknown binary kind, which is refused; remove it"]
    if any(unicodedata.category(char) == "Cc" and char not in "\t\n\r\f" for char in set(text)):
        return None, [f"{name} holds control characters, so it is not text; remove it"]
    if _is_text_pickle(data):
        return None, [f"{name} is a pickle in text form, which is refused; {SAVE_AS_SAFETENSORS}"]
    suffix = Path(name.lower()).suffix
    try:
        if suffix == ".json":
            strict_json(data)
            return "json", []
        if suffix in _ALLOWED_NAMES["yaml"]:
            cardfile.loads(data)
            return "yaml", []
    except (HubError, ValueError) as error:
        return None, [f"{name} cannot be read: {error}"]
    return "text", _name_problems(name, "text")


def _is_text_pickle(data: bytes) -> bool:
    """Recognise pickle protocol 0: text that reads as opcodes, imports something and then stops."""
    imports = False
    try:
        for opcode, _, _ in pickletools.genops(io.BytesIO(data[:65536])):
            imports = imports or opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL")
            if opcode.name == "STOP":
                return imports
    except Exception:  # whatever goes wrong in there means that it is not a pickle
        return False
    return False


def _name_problems(name: str, kind: Kind) -> list[str]:
    last = name.rpartition("/")[2].lower()
    suffix = Path(last).suffix or (last if last.startswith(".") else "")
    if suffix in _ALLOWED_NAMES[kind]:
        return []
    if kind == "text":
        if not suffix and last in _TEXT_WITHOUT_SUFFIX:
            return []
        if suffix == ".safetensors":
            return [f"{name} is text and not safetensors; {SAVE_AS_SAFETENSORS}"]
        return [f"{name} is text of a kind that is refused (programs are); keep .md, .txt, .json"]
    return [f"{name} is {kind} by content, so it must end in {_ALLOWED_NAMES[kind][0]}"]


def _png_problem(path: Path) -> str:
    """Walk the chunks of a PNG: whole, checksummed, and with nothing hidden behind the end."""
    data = path.read_bytes()
    position = len(_PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            break
        body = data[position + 4 : end - 4]
        if zlib.crc32(body) != int.from_bytes(data[end - 4 : end], "big"):
            return "is a damaged PNG image"
        if kind == b"IEND":
            return "" if end == len(data) else "is a PNG image with something hidden behind it"
        position = end
    return "is a PNG image that is cut off"
