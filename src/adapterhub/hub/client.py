"""Our client of a hub server: push a folder, and find and fetch an adapter.

It speaks the Hugging Face protocol through ``huggingface_hub`` (which comes with transformers), so it can
talk to any server of that protocol. A task is the tag ``adapterhub:<task>/<subtask>``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub import cardfile
from adapterhub.hub.findings import raise_all
from adapterhub.hub.identifier import AdapterKey, TaskQuery, parse_identifier
from adapterhub.hub.inspection import list_files, read_front_matter
from adapterhub.hub.names import slug_problems
from adapterhub.hub.verify import adapter, facts
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.results import Result, errors

TASK_TAG = "adapterhub:"
_SHOWN = 8


def is_server(place: str) -> bool:
    """Tell whether the name of a hub is the address of a server."""
    return place.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Prepared:
    """A folder as it would be published: its files, its card, and what the checks say.

    Attributes:
        files: what is sent, by name: a path, or the bytes of the card.
        card: the README as it will be.
        facts: what follows from the files; see :mod:`adapterhub.hub.verify.facts`.
        results: what each check said, by file.
        problems: why the hub would refuse or hold it; empty if it would be published.
    """

    files: Mapping[str, Path | bytes]
    card: str
    facts: Mapping[str, Any]
    results: Mapping[str, Sequence[Result]]
    problems: Sequence[str] = field(default_factory=list)


def prepare(
    folder: str | os.PathLike[str],
    *,
    task: str | None = None,
    license: str | None = None,
    language: str | None = None,
    description: str = "",
) -> Prepared:
    """Run every check of the server here, and complete the card; nothing is sent.

    Args:
        folder: what ``save_adapter`` or PEFT's ``save_pretrained`` wrote.
        task: ``task/subtask``, e.g. ``"sentiment/sst-2"``.
        license, language: for the card, where it does not say.
        description: a sentence for a card that does not exist yet.
    """
    place = Path(folder).expanduser()
    files, problems = list_files(place)
    problems += _task_problems(task)
    results = {name: examine(path, name) for name, path in files.items()}
    by_name = {name: {item.name: item for item in found} for name, found in results.items()}
    problems += errors(item for found in results.values() for item in found)
    whole = adapter.check_set(by_name)
    problems += whole.message.split("\n") if whole.failed else []
    learnt = facts.derive(by_name, sum(path.stat().st_size for path in files.values()))
    text = (
        files["README.md"].read_text("utf-8-sig") if "README.md" in files and not problems else ""
    )
    card = _card(text, learnt, task, license, language, description)
    sent: dict[str, Path | bytes] = {**files, "README.md": card.encode()}
    return Prepared(sent, card, learnt, results, problems)


def _task_problems(task: str | None) -> list[str]:
    if task is None:
        return []
    parts = task.split("/")
    if len(parts) != 2:
        return [f"task {task!r} must be task/subtask, e.g. sentiment/sst-2"]
    return [
        line
        for what, part in zip(("task", "subtask"), parts, strict=True)
        for line in slug_problems(what, part)
    ]


def _card(
    text: str,
    learnt: Mapping[str, Any],
    task: str | None,
    license: str | None,
    language: str | None,
    description: str,
) -> str:
    """Return the README with a front matter that says what is known; what its author wrote stays."""
    front = dict(read_front_matter(text)) if text else {}
    body = text.replace("\r\n", "\n")
    if front:
        body = body[4:].partition("\n---")[2].partition("\n")[2]
    tags = facts.texts(front.get("tags"))
    wanted = [learnt.get("library"), learnt.get("method"), f"{TASK_TAG}{task}" if task else None]
    front["tags"] = list(dict.fromkeys([*tags, *(tag for tag in wanted if tag)]))
    for key, value in (
        ("base_model", learnt.get("base_model")),
        ("library_name", learnt.get("library")),
        ("license", license),
        ("language", language),
    ):
        if value and not front.get(key):
            front[key] = value
    if not body.strip():
        method, base = learnt.get("method") or "Adapter", learnt.get("base_model") or "a base model"
        about = f" for {task}" if task else ""
        body = f"# {method}{about}\n\n{description or f'A {method} adapter{about}, trained on {base}.'}\n"
    return f"---\n{cardfile.dumps(front).decode()}---\n{body}"


def push(
    prepared: Prepared,
    repo: str,
    *,
    url: str,
    token: str | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str = "Publish an adapter",
) -> str:
    """Send a prepared folder to the hub server at *url* in one commit; return its commit id.

    Only contents that have changed travel. Files that the repository holds and the folder does not stay.

    Args:
        repo: ``namespace/name``.
        token: with scope write; by default that of ``hf auth login`` or ``HF_TOKEN``.
        revision: branch; by default ``main``.

    Raises:
        HubError: If a check failed, or the hub refuses; nothing is published then.
    """
    raise_all("this folder cannot be published:", prepared.problems)
    os.environ.setdefault(
        "HF_HUB_DISABLE_XET", "1"
    )  # read when it is imported; large files go by LFS
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=url.rstrip("/"), token=token)
    operations = [
        CommitOperationAdd(name, _content(value)) for name, value in prepared.files.items()
    ]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        made = api.create_commit(repo, operations, commit_message=message, revision=revision)
    except Exception as error:
        raise HubError(f"{repo} was not published at {url}: {_reason(error)}") from error
    return made.oid


def _content(value: Path | bytes) -> str | bytes:
    return value if isinstance(value, bytes) else str(value)


def _reason(error: Exception) -> str:
    """Return what the server said, without the client's links and ids around it."""
    response = getattr(error, "response", None)
    said = response.headers.get("x-error-message") if response is not None else None
    return said or str(error) or type(error).__name__


