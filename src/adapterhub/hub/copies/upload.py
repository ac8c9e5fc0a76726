"""From a folder hub to a server: each adapter as a repository, each version as a commit with a tag.

Everything goes the way of any other push, with all checks of the server. A README is completed by what the
card knows (see :mod:`.repocard`), so that the server, and a later copy of it, know it as well; a README that
says it already stays as it is, byte for byte. Versions that are there with the same files are not sent again,
so an interrupted upload goes on where it stopped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.client import prepare
from adapterhub.hub.copies.repocard import REPOSITORY, SOURCE, front_matter
from adapterhub.hub.copies.run import Progress
from adapterhub.hub.copies.signedsync import send_keys, send_reports
from adapterhub.hub.copies.wire import git_oid
from adapterhub.hub.entries import Entry
from adapterhub.hub.hub import Hub
from adapterhub.hub.inspection import read_front_matter
from adapterhub.hub.pull import pull
from adapterhub.hub.storage import file_sha256

README = "README.md"


@dataclass
class Uploaded:
    """What an upload did.

    Attributes:
        sent, same: ``owner/name version`` of what was sent, and of what was there already.
        elsewhere: adapters whose files are not in the folder.
        refused: what could not be published, with the reason.
        keys, reports: how many keys and reports were new there; *unsigned*: which were not taken, and why.
    """

    sent: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    keys: int = 0
    reports: int = 0
    unsigned: dict[str, str] = field(default_factory=dict)


def upload(
    hub: Hub,
    url: str,
    *,
    token: str | None = None,
    create_owners: bool = False,
    progress: Progress | None = None,
) -> Uploaded:
    """Publish every adapter of a folder hub whose files are there on the server at *url*.

    Args:
        token: with scope write for all namespaces that the cards name; by default ``HF_TOKEN``.
        create_owners: make an organisation for each owner that the server does not know; takes the token of
            an administrator.
        progress: told what happens.

    Raises:
        HubError: If the server does not answer or does not take the token.
    """
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # read when it is imported
    from huggingface_hub import HfApi, get_token

    token = token or get_token()
    api = HfApi(endpoint=url.rstrip("/"), token=token)
    told, report = progress or Progress(), Uploaded()
    try:
        who = api.whoami()
    except Exception as error:
        raise HubError(f"{url} does not take this token: {_reason(error)}") from error
    entries = hub.catalogue.entries
    told.begin(len(entries))
    # First: who has keys is a user, and no organisation.
    keys = send_keys(hub, url, token, create_users=create_owners)
    if create_owners:
        _make_owners(api, url, token, {entry.card.owner for entry in entries}, who)
    for entry in entries:
        try:
            _adapter(hub, entry, api, report)
        except HubError as error:
            report.refused[entry.identifier] = str(error)
        told.card(entry.identifier)
    measured = send_reports(hub, url, token)
    report.keys, report.reports = keys.keys, measured.reports
    report.unsigned = {**keys.refused, **measured.refused}
    return report


def _make_owners(api: Any, url: str, token: str | None, owners: set[str], who: Any) -> None:
    import json
    import urllib.request

    known = {who["name"].casefold(), *(item["name"].casefold() for item in who.get("orgs", ()))}
    for owner in sorted(owners):
        if owner.casefold() in known:
            continue
        request = urllib.request.Request(
            f"{url.rstrip('/')}/api/hub/v1/organizations",
            data=json.dumps({"name": owner}).encode(),
            headers={
                "Authorization": f"Bearer {token or api.token or ''}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60):
                pass
        except OSError as error:  # the name is taken, or we may not: the push itself will tell
            if getattr(error, "code", None) is None:
                raise HubError(f"{url} cannot be reached: {error}") from error


def _adapter(hub: Hub, entry: Entry, api: Any, report: Uploaded) -> None:
    card = entry.card
    repo = f"{card.owner}/{card.stem}"
    default = entry.version.version
    versions = [item for item in card.versions if item.members]
    if not versions:
        report.elsewhere.append(entry.identifier)
        return
    there = _versions_there(api, repo)
    ordered = sorted(versions, key=lambda item: item.version == default)
    if there is None:
        _try(repo, lambda: api.create_repo(repo, exist_ok=True))
        there = {}
    for version in ordered:
        label = f"{repo} {version.version}"
        with tempfile.TemporaryDirectory(prefix="adapterhub-") as folder:
            chosen = hub.catalogue.entry(card, version.version)
            files = _files(hub, chosen, Path(folder) / "files")
            if there.get(version.version) == {name: _hashes(path) for name, path in files.items()}:
                report.same.append(label)
                continue
            if version.version in there:
                raise HubError(
                    f"{repo} has a tag {version.version!r} with other files; a version never changes"
                )
            _send(api, repo, version.version, files)
            report.sent.append(label)


def _hashes(path: Path) -> frozenset[str]:
    return frozenset((git_oid(path), file_sha256(path)[0]))


class _Same:
    """The hashes by which the server knows the files of a version; equal if each file has one of them."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping) or other.keys() != self.files.keys():
            return False
        return all(self.files[name] in hashes for name, hashes in other.items())

    __hash__ = None  # type: ignore[assignment]


