"""``adapterhub hub serve`` and what goes with running a hub server: users, tokens, workers, clean-up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterhub.cli.hub import group
from adapterhub.errors import HubError

if TYPE_CHECKING:
    from adapterhub.hub.server.settings import Settings

DataOption = Annotated[
    Path,
    typer.Option("--data", envvar="ADAPTERHUB_DATA", help="Folder for all that the hub keeps."),
]
_DATA = Path("hub-data")


def register(app: typer.Typer) -> None:
    """Add the commands of this file; they join ``adapterhub hub``."""


def _settings(data: Path) -> Settings:
    _require_extra()
    from adapterhub.hub.server.settings import Settings

    return Settings.from_environment(data)


def _require_extra() -> None:
    """Say what to install, where the server's libraries are not there."""
    try:
        import alembic  # noqa: F401
        import argon2  # noqa: F401
        import prometheus_client  # noqa: F401
        import sqlalchemy  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise HubError(
            f"the hub server needs more: pip install 'adapterhub[hub]' ({error})"
        ) from error


@group.command("serve")
def serve(
    data: DataOption = _DATA,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: 7788; 0: any free.")
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(help="Address by which clients reach the hub, e.g. https://hub.example.org."),
    ] = None,
    admin: Annotated[
        str, typer.Option(help="Name of the first administrator of a new hub.")
    ] = "admin",
    workers: Annotated[int, typer.Option(min=0, help="Check workers inside the server.")] = 1,
    models: Annotated[
        str | None,
        typer.Option(
            help="Base models on which visitors can try adapters: folders, or 'minilm', with commas."
        ),
    ] = None,
    plain_log: Annotated[
        bool, typer.Option("--plain-log", help="Log text instead of JSON.")
    ] = False,
) -> None:
    """Run a hub that Hugging Face clients can push to and pull from."""
    from adapterhub.hub.server.serve import serve as run

    settings = _settings(data)
    given = {
        "host": host,
        "port": port,
        "public_url": public_url.rstrip("/") if public_url else None,
    }
    settings = replace(
        settings, **{key: value for key, value in given.items() if value is not None}
    )
    settings = replace(settings, workers=workers, log_json=not plain_log)
    if models is not None:
        from adapterhub.hub.server.settings import split_places

        settings = replace(settings, models=split_places(models))

    def say(text: str) -> None:
        typer.echo(text)

    run(settings, admin=admin, say=say)


@group.command("worker")
def worker(
    data: DataOption = _DATA,
    until_idle: Annotated[bool, typer.Option(help="End when there is nothing left to do.")] = False,
) -> None:
    """Run checks for a hub on PostgreSQL, beside its web servers."""
    import signal
    import threading

    settings = _settings(data)
    from adapterhub.hub.live import norms
    from adapterhub.hub.server import logs
    from adapterhub.hub.server.service import deep_checks, open_blobs
    from adapterhub.hub.store.database import Database
    from adapterhub.hub.store.staging import Staging
    from adapterhub.hub.verify.intake import Intake
    from adapterhub.hub.verify.worker import work

    logs.set_up(as_json=True)
    data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    database.upgrade()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    intake = Intake(database, open_blobs(settings), Staging(data / "staging"))
    intake.deep = deep_checks(settings)
    norms.attach(intake)
    count = work(intake, stop, until_idle=until_idle)
    typer.echo(f"{count} piece(s) of work done")


@group.command("clean")
def clean(
    data: DataOption = _DATA,
    hours: Annotated[
        float, typer.Option(min=0, help="Keep what was sent within so many hours.")
    ] = 24,
) -> None:
    """Remove contents that no commit names; safe while the server runs, as long as hours is not 0."""
    from datetime import timedelta

    settings = _settings(data)
    from adapterhub.hub.server.service import open_blobs
    from adapterhub.hub.store import ledger, xorbs
    from adapterhub.hub.store.database import Database
    from adapterhub.hub.store.pending import pending_of

    home, grace = open_blobs(settings), timedelta(hours=hours)
    database, pending = Database(settings.database), pending_of(home)
    database.upgrade()
    removed = ledger.collect(database, home, grace=grace)
    pieces = xorbs.expire(database, pending, grace) + pending.clean(grace)
    typer.echo(f"{len(removed)} content(s) removed")
    if pieces:
        typer.echo(f"{pieces} piece(s) of unfinished uploads removed")


