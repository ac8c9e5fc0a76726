"""The list of all cards of a hub with their hashes: ``dist/index.json``, signed by ``dist/index.sig``.

A card names its files by their SHA-256, the index names the cards by theirs, and the signature covers the
index: so one signature covers every byte, and nobody on the way can change, take away or add anything. The
signature says when it was made and when it expires. Who has seen a newer one refuses an older one (a
rollback), and an expired one stops being believed, so that a mirror cannot be kept in the past for ever.
The index itself holds no times: the same hub gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.signing import (
    INDEX,
    PublicKey,
    Signature,
    SignatureError,
    SigningKey,
    moment,
    now,
    sign_document,
    stamp,
    verify_document,
)

FORMAT = "adapterhub-index/1"
INDEX_FILE, SIGNATURE_FILE, CARDS = "dist/index.json", "dist/index.sig", "dist/cards/"
MAX_INDEX = 256 << 20
DEFAULT_DAYS = 14

#: Where files lie: below the pages of their adapter, or where the Hugging Face protocol has them.
Layout = Literal["pages", "resolve"]


def make_index(
    cards: Mapping[str, bytes], *, name: str, description: str = "", layout: Layout
) -> dict[str, Any]:
    """Return the index of some cards, by their path in a hub folder."""
    rows = {path: _row(path, data) for path, data in sorted(cards.items())}
    return {
        "format": FORMAT,
        "hub": name,
        "description": description,
        "layout": layout,
        "cards": rows,
    }


def _row(path: str, data: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    if path.startswith("adapters/"):
        with contextlib.suppress(HubError):  # it is copied as it is, and reported there
            row |= about_card(cardfile.loads(data))
    return row


def about_card(card: Mapping[str, Any]) -> dict[str, str]:
    """Return what a copy can be filtered by: task, base model, and when something was last published."""
    files = card.get("files")
    dates = [str(item.get("published") or "") for item in files or () if isinstance(item, Mapping)]
    found = {
        "task": f"{card.get('task')}/{card.get('subtask')}",
        "model": str(card.get("model_name") or ""),
        "published": max(dates, default=""),
    }
    return {key: value for key, value in found.items() if value}


def dumps(index: Mapping[str, Any]) -> bytes:
    """Return the bytes of ``index.json``, one card a line, so that version control shows changes."""
    head = {key: value for key, value in index.items() if key != "cards"}
    lines = ",\n".join(
        f"{json.dumps(path)}: {json.dumps(row, sort_keys=True, separators=(',', ':'))}"
        for path, row in index["cards"].items()
    )
    text = json.dumps(head, indent=1, ensure_ascii=True)
    return (text[: text.rindex("\n}")] + f',\n "cards": {{\n{lines}\n}}\n}}\n').encode()


def sign_index(
    key: SigningKey,
    index: Mapping[str, Any],
    *,
    days: float = DEFAULT_DAYS,
    signed: datetime | None = None,
) -> Signature:
    """Sign an index for some days, from now on or from *signed*.

    Raises:
        SignatureError: If the key has expired.
    """
    ends = now() + timedelta(days=days)
    return sign_document(key, INDEX, str(index["hub"]), dict(index), expires=ends, signed=signed)


def loads(data: bytes) -> dict[str, Any]:
    """Read an index.

    Raises:
        HubError: If it is none.
    """
    try:
        index = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HubError(f"{INDEX_FILE} is not JSON") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise HubError(f"{INDEX_FILE} is not an index of the format {FORMAT}")
    rows = index.get("cards")
    if not isinstance(rows, dict) or not all(
        isinstance(row, dict) and isinstance(row.get("sha256"), str) for row in rows.values()
    ):
        raise HubError(f"{INDEX_FILE}: 'cards' must give the SHA-256 of each card")
    if index.get("layout") not in ("pages", "resolve"):
        raise HubError(f"{INDEX_FILE}: unknown layout {index.get('layout')!r:.40}")
    return index


@dataclass(frozen=True)
class Seen:
    """The newest signature that was believed: by which key, when it was made, over what."""

    key: str
    signed: str
    sha256: str

    def to_json(self) -> dict[str, str]:
        """Return the three as plain values."""
        return {"key": self.key, "signed": self.signed, "sha256": self.sha256}


def believe(
    index: Mapping[str, Any],
    data: bytes,
    signature: Signature | None,
    keys: Mapping[PublicKey, str],
    *,
    before: Seen | None = None,
    at: datetime | None = None,
) -> Seen:
    """Check that an index is signed by one of *keys*, holds now, and is not older than one seen before.

    Args:
        index, data: the index, and its bytes.
        signature: that of ``index.sig``; ``None`` if there is none.
        keys: the keys that may sign it, with what to call each.
        before: what was believed the last time.
        at: the time for which it must hold. Default: now.

    Raises:
        SignatureError: If any of that is not so.
    """
    known = ", ".join(name or key.id for key, name in keys.items())
    if signature is None:
        raise SignatureError(f"the index is not signed, but must be (by {known})")
    if signature.key not in keys:
        raise SignatureError(
            f"the index is signed by key {signature.key.id}, which is not one of those to believe "
            f"({known})"
        )
    verify_document(signature, INDEX, str(index.get("hub")), dict(index), at=at)
    if signature.statement.expires is None:
        raise SignatureError("the signature of the index says no time at which it expires")
    seen = seen_of(data, signature)
    if before is not None and signature.statement.signed < (
        moment(before.signed, "'signed'") or now()
    ):
        raise SignatureError(
            f"the index was signed on {seen.signed}, but one of {before.signed} was seen before: somebody "
            "answers with an old state of the hub (rollback)"
        )
    return seen


def seen_of(data: bytes, signature: Signature) -> Seen:
    """Return what to remember of an index and its signature."""
    time = stamp(signature.statement.signed) or ""
    return Seen(str(signature.key), time, hashlib.sha256(data).hexdigest())
