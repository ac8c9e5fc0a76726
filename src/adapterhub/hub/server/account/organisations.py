"""Organisations: namespaces that several people share, each with a role."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.hub.server.account.show import go, require, show
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.store import accounts, quotas
from adapterhub.hub.store.accounts import LEVELS
from adapterhub.hub.store.models import Account, Membership
from adapterhub.hub.store.refusals import Forbidden, Missing, Refusal

ROLES = ("read", "write", "admin")
_MENU = "settings/organizations/"


def list_page(call: Call, problem: Refusal | None = None) -> Response:
    """Show one's organisations, and where another is made."""
    account_id = require(call, "read")
    with call.service.database.read() as session:
        mine = accounts.organisations(session, account_id)
        query = (
            select(Membership.organisation_id, func.count())
            .where(Membership.organisation_id.in_([item.id for item, _ in mine]))
            .group_by(Membership.organisation_id)
        )
        counts = {row[0]: row[1] for row in session.execute(query)}
    return show(
        call,
        "organisations.html",
        "Organisations",
        section=_MENU,
        problem=problem,
        rows=[(item, role, counts.get(item.id, 0)) for item, role in mine],
        name=call.form.raw("name")[:100] if problem else "",
        fullname=call.form.raw("fullname")[:200] if problem else "",
    )


def create(call: Call) -> Response:
    """Make an organisation, with oneself as its administrator."""
    account_id = require(call)
    try:
        name, fullname = call.form.text("name", "The name", 100), call.form.text("fullname")
        with call.service.database.write() as session:
            account = accounts.create_account(session, name, kind="org", fullname=fullname)
            accounts.set_member(session, account, session.get_one(Account, account_id), "admin")
            accounts.audit(session, call.caller, "org.create", account.name)
    except Refusal as error:
        return list_page(call, error)
    return go(call, f"{_MENU}{account.name}/", done="organisation")


def _organisation(call: Call, session: Session, need: str) -> tuple[Account, str]:
    account = accounts.find_account(session, call.parts["org"])
    role = accounts.role(session, call.caller, account.id)
    if account.kind != "org" or not role:
        raise Missing("There is no organisation of that name that you belong to.")
    if LEVELS[role] < LEVELS[need]:
        raise Forbidden(f"You have no {need} role in {account.name}.")
    return account, role


def organisation_page(call: Call, problem: Refusal | None = None) -> Response:
    """Show the members of an organisation."""
    require(call, "read")
    with call.service.database.read() as session:
        account, role = _organisation(call, session, "read")
        rows = session.execute(
            select(Account.name, Account.fullname, Membership.role)
            .join(Membership, Membership.user_id == Account.id)
            .where(Membership.organisation_id == account.id)
            .order_by(Account.key)
        ).all()
        return show(
            call,
            "organisation.html",
            account.name,
            section=_MENU,
            problem=problem,
            crumbs=(("Organisations", _MENU),),
            account=account,
            role=role,
            rows=rows,
            roles=ROLES,
            user=call.form.raw("user")[:100] if problem else "",
            usage=quotas.usage(session, account.id),
            allowance=quotas.allowance_of(session, account.id, call.service.settings.quota),
        )


def set_member(call: Call) -> Response:
    """Give a user a role in an organisation, or take him (or oneself) out."""
    require(call)
    try:
        role = call.form.choice("role", "The role", ("", *ROLES))
        name = call.form.text("user", "The user", 100)
        leaving = not role and name.casefold() == call.caller.name.casefold()
        with call.service.database.write() as session:
            account, _ = _organisation(call, session, "read" if leaving else "admin")
            user = accounts.find_account(session, name)
            accounts.set_member(session, account, user, role)
            detail = f"{user.name} {role or 'removed'}"
            accounts.audit(session, call.caller, "org.member", account.name, detail)
    except Missing:
        raise
    except Refusal as error:
        return organisation_page(call, error)
    if leaving:
        return go(call, _MENU, done="left")
    return go(call, f"{_MENU}{account.name}/", done="member")


ROUTES: list[Route] = [
    page("/settings/organizations/", list_page),
    form("/settings/organizations/", create),
    page("/settings/organizations/{org}/", organisation_page),
    form("/settings/organizations/{org}/", set_member),
]
