"""One's own profile, password, and the browsers in which one is signed in."""

from __future__ import annotations

from starlette.responses import Response

from adapterhub.hub.server.account.show import go, require, show
from adapterhub.hub.server.account.signin import begin
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.store import accounts, attempts, logins, passwords, quotas
from adapterhub.hub.store.models import Account
from adapterhub.hub.store.refusals import Forbidden, Malformed, Missing, Refusal


def profile_page(call: Call, problem: Refusal | None = None, wrong: str = "") -> Response:
    """Show the profile, what the namespace holds, and where the password is set."""
    account_id = require(call, "read")
    with call.service.database.read() as session:
        account = session.get_one(Account, account_id)
        sent = call.form if call.method == "POST" and wrong == "profile" else None
        return show(
            call,
            "profile.html",
            "Your profile",
            section="settings/",
            problem=problem,
            wrong=wrong,
            account=account,
            fullname=sent.raw("fullname")[:200] if sent else account.fullname,
            email=sent.raw("email")[:200] if sent else account.email or "",
            has_password=passwords.has_one(session, account_id),
            least=passwords.MIN_LENGTH,
            usage=quotas.usage(session, account_id),
            allowance=quotas.allowance_of(session, account_id, call.service.settings.quota),
        )


def change_profile(call: Call) -> Response:
    """Change the name for people and the mail address."""
    account_id = require(call)
    try:
        fullname, email = call.form.text("fullname", "Your name"), call.form.text("email", "Email")
        if email and ("@" not in email.strip("@") or " " in email):
            raise Malformed(f"{email!r} is not a mail address.")
        with call.service.database.write() as session:
            account = session.get_one(Account, account_id)
            account.fullname, account.email = fullname or account.name, email or None
            accounts.audit(session, call.caller, "user.profile", account.name)
    except Refusal as error:
        return profile_page(call, error, "profile")
    return go(call, "settings/", done="profile")


def change_password(call: Call) -> Response:
    """Set the password; whoever has one must know it. All other browsers are signed out."""
    account_id = require(call)
    try:
        _change_password(call, account_id)
    except Refusal as error:
        return profile_page(call, error, "password")
    return go(call, "settings/", done="password")


def _change_password(call: Call, account_id: int) -> None:
    database, name, address = call.service.database, call.caller.name, call.caller.address
    password = call.form.raw("password")
    passwords.require(password, name)
    if password != call.form.raw("again"):
        raise Malformed("The two new passwords differ.")
    with database.write() as session:
        checked = passwords.has_one(session, account_id)
        if checked:
            attempts.take(session, name, address)
    if checked and passwords.find(database, name, call.form.raw("current")) != account_id:
        raise Forbidden("That is not your current password.")
    kept = passwords.hashed(password)
    with database.write() as session:
        if checked:
            attempts.give_back(session, name, address)
        passwords.keep(session, account_id, kept)
        logins.end_all(session, account_id)
        accounts.audit(session, call.caller, "password.change", name)
        begin(call, session, session.get_one(Account, account_id))


def sessions_page(call: Call) -> Response:
    """Show in which browsers one is signed in."""
    account_id = require(call, "read")
    with call.service.database.read() as session:
        rows = logins.of(session, account_id, idle=call.service.settings.login_idle_time)
    current = call.visitor.login
    return show(
        call,
        "sessions.html",
        "Where you are signed in",
        section="settings/sessions/",
        rows=rows,
        current=current.id if current else None,
        settings=call.service.settings,
    )


def end_session(call: Call) -> Response:
    """Sign one browser out, or all but this one."""
    account_id = require(call, "read")
    login = call.visitor.login
    everywhere = call.form.raw("which") == "others"
    with call.service.database.write() as session:
        if everywhere:
            number = logins.end_all(session, account_id, but=login.id if login else None)
            accounts.audit(session, call.caller, "logout.others", call.caller.name, str(number))
        else:
            which = call.form.number("which", "The browser", 1, 2**62)
            if which is None or not logins.end(session, account_id, which):
                raise Missing("That browser is signed out already.")
            accounts.audit(session, call.caller, "logout.one", call.caller.name)
    return go(call, "settings/sessions/", done="ended-all" if everywhere else "ended")


ROUTES: list[Route] = [
    page("/settings/", profile_page),
    form("/settings/profile/", change_profile),
    form("/settings/password/", change_password),
    page("/settings/sessions/", sessions_page),
    form("/settings/sessions/", end_session),
]
