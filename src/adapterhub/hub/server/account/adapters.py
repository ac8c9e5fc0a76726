"""The repositories one may write to: who sees them, their names, their end, and who asks for access."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.hub.server.account.show import go, require, show
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.store import accounts, quotas, repos
from adapterhub.hub.store.accounts import LEVELS
from adapterhub.hub.store.models import Access, Account, Commit, Reference, Repo
from adapterhub.hub.store.refusals import Malformed, Refusal
from adapterhub.hub.store.repos import DEFAULT_BRANCH

_MENU = "settings/adapters/"
_ROWS = 50
GATES = ("", "auto", "manual")


def list_page(call: Call) -> Response:
    """Show the repositories of one's own namespace and of the organisations where one may write."""
    account_id = require(call, "read")
    number = call.number("page", 1, 1, 10_000)
    with call.service.database.read() as session:
        owners = [account_id]
        owners += [
            org.id for org, role in accounts.organisations(session, account_id) if LEVELS[role] > 1
        ]
        total = session.scalar(select(func.count(Repo.id)).where(Repo.owner_id.in_(owners))) or 0
        query = (
            select(Repo, Commit)
            .join(
                Reference,
                (Reference.repo_id == Repo.id)
                & (Reference.kind == "branch")
                & (Reference.name == DEFAULT_BRANCH),
                isouter=True,
            )
            .join(Commit, Commit.id == Reference.commit_id, isouter=True)
            .where(Repo.owner_id.in_(owners))
            .order_by(Repo.modified.desc(), Repo.id.desc())
            .offset((number - 1) * _ROWS)
            .limit(_ROWS)
        )
        rows = session.execute(query).all()
        asked = dict(
            session.execute(
                select(Access.repo_id, func.count())
                .where(Access.repo_id.in_([repo.id for repo, _ in rows]), Access.state == "pending")
                .group_by(Access.repo_id)
            )
            .tuples()
            .all()
        )
    return show(
        call,
        "adapters.html",
        "My adapters",
        section=_MENU,
        rows=rows,
        asked=asked,
        total=total,
        number=number,
        pages=-(-total // _ROWS),
        endpoint=call.base_url,
    )


def repo_page(call: Call, problem: Refusal | None = None, wrong: str = "") -> Response:
    """Show the settings of a repository."""
    require(call, "write")
    with call.service.database.read() as session:
        seen = call.view(session, need="write")
        repo = seen.repo
        asked = session.execute(
            select(Access, Account.name, Account.fullname)
            .join(Account, Account.id == Access.account_id)
            .where(Access.repo_id == repo.id)
            .order_by(Access.created)
        ).all()
        return show(
            call,
            "adapter.html",
            repo.full_name,
            section=_MENU,
            problem=problem,
            wrong=wrong,
            crumbs=(("My adapters", _MENU),),
            repo=repo,
            manages=seen.role == "admin",
            asked=asked,
            commits=_newest(session, repo),
            owners=writable_owners(call, session),
            name=call.form.raw("name")[:100] if problem else repo.name,
        )


def _newest(session: Session, repo: Repo) -> list[Commit]:
    query = select(Commit).where(Commit.repo_id == repo.id, Commit.number > 1)
    return list(session.scalars(query.order_by(Commit.number.desc()).limit(10)))


def writable_owners(call: Call, session: Session) -> list[str]:
    account_id = require(call, "write")
    mine = accounts.organisations(session, account_id)
    return [call.caller.name, *(org.name for org, role in mine if LEVELS[role] > 1)]


def change(call: Call) -> Response:
    """Change who may see a repository and its files."""
    require(call, "write")
    private = call.form.choice("visibility", "Who sees it", ("public", "private")) == "private"
    gated = call.form.choice("gated", "Who gets the files", GATES)
    with call.service.database.write() as session:
        seen = call.view(session, need="admin", lock=True)
        repos.change(session, seen, private=private, gated=gated)
        name = seen.repo.full_name
    return go(call, f"{_MENU}{name}/", done="settings")


def rename(call: Call) -> Response:
    """Give a repository another name or owner."""
    require(call, "write")
    try:
        name, owner = (
            call.form.text("name", "The name", 100),
            call.form.text("owner", "The owner", 100),
        )
        with call.service.database.write() as session:
            seen = call.view(session, need="admin", lock=True)
            before, target = seen.repo.owner_id, repos.owner_for(session, call.caller, owner)
            repos.move(session, seen, target, name)
            if target.id != before:
                quotas.require_fit(session, target, call.service.settings.quota)
            full_name = seen.repo.full_name
    except Refusal as error:
        return repo_page(call, error, "rename")
    return go(call, f"{_MENU}{full_name}/", done="renamed")


def remove(call: Call) -> Response:
    """Delete a repository, once its name was typed."""
    require(call, "write")
    try:
        with call.service.database.write() as session:
            seen = call.view(session, need="admin", lock=True)
            if call.form.text("confirm") != seen.repo.full_name:
                raise Malformed(f"To delete it, type its whole name: {seen.repo.full_name}")
            repos.remove(session, seen)
    except Malformed as error:
        return repo_page(call, error, "delete")
    return go(call, _MENU, done="deleted")


def answer(call: Call) -> Response:
    """Let a user in to a gated repository, or turn him away."""
    require(call, "write")
    state = call.form.choice("state", "The answer", ("granted", "rejected"))
    with call.service.database.write() as session:
        seen = call.view(session, need="admin")
        user = accounts.find_account(session, call.form.text("user", "The user", 100))
        repos.answer_access(session, seen, user, state)
        name = seen.repo.full_name
    return go(call, f"{_MENU}{name}/", done="access")


_ONE = "/settings/adapters/{owner}/{name}/"
ROUTES: list[Route] = [
    page("/settings/adapters/", list_page),
    page(_ONE, repo_page),
    form(_ONE, change),
    form(f"{_ONE}rename/", rename),
    form(f"{_ONE}delete/", remove),
    form(f"{_ONE}access/", answer),
]
