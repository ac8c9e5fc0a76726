"""The signed index of a server, as a client that searches and loads from it uses it.

Whose key speaks for a hub stands in the list of trusted keys, under the address of the hub. Where one does,
or where it is asked for, what the hub answers is believed as far as its signed index bears it out: which
adapters there are, for which task and base model, and the SHA-256 of every file. The index is kept in the
cache, with its signature, and verified anew whenever it is used; one that is older than the one seen before
is refused (:func:`~.copies.index.believe`). What the index cannot list, as not everybody may see it, counts
as vouched for only if it is signed itself (:mod:`.signedfolder`).
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.cards import AdapterCard, Member
from adapterhub.hub.catalogue import catalogue_of
from adapterhub.hub.copies import index as indexes
from adapterhub.hub.copies.paths import path_problem
from adapterhub.hub.copies.published import card_key, read_adapter
from adapterhub.hub.entries import Entry
from adapterhub.hub.fetchcache import ServerCache, offline
from adapterhub.hub.identifier import AdapterKey, TaskQuery, parse_identifier
from adapterhub.hub.signedfolder import HUB, Requirement, default_requirement, trust_list
from adapterhub.hub.signing import INDEX, PublicKey, Signature, SignatureError, verify_document
from adapterhub.hub.storage import file_sha256
from adapterhub.hub.trust import TrustedKeys, hub_address

_SECONDS = 60
_MAX_SIGNATURE = 1 << 20
_TRIES = 3
_KIND, _NAME = "signed", "index"
_ROOT = Path("/nonexistent/cards-of-a-server")


class SignedIndex:
    """The public cards of the server at *url*, believed; see :func:`open_index`."""

    def __init__(self, url: str, index: Mapping[str, Any]) -> None:
        self.url = url
        self._rows: Mapping[str, Mapping[str, Any]] = index["cards"]
        # As on a server, the case of letters does not count.
        self._paths = {
            path.removeprefix("adapters/").rpartition(".")[0].casefold(): path
            for path in sorted(self._rows)
            if path_problem(path) is None and path.startswith("adapters/")
        }
        self._cache = ServerCache(url)
        self._cards: dict[str, bytes] = {}

    def __contains__(self, repo: str) -> bool:
        return repo.casefold() in self._paths

    def name(self, repo: str) -> str:
        """Return ``owner/name`` in the spelling of the index, if it lists that adapter."""
        return "/".join(card_key(self._path(repo))) if repo in self else repo

    def record(self, repo: str) -> dict[str, str]:
        """Return what the index itself says about an adapter: its names, task, data set and base model."""
        path = self._path(repo)
        owner, name = card_key(path)
        task, _, subtask = str(self._rows[path].get("task") or "").partition("/")
        model = str(self._rows[path].get("model") or "")
        return {
            "owner": owner,
            "name": name,
            "task": task,
            "subtask": subtask,
            "base_model": model,
        }

    def repos(
        self, *, task: str | None = None, model: str | None = None, owner: str | None = None
    ) -> Iterator[str]:
        """Yield ``owner/name`` of the adapters for a task, a base model, of an owner, in order."""
        for path in sorted(self._paths.values()):
            row = self._rows[path]
            if (task and row.get("task") != task) or (model and row.get("model") != model):
                continue
            by, name = card_key(path)
            if owner is None or by.casefold() == owner.casefold():
                yield f"{by}/{name}"

    def find(self, identifier: str) -> str | None:
        """Return ``owner/name`` of the one adapter that is meant; ``None``: there is none, or several."""
        query = parse_identifier(identifier)
        key = query if isinstance(query, AdapterKey) else query.as_key()
        if key is not None and f"{key.owner}/{key.stem}" in self:
            return f"{key.owner}/{key.stem}"
        if not isinstance(query, TaskQuery) or not query.first or not query.subtask:
            return None
        found = list(self.repos(task=f"{query.first}/{query.subtask}", owner=query.owner))
        return found[0] if len(found) == 1 else None

    def entry(self, repo: str) -> Entry:
        """Return what the card of an adapter says, its configuration whole.

        Raises:
            SignatureError: If the card is not the one that the index lists.
        """
        card = self._card(repo)
        contents = {self._path(repo): cardfile.loads(self._bytes(self._path(repo)))}
        architecture = f"architectures/{card.using}.yaml"
        if architecture in self._rows:
            contents[architecture] = cardfile.loads(self._bytes(architecture))
        return catalogue_of(_ROOT, contents).entry(card)

    def revision(self, repo: str, version: str | None) -> str | None:
        """Return by what name the hub has the version that is asked for (``None``: the newest).

        ``None`` if the index lists no such version.
        """
        card = self._card(repo)
        if version in (None, "main"):
            return card.default_version
        names = [item.version for item in card.versions]
        # A version without a name is called by the first digits of its commit.
        return next((name for name in names if name == version), None) or next(
            (name for name in names if len(name) == 12 and str(version).startswith(name)), None
        )

    def members(self, repo: str, version: str) -> Mapping[str, Member]:
        """Return the files of a version by their paths."""
        found = self._card(repo).find_version(version)
        return {member.path: member for member in found.members} if found else {}

    def check_file(self, repo: str, version: str, name: str, path: Path) -> None:
        """Compare one file with the index.

        Raises:
            SignatureError: If it is another.
        """
        member = self.members(repo, version).get(name)
        if member is None or file_sha256(path) != (member.sha256, member.size):
            raise SignatureError(
                f"{name!r:.120} of {repo} is not the file that the signed index of {self.url} lists (if it "
                "has just been published anew, try again)"
            )

    def vouches(self, repo: str, folder: Path, version: str | None) -> bool:
        """Compare all files of a folder with the index; ``False``: it does not list that version.

        The index knows no commit ids but the beginning of some: for one that it does not know, the files
        must be those of some version.

        Raises:
            SignatureError: If it lists other files.
        """
        if repo not in self:
            return False
        there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        name = self.revision(repo, version)
        if name is None:
            found = {path: file_sha256(folder / path) for path in there}
            known = (self.members(repo, item.version) for item in self._card(repo).versions)
            return any(
                found == {path: (m.sha256, m.size) for path, m in members.items()}
                for members in known
            )
        for path in sorted(there | set(self.members(repo, name))):
            self.check_file(repo, name, path, folder / path)
        return True

    def _card(self, repo: str) -> AdapterCard:
        return read_adapter(self._path(repo), self._bytes(self._path(repo)))

    def _path(self, repo: str) -> str:
        return self._paths[repo.casefold()]

    def _bytes(self, path: str) -> bytes:
        """Return a card that the index lists, from the cache if it is there; its hash is compared always."""
        if path in self._cards:
            return self._cards[path]
        wanted = self._rows[path]["sha256"]
        kept = self._cache.recall("cards", wanted)
        data = kept.encode() if isinstance(kept, str) else b""
        if hashlib.sha256(data).hexdigest() != wanted:
            if offline():
                raise HubError(
                    f"{path} of {self.url} was not fetched before, and HF_HUB_OFFLINE forbids to do so now"
                )
            data = _get(self.url, indexes.CARDS + quote(path), cardfile.MAX_CARD_BYTES) or b""
            if hashlib.sha256(data).hexdigest() != wanted:
                raise SignatureError(
                    f"{path} of {self.url} is not the card that the signed index lists"
                )
            self._cache.remember("cards", wanted, data.decode())
        self._cards[path] = data
        return data


def open_index(
    url: str, required: Requirement = None, *, listing: bool = False
) -> SignedIndex | None:
    """Return the index of the server at *url*, believed; ``None``: no key is known, and none is needed.

    Args:
        required: whose signature is needed; see :data:`~.signedfolder.Requirement`.
        listing: nothing is loaded, so that whatever *required* says is about the index itself.

    Raises:
        SignatureError: If the index is not signed, not by the key of this hub, changed after, out of date or
            older than the one seen before; or if one is needed and no key of this hub is known.
        HubError: If the hub does not answer.
    """
    url = url.rstrip("/")
    required = default_requirement(required) if required is not None or not listing else _asked()
    if listing and isinstance(required, str) and required.startswith("ed25519:"):
        key = PublicKey.parse(required)
        trusted, keys = TrustedKeys.load(), {key: key.id}
    else:
        trusted = trust_list(required)
        lines = trusted.of_hub(url)
        if not lines:
            if required == HUB or (listing and required):
                raise SignatureError(
                    f"a signed index is required, but {trusted.path} lists no key of {url}; if you have "
                    f"made sure which is its key: adapterhub hub key trust {hub_address(url)}"
                )
            return None
        keys = {item.key: item.note or item.key.id for item in lines if not item.revoked}
        if not keys:
            # Otherwise to revoke a key would mean to believe everything.
            raise SignatureError(
                f"every key of {url} in {trusted.path} was revoked; if it has a new one: adapterhub hub key "
                f"trust {hub_address(url)}"
            )
    try:
        index, signature = _kept(url, keys) if offline() else _fresh(url, keys)
        trusted.refuse_revoked(signature)
        trusted.refuse_expired(signature, hub_address(url))
    except SignatureError as error:
        raise SignatureError(f"{url}: {error}") from error
    return SignedIndex(url, index)


def _asked() -> Requirement:
    """Return what the environment asks for where nothing is loaded; signatures of adapters do not count."""
    asked = default_requirement(None)
    return asked if asked == HUB else None


def signer(url: str) -> tuple[PublicKey, Signature]:
    """Return the key by which the index of a hub is signed now, for people to compare.

    Raises:
        SignatureError: If it is not signed, or wrongly.
    """
    url = url.rstrip("/")
    text = _get(url, indexes.SIGNATURE_FILE, _MAX_SIGNATURE)
    data = _get(url, indexes.INDEX_FILE, indexes.MAX_INDEX)
    if text is None or data is None:
        raise SignatureError(f"the index of {url} is not signed")
    signature = Signature.loads(text)
    indexes.believe(indexes.loads(data), data, signature, {signature.key: ""})
    return signature.key, signature


def _kept(url: str, keys: Mapping[PublicKey, str]) -> tuple[dict[str, Any], Signature]:
    """Return the index in the cache. Nobody can hold it back there, so it does not expire."""
    kept = _recall(url)
    if kept is None:
        raise SignatureError("its signed index was not fetched before, and HF_HUB_OFFLINE is set")
    data, signature = kept
    index = indexes.loads(data)
    indexes.believe(index, data, signature, keys, at=signature.statement.signed)
    return index, signature


def _fresh(url: str, keys: Mapping[PublicKey, str]) -> tuple[dict[str, Any], Signature]:
    kept = _recall(url)
    before = indexes.seen_of(*kept) if kept else None
    for attempt in range(1, _TRIES + 1):
        text = _get(url, indexes.SIGNATURE_FILE, _MAX_SIGNATURE)
        signature = Signature.loads(text) if text is not None else None
        data = kept[0] if kept and signature and _is_over(signature, kept[0]) else None
        data = data or _get(url, indexes.INDEX_FILE, indexes.MAX_INDEX)
        if data is None:
            raise SignatureError("it publishes no index, but a signed one is needed")
        index = indexes.loads(data)
        try:
            indexes.believe(index, data, signature, keys, before=before)
        except SignatureError:
            # Between the two requests a live hub may have changed; twice is no accident.
            if attempt == _TRIES:
                raise
            continue
        assert signature is not None
        value = {"index": data.decode(), "signature": text.decode() if text else ""}
        ServerCache(url).remember(_KIND, _NAME, value)
        return index, signature
    raise AssertionError("unreachable")


def _recall(url: str) -> tuple[bytes, Signature] | None:
    """Return what is in the cache, if it is whole: the index as it came, and its signature."""
    value = ServerCache(url).recall(_KIND, _NAME)
    try:
        return value["index"].encode(), Signature.loads(value["signature"].encode())
    except (TypeError, KeyError, AttributeError, HubError):
        return None


def _is_over(signature: Signature, data: bytes) -> bool:
    """Tell whether this is the index that a signature is over, so that it need not be fetched."""
    try:
        index = indexes.loads(data)
        at = signature.statement.signed
        verify_document(signature, INDEX, str(index.get("hub")), index, at=at)
    except HubError:
        return False
    return True


def _get(url: str, place: str, limit: int) -> bytes | None:
    """Return what is at an address, ``None`` if nothing is. No token goes along: the index is public."""
    request = urllib.request.Request(f"{url}/{place}", headers={"User-Agent": "adapterhub"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            data = answer.read(limit + 1)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in (404, 410):
                return None
            raise HubError(f"{url}/{place} answered {error.code}") from error
    except (OSError, ValueError) as error:
        raise HubError(f"{url} cannot be asked: {error}") from error
    if len(data) > limit:
        raise HubError(f"{url}/{place} has more than {limit} bytes")
    return data
