"""Why the hub server says no, as exceptions that carry their HTTP status.

The store raises them, the server turns them into answers (``server/answers.py``), and commands print
their text. ``code`` is the word of the Hugging Face protocol by which its clients choose the error that
they raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapterhub.errors import HubError


class Refusal(HubError):
    """Something was asked for that cannot be given; nothing has changed."""

    status = 400
    code: str | None = None

    def __init__(self, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers or {}


class Malformed(Refusal):
    """The request itself cannot be understood."""


class Unidentified(Refusal):
    """A valid token is needed."""

    status = 401


class Forbidden(Refusal):
    """The caller is known but may not do this."""

    status = 403


class RepoGated(Refusal):
    """The files are only for people whom the owner let in."""

    status = 403
    code = "GatedRepo"


class RepoMissing(Refusal):
    """There is no such repository, or the caller may not know of it."""

    status = 404
    code = "RepoNotFound"


class RevisionMissing(Refusal):
    """There is no such branch, tag or commit that the caller may see."""

    status = 404
    code = "RevisionNotFound"


class EntryMissing(Refusal):
    """There is no such file or folder in that commit."""

    status = 404
    code = "EntryNotFound"


class Missing(Refusal):
    """There is no such thing (account, token, page)."""

    status = 404


class Conflict(Refusal):
    """It exists already."""

    status = 409


class Stale(Refusal):
    """Somebody else committed first."""

    status = 412


class TooLarge(Refusal):
    """More bytes or files than this hub takes."""

    status = 413


class Unacceptable(Refusal):
    """The content was understood and failed a check.

    Attributes:
        files: what is wrong, by the path of the file, where that is known.
    """

    status = 422

    def __init__(
        self,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        files: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(message, headers=headers)
        self.files: dict[str, Sequence[str]] = dict(files or {})


class TooMany(Refusal):
    """Too many requests."""

    status = 429


def all_problems(headline: str, problems: list[str], shown: int = 8) -> Unacceptable:
    """Return one refusal that lists every problem, on one line (it travels in a header)."""
    distinct = list(dict.fromkeys(problems))
    more = f"; and {len(distinct) - shown} more" if len(distinct) > shown else ""
    return Unacceptable(f"{headline}: {'; '.join(distinct[:shown])}{more}")


def file_problems(headline: str, files: Mapping[str, Sequence[str]]) -> Unacceptable:
    """Return :func:`all_problems` of several files, which also says which problem is of which file."""
    found = all_problems(headline, [line for lines in files.values() for line in lines])
    found.files = {path: list(lines) for path, lines in files.items() if lines}
    return found
