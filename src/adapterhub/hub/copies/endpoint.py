"""Any server of the Hugging Face protocol.

It lists repositories and states of each file its size and the hash by which git knows it, or, for large
files, its SHA-256. Cards are made here, of what was fetched and checked; pickles are left where they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.cards import Member
from adapterhub.hub.catalogue import catalogue_of
from adapterhub.hub.copies.origin import Draft, Filter, Got, Note, Offer, Wanted
from adapterhub.hub.copies.repocard import (
    RepoState,
    RepoVersion,
    card_of,
    task_cards,
)
from adapterhub.hub.copies.wire import Wire, WireError
from adapterhub.hub.inspection import MAX_FILES
from adapterhub.hub.live.cardrows import NOWHERE
from adapterhub.hub.live.places import TASK_TAG, Architectures
from adapterhub.hub.names import collision_problems, member_path_problems, slug_problems
from adapterhub.hub.verify import adapter, facts
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.results import Result, errors

_LIBRARIES = ("adapter-transformers", "peft")
_ANSWER = 32 << 20
_MAX_PAGES = 10_000
_PICKLES = re.compile(
    r"(?i)\.(?:bin|pt|pth|pkl|pickle|ckpt|joblib|npy|npz|h5|msgpack|onnx|gguf|py)$"
)
_PLAIN = (".gitattributes", ".gitignore")
_NO_CARDS = catalogue_of(NOWHERE, {})
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Endpoint:
    """The adapters that a server of the protocol lists."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.name = wire, wire.base

    def about(self) -> Mapping[str, str]:
        return {"name": urlsplit(self.wire.base).netloc, "description": f"From {self.wire.base}"}

    def offers(self, wanted: Filter) -> Iterator[Offer]:
        found: dict[str, Offer] = {}
        for library in _LIBRARIES:
            query: list[tuple[str, str]] = [("filter", library)]
            if "/" in wanted.task:
                query.append(("filter", TASK_TAG + wanted.task))
            if wanted.model:
                query.append(("filter", f"base_model:{wanted.model}"))
            if wanted.owner:
                query.append(("author", wanted.owner))
            query += [("sort", "createdAt"), ("limit", "500")]
            for item in self._pages(f"api/models?{urlencode(query)}"):
                offer = _offer(item)
                if offer is not None and wanted.fits(offer.about):
                    found[offer.path] = offer
        yield from (found[path] for path in sorted(found))

    def _pages(self, place: str) -> Iterator[Mapping[str, Any]]:
        for _ in range(_MAX_PAGES):
            items, headers = self.wire.json(place, limit=_ANSWER)
            if not isinstance(items, list):
                raise WireError(f"{self.wire.url(place)} did not answer with a list")
            yield from (item for item in items if isinstance(item, dict))
            following = re.search(r'<([^>]+)>;\s*rel="?next', headers.get("link", ""))
            if following is None:
                return
            place = self.wire.url(following[1])
        raise WireError(f"{self.wire.base} lists without end")

    def draft(self, offer: Offer) -> Draft:
        owner, name = offer.about["owner"], offer.about["name"]
        repo = f"{quote(owner)}/{quote(name)}"
        versions = self._versions(repo, offer)
        files: list[Wanted] = []
        left: list[str] = []
        for label, commit in versions:
            some, without = self._tree(repo, label, commit)
            files += some
            left += without

        def finish(found: Mapping[tuple[str, str], Got]) -> Mapping[str, bytes]:
            dates = {versions[-1][0]: offer.about.get("published")}
            states = [
                _state(
                    label, dates.get(label), {k[1]: v for k, v in found.items() if k[0] == label}
                )
                for label, _ in versions
            ]
            # Older versions that are no adapters (any more) are not worth losing the newest for.
            good = [state for state in states[:-1] if state.facts.get("format")] + states[-1:]
            state = RepoState(owner, name, good)
            card = card_of(state, _NO_CARDS, Architectures(_NO_CARDS))
            others = task_cards(card, _NO_CARDS)
            cards = {path: cardfile.dumps(data) for path, data in others.items()}
            return {**cards, offer.path: cardfile.dumps(card)}

        return Draft(files, finish, sorted(set(left)))

    def _versions(self, repo: str, offer: Offer) -> list[tuple[str, str]]:
        """Return name and commit of each version, the default one last."""
        head = offer.about["commit"]
        try:
            refs, _ = self.wire.json(f"api/models/{repo}/refs", limit=_ANSWER)
        except WireError:
            refs = {}
        named: dict[str, str] = {}
        for kind in ("tags", "branches"):
            rows = refs.get(kind) if isinstance(refs, dict) else None
            for row in rows if isinstance(rows, list) else ():
                label, commit = row.get("name"), row.get("targetCommit")
                if (
                    isinstance(label, str)
                    and 0 < len(label) <= 200
                    and label.isprintable()
                    and isinstance(commit, str)
                    and _COMMIT.fullmatch(commit)
                    and not (kind == "branches" and label == "main")
                ):
                    named.setdefault(label, commit)
        default = next(
            (label for label, commit in sorted(named.items()) if commit == head), head[:12]
        )
        named.pop(default, None)
        return [*sorted(named.items()), (default, head)]

    def _tree(self, repo: str, label: str, commit: str) -> tuple[list[Wanted], list[str]]:
        files: list[Wanted] = []
        left: list[str] = []
        place = f"api/models/{repo}/tree/{commit}?recursive=true"
        for row in self._pages(place):
            path = row.get("path")
            if row.get("type") != "file" or not isinstance(path, str):
                continue
            if path in _PLAIN or _PICKLES.search(path):
                left += [path] if path not in _PLAIN else []
                continue
            problems = member_path_problems(path)
            if problems:
                raise HubError(problems[0])
            lfs = row.get("lfs")
            lfs = lfs if isinstance(lfs, dict) else {}
            size = row.get("size")
            where = f"{repo}/resolve/{commit}/{quote(path)}"
            files.append(
                Wanted(
                    label,
                    path,
                    where,
                    size if isinstance(size, int) and size >= 0 else None,
                    _hex(lfs.get("oid"), 64),
                    None if lfs else _hex(row.get("oid"), 40),
                )
            )
            if len(files) > MAX_FILES:
                raise HubError(f"{commit} has more than {MAX_FILES} files, so it is no adapter")
        problems = collision_problems(file.path for file in files)
        if problems:
            raise HubError(problems[0])
        return files, left

    def fetch(self, file: Wanted, target: Path, limit: int, note: Note) -> tuple[str, int]:
        return self.wire.download(file.place, target, limit=limit, note=note)


