"""A hub that publishes its index: a static site of ours, or a live server of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from adapterhub.errors import HubError
from adapterhub.hub import cardfile, cards
from adapterhub.hub.copies import index as indexes
from adapterhub.hub.copies.origin import Draft, Filter, Got, Note, Offer, Wanted
from adapterhub.hub.copies.wire import NotThere, Wire
from adapterhub.hub.names import collision_problems, member_path_problems
from adapterhub.hub.repairs import clean_card
from adapterhub.hub.schema import schema_problems
from adapterhub.hub.signing import PublicKey, Signature, SignatureError

_TRIES = 3


class Published:
    """The cards that an index lists, with their files.

    Args:
        wire: leads to the hub.
        keys: who may sign the index, with what to call each; empty: a signature is not asked for.
        before: the newest signature seen so far.

    Raises:
        NotThere: If the hub publishes no index.
        SignatureError: If the index is not to be believed.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        keys: Mapping[PublicKey, str] | None = None,
        before: indexes.Seen | None = None,
    ) -> None:
        self.wire, self.name = wire, wire.base
        self.seen: indexes.Seen | None = None
        self.signature: Signature | None = None
        self._index: dict[str, Any] = {}
        for attempt in range(1, _TRIES + 1):
            try:
                self._read(keys or {}, before)
                return
            except SignatureError:
                # Between the two requests a live hub may have changed; twice is no accident.
                if attempt == _TRIES or not keys:
                    raise

    def _read(self, keys: Mapping[PublicKey, str], before: indexes.Seen | None) -> None:
        data, _ = self.wire.get(indexes.INDEX_FILE, limit=indexes.MAX_INDEX)
        self._index = indexes.loads(data)
        try:
            self.signature = Signature.loads(
                self.wire.get(indexes.SIGNATURE_FILE, limit=1 << 20)[0]
            )
        except NotThere:
            self.signature = None
        except SignatureError:
            if keys:
                raise
        if keys:
            self.seen = indexes.believe(self._index, data, self.signature, keys, before=before)

    def about(self) -> Mapping[str, str]:
        return {
            "name": str(self._index.get("hub") or ""),
            "description": str(self._index.get("description") or ""),
        }

    def offers(self, wanted: Filter) -> Iterator[Offer]:
        for path, row in sorted(self._index["cards"].items()):
            about = {key: str(row[key]) for key in ("task", "model", "published") if key in row}
            if path.startswith("adapters/"):
                about["owner"] = path.split("/")[1]
                if not wanted.fits(about):
                    continue
            yield Offer(path, str(row["sha256"]), about)

    def draft(self, offer: Offer) -> Draft:
        place = indexes.CARDS + quote(offer.path)
        data, _ = self.wire.get(place, limit=cardfile.MAX_CARD_BYTES)
        if hashlib.sha256(data).hexdigest() != offer.stamp:
            raise HubError("the card is not the one that the index lists: its SHA-256 differs")
        files = list(self._files(offer.path, data)) if offer.path.startswith("adapters/") else []

        def finish(found: Mapping[tuple[str, str], Got]) -> Mapping[str, bytes]:
            return {offer.path: data}

        return Draft(files, finish)

    def _files(self, path: str, data: bytes) -> Iterator[Wanted]:
        from adapterhub.hub.web import links

        owner, stem = card_key(path)
        for version in read_adapter(path, data).versions:
            names = [member.path for member in version.members]
            problems = [line for name in names for line in member_path_problems(name)]
            problems += collision_problems(names)
            if version.members and cards.manifest_sha256(version.members) != version.sha256:
                problems.append(f"version {version.version!r}: its sha256 is not that of its files")
            if problems:
                raise HubError("; ".join(problems[:5]))
            for member in version.members:
                if self._index["layout"] == "pages":
                    place = links.blob(owner, stem, version.version, member.path)
                else:
                    place = (
                        f"{owner}/{stem}/resolve/{quote(version.version, safe='')}/"
                        f"{quote(member.path)}"
                    )
                yield Wanted(version.version, member.path, place, member.size, member.sha256)

    def fetch(self, file: Wanted, target: Path, limit: int, note: Note) -> tuple[str, int]:
        return self.wire.download(file.place, target, limit=limit, note=note)


def card_key(path: str) -> tuple[str, str]:
    """Return owner and name from the path of an adapter card."""
    _, owner, name = path.split("/")
    return owner, name.rpartition(".")[0]


def read_adapter(path: str, data: bytes) -> cards.AdapterCard:
    """Read an adapter card that a stranger wrote.

    Raises:
        HubError: If it is not a card that a hub folder can hold.
    """
    raw = cardfile.loads(data)
    cleaned, _ = clean_card(raw)
    problems = schema_problems("adapter", cleaned)
    if problems:
        raise HubError("the card does not follow its schema: " + "; ".join(problems[:3]))
    return cards.adapter_card(cleaned, *card_key(path), path)