def _versions_there(api: Any, repo: str) -> dict[str, _Same] | None:
    """Return the tags of a repository with the hashes of their files; ``None`` if there is none."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        refs = api.list_repo_refs(repo)
        found = {}
        for tag in refs.tags:
            rows = api.list_repo_tree(repo, recursive=True, revision=tag.target_commit)
            found[tag.name] = _Same(
                {
                    row.path: row.lfs.sha256 if row.lfs else row.blob_id
                    for row in rows
                    if hasattr(row, "blob_id")
                }
            )
        return found
    except RepositoryNotFoundError:
        return None
    except Exception as error:
        raise HubError(f"{repo}: {_reason(error)}") from error


def _files(hub: Hub, entry: Entry, folder: Path) -> dict[str, Path]:
    """Bring the files of a version to *folder*, its README completed; refuse what would be refused."""
    pull(hub.path, entry, folder)
    prepared = prepare(folder)
    if prepared.problems:
        raise HubError("; ".join(str(problem) for problem in prepared.problems[:5]))
    readme = folder / README
    text = readme.read_text("utf-8-sig").replace("\r\n", "\n") if readme.is_file() else ""
    front = dict(read_front_matter(text)) if text else {}
    wanted = front_matter(front, entry, prepared.facts)
    complete = cardfile.load(hub.path / entry.card.path).get(SOURCE) == REPOSITORY
    if not complete and (not text or wanted != front):
        body = text[4:].partition("\n---")[2].partition("\n")[2] if front else text
        if not body.strip():
            body = f"# {entry.card.stem}\n\n{entry.card.description or entry.task_identifier}\n"
        readme.write_text(f"---\n{cardfile.dumps(wanted).decode()}---\n{body}", encoding="utf-8")
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _send(api: Any, repo: str, version: str, files: Mapping[str, Path]) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    def commit() -> None:
        there = {
            row.path for row in api.list_repo_tree(repo, recursive=True) if hasattr(row, "blob_id")
        }
        operations: list[Any] = [
            CommitOperationAdd(name, str(path)) for name, path in files.items()
        ]
        operations += [CommitOperationDelete(name) for name in sorted(there - files.keys())]
        made = api.create_commit(repo, operations, commit_message=f"Version {version}")
        api.create_tag(repo, tag=version, revision=made.oid, exist_ok=True)

    _try(repo, commit)


def _try(repo: str, action: Any) -> None:
    try:
        action()
    except HubError:
        raise
    except Exception as error:
        raise HubError(f"{repo}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what the server said, without the client's links and ids around it."""
    response = getattr(error, "response", None)
    said = response.headers.get("x-error-message") if response is not None else None
    return said or str(error) or type(error).__name__
