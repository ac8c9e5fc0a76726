"""The four kinds of cards as immutable records, and how a cleaned mapping becomes one.

A record is built leniently: as long as the fields that identify it are there, the card stays usable
and whatever else is wrong is reported by the schema check. What only the path tells (the type of a
task, the owner of an adapter) is a field here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.confighash import HASH_PATTERN, integral


@dataclass(frozen=True)
class TaskCard:
    """A kind of task, or (type ``text_lang``) a language."""

    type: str
    task: str
    displayname: str
    description: str
    path: str


@dataclass(frozen=True)
class SubtaskCard:
    """A data set or corpus within a task."""

    type: str
    task: str
    subtask: str
    displayname: str
    description: str
    languages: tuple[str, ...]
    metric: str | None
    higher_is_better: bool | None
    url: str | None
    hf_datasets_id: str | None
    citation: str | None
    path: str


@dataclass(frozen=True)
class ArchitectureCard:
    """A named adapter configuration."""

    name: str
    displayname: str
    description: str
    config: Mapping[str, Any]
    config_v1: Mapping[str, Any] | None
    citation: str | None
    path: str


@dataclass(frozen=True)
class Member:
    """One file of one version of an adapter: relative path, bytes, and SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the three fields as a plain dictionary."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


def manifest_sha256(members: Iterable[Member]) -> str:
    """Return the one hash that stands for a set of files.

    It is the SHA-256 of the lines ``<sha256>  <path>`` in order of path, so anyone can recompute it
    from a folder with ``sha256sum`` alone.
    """
    ordered = sorted(members, key=lambda member: member.path)
    lines = "".join(f"{member.sha256}  {member.path}\n" for member in ordered)
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class AdapterVersion:
    """One published state of an adapter; its files never change.

    ``members`` is empty where a card only gives an address (``url``) of an archive elsewhere;
    ``sha256`` then belongs to that archive, else to the manifest (:func:`manifest_sha256`).
    """

    version: str
    sha256: str | None = None
    sha1: str | None = None
    url: str | None = None
    description: str | None = None
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    published: str | None = None
    parameters: int | None = None
    members: tuple[Member, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes of all files together, or ``None`` if they are not in this hub."""
        return sum(member.size for member in self.members) if self.members else None


@dataclass(frozen=True)
class AdapterCard:
    """One adapter with all its versions, as its card states it.

    ``old_hashes`` (the key ``x-config-hashes``) are configuration hashes under which it was known
    before its card was mended.
    """

    owner: str
    stem: str
    type: str
    task: str
    subtask: str
    model_type: str
    model_name: str
    using: str
    overrides: Mapping[str, Any]
    values: Mapping[str, Any] | None
    author: str
    default_version: str
    versions: tuple[AdapterVersion, ...]
    default: bool
    languages: tuple[str, ...]
    license: str | None
    description: str
    prediction_head: bool
    model_class: str | None
    hidden_size: int | None
    dependencies: tuple[str, ...]
    email: str | None
    url: str | None
    github: str | None
    twitter: str | None
    citation: str | None
    path: str
    old_hashes: tuple[str, ...] = ()

    def find_version(self, name: str) -> AdapterVersion | None:
        """Return the version of that name."""
        return next((item for item in self.versions if item.version == name), None)


def _need(card: Mapping[str, Any], *keys: str) -> None:
    missing = [key for key in keys if not isinstance(card.get(key), str)]
    if missing:
        raise HubError(f"card cannot be used: no text for {', '.join(missing)}")


def _text(card: Mapping[str, Any], key: str) -> str | None:
    value = card.get(key)
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _hashes(value: Any) -> tuple[str, ...]:
    several = value if isinstance(value, list) else ()
    return tuple(x for x in several if isinstance(x, str) and HASH_PATTERN.fullmatch(x))


def task_card(card: Mapping[str, Any], type_: str, path: str) -> TaskCard:
    """Build the record of a task card that lies in ``tasks/<type_>/``."""
    _need(card, "task")
    name = card["task"]
    return TaskCard(
        type_, name, _text(card, "displayname") or name, _text(card, "description") or "", path
    )


def subtask_card(card: Mapping[str, Any], type_: str, path: str) -> SubtaskCard:
    """Build the record of a subtask card that lies in ``subtasks/<type_>/``."""
    _need(card, "task", "subtask")
    metric = card.get("metric")
    metric = metric if isinstance(metric, Mapping) else {}
    higher = metric.get("higher_is_better")
    return SubtaskCard(
        type=type_,
        task=card["task"],
        subtask=card["subtask"],
        displayname=_text(card, "displayname") or card["subtask"],
        description=_text(card, "description") or "",
        languages=tuple(card.get("language") or ()),
        metric=_text(metric, "name"),
        higher_is_better=higher if isinstance(higher, bool) else None,
        url=_text(card, "url"),
        hf_datasets_id=_text(card, "hf_datasets_id"),
        citation=_text(card, "citation"),
        path=path,
    )


def architecture_card(card: Mapping[str, Any], path: str) -> ArchitectureCard:
    """Build the record of an architecture card."""
    _need(card, "name")
    if not isinstance(card.get("config"), Mapping):
        raise HubError("card cannot be used: no mapping for config")
    old = card.get("config_v1")
    return ArchitectureCard(
        name=card["name"],
        displayname=_text(card, "displayname") or card["name"],
        description=_text(card, "description") or "",
        config=card["config"],
        config_v1=old if isinstance(old, Mapping) else None,
        citation=_text(card, "citation"),
        path=path,
    )


def _version(item: Mapping[str, Any]) -> AdapterVersion:
    _need(item, "version")
    members = []
    for raw in item.get("members") or ():
        _need(raw, "path", "sha256")
        if not isinstance(raw.get("size"), int):
            raise HubError(f"card cannot be used: no size for file {raw['path']!r}")
        members.append(Member(raw["path"], raw["size"], raw["sha256"]))
    metrics = item.get("metrics")
    pairs = metrics.items() if isinstance(metrics, Mapping) else ()
    parameters = item.get("parameters")
    return AdapterVersion(
        version=item["version"],
        sha256=_text(item, "sha256"),
        sha1=_text(item, "sha1"),
        url=_text(item, "url"),
        description=_text(item, "description"),
        score=_number(item.get("score")),
        metrics={key: value for key, value in pairs if _number(value) is not None},
        published=_text(item, "published"),
        parameters=parameters if isinstance(parameters, int) else None,
        members=tuple(members),
    )


def adapter_card(card: Mapping[str, Any], owner: str, stem: str, path: str) -> AdapterCard:
    """Build the record of the adapter card ``adapters/<owner>/<stem>.yaml``.

    Raises:
        HubError: If a field without which the adapter cannot be named or chosen is missing.
    """
    _need(card, "type", "task", "subtask", "model_name")
    config, files = card.get("config"), card.get("files")
    if not isinstance(config, Mapping) or not isinstance(config.get("using"), str):
        raise HubError("card cannot be used: config.using does not name an architecture")
    if not isinstance(files, list) or not all(isinstance(item, Mapping) for item in files):
        raise HubError("card cannot be used: files is not a list of versions")
    versions = tuple(_version(item) for item in files)
    if not versions:
        raise HubError("card cannot be used: files lists no version")
    values = config.get("values")
    hidden = card.get("hidden_size")
    wanted = ("author", "model_type", "default_version", "license", "description", "model_class")
    texts = {key: _text(card, key) for key in (*wanted, "email", "url", "github", "twitter")}
    dependencies = [item.get("key") for item in card.get("dependencies") or () if item]
    return AdapterCard(
        owner=owner,
        stem=stem,
        type=card["type"],
        task=card["task"],
        subtask=card["subtask"],
        model_type=texts["model_type"] or "",
        model_name=card["model_name"],
        using=config["using"],
        overrides=integral({k: v for k, v in config.items() if k not in ("using", "values")}),
        values=values if isinstance(values, Mapping) else None,
        author=texts["author"] or owner,
        default_version=texts["default_version"] or versions[0].version,
        versions=versions,
        default=card.get("default") is True,
        languages=tuple(card.get("language") or ()),
        license=texts["license"],
        description=texts["description"] or "",
        prediction_head=card.get("prediction_head") is True,
        model_class=texts["model_class"],
        hidden_size=hidden if isinstance(hidden, int) else None,
        dependencies=tuple(key for key in dependencies if isinstance(key, str)),
        email=texts["email"],
        url=texts["url"],
        github=texts["github"],
        twitter=texts["twitter"],
        citation=_text(card, "citation"),
        path=path,
        old_hashes=_hashes(card.get("x-config-hashes")),
    )
