"""What people look for in an adapter of the database: read from facts, named by the cards of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.confighash import all_hashes, summary
from adapterhub.hub.languages import NAMES, language_code, language_name
from adapterhub.hub.verify.facts import texts as as_texts
from adapterhub.hub.web.source import Adapter, Evaluation, Status

TASK_TAG = "adapterhub:"
TEXT_TASK, TEXT_LANG = "text_task", "text_lang"
#: Where nobody has said what an adapter is for.
NO_TASK, NO_DATASET = "other", "not-stated"
_NAMES = {NO_TASK: "Other tasks", NO_DATASET: "Data not stated"}
_MAX_RESULTS = 100


@dataclass(frozen=True)
class Row:
    """What a list shows of a repository, as the database has it.

    Attributes:
        owner, fullname: name of the account, and its name for people.
        published: whether others than its members see it; else *facts* are those of its newest commit.
        versions: number of verified commits.
        commit, status: the commit that *facts* are of, and what the checks made of it.
    """

    id: int
    owner_id: int
    owner: str
    fullname: str
    name: str
    private: bool
    gated: bool
    published: bool
    modified: datetime
    downloads: int
    versions: int
    facts: Mapping[str, Any]
    commit: str
    status: str


def place_of(facts: Mapping[str, Any], cards: Catalogue) -> tuple[str, str, str]:
    """Return type, task and data set.

    A tag ``adapterhub:task/dataset`` decides; without one, the kind of use and the data set on the card.
    A task that is a language (and no task card says otherwise) means a language adapter.
    """
    for tag in facts.get("tags") or ():
        if tag.startswith(TASK_TAG) and "/" in tag:
            task, _, dataset = tag.removeprefix(TASK_TAG).partition("/")
            if task and dataset:
                return _type_of(task, cards), task, dataset
    card = facts.get("card") or {}
    kind = card.get("pipeline_tag")
    datasets = facts.get("datasets") or []
    task = kind if isinstance(kind, str) and kind else NO_TASK
    return TEXT_TASK, task[:100], (datasets[0] if datasets else NO_DATASET)


def _type_of(task: str, cards: Catalogue) -> str:
    if (TEXT_TASK, task) in cards.tasks:
        return TEXT_TASK
    is_language = (TEXT_LANG, task) in cards.tasks or language_code(task) in NAMES
    return TEXT_LANG if is_language else TEXT_TASK


def names_of(type_: str, task: str, dataset: str, cards: Catalogue) -> tuple[str, str]:
    """Return what people call a task and a data set."""
    task_card = cards.tasks.get((type_, task))
    dataset_card = cards.subtasks.get((type_, task, dataset))
    known = language_name(language_code(task)) if type_ == TEXT_LANG else ""
    task_name = known if known and known != language_code(task) else _title(task)
    return (
        task_card.displayname if task_card else task_name,
        dataset_card.displayname if dataset_card else _NAMES.get(dataset, dataset),
    )


def _title(task: str) -> str:
    if task in _NAMES:
        return _NAMES[task]
    plain = task.replace("-", " ").replace("_", " ")
    return plain[:1].upper() + plain[1:] if "-" in task or "_" in task else task


def evaluations_of(facts: Mapping[str, Any]) -> tuple[Evaluation, ...]:
    """Return the results that a card states in its ``model-index``; what is malformed is left out."""
    index = (facts.get("card") or {}).get("model-index")
    found: list[Evaluation] = []
    for model in index if isinstance(index, list) else ():
        results = model.get("results") if isinstance(model, dict) else None
        for result in results if isinstance(results, list) else ():
            if not isinstance(result, dict):
                continue
            task, data = (result.get(key) for key in ("task", "dataset"))
            task, data = (item if isinstance(item, dict) else {} for item in (task, data))
            metrics = result.get("metrics")
            for metric in metrics if isinstance(metrics, list) else ():
                value = metric.get("value") if isinstance(metric, dict) else None
                if isinstance(value, bool) or not isinstance(value, int | float):
                    continue
                found.append(
                    Evaluation(
                        task=_text(task.get("name") or task.get("type")),
                        dataset=_text(data.get("name") or data.get("type")),
                        split=_text(data.get("split")),
                        metric=_text(metric.get("type") or metric.get("name")) or "score",
                        value=float(value),
                    )
                )
    return tuple(found[:_MAX_RESULTS])


def _text(value: Any) -> str:
    return value.strip()[:200] if isinstance(value, str) else ""


class Architectures:
    """The architecture cards of a hub by the hashes of their configurations."""

    def __init__(self, cards: Catalogue) -> None:
        self._names: dict[str, str] = {}
        for name in sorted(cards.architectures):
            for known in all_hashes(cards.architectures[name].config):
                self._names.setdefault(known, name)

    def name_of(self, facts: Mapping[str, Any]) -> str:
        """Return the card with just this configuration, else the name of the method."""
        config = facts.get("config")
        if self._names and facts.get("format") == "adapterhub" and isinstance(config, dict):
            for one in sorted(all_hashes(config)) if config else ():
                if one in self._names:
                    return self._names[one]
        return facts.get("method") or "unknown"


def architecture_of(facts: Mapping[str, Any], cards: Catalogue) -> str:
    """Return the name of the configuration among these cards; see :class:`Architectures`."""
    return Architectures(cards).name_of(facts)


def settings_of(facts: Mapping[str, Any]) -> str:
    """Return the settings of a configuration in a few words."""
    config = facts.get("config")
    if not isinstance(config, dict):
        return ""
    if facts.get("format") == "peft":
        config = {"r": config.get("r"), "alpha": config.get("lora_alpha"), "architecture": "lora"}
    return summary(config)


def adapter_of(row: Row, cards: Catalogue, architectures: Architectures) -> Adapter:
    """Return a repository as lists and searches show it."""
    facts = row.facts
    type_, task, dataset = place_of(facts, cards)
    task_name, dataset_name = names_of(type_, task, dataset, cards)
    data_card = cards.subtasks.get((type_, task, dataset))
    languages = tuple(facts.get("languages") or ())
    if not languages and type_ == TEXT_LANG:
        languages = (language_code(task),)
    elif not languages and data_card is not None:
        languages = data_card.languages
    best = _headline(evaluations_of(facts), data_card.metric if data_card else None)
    config = facts.get("config")
    parameters = facts.get("parameters") or {}
    status: Status = "checked" if row.published else "held"
    return Adapter(
        owner=row.owner,
        name=row.name,
        type=type_,
        task=task,
        subtask=dataset,
        task_name=task_name,
        subtask_name=dataset_name,
        base_model=facts.get("base_model") or "unknown",
        model_type=facts.get("model_type") or "",
        architecture=architectures.name_of(facts),
        method=facts.get("method") or "unknown",
        settings=settings_of(facts),
        config_hash=facts.get("config_hash") or "",
        languages=languages,
        format=facts.get("format") or "incomplete",
        license=facts.get("license"),
        author=row.fullname,
        summary=about_of(facts)[:200],
        parameters=sum(parameters.values()) or None,
        size=facts.get("size"),
        rank=facts.get("rank") or _rank(config),
        score=best.value if best else None,
        metric=best.metric if best else (data_card.metric if data_card else None),
        higher_is_better=data_card.higher_is_better if data_card else None,
        versions=row.versions,
        published=row.modified.isoformat(timespec="seconds") if row.published else None,
        head=bool(facts.get("head")),
        status=status,
        downloads=row.downloads,
        private=row.private,
        gated=row.gated,
    )


def about_of(facts: Mapping[str, Any]) -> str:
    """Return the first sentences about an adapter."""
    about = facts.get("about")
    return about if isinstance(about, str) else ""


def _rank(config: Any) -> int | None:
    rank = config.get("r") if isinstance(config, dict) else None
    return rank if isinstance(rank, int) and not isinstance(rank, bool) else None


def _headline(found: tuple[Evaluation, ...], metric: str | None) -> Evaluation | None:
    """Return the result that stands for an adapter in lists: by the metric of its data, else the first."""
    fitting = [item for item in found if metric and item.metric.casefold() == metric.casefold()]
    return next(iter((*fitting, *found)), None)


def texts_of(
    adapter: Adapter, facts: Mapping[str, Any], cards: Catalogue
) -> list[tuple[float, str]]:
    """Return the searchable texts of an adapter; the weights are those of the search in folders."""
    task = cards.tasks.get((adapter.type, adapter.task))
    data = cards.subtasks.get((adapter.type, adapter.task, adapter.subtask))
    tags = " ".join(as_texts((facts.get("card") or {}).get("tags")))
    languages = " ".join(f"{code} {language_name(code)}" for code in adapter.languages)
    return [
        (10.0, f"{adapter.task} {adapter.subtask}"),
        (8.0, f"{adapter.task_name} {adapter.subtask_name}"),
        (6.0, languages),
        (6.0, f"{adapter.name} {adapter.base_model}"),
        (5.0, f"{adapter.architecture} {adapter.method} {adapter.owner}"),
        (3.0, f"{about_of(facts)} {adapter.author} {adapter.model_type} {adapter.format} {tags}"),
        (1.0, f"{task.description if task else ''} {data.description if data else ''}"),
    ]
