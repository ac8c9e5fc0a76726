"""The Hugging Face protocol: lists of repositories, and all about one of them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session
from starlette.responses import Response

from adapterhub.hub.live.source import groups_of
from adapterhub.hub.server import shapes
from adapterhub.hub.server.answers import Json
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, get
from adapterhub.hub.store import history
from adapterhub.hub.store.models import Account, Commit, Membership, Reference, Repo, RepoTag
from adapterhub.hub.store.refusals import Malformed
from adapterhub.hub.store.repos import DEFAULT_BRANCH
from adapterhub.hub.web.query import Query

_PAGE = 1000
_FEW = 500
_BAD_CURSOR = "the cursor is none that this hub has given, or was given for another sort"
_SORTS: dict[str, InstrumentedAttribute[Any]] = {
    "downloads": Repo.downloads,
    "likes": Repo.likes,
    "lastModified": Repo.modified,
    "last_modified": Repo.modified,
    "createdAt": Repo.created,
    "created_at": Repo.created,
    "trendingScore": Repo.downloads,
    "trending_score": Repo.downloads,
}


def info(call: Call) -> Response:
    """Return everything about a repository, at its default branch or another revision."""
    with call.service.database.read() as session:
        seen = call.view(session)
        commit = history.resolve(session, seen, call.parts.get("rev", DEFAULT_BRANCH))
        files = history.files(session, commit)
        wanted = call.query.get("expand", [])
        answer = shapes.details(
            seen.repo,
            commit,
            files,
            blobs=call.flag("blobs"),
            security=call.flag("securityStatus") or "securityRepoStatus" in wanted,
        )
        if "gguf" in wanted:
            wanted = [item for item in wanted if item != "gguf"]
        return Json(shapes.expanded(answer, wanted), headers={"X-Repo-Commit": commit.id})


def models(call: Call) -> Response:
    """List repositories that the caller may see, filtered, sorted, in pages linked by ``Link``."""
    limit = call.number("limit", _PAGE, 1, _PAGE)
    by_match = call.first("sort") == "relevance"
    sort = Repo.created if by_match else _SORTS.get(call.first("sort", "createdAt"))
    if sort is None:
        raise Malformed(f"sort must be one of relevance, {', '.join(_SORTS)}")
    if words := call.first("search").strip():
        return _searched(call, words, None if by_match else sort, limit)
    with call.service.database.read() as session:
        query = _after_cursor(_filtered(call), sort, call.first("cursor"))
        # Numbers first: to sort whole rows, all that there is about each would be carried along.
        query = query.with_only_columns(Repo.id).order_by(sort.desc(), Repo.id.desc())
        rows = _in_order(session, session.scalars(query.limit(limit + 1)).all())
        items = _shown(session, call, rows[:limit])
    headers = {}
    if len(rows) > limit:
        last = rows[limit - 1]
        value = getattr(last, sort.key)
        data = [value.isoformat() if isinstance(value, datetime) else value, last.id]
        headers["Link"] = f'<{_next_page(call, data)}>; rel="next"'
    return Json(items, headers=headers)


def _searched(
    call: Call, words: str, sort: InstrumentedAttribute[Any] | None, limit: int
) -> Response:
    """List what the search of the pages finds, the best first, or in the order that is asked for."""
    service = call.service
    service.live.refresh()
    groups = groups_of(service.database, call.caller)
    ranked = service.live.index.keys(Query(words=words), groups)
    first = _offset(call.first("cursor"))
    found = [key for key in ranked if isinstance(key, int)]
    with service.database.read() as session:
        # What else is asked for is known only to the database.
        query = _filtered(call).with_only_columns(Repo.id, sort if sort is not None else Repo.id)
        if len(found) <= _FEW:
            query = query.where(Repo.id.in_(found))
        allowed = {row[0]: row[1] for row in session.execute(query)}
        fitting = [key for key in found if key in allowed]
        if sort is not None:
            fitting.sort(key=lambda key: (allowed[key], key), reverse=True)
        items = _shown(session, call, _in_order(session, fitting[first : first + limit]))
    headers = {}
    if len(fitting) > first + limit:
        headers["Link"] = f'<{_next_page(call, ["best", first + limit])}>; rel="next"'
    return Json(items, headers=headers)


def _in_order(session: Session, ids: Sequence[int]) -> list[Repo]:
    """Return the repositories with these numbers, in this order."""
    found = {repo.id: repo for repo in session.scalars(select(Repo).where(Repo.id.in_(ids)))}
    return [found[number] for number in ids if number in found]


def _offset(cursor: str) -> int:
    """Return how many results of a search were given already."""
    if not cursor:
        return 0
    try:
        kind, number = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if kind != "best" or not isinstance(number, int) or number < 0:
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise Malformed(_BAD_CURSOR) from error
    return number


def _shown(session: Session, call: Call, repos: Sequence[Repo]) -> list[dict[str, Any]]:
    wanted = call.query.get("expand", [])
    full = call.flag("full") or bool(wanted)
    return [shapes.expanded(_listed(session, repo, call, full), wanted) for repo in repos]


def _listed(session: Session, repo: Repo, call: Call, full: bool) -> dict[str, Any]:
    commit_id, facts = repo.published_id, repo.facts
    if commit_id is None:  # one of the caller's own that is not published yet
        reference = history.find_reference(session, repo.id, "branch", DEFAULT_BRANCH)
        tip = session.get(Commit, reference.commit_id) if reference else None
        commit_id, facts = (tip.id, tip.facts) if tip else (None, {})
    item = shapes.summary(
        repo,
        commit_id,
        facts,
        card=full or call.flag("cardData"),
        config=full or call.flag("config"),
    )
    if full and commit_id:
        commit = session.get_one(Commit, commit_id)
        item["siblings"] = [
            shapes.sibling(entry, False) for entry in history.files(session, commit)
        ]
    return item


def _filtered(call: Call) -> Select[Any]:
    query = select(Repo).join(Account, Account.id == Repo.owner_id).where(_visible(call))
    tags = [tag for value in call.query.get("filter", []) for tag in value.split(",")]
    tags += [call.first("pipeline_tag")]
    for tag in dict.fromkeys(filter(None, tags)):
        query = query.where(Repo.id.in_(select(RepoTag.repo_id).where(RepoTag.tag == tag)))
    if author := call.first("author"):
        query = query.where(Account.key == author.casefold())
    gated = call.first("gated")
    if gated:
        query = query.where(Repo.gated.is_not(None) if call.flag("gated") else Repo.gated.is_(None))
    return query


def _visible(call: Call) -> ColumnElement[bool]:
    """Return the condition under which a repository exists for the caller."""
    public = and_(Repo.private.is_(False), Repo.published_id.is_not(None))
    caller = call.caller
    if not caller.known:
        return public
    if caller.admin and caller.scope == "admin":
        return Repo.id.is_not(None)
    mine = select(Membership.organisation_id).where(Membership.user_id == caller.account_id)
    return or_(public, Repo.owner_id == caller.account_id, Repo.owner_id.in_(mine))


def _after_cursor(query: Select[Any], sort: InstrumentedAttribute[Any], cursor: str) -> Select[Any]:
    """Go on after the last repository of the page before; new ones meanwhile do not shift anything."""
    if not cursor:
        return query
    try:
        value, repo_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        value = datetime.fromisoformat(value) if isinstance(value, str) else int(value)
        repo_id = int(repo_id)
        if isinstance(value, datetime) != (sort in (Repo.created, Repo.modified)):
            raise ValueError
    except (ValueError, TypeError, binascii.Error, OverflowError) as error:
        raise Malformed(_BAD_CURSOR) from error
    return query.where(or_(sort < value, and_(sort == value, Repo.id < repo_id)))


def _next_page(call: Call, data: list[Any]) -> str:
    cursor = base64.urlsafe_b64encode(json.dumps(data).encode()).decode()
    pairs = [
        pair
        for pair in parse_qsl(call.request.url.query, keep_blank_values=True)
        if pair[0] != "cursor"
    ]
    return f"{call.base_url}/api/models?{urlencode([*pairs, ('cursor', cursor)])}"


def tags_by_type(call: Call) -> Response:
    """Return all tags in use, by their kind."""
    names = {
        "base_model": "base_model",
        "dataset": "dataset",
        "license": "license",
        "arxiv": "arxiv",
    }
    with call.service.database.read() as session:
        query = (
            select(RepoTag.tag)
            .join(Repo, Repo.id == RepoTag.repo_id)
            .where(Repo.private.is_(False), Repo.published_id.is_not(None))
        )
        found = session.scalars(query.distinct().order_by(RepoTag.tag)).all()
    result: dict[str, list[dict[str, str]]] = {}
    for tag in found:
        kind, colon, rest = tag.partition(":")
        group = names.get(kind, "other") if colon else "other"
        label = rest if group != "other" else tag
        result.setdefault(group, []).append({"id": tag, "label": label, "type": group})
    return Json(result)


def refs(call: Call) -> Response:
    """List branches and tags."""
    with call.service.database.read() as session:
        seen = call.view(session)
        rows = [_reference(*pair) for pair in history.references(session, seen)]
    answer: dict[str, Any] = {
        "branches": [row for kind, row in rows if kind == "branch"],
        "converts": [],
        "tags": [row for kind, row in rows if kind == "tag"],
    }
    if call.flag("include_prs"):
        answer["pullRequests"] = []
    return Json(answer)


def _reference(reference: Reference, commit: Commit) -> tuple[str, dict[str, str]]:
    folder = "heads" if reference.kind == "branch" else "tags"
    row = {
        "name": reference.name,
        "ref": f"refs/{folder}/{reference.name}",
        "targetCommit": commit.id,
    }
    return reference.kind, row


def commits(call: Call) -> Response:
    """Return the history of a revision, newest first."""
    limit = call.number("limit", 50, 1, 1000)
    page = call.number("p", 0, 0, 10**6)
    with call.service.database.read() as session:
        seen = call.view(session)
        commit = history.resolve(session, seen, call.parts["rev"])
        found = history.log(session, seen, commit, limit=limit + 1, skip=page * limit)
    headers = {"X-Repo-Commit": commit.id}
    if len(found) > limit:
        pairs = [pair for pair in parse_qsl(call.request.url.query) if pair[0] != "p"]
        path = call.request.scope["raw_path"].decode("ascii")
        headers["Link"] = (
            f'<{call.base_url}{path}?{urlencode([*pairs, ("p", page + 1)])}>; rel="next"'
        )
    return Json([shapes.logged(item) for item in found[:limit]], headers=headers)


_REPO = "/api/models/{owner}/{name}"
ROUTES: list[Route] = [
    get("/api/models", models),
    get("/api/models-tags-by-type", tags_by_type),
    get(f"{_REPO}/revision/{{rev}}", info),
    get(f"{_REPO}/refs", refs),
    get(f"{_REPO}/commits/{{rev}}", commits),
    get(_REPO, info),
]
