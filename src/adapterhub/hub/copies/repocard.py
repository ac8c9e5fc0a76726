"""The card of a repository: what the files show, what its README claims, and its versions.

A repository has commits and names for some of them, a card has versions. Every tag and branch is a version;
what is on the default branch is the default version, called like the first tag that points there, else by
its commit id. What only people know stands in the front matter of the README: the task as the tag
``adapterhub:<task>/<subtask>``, and, for what no other program knows, a mapping ``adapterhub:`` (``type``,
``default``, ``author``, ``url``, ``citation``, ``dependencies``). :func:`card_of` reads these words,
:func:`front_matter` writes them. A card that was made here says so (``x-source: repository``): all of it
follows from its files, so they go to another server as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.cards import AdapterCard, Member, manifest_sha256
from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.confighash import integral
from adapterhub.hub.entries import Entry
from adapterhub.hub.languages import language_code
from adapterhub.hub.live.places import (
    NO_DATASET,
    NO_TASK,
    TASK_TAG,
    Architectures,
    names_of,
    place_of,
)
from adapterhub.hub.names import slug_problems, slugify
from adapterhub.hub.verify.facts import texts

LANGUAGE_TYPE = "text_lang"
DEFAULT_TYPE = "text_task"
SOURCE, REPOSITORY = "x-source", "repository"

_LINK = re.compile(r"https?://\S+")
#: Keys of the mapping ``adapterhub:`` in a README, in their order.
_OWN = ("type", "default", "author", "url", "citation", "dependencies")


@dataclass(frozen=True)
class RepoVersion:
    """One state of a repository: its name, when it was published, its files, and what they show."""

    name: str
    published: str | None
    members: Sequence[Member]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class RepoState:
    """A repository as everybody sees it.

    Attributes:
        owner, name: its id.
        versions: the default one last.
        title: full name of the owner.
    """

    owner: str
    name: str
    versions: Sequence[RepoVersion]
    title: str = ""


def card_of(repo: RepoState, cards: Catalogue, architectures: Architectures) -> dict[str, Any]:
    """Return the content of the card ``adapters/<owner>/<name>.yaml``.

    Args:
        repo: the repository.
        cards: of the hub, which knows its tasks.
        architectures: its named configurations, one of which may be meant.

    Raises:
        HubError: If the files of the default version are no adapter.
    """
    default = repo.versions[-1]
    facts = default.facts
    if not facts.get("format") or not facts.get("base_model"):
        raise HubError(f"{repo.owner}/{repo.name} holds no adapter whose base model is known")
    own = own_words(facts)
    type_, task, subtask = task_of(facts, cards)
    url = _text(own.get("url"), 2000)
    card: dict[str, Any] = {
        "type": type_,
        "task": task,
        "subtask": subtask,
        "model_type": str(facts.get("model_type") or "unknown")[:64],
        "model_name": str(facts["base_model"]),
        "model_class": facts.get("model_class"),
        "prediction_head": bool(facts.get("head")),
        "config": _config(facts, architectures),
        "author": _text(own.get("author"), 500) or repo.title or repo.owner,
        "license": facts.get("license"),
        "language": list(facts.get("languages") or ()) or None,
        "url": url if url and _LINK.fullmatch(url) else None,
        "citation": _text(own.get("citation"), 20_000),
        "default": own.get("default") is True or None,
        "dependencies": [{"key": key[:300]} for key in texts(own.get("dependencies"))] or None,
        "default_version": default.name,
        "files": [_version(item) for item in (*repo.versions[:-1], default)],
        SOURCE: REPOSITORY,
    }
    return {key: value for key, value in card.items() if value is not None and value != ""}


def _text(value: Any, limit: int) -> str | None:
    """Return a value of a README that should be text, if it is."""
    return value.strip()[:limit] or None if isinstance(value, str) else None


def own_words(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the mapping ``adapterhub:`` of the README's front matter."""
    own = (facts.get("card") or {}).get("adapterhub")
    return own if isinstance(own, Mapping) else {}


def task_of(facts: Mapping[str, Any], cards: Catalogue) -> tuple[str, str, str]:
    """Return type, task and subtask as the pages of a server show them, fit to be file names."""
    type_, task, dataset = place_of(facts, cards)
    named = own_words(facts).get("type")
    if isinstance(named, str) and not slug_problems("type", named, limit=64):
        type_ = named
    return type_, _slug(task, NO_TASK), _slug(dataset, NO_DATASET)


def _slug(name: str, otherwise: str) -> str:
    plain = slugify(name)[:64].strip(".-")
    return otherwise if slug_problems("name", plain, limit=64) else plain


