"""Looking through a hub server: its search, asked over HTTP, as any page of it answers to programs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from adapterhub.errors import HubError
from adapterhub.hub.identifier import AdapterKey, TaskQuery, parse_identifier
from adapterhub.hub.languages import language_code
from adapterhub.hub.signedfolder import Requirement
from adapterhub.hub.signedindex import SignedIndex, open_index

_SECONDS = 60
_PER_PAGE = 100
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Hits:
    """What a search on a server gave: so many in all, the first of them, and words to try instead.

    *left_out*: how many of the first a signed index does not list (private, gated, or very new).
    """

    total: int
    adapters: list[dict[str, Any]]
    suggestions: list[str]
    left_out: int = 0


class RemoteHub:
    """The server at an address.

    Args:
        url: its address.
        token: shows what is private to its owner, too.
        require_signature: whose signature over its index is needed; see
            :func:`~.signedindex.open_index`. Where a key of this hub is trusted, it is compared in any case.
    """

    def __init__(
        self, url: str, token: str | None = None, *, require_signature: Requirement = None
    ) -> None:
        self.url, self._token, self._required = url.rstrip("/"), token, require_signature

    @cached_property
    def index(self) -> SignedIndex | None:
        """The signed index of the hub; ``None`` if nothing asks for one.

        Raises:
            SignatureError: If it is not to be believed.
        """
        return open_index(self.url, self._required, listing=True)

    def search(
        self,
        words: str = "",
        *,
        task: str | None = None,
        language: str | None = None,
        base_model: str | None = None,
        architecture: str | None = None,
        owner: str | None = None,
        sort: str | None = None,
        limit: int = 25,
    ) -> Hits:
        """Return the adapters that have every word (typing errors forgiven) and the properties.

        Args:
            task: task, or ``task/dataset``.
            language: tag or English name.
            base_model, architecture, owner: exactly as the hub has them; the owner with or without ``@``.
            sort: ``best``, ``recent``, ``score``, ``downloads``, ``small``, ``large`` or ``name``.
            limit: how many at most.

        Raises:
            HubError: If the server does not answer.
            SignatureError: If its index is not to be believed.
        """
        index = self.index
        chosen: dict[str, str | None] = {
            "q": words or None,
            "dataset" if task and "/" in task else "task": task,
            "language": language_code(language) if language else None,
            "model": base_model,
            "architecture": architecture,
            "owner": owner.removeprefix("@") if owner else None,
            "sort": sort,
        }
        found: list[dict[str, Any]] = []
        total, suggestions, page = 0, [], 0
        while len(found) < limit:
            page += 1
            size = min(limit, _PER_PAGE)
            pairs = {**chosen, "page": str(page), "per_page": str(size)}
            query = urlencode({key: value for key, value in pairs.items() if value})
            answer = self._get(f"/search/index.json?{query}")["found"]
            total, suggestions = answer["total"], list(answer["suggestions"])
            found += answer["adapters"]
            if not answer["adapters"] or len(found) >= total:
                break
        found = found[:limit]
        listed = found if index is None else list(_listed(index, found))
        return Hits(total, listed, suggestions, len(found) - len(listed))

    def everything(self, base_model: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield every adapter, by name, or those of one base model; a signed index says less of each."""
        if self.index is not None:
            yield from map(self.index.record, self.index.repos(model=base_model))
            return
        yield from self.search(base_model=base_model, sort="name", limit=1 << 30).adapters

    def detail(self, identifier: str) -> dict[str, Any] | None:
        """Return everything about the one adapter that is meant; ``None``: there is none, or several.

        Args:
            identifier: ``@owner/name``, ``owner/name``, ``task/dataset`` or ``task/dataset@owner``.
        """
        query = parse_identifier(identifier)
        key = query if isinstance(query, AdapterKey) else query.as_key()
        if key is not None:
            found = self._page(key.owner, key.stem)
            if found is not None:
                return found
        if isinstance(query, TaskQuery) and query.first and query.subtask:
            hits = self.search(task=f"{query.first}/{query.subtask}", owner=query.owner, limit=2)
            if hits.total == 1:
                return self._page(hits.adapters[0]["owner"], hits.adapters[0]["name"])
        return None

    def _page(self, owner: str, name: str) -> dict[str, Any] | None:
        try:
            return self._get(f"/adapters/{quote(owner)}/{quote(name)}/index.json")["detail"]
        except _Nothing:
            return None

    def _get(self, path: str) -> Mapping[str, Any]:
        headers = {"Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    raise _Nothing(f"{self.url} has nothing at {path}") from error
                raise HubError(f"{self.url} answered {error.code} to a search") from error
        except (OSError, ValueError) as error:
            raise HubError(f"{self.url} cannot be asked: {error}") from error


def _listed(index: SignedIndex, records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield those of some adapters that the index lists, each with the task and model that stand there."""
    for item in records:
        repo = f"{item['owner']}/{item['name']}"
        if repo in index:
            yield {**item, **index.record(repo)}


class _Nothing(HubError):
    """Nothing is at an address."""
