"""Everything about one repository, for its page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from adapterhub.errors import HubError
from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.languages import language_name
from adapterhub.hub.licenses import normalize_license
from adapterhub.hub.live.liveindex import rows
from adapterhub.hub.live.places import adapter_of, evaluations_of
from adapterhub.hub.live.versions import DIGITS, versions_of
from adapterhub.hub.store import history, repos
from adapterhub.hub.store.models import Commit
from adapterhub.hub.store.refusals import RepoGated, RevisionMissing
from adapterhub.hub.store.repos import DEFAULT_BRANCH, View
from adapterhub.hub.verify import readme
from adapterhub.hub.verify.facts import texts
from adapterhub.hub.web.source import Detail, Fact, Version

if TYPE_CHECKING:
    from adapterhub.hub.live.source import LiveSource

CARD = "README.md"
_READ = 200_000


def detail_of(source: LiveSource, session: Session, seen: View) -> Detail:
    """Return the page's record of a repository that the caller may see."""
    repo, catalogue = seen.repo, source.live.cards.catalogue
    open_ = _may_read(session, seen)
    row = rows(session, [repo.id])[0]
    commit = _shown(session, seen)
    if commit is not None and not row.published:
        row = replace(row, facts=commit.facts)
    adapter = adapter_of(row, catalogue, source.live.architectures)
    versions, commits = versions_of(session, seen, files=open_)
    default = commit.id[:DIGITS] if commit else ""
    if commit is not None and default not in commits:  # older than what is listed
        versions = [*versions]
    adapter = replace(adapter, version=default, versions=max(1, len(versions)))
    shown = next((v for v in versions if v.name == default), Version(default))
    text = source.text(shown, CARD) if open_ or not repo.gated else None
    facts = commit.facts if commit else {}
    if open_:
        source.allow(file.sha256 for version in versions for file in version.files)
    return Detail(
        adapter=adapter,
        author=row.fullname,
        description=readme.body(text).strip()[:_READ] if text else "",
        config=facts.get("config") or {},
        versions=tuple(versions),
        checks=shown.checks,
        facts=tuple(_facts(facts, catalogue)),
        citations=_citations(text, adapter.architecture, adapter.type, adapter, catalogue),
        siblings=tuple(source.siblings(adapter)),
        evaluations=evaluations_of(facts),
        hidden_size=_number(facts.get("hidden_size")),
        model_class=facts.get("model_class"),
        notices=tuple(_notices(seen, shown, versions, open_)),
        signed=shown.signed,
    )


def _may_read(session: Session, seen: View) -> bool:
    try:
        repos.require_files(session, seen)
    except RepoGated:
        return False
    return True


def _shown(session: Session, seen: View) -> Commit | None:
    """Return the commit that the page is about: what everybody sees, else the newest one."""
    if seen.repo.published_id is not None:
        return session.get(Commit, seen.repo.published_id)
    try:
        return history.resolve(session, seen, DEFAULT_BRANCH)
    except RevisionMissing:
        return None


def _notices(seen: View, shown: Version, versions: list[Version], open_: bool) -> list[str]:
    repo, found = seen.repo, []
    if repo.private:
        found.append(f"Private: only members of @{repo.owner.name} see this page.")
    if repo.published_id is None:
        reason = f": {shown.reason}" if shown.reason else "."
        found.append(f"Nothing is published here yet{reason}")
    newest = versions[-1] if versions else None
    if newest is not None and repo.published_id is not None and newest.status != "verified":
        found.append(
            f"Your newest version {newest.name} is {newest.status}; others see {shown.name}."
        )
    if repo.gated and not open_:
        found.append(
            "The publisher decides who may have the files: ask for access with "
            f"POST /{repo.full_name}/ask-access, signed in."
        )
    return found


def _facts(facts: Mapping[str, Any], catalogue: Catalogue) -> list[Fact]:
    """Return what the files show beside what the card claims."""
    card = facts.get("card") or {}
    base = texts(card.get("base_model"))
    licenses = [normalize_license(item)[0] for item in texts(card.get("license"))]
    parameters = facts.get("parameters") or {}
    dtypes = ", ".join(f"{number:,} {dtype}" for dtype, number in sorted(parameters.items()))
    claimed = facts.get("base_model") if facts.get("base_model") in base else None
    method = facts.get("method")
    tags = {tag.casefold() for tag in texts(card.get("tags"))}
    names = [language_name(code) for code in facts.get("languages") or ()]
    found = [
        Fact("Base model", facts.get("base_model"), claimed or next(iter(base), None)),
        Fact("Library", facts.get("library"), next(iter(texts(card.get("library_name"))), None)),
        Fact("Method", method, method if method and method.casefold() in tags else None),
        Fact("Rank", _text(facts.get("rank")), None),
        Fact("Weights", dtypes or None, None),
        Fact("Prediction head", "yes" if facts.get("head") else "no", None),
        Fact("Model type", facts.get("model_type"), None),
        Fact(
            "Task type", facts.get("task_type"), next(iter(texts(card.get("pipeline_tag"))), None)
        ),
        Fact("Licence", None, next((item for item in licenses if item), None)),
        Fact("Languages", None, ", ".join(names) or None),
        Fact("Data", None, ", ".join(facts.get("datasets") or ()) or None),
    ]
    return [fact for fact in found if fact.fact is not None or fact.claim is not None]


def _text(value: Any) -> str | None:
    return None if value in (None, "") else json.dumps(value, ensure_ascii=False).strip('"')


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _citations(
    text: str | None, architecture: str, type_: str, adapter: Any, catalogue: Catalogue
) -> dict[str, str]:
    method = catalogue.architectures.get(architecture)
    data = catalogue.subtasks.get((type_, adapter.task, adapter.subtask))
    every = {
        "This adapter": readme.citation(text) if text else None,
        "Its architecture": method.citation if method else None,
        "Its data": data.citation if data else None,
    }
    return {label: entry for label, entry in every.items() if entry}


def read_text(pieces: Any) -> str | None:
    """Return the text of a file that arrives in pieces, ``None`` if it is none."""
    data = b""
    for piece in pieces:
        data += piece
        if len(data) > _READ:
            break
    try:
        return data[:_READ].decode("utf-8-sig", "replace")
    except HubError:
        return None