def _config(facts: Mapping[str, Any], architectures: Architectures) -> dict[str, Any]:
    """Name the architecture where a card has just this configuration, and give all values."""
    values = facts.get("config")
    values = integral(values) if isinstance(values, Mapping) else {}
    method = str(architectures.name_of(facts))[:64]
    return {"using": method, "values": dict(values)} if values else {"using": method}


def _version(item: RepoVersion) -> dict[str, Any]:
    members = sorted(item.members, key=lambda member: member.path)
    parameters = item.facts.get("parameters") or {}
    version: dict[str, Any] = {
        "version": item.name,
        "sha256": manifest_sha256(members),
        "published": item.published,
        "parameters": sum(parameters.values()) if isinstance(parameters, Mapping) else None,
    }
    metrics = metrics_of(item.facts)
    if metrics:
        version["metrics"] = metrics
    version["members"] = [member.to_json() for member in members]
    return {key: value for key, value in version.items() if value is not None}


def metrics_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return the results that the README states (``model-index``), by the name of the metric."""
    found: dict[str, float] = {}
    index = (facts.get("card") or {}).get("model-index")
    for model in index if isinstance(index, list) else ():
        results = model.get("results") if isinstance(model, Mapping) else None
        for entry in results if isinstance(results, list) else ():
            metrics = entry.get("metrics") if isinstance(entry, Mapping) else None
            for metric in metrics if isinstance(metrics, list) else ():
                if not isinstance(metric, Mapping):
                    continue
                name, value = metric.get("type") or metric.get("name"), metric.get("value")
                if isinstance(value, bool) or not isinstance(value, int | float):
                    continue
                if isinstance(name, str) and abs(value) < 1e300:
                    found.setdefault(name.casefold()[:64], value)
    return found


def task_cards(card: Mapping[str, Any], cards: Catalogue) -> dict[str, dict[str, Any]]:
    """Return cards, by path, for the task and subtask of an adapter card, unless *cards* has them."""
    type_, task, subtask = card["type"], card["task"], card["subtask"]
    task_name, name = names_of(type_, task, subtask, cards)
    found: dict[str, dict[str, Any]] = {}
    if (type_, task) not in cards.tasks:
        found[f"tasks/{type_}/{task}.yaml"] = {
            "task": task,
            "displayname": task_name[:80],
            "description": task_name,
        }
    if (type_, task, subtask) not in cards.subtasks:
        found[f"subtasks/{type_}/{task}_{subtask}.yaml"] = {
            "task": task,
            "subtask": subtask,
            "displayname": name[:80],
            "description": f"{task_name}: {name}",
        }
    return found


def front_matter(
    front: Mapping[str, Any], entry: Entry, version_facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Complete the front matter of a README by what a card knows; what stands there already stays.

    Args:
        front: the front matter of the README among the files, or nothing.
        entry: the adapter of the folder, with the version at hand.
        version_facts: what its files show.
    """
    card = entry.card
    result = dict(front)
    tags = texts(front.get("tags"))
    wanted = [version_facts.get("library"), version_facts.get("method")]
    if card.task != NO_TASK:
        wanted.append(f"{TASK_TAG}{card.task}/{card.subtask}")
    result["tags"] = list(dict.fromkeys([*tags, *(str(tag) for tag in wanted if tag)]))
    for key, value in (
        ("base_model", card.model_name),
        ("library_name", version_facts.get("library")),
        ("license", card.license),
        ("language", list(entry.languages) if entry.languages else None),
    ):
        if value and not result.get(key):
            result[key] = value
    metrics = dict(entry.version.metrics)
    if entry.version.score is not None and (entry.metric or "score") not in metrics:
        metrics[entry.metric or "score"] = entry.version.score
    if metrics and "model-index" not in result:
        result["model-index"] = _model_index(card, metrics)
    own = _own(card)
    if own and "adapterhub" not in result:
        result["adapterhub"] = own
    return result


def _own(card: AdapterCard) -> dict[str, Any]:
    values: dict[str, Any] = {
        "type": card.type if card.type not in (DEFAULT_TYPE, LANGUAGE_TYPE) else None,
        "default": card.default or None,
        "author": card.author if card.author != card.owner else None,
        "url": card.url,
        "citation": card.citation,
        "dependencies": list(card.dependencies) or None,
    }
    return {key: values[key] for key in _OWN if values.get(key) is not None}


def _model_index(card: AdapterCard, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    language = card.type == LANGUAGE_TYPE
    result = {
        "task": {"type": "fill-mask" if language else card.task},
        "dataset": {"name": card.subtask, "type": card.subtask},
        "metrics": [{"type": name, "value": value} for name, value in metrics.items()],
    }
    if language:
        result["dataset"]["language"] = language_code(card.task)
    return [{"name": card.stem, "results": [result]}]