@group.command("user")
def user(
    name: Annotated[str, typer.Argument(help="Account name.")],
    data: DataOption = _DATA,
    fullname: Annotated[str, typer.Option(help="Name for people.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May administer the hub.")] = False,
    password: Annotated[
        bool,
        typer.Option(
            "--password", help="Ask for a password (also for a user who is there already)."
        ),
    ] = False,
) -> None:
    """Add a user to a hub server's data, or set a password (the server may be running)."""
    settings = _settings(data)
    from sqlalchemy import select

    from adapterhub.hub.store import accounts, logins, passwords
    from adapterhub.hub.store.database import Database
    from adapterhub.hub.store.models import Account

    kept = None
    if password:
        text = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        passwords.require(text, name)
        kept = passwords.hashed(text)
    database = Database(settings.database)
    database.upgrade()
    console = accounts.Caller(name="console")
    with database.write() as session:
        query = select(Account).where(Account.key == name.casefold(), Account.kind == "user")
        account = session.scalar(query) if kept else None
        is_new = account is None
        if account is None:
            account = accounts.create_account(session, name, fullname=fullname, admin=admin)
            accounts.audit(session, console, "user.create", name)
        if kept:
            passwords.keep(session, account.id, kept)
            logins.end_all(session, account.id)
            accounts.audit(session, console, "password.reset", account.name)
    if kept and not is_new:
        typer.echo(f"The password of {account.name} is set; every browser is signed out")
    else:
        way = "" if kept else f"; make a token with 'adapterhub hub token {name}'"
        typer.echo(f"User {name} added{way}")


@group.command("invite")
def invite(
    name: Annotated[
        str, typer.Argument(help="Account name; one that is there gets a new password.")
    ] = "",
    data: DataOption = _DATA,
    admin: Annotated[bool, typer.Option("--admin", help="May administer the hub.")] = False,
    days: Annotated[int, typer.Option(min=1, max=365, help="Good for so many days.")] = 7,
) -> None:
    """Print a link with which one person sets a password, once."""
    from datetime import timedelta

    settings = _settings(data)
    from adapterhub.hub.store import accounts, invitations
    from adapterhub.hub.store.database import Database

    with Database(settings.database).write() as session:
        secret = invitations.invite(
            session,
            accounts.Caller(name="console"),
            name=name,
            admin=admin,
            lifetime=timedelta(days=days),
        )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    typer.echo(f"{settings.public_url or f'http://{host}:{settings.port}'}/join/#{secret}")


@group.command("token")
def token(
    name: Annotated[str, typer.Argument(help="Account name of a user.")],
    data: DataOption = _DATA,
    scope: Annotated[str, typer.Option(help="read, write or admin.")] = "write",
    days: Annotated[int | None, typer.Option(min=1, help="Expires after so many days.")] = None,
    label: Annotated[str, typer.Option(help="What the token is for.")] = "console",
) -> None:
    """Make a token for a user and print it; it cannot be shown again."""
    from datetime import timedelta

    settings = _settings(data)
    from adapterhub.hub.store import accounts
    from adapterhub.hub.store.database import Database
    from adapterhub.hub.store.models import utcnow

    expires = utcnow() + timedelta(days=days) if days else None
    with Database(settings.database).write() as session:
        account = accounts.find_account(session, name)
        _, secret = accounts.issue_token(session, account, name=label, scope=scope, expires=expires)
        accounts.audit(session, accounts.Caller(name="console"), "token.create", name, scope)
    typer.echo(secret)
