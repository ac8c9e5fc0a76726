"""The names by which people ask for an adapter.

Two forms, both from the AdapterHub papers and its card repository::

    @owner/stem                    exactly one adapter: the card  adapters/<owner>/<stem>.yaml
    task/subtask@owner             whatever fits; every part but one may be left out:
    task/subtask    subtask    task    task@owner    /subtask    @owner

``owner/stem`` without the leading ``@`` is read as ``task/subtask`` first, because that is what the
published snippets use; only if the hub has no such task does it name an adapter. Which version of
an adapter is meant is never part of the identifier.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from adapterhub.errors import HubError

MAX_IDENTIFIER_LENGTH = 512

_FORMS = "'@owner/name', 'task/subtask', 'task/subtask@owner', 'subtask' or 'task'"


@dataclass(frozen=True)
class AdapterKey:
    """The identifier of one adapter: ``@owner/stem``."""

    owner: str
    stem: str

    def __str__(self) -> str:
        return f"@{self.owner}/{self.stem}"


@dataclass(frozen=True)
class TaskQuery:
    """An identifier that describes an adapter by what it was trained on.

    Attributes:
        first: Text before the slash; without a slash it may be a task or a subtask.
        subtask: Text after the slash.
        owner: Text after the ``@``.
    """

    first: str | None = None
    subtask: str | None = None
    owner: str | None = None

    def __str__(self) -> str:
        slash = f"/{self.subtask}" if self.subtask else ""
        at = f"@{self.owner}" if self.owner else ""
        return f"{self.first or ''}{slash}{at}"

    def as_key(self) -> AdapterKey | None:
        """Return the other reading of ``a/b``: adapter ``b`` of owner ``a``."""
        if self.first and self.subtask and not self.owner:
            return AdapterKey(self.first, self.subtask)
        return None


Identifier = AdapterKey | TaskQuery


def _bad(text: str, why: str) -> HubError:
    return HubError(f"{text[:80]!r} is not an adapter identifier: {why}; write {_FORMS}")


def parse_identifier(text: str) -> Identifier:
    """Parse *text*; ``str()`` of the result gives it back, without surrounding blanks.

    Raises:
        HubError: If *text* follows none of the forms above.
    """
    if not isinstance(text, str):
        raise _bad(str(text), "it is not text")
    body = text.strip()
    if not body:
        raise _bad(text, "it is empty")
    if len(body) > MAX_IDENTIFIER_LENGTH:
        raise _bad(text, f"it is longer than {MAX_IDENTIFIER_LENGTH} characters")
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in body):
        raise _bad(text, "it holds a control character")
    if "://" in body:
        raise _bad(text, "it is a web address")
    if body.startswith("@") and "/" in body:
        owner, _, stem = body[1:].partition("/")
        _refuse_parts(text, owner, stem)
        return AdapterKey(owner, stem)
    before, at, owner = body.partition("@")
    first, slash, subtask = before.partition("/")
    if (at and not owner) or (slash and not subtask):
        raise _bad(text, f"nothing follows the {'@' if at and not owner else '/'}")
    _refuse_parts(text, *(part for part in (first, subtask, owner) if part))
    return TaskQuery(first or None, subtask or None, owner or None)


def _refuse_parts(text: str, *parts: str) -> None:
    for part in parts:
        if not part or part in (".", ".."):
            raise _bad(text, "a part of it is empty or only dots")
        if part != part.strip() or "/" in part or "@" in part or "\\" in part:
            raise _bad(text, f"the part {part!r} holds a '/', '@', backslash or outer blank")
