"""The commits of a repository as the versions of an adapter, each with what the checks say about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal
from urllib.parse import quote

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.cards import Member, manifest_sha256
from adapterhub.hub.live.places import evaluations_of
from adapterhub.hub.signing import SIGNATURE_FILE, stamp
from adapterhub.hub.store import history
from adapterhub.hub.store.models import Check as CheckRow
from adapterhub.hub.store.models import Commit, Repo, SignerKey
from adapterhub.hub.store.models import File as FileRow
from adapterhub.hub.store.repos import View
from adapterhub.hub.verify.signatures import NAME as SIGNATURE
from adapterhub.hub.web.source import Check, File, Outcome, Signed, Version

#: Versions on a page, newest first; the protocol lists all.
SHOWN = 30
#: Digits of a commit that name it.
DIGITS = 8

_TITLES = {
    "integrity": "Stored bytes are those that were sent",
    "name": "File names are safe",
    "content": "Files are what their names say",
    "header": "Headers of weight files agree with the files",
    "numbers": "All weights are finite numbers",
    "config": "Configuration can be read and makes sense",
    "card": "Card follows its schema",
    "adapter": "Files make a complete adapter",
    "architecture": "Tensors fit the base model",
    "forward": "A forward pass works, and differs from the base",
    "head": "The prediction head fits, and runs",
    "duplicates": "Nobody else has the same weights here",
    "values": "Weights have usual sizes",
    "signature": "Signed by a key of its owner",
}
_SIGNED: Mapping[str, Literal["ok", "unknown"]] = {"ok": "ok", "warning": "unknown"}
_WORST: Mapping[str, int] = {"error": 0, "warning": 1, "skipped": 2, "ok": 3}


def title_of(name: str) -> str:
    """Return the name of a check for people."""
    return _TITLES.get(name) or name.replace("_", " ").replace("-", " ").capitalize()


def versions_of(
    session: Session, seen: View, *, files: bool
) -> tuple[list[Version], dict[str, Commit]]:
    """Return the versions that the caller may see, oldest first, and their commits by name.

    Args:
        files: whether he may read the files, too.
    """
    query = select(Commit).where(Commit.repo_id == seen.repo.id, Commit.number > 1)
    if not seen.sees_tips:
        query = query.where(Commit.status == "verified")
    found = list(session.scalars(query.order_by(Commit.number.desc()).limit(SHOWN)))[::-1]
    labels: dict[str, list[str]] = defaultdict(list)
    for reference, commit in history.references(session, seen):
        labels[commit.id].append(reference.name)
    ids = [commit.id for commit in found]
    manifests: dict[str, list[FileRow]] = defaultdict(list)
    listed = select(FileRow).where(FileRow.commit_id.in_(ids)).order_by(FileRow.path)
    for item in session.scalars(listed):
        manifests[item.commit_id].append(item)
    checks = _checks(session, ids)
    signed = _signatures(session, ids)
    versions = [
        replace(
            _version(seen.repo, commit, manifests[commit.id], labels[commit.id], checks, files),
            signed=signed.get(commit.id),
        )
        for commit in found
    ]
    return versions, {commit.id[:DIGITS]: commit for commit in found}


def _version(
    repo: Repo,
    commit: Commit,
    manifest: Sequence[FileRow],
    labels: Iterable[str],
    checks: Mapping[str, tuple[Check, ...]],
    readable: bool,
) -> Version:
    results = evaluations_of(commit.facts)
    parameters = commit.facts.get("parameters") or {}
    base = f"{quote(repo.owner.name)}/{quote(repo.name)}/resolve/{commit.id}/"
    return Version(
        name=commit.id[:DIGITS],
        published=commit.created.isoformat(timespec="seconds"),
        description=commit.title,
        score=results[0].value if results else None,
        metrics={_label(item.dataset, item.metric): item.value for item in results},
        parameters=sum(parameters.values()) or None,
        sha256=manifest_sha256(Member(item.path, item.size, item.sha256) for item in manifest),
        files=tuple(
            File(item.path, item.size, item.sha256, base + quote(item.path) if readable else None)
            for item in manifest
        ),
        labels=tuple(labels),
        author=commit.author,
        status=commit.status,
        reason=commit.reason,
        checks=checks.get(commit.id, ()),
    )


def _label(dataset: str, metric: str) -> str:
    return f"{dataset}: {metric}" if dataset else metric


def _checks(session: Session, ids: Sequence[str]) -> dict[str, tuple[Check, ...]]:
    """Return the checks of some commits: one line for each check, the worst of all files."""
    rows = session.execute(
        select(
            *(CheckRow.commit_id, CheckRow.name, CheckRow.path, CheckRow.outcome, CheckRow.message)
        )
        .where(CheckRow.commit_id.in_(ids))
        .order_by(CheckRow.id)
    )
    groups: dict[str, dict[str, list[tuple[str, str, str]]]] = defaultdict(dict)
    for commit_id, name, path, outcome, message in rows:
        groups[commit_id].setdefault(name, []).append((path, outcome, message))
    return {
        commit_id: tuple(_summed_up(name, found) for name, found in checks.items())
        for commit_id, checks in groups.items()
    }


def _signatures(session: Session, ids: Sequence[str]) -> dict[str, Signed]:
    """Return the signatures of some commits, as they were checked; a key may have been revoked since."""
    rows = session.execute(
        select(CheckRow.commit_id, CheckRow.outcome, CheckRow.message, CheckRow.data)
        .where(CheckRow.commit_id.in_(ids), CheckRow.name == SIGNATURE)
        .order_by(CheckRow.id)
    ).all()
    keys = {str(data.get("key")) for _, _, _, data in rows}
    revoked = dict(
        session.execute(
            select(SignerKey.fingerprint, SignerKey.revoked).where(
                SignerKey.fingerprint.in_(keys), SignerKey.revoked.is_not(None)
            )
        ).all()
    )
    found: dict[str, Signed] = {}
    for commit_id, outcome, message, data in rows:
        key, text = str(data.get("key") or ""), message.removeprefix(f"{SIGNATURE_FILE}: ")
        state: Literal["ok", "unknown", "wrong"] = _SIGNED.get(outcome, "wrong")
        if state == "unknown" and not data.get("signer"):
            text = "the signature is right, but nobody has registered that key here"
        if key in revoked:
            state, text = "wrong", f"the key was revoked on {stamp(revoked[key])}"
        time = str(data.get("signed") or "")
        found[commit_id] = Signed(state, key, str(data.get("signer") or ""), time, text)
    return found


def _summed_up(name: str, found: Sequence[tuple[str, str, str]]) -> Check:
    worst = min((outcome for _, outcome, _ in found), key=lambda o: _WORST.get(o, 2))
    outcome: Outcome = worst if worst in _WORST else "skipped"  # type: ignore[assignment]
    lines = dict.fromkeys(message for _, _, message in found if message)
    return Check(title_of(name), outcome, "\n".join(lines))
