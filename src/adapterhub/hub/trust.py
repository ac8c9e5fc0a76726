"""Whose keys a user believes, and where the own key lies.

``trusted_keys.json`` lists public keys, each with whom it speaks for: a namespace of a hub (``ada``), ``*``
for everybody, or the address of a hub, whose index it signs (:mod:`.signedindex`). A key that is listed as
revoked is never believed again, even for signatures made before, because nobody can tell when a stolen key
signed. A key with an expiry date is believed for what was signed until then. What is not listed is unknown:
its signatures can be right, but say nothing about who made them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapterhub.hub.signing import (
    PublicKey,
    Signature,
    SignatureError,
    SigningKey,
    moment,
    now,
    stamp,
)
from adapterhub.hub.tensors import strict_json

KEY_VARIABLE, TRUST_VARIABLE = "ADAPTERHUB_KEY", "ADAPTERHUB_TRUSTED_KEYS"
PASSPHRASE_VARIABLE = "ADAPTERHUB_KEY_PASSPHRASE"
ANYBODY = "*"
_FORMAT = "adapterhub-trusted-keys/1"


def config_folder() -> Path:
    """Return the folder of the user's settings: ``$XDG_CONFIG_HOME/adapterhub``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "adapterhub"


def key_file() -> Path:
    """Return where the user's own key is: ``$ADAPTERHUB_KEY``, or ``key.json`` among the settings."""
    given = os.environ.get(KEY_VARIABLE)
    return Path(given).expanduser() if given else config_folder() / "key.json"


def own_key(path: Path | None = None) -> SigningKey:
    """Return the user's key; a passphrase comes from ``$ADAPTERHUB_KEY_PASSPHRASE``.

    Raises:
        SignatureError: If there is none, or it cannot be read.
    """
    return SigningKey.load(path or key_file(), os.environ.get(PASSPHRASE_VARIABLE) or None)


def trust_file() -> Path:
    """Return the list of trusted keys: ``$ADAPTERHUB_TRUSTED_KEYS``, or one among the settings."""
    given = os.environ.get(TRUST_VARIABLE)
    return Path(given).expanduser() if given else config_folder() / "trusted_keys.json"


