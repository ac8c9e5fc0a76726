"""Asking to be let in to a gated adapter of somebody else."""

from __future__ import annotations

from sqlalchemy import select
from starlette.responses import Response

from adapterhub.hub.server.account.show import go, require, show
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.store import repos
from adapterhub.hub.store.models import Access, Repo

_MENU = "settings/access/"


def list_page(call: Call) -> Response:
    """Show for which gated adapters one asked, and what the answers are."""
    account_id = require(call, "read")
    with call.service.database.read() as session:
        rows = session.execute(
            select(Repo, Access)
            .join(Access, Access.repo_id == Repo.id)
            .where(Access.account_id == account_id)
            .order_by(Access.created.desc())
            .limit(200)
        ).all()
        # One that has become private since is nobody's business again.
        rows = [
            (repo, access) for repo, access in rows if repos.visible(session, call.caller, repo)
        ]
    return show(call, "access.html", "Gated adapters", section=_MENU, rows=rows)


def ask_page(call: Call) -> Response:
    """Show what being gated means, and a button to ask."""
    account_id = require(call, "read")
    with call.service.database.read() as session:
        seen = call.view(session)
        row = session.get(Access, (seen.repo.id, account_id))
        return show(
            call,
            "ask.html",
            f"Access to {seen.repo.full_name}",
            section=_MENU,
            crumbs=(("Gated adapters", _MENU),),
            repo=seen.repo,
            role=seen.role,
            state=row.state if row else "",
        )


def ask(call: Call) -> Response:
    """Ask to be let in."""
    require(call, "read")
    with call.service.database.write() as session:
        seen = call.view(session)
        if seen.repo.gated and not seen.role:
            repos.ask_access(session, seen)
        name = seen.repo.full_name
    return go(call, f"{_MENU}{name}/", done="asked")


ROUTES: list[Route] = [
    page("/settings/access/", list_page),
    page("/settings/access/{owner}/{name}/", ask_page),
    form("/settings/access/{owner}/{name}/", ask),
]
