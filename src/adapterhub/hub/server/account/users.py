"""The users of a hub, for its administrators: who is there, invitations, limits of namespaces."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, or_, select
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.server.account.show import go, require_admin, show
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.server.settings import parse_size
from adapterhub.hub.store import accounts, invitations, logins, quotas
from adapterhub.hub.store.models import Account, Quota, Repo
from adapterhub.hub.store.refusals import Malformed, Missing, Refusal

_MENU = "settings/hub/users/"
_ROWS = 50
_DAYS = ("1", "7", "30")


def users_page(call: Call, problem: Refusal | None = None, link: str = "") -> Response:
    """Show all accounts; *link* is that of an invitation just made, which is never shown again."""
    require_admin(call)
    number, words = call.number("page", 1, 1, 100_000), call.first("q")[:100].strip()
    with call.service.database.read() as session:
        where = []
        if words:
            like = f"%{words.casefold().replace('%', '').replace('_', chr(92) + '_')}%"
            where = [
                or_(
                    Account.key.like(like, escape="\\"),
                    func.lower(Account.fullname).like(like, escape="\\"),
                    func.lower(Account.email).like(like, escape="\\"),
                )
            ]
        total = session.scalar(select(func.count(Account.id)).where(*where)) or 0
        rows = session.execute(
            select(Account, func.count(Repo.id))
            .join(Repo, Repo.owner_id == Account.id, isouter=True)
            .where(*where)
            .group_by(Account.id)
            .order_by(Account.key)
            .offset((number - 1) * _ROWS)
            .limit(_ROWS)
        ).all()
        invited = invitations.open_ones(session)
    return show(
        call,
        "users.html",
        "Users of this hub",
        section=_MENU,
        problem=problem,
        rows=rows,
        total=total,
        number=number,
        pages=-(-total // _ROWS),
        words=words,
        invited=invited,
        link=link,
        name=call.form.raw("name")[:100] if problem else "",
        joins=call.service.settings.sign_up,
    )


def invite(call: Call) -> Response:
    """Make a link with which somebody sets a password."""
    require_admin(call)
    try:
        name, email = call.form.text("name", "The name", 100), call.form.text("email", "Email")
        days = call.form.choice("days", "How long it lasts", _DAYS)
        with call.service.database.write() as session:
            secret = invitations.invite(
                session,
                call.caller,
                name=name,
                email=email,
                admin=call.form.flag("admin"),
                lifetime=timedelta(days=int(days)),
            )
    except Refusal as error:
        return users_page(call, error)
    return users_page(call, link=f"{call.base_url}/join/#{secret}")


def withdraw(call: Call) -> Response:
    """Make an invitation worth nothing."""
    require_admin(call)
    number = call.form.number("invitation", "The invitation", 1, 2**62)
    with call.service.database.write() as session:
        invitations.withdraw(session, call.caller, number or 0)
    return go(call, _MENU, done="withdrawn")


def user_page(call: Call, problem: Refusal | None = None) -> Response:
    """Show one account: what it holds, its limits, and whether it is let in."""
    require_admin(call)
    with call.service.database.read() as session:
        account = accounts.find_account(session, call.parts["user"])
        settings = call.service.settings
        own = session.get(Quota, account.id)
        return show(
            call,
            "user.html",
            account.name,
            section=_MENU,
            problem=problem,
            crumbs=(("Users", _MENU),),
            account=account,
            usage=quotas.usage(session, account.id),
            default=settings.quota,
            allowance=quotas.allowance_of(session, account.id, settings.quota),
            own=own,
            logins=logins.of(session, account.id, idle=settings.login_idle_time),
            myself=account.id == call.caller.account_id,
        )


def change_user(call: Call) -> Response:
    """Let a user in or keep him out, make him an administrator or not."""
    me = require_admin(call)
    what = call.form.choice("what", "What to do", ("disable", "enable", "admin", "no-admin"))
    try:
        with call.service.database.write() as session:
            account = accounts.find_account(session, call.parts["user"])
            if account.id == me or account.kind != "user":
                raise Malformed("This can be done to other users only, not to yourself.")
            if what in ("disable", "enable"):
                account.disabled = what == "disable"
                logins.end_all(session, account.id)
            else:
                account.admin = what == "admin"
            accounts.audit(session, call.caller, f"user.{what}", account.name)
    except Missing:
        raise
    except Refusal as error:
        return user_page(call, error)
    return go(call, f"{_MENU}{account.name}/", done="user")


def change_quota(call: Call) -> Response:
    """Give a namespace limits of its own; an empty field means: as for all."""
    require_admin(call)
    try:
        text = call.form.text("bytes", "Storage", 30)
        try:
            size = parse_size(text) if text else None
        except HubError as error:
            raise Malformed(str(error)) from error
        number = call.form.number("repos", "Repositories", 0, 10**9)
        with call.service.database.write() as session:
            account = accounts.find_account(session, call.parts["user"])
            quotas.set_allowance(session, account.id, size, number)
            told = ["default" if value is None else str(value) for value in (size, number)]
            detail = f"bytes={told[0]} repos={told[1]}"
            accounts.audit(session, call.caller, "user.quota", account.name, detail)
    except Missing:
        raise
    except Refusal as error:
        return user_page(call, error)
    return go(call, f"{_MENU}{account.name}/", done="quota")


_ONE = "/settings/hub/users/{user}/"
ROUTES: list[Route] = [
    page("/settings/hub/users/", users_page),
    form("/settings/hub/users/", invite),
    form("/settings/hub/invitations/", withdraw),
    page(_ONE, user_page),
    form(_ONE, change_user),
    form(f"{_ONE}quota/", change_quota),
]
