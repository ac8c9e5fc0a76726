"""Which names a hub accepts: for cards, and for the files inside an adapter.

A name becomes a path on other people's disks, so the rules are those of the strictest file system
that it may reach (Windows, case-insensitive macOS, 255-byte components), not those of this machine.
Every function returns a list of problems, empty when the name is fine, so that a caller can report
all of them at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_SLUG_LENGTH = 96
MAX_STEM_LENGTH = 200
MAX_COMPONENT_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_DEPTH = 8

# Letters and digits at both ends, so that a name survives in a URL, a shell and a sentence.
_SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+])?")
_WINDOWS_DEVICE = re.compile(r"(?i)(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_MODEL_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}(?:/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)


def slug_problems(what: str, value: str, *, limit: int = MAX_SLUG_LENGTH) -> list[str]:
    """Check a name that becomes a file or folder name of the hub (*what* names it in messages)."""
    if not isinstance(value, str) or not value:
        return [f"{what} is empty; give it a name made of letters, digits and . _ + -"]
    if len(value) > limit:
        return [f"{what} {value[:40]!r}... is longer than {limit} characters"]
    if not _SLUG.fullmatch(value) or ".." in value or _WINDOWS_DEVICE.fullmatch(value):
        return [
            f"{what} {value!r} is not usable: take letters, digits and . _ + - "
            "(starting with a letter or digit, no '..', no reserved device name)"
        ]
    return []


def slugify(value: str) -> str:
    """Turn any text, such as the model id ``facebook/bart-base``, into a usable name part."""
    kept = re.sub(r"[^A-Za-z0-9._+-]+", "-", value)
    return re.sub(r"\.{2,}", ".", kept).strip(".-")


def model_id_problems(value: str) -> list[str]:
    """Check that *value* is the public id of a base model (``name`` or ``owner/name``)."""
    if _MODEL_ID.fullmatch(value) and ".." not in value:
        return []
    return [
        f"base model {value!r} is not a public model id (name or owner/name); a local path means "
        "nothing to others, so pass base_model='...', e.g. 'bert-base-uncased'"
    ]


def member_path_problems(path: str) -> list[str]:
    """Check the relative path (with ``/``) of one file inside an adapter folder."""
    shown = ascii(path)
    if not path:
        return ["a file has an empty name"]
    problems = []
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in path):
        problems.append(f"file name {shown} holds a control character or is not valid UTF-8")
    if path.startswith("/") or "\\" in path or ":" in path:
        problems.append(f"file name {shown} must be relative, without backslash or colon")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        problems.append(f"file name {shown} must not hold '.', '..' or empty parts")
    if any(part.casefold() == ".git" for part in parts):
        problems.append(f"file name {shown} lies in a .git folder; publish the adapter folder only")
    if any(part != part.rstrip(". ") and part not in (".", "..") for part in parts):
        problems.append(f"file name {shown} ends with a dot or a blank")
    if any(_WINDOWS_DEVICE.fullmatch(part) for part in parts):
        problems.append(f"file name {shown} is a reserved device name")
    if len(parts) > MAX_DEPTH:
        problems.append(f"file name {shown} lies more than {MAX_DEPTH} folders deep")
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if max(sizes) > MAX_COMPONENT_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        problems.append(f"file name {shown[:60]} is longer than {MAX_COMPONENT_BYTES} bytes")
    return problems


def collision_problems(paths: Iterable[str]) -> list[str]:
    """Find names that are one and the same on a case-insensitive or normalising file system.

    Folders count too: ``a/x`` and ``A/y`` cannot both be unpacked as they are on such a system.
    """
    seen: dict[str, str] = {}
    problems = []
    for path in sorted(paths):
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            folded = unicodedata.normalize("NFC", prefix).casefold()
            other = seen.setdefault(folded, prefix)
            if other != prefix:
                problems.append(f"file names {other!a} and {prefix!a} differ only in case")
    return list(dict.fromkeys(problems))