def _hex(value: Any, length: int) -> str | None:
    return (
        value if isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{length}}}", value) else None
    )


def _offer(item: Mapping[str, Any]) -> Offer | None:
    """Return what a list says about a repository; ``None`` if it cannot be copied."""
    repo, commit = item.get("id"), item.get("sha")
    if not isinstance(repo, str) or not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        return None
    owner, slash, name = repo.partition("/")
    if not slash or slug_problems("owner", owner) or slug_problems("name", name):
        return None
    if item.get("private") or item.get("gated") or item.get("disabled"):
        return None
    tags = [tag for tag in item.get("tags") or () if isinstance(tag, str)]
    about = {"owner": owner, "name": name, "commit": commit}
    about["published"] = str(item.get("lastModified") or item.get("createdAt") or "")[:40]
    if not about["published"]:
        del about["published"]
    for tag in tags:
        if tag.startswith(TASK_TAG):
            about.setdefault("task", tag.removeprefix(TASK_TAG))
        if tag.startswith("base_model:") and tag.count(":") == 1:
            about.setdefault("model", tag.removeprefix("base_model:"))
    stamp = json.dumps([commit, about.get("published")])
    return Offer(f"adapters/{owner}/{name}.yaml", stamp, about)


def _state(label: str, published: str | None, files: Mapping[str, Got]) -> RepoVersion:
    results: dict[str, dict[str, Result]] = {
        path: {result.name: result for result in examine(got.path, path)}
        for path, got in files.items()
    }
    problems = errors(result for found in results.values() for result in found.values())
    if problems:
        raise HubError("; ".join(problems[:5]))
    learnt = facts.derive(results, sum(got.size for got in files.values()))
    if adapter.check_set(results).failed:
        learnt = {**learnt, "format": None}
    members = [Member(path, got.size, got.sha256) for path, got in sorted(files.items())]
    return RepoVersion(label, published, members, learnt)
