"""Whose keys a hub folder knows: ``keys/<account>.yaml``, as a server knows them from profiles.

Each file lists the public keys of one account, by which its adapters and reports are signed::

    keys:
    - key: ed25519:...
      name: laptop               # for people
      expires: 2027-01-01T00:00:00Z
      revoked: 2026-12-01T00:00:00Z   # from then on nothing that it signed is believed, also not from before
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.findings import Finding
from adapterhub.hub.names import slug_problems
from adapterhub.hub.signing import PublicKey, SignatureError, moment, stamp

FOLDER = "keys"
MAX_KEYS = 100


@dataclass(frozen=True)
class FolderKey:
    """A public key and the account it belongs to, with the times from which on it does not count."""

    key: PublicKey
    account: str
    name: str = ""
    expires: datetime | None = None
    revoked: datetime | None = None

    def to_json(self) -> dict[str, str]:
        """Return the line of the file as plain values."""
        values = {
            "key": str(self.key),
            "name": self.name,
            "expires": stamp(self.expires),
            "revoked": stamp(self.revoked),
        }
        return {key: value for key, value in values.items() if value}


@dataclass
class FolderKeys:
    """The keys of a hub folder, by their text. What is wrong with the files is in *findings*."""

    keys: dict[str, FolderKey] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def load(cls, root: Path) -> FolderKeys:
        """Read them all; a file that cannot be read leaves its keys unknown."""
        made = cls()
        for path in sorted((root / FOLDER).glob("*.yaml")):
            where = path.relative_to(root).as_posix()
            try:
                found = read_keys(path.stem, cardfile.load(path))
            except (HubError, OSError) as error:
                made.findings.append(Finding("error", "unreadable", where, str(error)))
                continue
            for item in found:
                other = made.keys.setdefault(str(item.key), item)
                if other is not item:
                    message = f"key {item.key.id} is listed for {other.account} already"
                    made.findings.append(Finding("error", "duplicate", where, message))
        return made

    def find(self, key: PublicKey) -> FolderKey | None:
        """Return whose key this is, if anybody's."""
        return self.keys.get(str(key))

    def refusal(self, key: PublicKey, when: datetime) -> str | None:
        """Say why what a key signed at a time is not to be believed; ``None``: nothing speaks against it."""
        row = self.find(key)
        if row is None:
            return None
        if row.revoked is not None:
            return f"key {key.id} of {row.account} was revoked on {stamp(row.revoked)}"
        if row.expires is not None and when > row.expires:
            return f"key {key.id} of {row.account} expired on {stamp(row.expires)}"
        return None


def read_keys(account: str, content: Mapping[str, Any]) -> list[FolderKey]:
    """Read the content of a file of keys.

    Raises:
        HubError: If it is none.
    """
    problems = slug_problems("account", account)
    if problems:
        raise HubError(problems[0])
    rows = content.get("keys")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise HubError("'keys' must be a list of objects, each with 'key: ed25519:...'")
    if len(rows) > MAX_KEYS:
        raise HubError(f"an account has at most {MAX_KEYS} keys")
    return [
        FolderKey(
            PublicKey.parse(row.get("key")),
            account,
            str(row.get("name") or "")[:200],
            _time(row, "expires"),
            _time(row, "revoked"),
        )
        for row in rows
    ]


def _time(row: Mapping[str, Any], name: str) -> datetime | None:
    value = row.get(name)
    if isinstance(value, datetime):  # YAML reads a time without quotes as one
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value
    try:
        return moment(value, f"'{name}'")
    except SignatureError as error:
        raise HubError(str(error)) from error


def dumps(keys: Iterable[FolderKey]) -> bytes:
    """Return the content of the file of one account."""
    return cardfile.dumps({"keys": [item.to_json() for item in keys]})
