"""How repositories, commits and files look in answers of the Hugging Face protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterhub.hub.server.answers import moment
from adapterhub.hub.store.models import Commit, File, Repo
from adapterhub.hub.verify import facts as derived

_POINTER = 134


def author(repo: Repo) -> str:
    """Return the name of the owner."""
    return repo.owner.name


def summary(
    repo: Repo, commit_id: str | None, facts: Mapping[str, Any], *, card: bool, config: bool
) -> dict[str, Any]:
    """Return what lists and pages have in common about a repository."""
    info: dict[str, Any] = {
        "_id": f"{repo.id:024x}",
        "id": repo.full_name,
        "modelId": repo.full_name,
        "author": author(repo),
        "sha": commit_id,
        "createdAt": moment(repo.created),
        "lastModified": moment(repo.modified),
        "private": repo.private,
        "gated": repo.gated or False,
        "disabled": False,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "trendingScore": 0,
        "tags": list(facts.get("tags", ())),
        "library_name": facts.get("library"),
        "pipeline_tag": pipeline_tag(facts),
    }
    if card:
        info["cardData"] = facts.get("card") or {}
    if config:
        info["config"] = derived.hf_config(facts)
    return {key: value for key, value in info.items() if value is not None}


def pipeline_tag(facts: Mapping[str, Any]) -> str | None:
    """Return the kind of use that the card names, if it does."""
    value = (facts.get("card") or {}).get("pipeline_tag")
    return value if isinstance(value, str) else None


def details(
    repo: Repo,
    commit: Commit,
    files: Sequence[File],
    *,
    blobs: bool = False,
    security: bool = False,
) -> dict[str, Any]:
    """Return everything about a repository at one commit."""
    facts = commit.facts
    info = summary(repo, commit.id, facts, card=True, config=True)
    parameters = facts.get("parameters") or {}
    info |= {
        "downloadsAllTime": repo.downloads,
        "siblings": [sibling(item, blobs) for item in files],
        "usedStorage": sum(item.size for item in files),
        "spaces": [],
        "adapterhub": {
            "status": commit.status,
            "reason": commit.reason,
            **{
                key: facts.get(key)
                for key in (
                    "format",
                    "method",
                    "rank",
                    "head",
                    "base_model",
                    "config_hash",
                    "conflicts",
                )
                if facts.get(key) is not None
            },
        },
    }
    if parameters:
        info["safetensors"] = {"parameters": parameters, "total": sum(parameters.values())}
    if facts.get("base_model"):
        info["baseModels"] = {"relation": "adapter", "models": [{"id": facts["base_model"]}]}
    index = (facts.get("card") or {}).get("model-index")
    if isinstance(index, list):
        info["model-index"] = index
    if security:
        info["securityRepoStatus"] = {
            "scansDone": commit.status != "pending",
            "filesWithIssues": [],
        }
    return info


def expanded(info: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Return only the properties that a client asked for, and those that it always gets."""
    if not wanted:
        return dict(info)
    return {key: value for key, value in info.items() if key in (*wanted, "_id", "id", "modelId")}


def sibling(item: File, blobs: bool) -> dict[str, Any]:
    """Return a file as it stands in the list of a repository."""
    result: dict[str, Any] = {"rfilename": item.path}
    if blobs:
        result |= {"size": item.size, "blobId": item.git_oid}
        if item.lfs:
            result["lfs"] = {"sha256": item.sha256, "size": item.size, "pointerSize": _POINTER}
    return result


def entry(item: File, commit: Commit | None = None) -> dict[str, Any]:
    """Return a file as it stands in a tree; with *commit*, also what changed it and what checks say."""
    result: dict[str, Any] = {
        "type": "file",
        "oid": item.git_oid,
        "size": item.size,
        "path": item.path,
    }
    if item.lfs:
        result["lfs"] = {"oid": item.sha256, "size": item.size, "pointerSize": _POINTER}
    if commit is not None:
        result["lastCommit"] = {
            "id": commit.id,
            "title": commit.title,
            "date": moment(commit.created),
        }
        safe = commit.status == "verified"
        # No virus scanner runs here, and none is claimed.
        result["securityFileStatus"] = {
            "status": "safe" if safe else "unscanned",
            "avScan": None,
            "pickleImportScan": None,
        }
    return result


def folder(path: str, oid: str, commit: Commit | None = None) -> dict[str, Any]:
    """Return a folder as it stands in a tree."""
    result: dict[str, Any] = {"type": "directory", "oid": oid, "size": 0, "path": path}
    if commit is not None:
        result["lastCommit"] = {
            "id": commit.id,
            "title": commit.title,
            "date": moment(commit.created),
        }
    return result


def logged(commit: Commit) -> dict[str, Any]:
    """Return a commit as it stands in the history."""
    return {
        "id": commit.id,
        "title": commit.title,
        "message": commit.message,
        "date": moment(commit.created),
        "authors": [{"user": commit.author}],
        "status": commit.status,
    }


def folders_of(paths: Iterable[str], below: str, recursive: bool) -> list[str]:
    """Return the folders below *below* (``""``: the root) that hold these files."""
    prefix = f"{below}/" if below else ""
    found = set()
    for path in paths:
        parts = path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parts) + 1) if recursive else range(1, min(len(parts), 1) + 1):
            found.add(prefix + "/".join(parts[:depth]))
    return sorted(found)
