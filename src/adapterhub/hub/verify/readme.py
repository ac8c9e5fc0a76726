"""The text of a README below its front matter: whole, as a few plain sentences, and what to cite."""

from __future__ import annotations

import re

_EXCERPT = 600
_READ = 20_000
_FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_BIBTEX = re.compile(r"^(?:```|~~~)[^\n]*\n(\s*@\w+\s*\{.*?)^(?:```|~~~)", re.MULTILINE | re.DOTALL)
# Bounded, so that a text made for it cannot keep the search going for long.
_COMMENT = re.compile(r"<!--.{0,2000}?-->", re.DOTALL)
_LINK = re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\n]{0,1000}\)")
_MARKUP = re.compile(r"<[^<>\n]{0,300}>|[*_`>|]")


def body(text: str) -> str:
    """Return what stands below the block between ``---`` lines."""
    text = text.replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return text
    _, end, rest = text[4:].partition("\n---")
    return rest.partition("\n")[2] if end else text


def excerpt(text: str, limit: int = _EXCERPT) -> str:
    """Return the first sentences of a README as plain text of at most *limit* characters.

    Headings, tables, code and comments are left out; markup goes.
    """
    plain = _COMMENT.sub(" ", _FENCED.sub(" ", body(text)[:_READ]))
    rows = (row for row in plain.splitlines() if not row.lstrip().startswith(("#", "|", "---")))
    line = " ".join(_MARKUP.sub("", _LINK.sub(r"\1", " ".join(rows))).split())
    return line if len(line) <= limit else line[: limit - 1].rsplit(" ", 1)[0] + "…"


def citation(text: str) -> str | None:
    """Return the first BibTeX entry in a block of code, if there is one."""
    match = _BIBTEX.search(body(text)[:_READ])
    return match[1].strip() if match else None
