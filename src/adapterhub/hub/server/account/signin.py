"""Signing in and out, and making an account: by invitation, or by anybody where that is switched on."""

from __future__ import annotations

from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.hub.server.account.show import go, show
from adapterhub.hub.server.call import Call
from adapterhub.hub.server.identity import identify
from adapterhub.hub.server.routing import Route, form, page
from adapterhub.hub.server.visitor import own_path
from adapterhub.hub.store import accounts, attempts, invitations, logins, passwords
from adapterhub.hub.store.accounts import Caller
from adapterhub.hub.store.models import Account, Token
from adapterhub.hub.store.refusals import Missing, Refusal, Unidentified

#: No account can have this name; attempts to make accounts are counted under it.
_JOINING = "+join"
_WRONG = "That name and password do not belong together."


def login_page(call: Call, problem: Refusal | None = None) -> Response:
    """Show where to sign in."""
    if call.visitor.login is not None and problem is None:
        return go(call, "settings/")
    form_ = call.form if call.method == "POST" else None
    return show(
        call,
        "login.html",
        "Sign in",
        problem=problem,
        next=own_path(form_.raw("next") if form_ else call.first("next"), ""),
        name=form_.raw("name")[:100] if form_ else "",
        by_token=bool(form_ and form_.raw("with") == "token"),
        joins=call.service.settings.sign_up,
    )


def sign_in(call: Call) -> Response:
    """Sign in with a name and password, or with a token."""
    try:
        if call.form.raw("with") == "token":
            _with_token(call)
        else:
            _with_password(call)
    except Refusal as error:
        return login_page(call, error)
    target = own_path(call.form.raw("next"), "/settings/adapters/")
    return go(call, target[1:])


def _with_password(call: Call) -> None:
    database, address = call.service.database, call.caller.address
    name = call.form.raw("name").strip()[:100]
    with database.write() as session:
        attempts.take(session, name, address)
    account_id = passwords.find(database, name, call.form.raw("password"))
    with database.write() as session:
        if account_id is None:
            # What was typed is not written down: it may be a password in the wrong box.
            known = accounts.known(session, name)
            accounts.audit(session, call.caller, "login.refused", known or "(no such user)")
        else:
            attempts.give_back(session, name, address)
            begin(call, session, session.get_one(Account, account_id))
    if account_id is None:
        raise Unidentified(_WRONG)


def _with_token(call: Call) -> None:
    secret = call.form.raw("token").strip()
    try:
        found = identify(
            call.service.database,
            call.service.guesses,
            f"Bearer {secret or '-'}",
            call.caller.address,
        )
    except Unidentified as error:
        raise Unidentified("This token is not valid here (any more).") from error
    with call.service.database.write() as session:
        token = session.get_one(Token, found.token_id)
        begin(call, session, token.account, token)


def begin(call: Call, session: Session, account: Account, token: Token | None = None) -> None:
    """Sign a user in: a new login, never the one that his browser had before."""
    settings, old = call.service.settings, call.visitor.login
    if old is not None:
        logins.end(session, old.account_id, old.id)
    agent = call.request.headers.get("user-agent", "")
    secret = logins.begin(
        session,
        account,
        lifetime=settings.login_time,
        address=call.caller.address,
        agent=agent,
        token=token,
    )
    who = Caller(account.id, account.name, address=call.caller.address)
    accounts.audit(
        session, who, "login", account.name, f"token {token.id}" if token else "password"
    )
    call.visitor.sign_in(secret, settings.login_time)


def sign_out(call: Call) -> Response:
    """Sign this browser out."""
    login = call.visitor.login
    if login is not None:
        with call.service.database.write() as session:
            logins.end(session, login.account_id, login.id)
            accounts.audit(session, call.caller, "logout", call.caller.name)
    call.visitor.sign_out()
    return go(call, "login/", done="logged-out")


def join_page(call: Call, problem: Refusal | None = None) -> Response:
    """Show where an account is made, or the password of one is set.

    The code of an invitation comes in the body of a form only: in an address it would stand in the logs of
    proxies and in the history of the browser. A link has it behind the ``#``, from where a script takes it;
    without scripts, the page asks for it.
    """
    form_ = call.form if call.method == "POST" else None
    code = form_.raw("code").strip()[:200] if form_ else ""
    fixed, resets = "", False
    if code:
        try:
            with call.service.database.read() as session:
                row = invitations.find(session, code)
                fixed, resets = row.name, row.account_id is not None
        except Missing as error:
            return show(call, "code.html", "Your invitation", problem=error)
    elif not call.service.settings.sign_up:
        return show(call, "code.html", "Your invitation", problem=problem)
    return show(
        call,
        "join.html",
        "Set your password" if resets else "Make an account",
        problem=problem,
        code=code,
        fixed=fixed,
        resets=resets,
        least=passwords.MIN_LENGTH,
        name=form_.raw("name")[:100] if form_ else "",
        fullname=form_.raw("fullname")[:200] if form_ else "",
    )


def join(call: Call) -> Response:
    """Make an account (or set its password, by an invitation), and sign in."""
    if call.form.raw("step") == "code":
        return join_page(call)
    try:
        _join(call)
    except Refusal as error:
        return join_page(call, error)
    return go(call, "settings/adapters/")


def _join(call: Call) -> None:
    database, form_ = call.service.database, call.form
    code, name = form_.raw("code").strip(), form_.text("name", "The name", 100)
    fullname, password = form_.text("fullname", "The name for people"), form_.raw("password")
    with database.write() as session:
        if code:
            row = invitations.find(session, code)
            passwords.require(password, row.name or name)
            if not row.name:
                accounts.require_free(session, name)
        else:
            if not call.service.settings.sign_up:
                raise Missing("An account here needs an invitation.")
            accounts.require_free(session, name)
            passwords.require(password, name)
            attempts.take(session, _JOINING, call.caller.address)
    kept = passwords.hashed(password)
    with database.write() as session:
        if code:
            account = invitations.accept(
                session, call.caller, code, name=name, fullname=fullname, kept=kept
            )
        else:
            account = accounts.create_account(session, name, fullname=fullname)
            passwords.keep(session, account.id, kept)
            who = Caller(account.id, account.name, address=call.caller.address)
            accounts.audit(session, who, "user.join", account.name, "signed up")
        begin(call, session, account)


ROUTES: list[Route] = [
    page("/login/", login_page),
    form("/login/", sign_in),
    form("/logout/", sign_out),
    page("/join/", join_page),
    form("/join/", join),
]