def fetch(
    url: str,
    identifier: str,
    *,
    version: str | None = None,
    base_model: str | None = None,
    token: str | None = None,
) -> Path:
    """Bring an adapter from the server at *url* into the cache, every checksum verified.

    Args:
        identifier: ``namespace/name`` or ``@namespace/name``; ``task/subtask`` or
            ``task/subtask@namespace``, if one adapter fits.
        version: branch, tag or commit id.
        base_model: id of the base model that it must be for, for a task.

    Raises:
        HubError: If nothing fits, several do (each is named), or what arrives is damaged.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    url = url.rstrip("/")
    api = HfApi(endpoint=url, token=token)
    try:
        repo = _exact(identifier)
        if repo is None or (not identifier.startswith("@") and not _exists(api, repo)):
            repo = _by_task(api, identifier, base_model)
        folder = Path(snapshot_download(repo, revision=version, endpoint=url, token=token))
        commit = folder.name
        known = api.get_paths_info(
            repo, [p.name for p in folder.iterdir() if p.is_file()], revision=commit
        )
    except HubError:
        raise
    except RepositoryNotFoundError as error:
        raise HubError(f"there is no {identifier!r} at {url} that you may see") from error
    except Exception as error:
        raise HubError(
            f"{identifier!r} could not be fetched from {url}: {_reason(error)}"
        ) from error
    for item in known:
        _verify(folder / item.path, item)
    return folder


def _exact(identifier: str) -> str | None:
    name = identifier.removeprefix("@")
    return name if name.count("/") == 1 and "@" not in name else None


def _exists(api: Any, repo: str) -> bool:
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        api.model_info(repo)
    except (RepositoryNotFoundError, HFValidationError):
        return False
    return True


def _by_task(api: Any, identifier: str, base_model: str | None) -> str:
    query = parse_identifier(identifier)
    if isinstance(query, AdapterKey) or not isinstance(query, TaskQuery) or not query.subtask:
        raise HubError(
            f"{identifier!r} is not namespace/name, task/subtask or task/subtask@namespace"
        )
    tags = [f"{TASK_TAG}{query.first}/{query.subtask}"]
    tags += [f"base_model:{base_model}"] if base_model else []
    found = sorted(item.id for item in api.list_models(filter=tags, author=query.owner))
    if not found:
        raise HubError(
            f"no adapter at {api.endpoint} fits {identifier!r}{f' for {base_model}' if base_model else ''}"
        )
    if len(found) > 1:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise HubError(
            f"{identifier!r} fits {len(found)} adapters; name one: @{', @'.join(found[:_SHOWN])}{more}"
        )
    return found[0]


def _verify(path: Path, item: Any) -> None:
    """Compare a file with the hash that the hub states for it."""
    data = path.read_bytes()
    lfs = getattr(item, "lfs", None)
    if lfs is not None:
        stated, found = lfs.sha256, hashlib.sha256(data).hexdigest()
    else:
        head = b"blob %d\0" % len(data)
        stated, found = item.blob_id, hashlib.sha1(head + data, usedforsecurity=False).hexdigest()
    if stated != found:
        raise HubError(
            f"{path} is damaged: its hash is {found} and not {stated}; remove it and fetch it again"
        )
