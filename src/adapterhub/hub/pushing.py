"""Publishing a prepared folder: what changed is sent, signed if that is wanted, and committed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub.errors import HubError
from adapterhub.hub.findings import raise_all
from adapterhub.hub.sending import Outgoing, Progress, Sender, Sent
from adapterhub.hub.signing import (
    ADAPTER,
    SIGNATURE_FILE,
    Signature,
    SignatureError,
    SigningKey,
    now,
    sign,
)

if TYPE_CHECKING:
    from adapterhub.hub.client import Prepared

DEFAULT_BRANCH = "main"
#: What the hub itself or git may have put there; signing does not mind it.
_HOUSEKEEPING = (".gitattributes", ".gitignore")


def publish(
    prepared: Prepared,
    repo: str,
    *,
    url: str,
    token: str | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str = "Publish an adapter",
    key: SigningKey | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Sent:
    """Send a prepared folder to the hub server at *url* in one commit.

    Args:
        repo: ``namespace/name``.
        token: with scope write; by default that of ``hf auth login`` or ``HF_TOKEN``.
        revision: branch; by default ``main``.
        key: to sign all files with.
        replace: remove files that the repository holds and the folder does not.
        progress: told what is sent.

    Raises:
        HubError: If a check failed, the hub refuses, or (with a key) the repository holds files that are
            not in the folder and so would not be covered; nothing is published then.
    """
    raise_all("this folder cannot be published:", prepared.problems)
    if token is None:
        from huggingface_hub import get_token

        token = get_token()
    branch = revision or DEFAULT_BRANCH
    sender = Sender(url, repo, token, progress)
    try:
        sender.create(private=private)
        there = sender.there(branch)
        files = {name: Outgoing.of(name, value) for name, value in prepared.files.items()}
        files.pop(SIGNATURE_FILE, None)  # of another commit, or another repository
        removed = sorted(there.keys() - files.keys() - {SIGNATURE_FILE}) if replace else []
        changed = [item for item in files.values() if not _same(there.get(item.name), item)]
        if key is not None:
            kept = there.keys() - files.keys() - set(removed) - {SIGNATURE_FILE, *_HOUSEKEEPING}
            if kept:
                raise HubError(
                    f"it holds {', '.join(sorted(kept)[:5])}, which this folder has not, so a signature "
                    "would not cover it; push with --replace to remove it there"
                )
            made = _signature(sender, branch, there, key, repo, files)
            if not _same(there.get(SIGNATURE_FILE), made):
                changed.append(made)
        elif SIGNATURE_FILE in there and (changed or removed):
            removed.append(SIGNATURE_FILE)  # it is about the files that were there before
        if not changed and not removed:
            return Sent(_tip(sender, branch))
        sender.send_ahead([item for item in changed if item.large])
        return sender.commit(changed, removed, message=message, revision=branch)
    except HubError as error:
        raise HubError(f"{repo} was not published at {url}: {error}") from error


def _same(there: str | None, item: Outgoing) -> bool:
    return there is not None and there in (item.sha256, item.git_oid)


def _tip(sender: Sender, branch: str) -> str:
    _, _, info = sender.ask("GET", f"/api/models/{sender.repo}/revision/{branch}")
    return str(info.get("sha")) if isinstance(info, dict) else ""


def _signature(
    sender: Sender,
    branch: str,
    there: Mapping[str, str],
    key: SigningKey,
    repo: str,
    files: Mapping[str, Outgoing],
) -> Outgoing:
    """Return the signature of the files; the one that is there, if it says the same by the same key."""
    hashes = {name: item.sha256 for name, item in files.items()}
    data = sender.read(branch, SIGNATURE_FILE) if SIGNATURE_FILE in there else None
    if data is not None:
        try:
            old = Signature.loads(data)
            old.verify(kind=ADAPTER, subject=repo, files=hashes, at=now())
            if old.key == key.public and set(old.statement.files) == set(hashes):
                return Outgoing.of(SIGNATURE_FILE, data)
        except SignatureError:
            pass  # it is replaced
    return Outgoing.of(SIGNATURE_FILE, sign(key, ADAPTER, repo, hashes).dumps())


def publish_folder(
    folder: str | os.PathLike[str] | Path, repo: str, *, url: str, **options: Any
) -> Sent:
    """Check a folder and publish it; *options* are those of :func:`.client.prepare` and :func:`publish`."""
    from adapterhub.hub.client import prepare

    names = ("task", "license", "language", "description")
    texts = {name: options.pop(name) for name in names if name in options}
    return publish(prepare(folder, **texts), repo, url=url, **options)
