"""What a folder knows about one adapter: its versions, and facts of files beside claims of cards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from adapterhub.hub.cards import AdapterVersion, Member
from adapterhub.hub.confighash import library_hash, method_name
from adapterhub.hub.entries import Entry
from adapterhub.hub.folderreports import Kept
from adapterhub.hub.inspection import HEAD_WEIGHTS_FILE
from adapterhub.hub.languages import language_name
from adapterhub.hub.signing import stamp
from adapterhub.hub.web import links
from adapterhub.hub.web.source import Fact, File, Measured, Version


def version_of(owner: str, name: str, item: AdapterVersion) -> Version:
    """Return the record of a version of a card."""
    return Version(
        name=item.version,
        published=item.published,
        description=item.description or "",
        score=item.score,
        metrics=item.metrics,
        parameters=item.parameters,
        sha256=item.sha256,
        sha1=item.sha1,
        url=item.url,
        files=tuple(
            File(m.path, m.size, m.sha256, links.blob(owner, name, item.version, m.path))
            for m in item.members
        ),
    )


def measured_in(item: Kept) -> list[Measured]:
    """Return the results of a report."""
    report, signature = item.signed.report, item.signed.signature
    return [
        Measured(
            dataset=report.dataset or "",
            data=report.data_name,
            data_sha256=report.data_sha256,
            split=report.split,
            examples=report.examples,
            metric=value.metric,
            value=value.value,
            standard_error=value.standard_error,
            higher_is_better=value.higher_is_better,
            signed_by=item.account,
            key=signature.key.id,
            evaluated=stamp(report.evaluated) or "",
            base_model=report.base_model,
            version=item.version,
            current=item.current,
            href=links.card(item.path),
        )
        for value in report.results
    ]


def facts_of(
    entry: Entry, info: Mapping[str, Any] | None, members: Mapping[str, Member]
) -> list[Fact]:
    """Return what the files show beside what the card says.

    Args:
        entry: the adapter.
        info: content of its ``adapter_config.json``; ``None``: the files are not here.
        members: its files by path.
    """
    card = entry.card
    if info is None:
        return [
            Fact("Base model", None, card.model_name),
            Fact("Method", None, f"{card.using} ({entry.method})"),
            Fact("Prediction head", None, _yes(card.prediction_head)),
            Fact("Licence", None, card.license),
            Fact("Languages", None, ", ".join(language_name(c) for c in entry.languages) or None),
        ]
    peft = "peft_type" in info
    config = info if peft else info.get("config")
    config = config if isinstance(config, Mapping) else {}
    hash_ = None if peft else library_hash(config)
    heads = _yes(HEAD_WEIGHTS_FILE in members)
    hidden = info.get("hidden_size")
    return [
        Fact(
            "Base model",
            _text(info.get("base_model_name_or_path" if peft else "model_name")),
            card.model_name,
        ),
        Fact("Model type", _text(info.get("model_type")), card.model_type or None),
        Fact("Method", method_name(config), entry.method),
        Fact("Configuration hash", hash_, entry.config_hash),
        Fact("Prediction head", heads, _yes(card.prediction_head)),
        Fact("Hidden size", _text(hidden), _text(card.hidden_size)),
        Fact("Written by", _text(info.get("version")), None),
        Fact("Licence", None, card.license),
        Fact("Languages", None, ", ".join(language_name(c) for c in entry.languages) or None),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _text(value: Any) -> str | None:
    return None if value in (None, "") else json.dumps(value, ensure_ascii=False).strip('"')
