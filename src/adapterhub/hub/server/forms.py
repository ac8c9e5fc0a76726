"""The fields of a form: small, decoded, and taken only from a page of this hub."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from adapterhub.hub.server.call import Call, read_body
from adapterhub.hub.store.refusals import Malformed

MAX_FORM = 256 << 10
_MAX_FIELDS = 200
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


class Form:
    """The fields of a form; a field that was not sent is empty text."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self.fields = fields

    def raw(self, name: str) -> str:
        """Return a field as it was sent; for secrets, in which every character counts."""
        return self.fields.get(name, [""])[-1]

    def text(self, name: str, label: str = "", limit: int = 200) -> str:
        """Return a field of one line, without the blanks around it.

        Raises:
            Malformed: If it is too long, or holds characters that nobody sees.
        """
        return self.lines(name, label, limit).replace("\n", " ")

    def lines(self, name: str, label: str = "", limit: int = 5000) -> str:
        """Return a field of several lines, as :meth:`text` does one."""
        value = self.raw(name).replace("\r\n", "\n").replace("\r", "\n").strip()
        if len(value) > limit:
            raise Malformed(
                f"{label or name} has {len(value)} characters; at most {limit} are taken."
            )
        if _UNPRINTABLE.search(value):
            raise Malformed(f"{label or name} holds a character that cannot be seen; remove it.")
        return value

    def number(self, name: str, label: str, low: int, high: int) -> int | None:
        """Return a whole number, or ``None`` if the field is empty.

        Raises:
            Malformed: If it is no number, or out of its range.
        """
        text = self.raw(name).strip()
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise Malformed(f"{label} must be a whole number from {low} to {high}.")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return whether a box was ticked."""
        return bool(self.raw(name))

    def choice(self, name: str, label: str, values: tuple[str, ...]) -> str:
        """Return a field that has one of some values.

        Raises:
            Malformed: If it has another.
        """
        value = self.raw(name)
        if value not in values:
            raise Malformed(f"{label} must be one of: {', '.join(v or 'nothing' for v in values)}.")
        return value


def parse(body: bytes) -> Form:
    """Read the body of a form.

    Raises:
        Malformed: If it is none.
    """
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_MAX_FIELDS,
            errors="strict",
        )
    except ValueError as error:
        raise Malformed("The form cannot be read.") from error
    return Form(fields)


async def receive(call: Call) -> Form:
    """Read the form of a request, and refuse it unless it came from a page that we showed.

    Raises:
        Malformed, TooLarge: If it is no form, or a large one.
        Forbidden: If it came from elsewhere.
    """
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Malformed("This address takes a form (application/x-www-form-urlencoded).")
    found = parse(await read_body(call.request, MAX_FORM))
    call.visitor.require_form(call.request, found.raw("form_token"))
    return found
