"""An :class:`Entry` is what a hub answers with: one adapter, its config, one chosen version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapterhub.hub.cards import AdapterCard, AdapterVersion
from adapterhub.hub.confighash import all_hashes, card_hash, library_hash, method_name, summary


@dataclass(frozen=True)
class Entry:
    """One adapter of a hub.

    Attributes:
        card: What its card states.
        config: Its full configuration; empty if the card names an architecture nobody knows.
        languages: Languages of the data it was trained on (BCP-47 tags).
        version: The chosen version (the default one unless another was asked for).
        metric: Name of the metric that ``version.score`` is about, if known.
        hashes: Every configuration hash under which it may be asked for.
        reason: Why this adapter was chosen, if there was a choice.
    """

    card: AdapterCard
    config: Mapping[str, Any]
    languages: tuple[str, ...]
    version: AdapterVersion
    metric: str | None = None
    hashes: frozenset[str] = frozenset()
    reason: str = ""

    @property
    def identifier(self) -> str:
        """The identifier of exactly this adapter: ``@owner/stem``."""
        return f"@{self.card.owner}/{self.card.stem}"

    @property
    def task_identifier(self) -> str:
        """The identifier by what it was trained on: ``task/subtask@owner``."""
        return f"{self.card.task}/{self.card.subtask}@{self.card.owner}"

    @property
    def config_hash(self) -> str:
        """The configuration hash that the library (version 3 and later) shows, 16 hex digits."""
        return library_hash(self.config)

    @property
    def method(self) -> str:
        """The usual name of its method, e.g. ``seq_bn`` or ``lora``."""
        return method_name(self.config) if self.config else self.card.using

    @property
    def summary(self) -> str:
        """Its settings in a few words, e.g. ``rf=16, relu``."""
        return summary(self.config)

    @property
    def available(self) -> bool:
        """Whether the files of the chosen version are in this hub."""
        return bool(self.version.members)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What it is for: type, task, subtask and base model."""
        return (self.card.type, self.card.task, self.card.subtask, self.card.model_name)

    def to_json(self) -> dict[str, Any]:
        """Return everything that a script may want to know as plain data."""
        card, version = self.card, self.version
        return {
            "id": self.identifier,
            "owner": card.owner,
            "name": card.stem,
            "type": card.type,
            "task": card.task,
            "subtask": card.subtask,
            "languages": list(self.languages),
            "base_model": card.model_name,
            "model_type": card.model_type,
            "architecture": card.using,
            "method": self.method,
            "config": dict(self.config),
            "config_hash": self.config_hash,
            "prediction_head": card.prediction_head,
            "license": card.license,
            "author": card.author,
            "description": card.description,
            "default": card.default,
            "version": version.version,
            "versions": [item.version for item in card.versions],
            "default_version": card.default_version,
            "sha256": version.sha256,
            "published": version.published,
            "parameters": version.parameters,
            "size": version.size,
            "score": version.score,
            "metric": self.metric,
            "metrics": dict(version.metrics),
            "url": version.url,
            "files": [member.to_json() for member in version.members],
            "available": self.available,
        }


def config_hashes(
    config: Mapping[str, Any], old: Mapping[str, Any] | None = None
) -> frozenset[str]:
    """Return every hash that may mean *config*; *old* is how version 1 of the library wrote it."""
    if not config:
        return frozenset()
    extra = frozenset({card_hash(old)}) if old else frozenset()
    return all_hashes(config) | extra