@dataclass(frozen=True)
class TrustedKey:
    """One line of the list.

    Attributes:
        key: the key.
        who: the namespace that it speaks for, ``*``, or the address of a hub.
        note: for people, e.g. where it comes from.
        added: since when it is listed. expires: what is signed later is not believed.
        revoked: since when it is not believed at all.
    """

    key: PublicKey
    who: str
    note: str = ""
    added: datetime | None = None
    expires: datetime | None = None
    revoked: datetime | None = None

    def speaks_for(self, who: str) -> bool:
        """Tell whether this key is for a namespace."""
        return self.who == ANYBODY or self.who.casefold() == who.casefold()

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain values."""
        return {
            "key": str(self.key),
            "for": self.who,
            "note": self.note,
            "added": stamp(self.added),
            "expires": stamp(self.expires),
            "revoked": stamp(self.revoked),
        }


@dataclass
class TrustedKeys:
    """The list of keys that a user believes; see the text of this module."""

    path: Path
    keys: list[TrustedKey] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path | None = None) -> TrustedKeys:
        """Read the list; one that does not exist is empty.

        Raises:
            SignatureError: If it cannot be read. A list that is damaged must not look like an empty one.
        """
        place = path or trust_file()
        try:
            content = strict_json(place.read_bytes())
        except FileNotFoundError:
            return cls(place)
        except (OSError, ValueError) as error:
            raise SignatureError(
                f"the list of trusted keys {place} cannot be read: {error}"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise SignatureError(f"{place} is not a list of trusted keys ({_FORMAT})")
        rows = content.get("keys")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SignatureError(f"{place}: 'keys' must be a list of objects")
        return cls(place, [_read(row, place) for row in rows])

    def save(self) -> None:
        """Write the list, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = {"format": _FORMAT, "keys": [item.to_json() for item in self.keys]}
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        part.replace(self.path)

    def add(
        self, key: PublicKey, who: str, *, note: str = "", expires: datetime | None = None
    ) -> TrustedKey:
        """Believe a key for a namespace from now on.

        Raises:
            SignatureError: If the list says that it was revoked.
        """
        if self.revoked(key):
            raise SignatureError(f"key {key.id} is listed as revoked; a new key is needed")
        made = TrustedKey(key, who, note, now(), expires)
        self.keys = [
            item
            for item in self.keys
            if item.key != key or item.who.casefold() != who.casefold() or item.revoked
        ]
        self.keys.append(made)
        return made

    def revoke(self, key: PublicKey, *, note: str = "") -> None:
        """Never believe a key again, whomever it was listed for, and also if it was not listed."""
        found = [item for item in self.keys if item.key == key]
        kept = [item for item in self.keys if item.key != key]
        time = now()
        kept += [replace(item, revoked=item.revoked or time) for item in found]
        if not found:
            kept.append(TrustedKey(key, ANYBODY, note, time, revoked=time))
        self.keys = kept

    def revoked(self, key: PublicKey) -> bool:
        """Tell whether a key is listed as revoked."""
        return any(item.key == key and item.revoked for item in self.keys)

    def find(self, key: PublicKey, who: str) -> TrustedKey | None:
        """Return the line by which a key speaks for a namespace, if there is one."""
        for item in self.keys:
            if item.key == key and not item.revoked and item.speaks_for(who):
                return item
        return None

    def require(self, signature: Signature, who: str) -> TrustedKey:
        """Return the line by which the signature of a key is believed to be by *who*.

        The signature itself must have been verified; see :meth:`.signing.Signature.verify`.

        Raises:
            SignatureError: If the key is not listed for *who*, revoked, or expired when it signed.
        """
        self.refuse_revoked(signature)
        found = self.find(signature.key, who)
        if found is None:
            raise SignatureError(
                f"this is signed by key {signature.key.id}, which {self.path} does not list for {who!r}; "
                f"if you have made sure that it is theirs: adapterhub hub key trust '{signature.key}' "
                f"--for {who}"
            )
        if found.expires is not None and signature.statement.signed > found.expires:
            raise SignatureError(
                f"key {signature.key.id} of {who!r} expired on {stamp(found.expires)}, and this was "
                "signed later"
            )
        return found

    def of_hub(self, url: str) -> list[TrustedKey]:
        """Return every line, revoked or not, of a key that is listed for the hub at *url*."""
        address = hub_address(url)
        return [item for item in self.keys if hub_address(item.who) == address]

    def refuse_expired(self, signature: Signature, who: str) -> None:
        """Raise SignatureError if every line of the key for *who* had expired when it signed."""
        lines = [item for item in self.keys if item.key == signature.key and not item.revoked]
        ends = [item.expires for item in lines if hub_address(item.who) == who]
        if ends and all(end is not None and signature.statement.signed > end for end in ends):
            raise SignatureError(
                f"key {signature.key.id} of {who} expired on {stamp(ends[0])}, and this was signed later"
            )

    def refuse_revoked(self, signature: Signature) -> None:
        """Raise SignatureError if the key is listed as revoked."""
        if self.revoked(signature.key):
            raise SignatureError(
                f"key {signature.key.id} was revoked; what it signed is not believed any more"
            )


def hub_address(text: str) -> str:
    """Return the address of a hub in one spelling; a namespace stays as it is."""
    parts = urlsplit(text.strip())
    if parts.scheme.lower() not in ("http", "https"):
        return text
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _read(row: dict[str, Any], place: Path) -> TrustedKey:
    who = row.get("for")
    if not isinstance(who, str) or not who:
        raise SignatureError(f"{place}: each key needs 'for', a namespace or '*'")
    return TrustedKey(
        PublicKey.parse(row.get("key")),
        who,
        str(row.get("note") or ""),
        moment(row.get("added"), "'added'"),
        moment(row.get("expires"), "'expires'"),
        moment(row.get("revoked"), "'revoked'"),
    )
