"""Our client of a hub server: push a folder, and find and fetch an adapter.

It speaks the Hugging Face protocol through ``huggingface_hub`` (which comes with transformers), so it can
talk to any server of that protocol. A task is the tag ``adapterhub:<task>/<subtask>``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.hub import cardfile
from adapterhub.hub.fetching import TASK_TAG, fetch
from adapterhub.hub.inspection import list_files, read_front_matter
from adapterhub.hub.leftovers import is_leftover
from adapterhub.hub.names import slug_problems
from adapterhub.hub.sending import Progress
from adapterhub.hub.signing import SIGNATURE_FILE, SigningKey
from adapterhub.hub.storage import file_sha256
from adapterhub.hub.verify import adapter, deep, facts
from adapterhub.hub.verify.deep import DeepChecks
from adapterhub.hub.verify.files import examine
from adapterhub.hub.verify.results import Result, errors

__all__ = ["Prepared", "complete_card", "fetch", "is_server", "prepare", "push", "task_problems"]


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
        left_out: files that training left there and nobody needs; see :mod:`.leftovers`.
    """

    files: Mapping[str, Path | bytes]
    card: str
    facts: Mapping[str, Any]
    results: Mapping[str, Sequence[Result]]
    problems: Sequence[str] = field(default_factory=list)
    left_out: Sequence[str] = ()


def prepare(
    folder: str | os.PathLike[str],
    *,
    task: str | None = None,
    license: str | None = None,
    language: str | None = None,
    description: str = "",
    trial: DeepChecks | None = None,
) -> Prepared:
    """Run every check of the server here, and complete the card; nothing is sent.

    Args:
        folder: what ``save_adapter`` or PEFT's ``save_pretrained`` wrote.
        task: ``task/subtask``, e.g. ``"sentiment/sst-2"``.
        license, language: for the card, where it does not say.
        description: a sentence for a card that does not exist yet.
        trial: also check it against its base model; takes seconds, as the server's own check does.
    """
    place = Path(folder).expanduser()
    files, problems = list_files(place)
    left_out = [name for name in files if is_leftover(name)]
    # (A signature is made anew for where it goes.)
    files = {k: v for k, v in files.items() if k not in left_out and k != SIGNATURE_FILE}
    problems += task_problems(task)
    results = {name: examine(path, name) for name, path in files.items()}
    by_name = {name: {item.name: item for item in found} for name, found in results.items()}
    problems += errors(item for found in results.values() for item in found)
    whole = adapter.check_set(by_name)
    problems += whole.message.split("\n") if whole.failed else []
    if trial is not None and not problems:
        tried = _tried(trial, files, by_name)
        for name, item in tried.items():
            results[deep.file_of(name, by_name)].append(item)
        problems += errors(tried.values())
    learnt = facts.derive(by_name, sum(path.stat().st_size for path in files.values()))
    text = (
        files["README.md"].read_text("utf-8-sig") if "README.md" in files and not problems else ""
    )
    card = complete_card(text, learnt, task, license, language, description)
    sent: dict[str, Path | bytes] = {**files, "README.md": card.encode()}
    return Prepared(sent, card, learnt, results, problems, left_out)


def _tried(
    trial: DeepChecks, files: Mapping[str, Path], found: Mapping[str, Mapping[str, Result]]
) -> dict[str, Result]:
    hashes = {name: file_sha256(path)[0] for name, path in files.items()}
    subject, results = trial.subject(found, hashes)
    if subject is None:
        return results
    with tempfile.TemporaryDirectory() as area:
        return trial.run(subject, files, Path(area))


def task_problems(task: str | None) -> list[str]:
    """Return what is wrong with a task written as ``task/subtask``."""
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


def complete_card(
    text: str,
    learnt: Mapping[str, Any],
    task: str | None,
    license: str | None,
    language: str | Sequence[str] | None,
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
    key: SigningKey | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> str:
    """Send a prepared folder to the hub server at *url* in one commit; return its commit id.

    Only contents that have changed travel, and what a push before that was stopped has sent does not
    travel again. Files that the repository holds and the folder does not stay, unless *replace* is set.

    Args:
        repo: ``namespace/name``.
        token: with scope write; by default that of ``hf auth login`` or ``HF_TOKEN``.
        revision: branch; by default ``main``.
        key, replace, progress: see :func:`.pushing.publish`.

    Raises:
        HubError: If a check failed, or the hub refuses; nothing is published then.
    """
    from adapterhub.hub.pushing import publish

    return publish(
        prepared,
        repo,
        url=url,
        token=token,
        private=private,
        revision=revision,
        message=message,
        key=key,
        replace=replace,
        progress=progress,
    ).commit
