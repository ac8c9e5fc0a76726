"""Publishing: from a folder on the user's disk to a card that others can find.

Read :mod:`.storage` for why the order of steps here keeps a hub whole whatever happens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError, did_you_mean
from adapterhub.hub import cardfile
from adapterhub.hub.cards import AdapterCard, Member, manifest_sha256
from adapterhub.hub.catalogue import SUFFIXES, Catalogue
from adapterhub.hub.confighash import all_hashes, library_hash, method_name
from adapterhub.hub.entries import Entry
from adapterhub.hub.findings import raise_all
from adapterhub.hub.inspection import Inspection, inspect_files, list_files
from adapterhub.hub.languages import split_languages
from adapterhub.hub.licenses import normalize_license
from adapterhub.hub.names import MAX_STEM_LENGTH, model_id_problems, slug_problems, slugify
from adapterhub.hub.schema import schema_problems
from adapterhub.hub.storage import Staged, Transaction

LANGUAGE_TYPE = "text_lang"
DEFAULT_TYPE = "text_task"


@dataclass
class Request:
    """What the publisher says about an adapter; see :meth:`adapterhub.hub.Hub.publish`."""

    folder: Path
    task: str
    subtask: str
    owner: str
    name: str | None = None
    version: str = "1"
    type: str | None = None
    description: str = ""
    license: str | None = None
    author: str | None = None
    base_model: str | None = None
    metrics: Mapping[str, float] | None = None
    language: str | Sequence[str] | None = None
    citation: str | None = None
    url: str | None = None
    default: bool = False
    new_task: bool = False
    problems: list[str] = field(default_factory=list)


def publish(catalogue: Catalogue, request: Request) -> Entry:
    """Check and store one adapter version; return its entry as it now is in the hub.

    Raises:
        HubError: With every problem found; nothing is visible then, and nothing is left behind.
    """
    headline = f"{request.folder} cannot be published:"
    files, problems = list_files(request.folder)
    request.problems += _argument_problems(request) + problems
    if any("bytes; at most" in problem or "more than" in problem for problem in problems):
        raise_all(headline, request.problems)  # too much to copy only to look at it
    try:
        with Transaction(catalogue.root) as change:
            catalogue.refresh()
            staged = {name: change.stage(path) for name, path in files.items()}
            inspection = inspect_files({name: copy.path for name, copy in staged.items()})
            request.problems += inspection.problems
            base_model = _base_model(request, inspection)
            _front_matter(request, inspection)
            if request.problems:
                raise_all(headline, request.problems)
            members = [Member(name, copy.size, copy.sha256) for name, copy in staged.items()]
            draft = _Draft(catalogue, request, inspection, base_model, members)
            if draft.is_known():
                return catalogue.entry(draft.known_card(), request.version)
            cards = draft.cards()
            raise_all(headline, request.problems)
            _store(change, catalogue.root, staged, cards)
    except OSError as error:
        raise HubError(
            f"{request.folder} was not published, and the hub is as it was: {error}"
        ) from error
    catalogue.refresh()
    return catalogue.entry(catalogue.adapters[draft.key], request.version)


def _store(
    change: Transaction, root: Path, staged: Mapping[str, Staged], cards: list[tuple[str, bytes]]
) -> None:
    """Blobs first, then the cards; the last one is that of the adapter."""
    for copy in staged.values():
        change.place_blob(copy)
    for path, data in cards[:-1]:
        change.write_new(root / path, data)
    path, data = cards[-1]
    change.commit(root / path, data)


def _argument_problems(request: Request) -> list[str]:
    problems = []
    for what in ("task", "subtask", "owner", "version"):
        problems += slug_problems(what, getattr(request, what))
    if request.name is not None:
        problems += slug_problems("name", request.name, limit=MAX_STEM_LENGTH)
    if request.type is not None:
        problems += slug_problems("type", request.type)
    for key, value in (request.metrics or {}).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not key or not number or not math.isfinite(value):
            problems.append(f"metric {key!r} is {value!r}; it must be a finite number")
    if request.license is not None:
        request.license, wrong = normalize_license(request.license)
        problems += wrong
    return problems


def _base_model(request: Request, inspection: Inspection) -> str:
    """Return the public id of the base model: as given, else as the adapter was saved with."""
    name = request.base_model
    if name is None:
        name = inspection.info.get("model_name") or ""
    if inspection.info or request.base_model is not None:
        request.problems += model_id_problems(str(name))
    return str(name)


def _front_matter(request: Request, inspection: Inspection) -> None:
    """Take licence and language from the README where the publisher did not state them."""
    license_ = inspection.front_matter.get("license")
    if request.license is None and isinstance(license_, str) and license_:
        request.license, wrong = normalize_license(license_)
        request.problems += [f"README.md: {line}" for line in wrong]
    if request.language is None:
        request.language = inspection.front_matter.get("language")


class _Draft:
    """The cards that a publication will write, and the rules that they must meet in this hub."""

    def __init__(
        self,
        catalogue: Catalogue,
        request: Request,
        inspection: Inspection,
        base_model: str,
        members: list[Member],
    ) -> None:
        self.catalogue, self.request, self.inspection = catalogue, request, inspection
        self.base_model, self.members = base_model, members
        self.method = method_name(inspection.config)
        self.type = request.type or self._guess_type()
        parts = (slugify(base_model), request.task, request.subtask, self.method)
        self.key = (request.owner, request.name or slugify("_".join(parts))[:MAX_STEM_LENGTH])

    def _guess_type(self) -> str:
        task, subtask = self.request.task, self.request.subtask
        for table in (self.catalogue.subtasks, self.catalogue.tasks):
            wanted = (task, subtask) if table is self.catalogue.subtasks else (task,)
            types = [key[0] for key in table if key[1:] == wanted]
            if len(types) == 1:
                return types[0]
        return DEFAULT_TYPE

    def known_card(self) -> AdapterCard:
        return self.catalogue.adapters[self.key]

    def is_known(self) -> bool:
        """Tell whether this very version with these very bytes is published already.

        Raises:
            HubError: If the version is published with other bytes, for a version never changes.
        """
        card = self.catalogue.adapters.get(self.key)
        old = card.find_version(self.request.version) if card else None
        if old is None:
            return False
        if old.sha256 == manifest_sha256(self.members):
            return True
        raise HubError(
            f"version {self.request.version!r} of @{'/'.join(self.key)} is published already with "
            f"other files, and a version never changes; publish this one as version="
            f"{_next_version(card)!r}"
        )

    def cards(self) -> list[tuple[str, bytes]]:
        """Return path and content of the cards to write, that of the adapter last.

        Problems are added to those of the request.
        """
        problems = self.request.problems
        result = self._new_task_cards()
        path, card = self._adapter_card()
        problems += [f"card: {line}" for line in schema_problems("adapter", card)]
        return [*result, (path, cardfile.dumps(card))]

    def _new_task_cards(self) -> list[tuple[str, bytes]]:
        """Write minimal cards for a new task or subtask, unless its name looks misspelt."""
        request, known = self.request, self.catalogue
        result = []
        if (self.type, request.task) not in known.tasks:
            self._refuse_misspelt(
                "task", request.task, {t for k, t in known.tasks if k == self.type}
            )
            card = {"task": request.task, "displayname": request.task, "description": request.task}
            result.append((f"tasks/{self.type}/{request.task}.yaml", cardfile.dumps(card)))
        if (self.type, request.task, request.subtask) not in known.subtasks:
            siblings = {s for k, t, s in known.subtasks if (k, t) == (self.type, request.task)}
            self._refuse_misspelt("subtask", request.subtask, siblings)
            name = f"{request.task}_{request.subtask}"
            card = {"task": request.task, "subtask": request.subtask, "description": name}
            result.append((f"subtasks/{self.type}/{name}.yaml", cardfile.dumps(card)))
        for path, _ in result:
            if (known.root / path).exists():
                self.request.problems.append(
                    f"{path} is there but describes something else; mend it"
                )
        return result

    def _refuse_misspelt(self, what: str, name: str, known: set[str]) -> None:
        close = did_you_mean(name, known)
        if close and not self.request.new_task:
            self.request.problems.append(
                f"{what} {name!r} is new, but looks like one that exists.{close} If it is meant "
                "to be new, pass new_task=True (--new-task)"
            )

    def _adapter_card(self) -> tuple[str, dict[str, Any]]:
        owner, stem = self.key
        for other_owner, other_stem in self.catalogue.adapters:
            same = (other_owner.casefold(), other_stem.casefold()) == (
                owner.casefold(),
                stem.casefold(),
            )
            if (same and (other_owner, other_stem) != self.key) or (
                other_owner.casefold() == owner.casefold() and other_owner != owner
            ):
                self.request.problems.append(
                    f"@{owner}/{stem} differs only in upper and lower case from "
                    f"@{other_owner}/{other_stem}; use that spelling or another name"
                )
                break
        existing = self.catalogue.adapters.get(self.key)
        if existing is None:
            taken = [s for s in SUFFIXES if (self._file(s)).exists()]
            if taken:
                self.request.problems.append(
                    f"adapters/{owner}/{stem}{taken[0]} is there but cannot be used; "
                    "see 'adapterhub hub check', mend or remove it"
                )
            self._refuse_twin()
            return f"adapters/{owner}/{stem}.yaml", self._fresh_card()
        self._refuse_changes(existing)
        raw = cardfile.load(self.catalogue.root / existing.path)
        raw["files"] = [*raw.get("files", ()), self._version()]
        raw["default_version"] = self.request.version
        if self.request.description:
            raw["description"] = self.request.description
        if self.request.default:
            raw["default"] = True
        return existing.path, raw

    def _file(self, suffix: str) -> Path:
        return self.catalogue.root / "adapters" / self.key[0] / f"{self.key[1]}{suffix}"

    def _refuse_changes(self, existing: AdapterCard) -> None:
        """All versions of an adapter are for the same thing; only the weights differ."""
        entry = self.catalogue.entry(existing)
        pairs = [
            ("type", existing.type, self.type),
            ("task", existing.task, self.request.task),
            ("subtask", existing.subtask, self.request.subtask),
            ("base model", existing.model_name, self.base_model),
        ]
        mine = all_hashes(self.inspection.config)
        if entry.hashes and mine.isdisjoint(entry.hashes):
            pairs.append(("config", entry.config_hash, library_hash(self.inspection.config)))
        differ = [f"{what} is {old!r} and not {new!r}" for what, old, new in pairs if old != new]
        if differ:
            free = f"{self.key[1]}-{library_hash(self.inspection.config)[:6]}"
            self.request.problems.append(
                f"@{'/'.join(self.key)} exists, but its {', its '.join(differ)}; "
                f"publish under another name, e.g. name={free!r}"
            )

    def _refuse_twin(self) -> None:
        """One owner has one adapter for a task, base model and config: identifiers stay clear."""
        place = (self.type, self.request.task, self.request.subtask, self.base_model)
        mine = all_hashes(self.inspection.config)
        for entry in self.catalogue.entries:
            same = entry.place == place and entry.card.owner == self.key[0]
            if same and not mine.isdisjoint(entry.hashes):
                self.request.problems.append(
                    f"{entry.identifier} is by the same owner for the same task, base model and "
                    f"config; publish this as its next version: name={entry.card.stem!r}, "
                    f"version={_next_version(entry.card)!r}"
                )
                return

    def _fresh_card(self) -> dict[str, Any]:
        request, info = self.request, self.inspection.info
        card: dict[str, Any] = {
            "type": self.type,
            "task": request.task,
            "subtask": request.subtask,
            "model_type": info["model_type"],
            "model_name": self.base_model,
            "model_class": info.get("model_class"),
            "prediction_head": self.inspection.has_head,
            "config": {"using": self._architecture(), "values": self.inspection.config},
            "author": request.author or request.owner,
            "license": request.license,
            "language": list(split_languages(request.language)) or None,
            "description": request.description.strip(),
            "url": request.url,
            "citation": request.citation,
            "hidden_size": info.get("hidden_size"),
            "name": info["name"],
            "default": request.default or None,
            "default_version": request.version,
            "files": [self._version()],
        }
        return {key: value for key, value in card.items() if value is not None and value != ""}

    def _architecture(self) -> str:
        """Return the architecture card with just this config, else the name of the method."""
        mine = all_hashes(self.inspection.config)
        for name in sorted(self.catalogue.architectures):
            if not mine.isdisjoint(all_hashes(self.catalogue.architectures[name].config)):
                return name
        return self.method

    def _version(self) -> dict[str, Any]:
        metrics = dict(self.request.metrics or {})
        version: dict[str, Any] = {
            "version": self.request.version,
            "sha256": manifest_sha256(self.members),
            "published": _now(),
            "parameters": self.inspection.parameters,
        }
        subtask = self.catalogue.subtasks.get((self.type, self.request.task, self.request.subtask))
        by_name = {key.casefold(): value for key, value in metrics.items()}
        if subtask is not None and subtask.metric in by_name:
            version["score"] = by_name[subtask.metric]
        if metrics:
            version["metrics"] = metrics
        version["members"] = [member.to_json() for member in self.members]
        return version


def _now() -> str:
    # Microseconds, because the oldest of several adapters is chosen by this.
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _next_version(card: AdapterCard | None) -> str:
    """Return a version name that is still free, continuing the numbers in use."""
    names = {item.version for item in card.versions} if card else set()
    number = max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)
    return str(number + 1)
