"""``adapterhub hub key ...``: the key that a user signs with, and the keys that he trusts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterhub.errors import HubError

if TYPE_CHECKING:
    from adapterhub.hub.sending import Sender
    from adapterhub.hub.signing import PublicKey

group = typer.Typer(
    no_args_is_help=True, help="Your signing key, and the keys of others that you trust."
)

KeyFile = Annotated[
    Path | None,
    typer.Option("--key", help="Key file. Default: $ADAPTERHUB_KEY, or key.json in your settings."),
]
Server = Annotated[
    str,
    typer.Option("--hub", envvar=["ADAPTERHUB_HUB", "HF_ENDPOINT"], help="Address of the server."),
]
Secret = Annotated[
    str | None, typer.Option(envvar="HF_TOKEN", help="Default: that of 'hf auth login'.")
]


def _sender(hub: str, token: str | None = None) -> Sender:
    from huggingface_hub import get_token

    from adapterhub.cli.push import first_server
    from adapterhub.hub.sending import Sender

    return Sender(first_server(hub), "", token or get_token())


@group.command("new")
def new(
    key: KeyFile = None,
    name: Annotated[str, typer.Option(help="Whose it is, for people.")] = "",
    days: Annotated[
        int | None, typer.Option(min=1, help="Let it expire after so many days.")
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Encrypt the file; asks for a passphrase.")
    ] = False,
) -> None:
    """Make a new key, in a file that only you can read."""
    from adapterhub.hub.signing import SigningKey, now
    from adapterhub.hub.trust import key_file

    path = (key or key_file()).expanduser()
    words = (
        typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
        if passphrase
        else None
    )
    made = SigningKey.generate(name, expires=now() + timedelta(days=days) if days else None)
    made.save(path, words)
    typer.echo(f"{made.public}")
    typer.echo(
        f"The key {made.public.id} is in {path}; keep a copy of it in a safe place.", err=True
    )
    typer.echo("Put it into your profile: adapterhub hub key register", err=True)


@group.command("show")
def show(
    key: KeyFile = None,
    user: Annotated[str, typer.Option(help="Show the keys in a user's profile instead.")] = "",
    hub: Server = "",
) -> None:
    """Show the public half of your key and the keys that you trust, or those in a user's profile."""
    from adapterhub.hub.signing import public_of, stamp
    from adapterhub.hub.trust import TrustedKeys, key_file

    if user:
        for row in _profile(hub, user):
            typer.echo(_line(row["key"], row["id"], user, row.get("expires"), row.get("revoked")))
        return
    path = (key or key_file()).expanduser()
    if path.is_file() or key is not None:
        public, words = public_of(path)
        typer.echo(_line(str(public), public.id, f"yours, in {path}", words.get("expires"), None))
    trusted = TrustedKeys.load()
    for item in trusted.keys:
        who = f"trusted for {item.who}{f' ({item.note})' if item.note else ''}"
        typer.echo(_line(str(item.key), item.key.id, who, stamp(item.expires), stamp(item.revoked)))
    if not trusted.keys:
        typer.echo(f"No trusted keys in {trusted.path}", err=True)


def _line(key: str, fingerprint: str, who: str, expires: Any, revoked: Any) -> str:
    from adapterhub.cli.push import _printable

    state = f", REVOKED {revoked}" if revoked else f", expires {expires}" if expires else ""
    return _printable(f"{key}  {fingerprint}  {who}{state}")


def _profile(hub: str, user: str) -> list[dict[str, Any]]:
    from urllib.parse import quote

    status, _, rows = _sender(hub).ask("GET", f"/api/hub/v1/users/{quote(user, safe='')}/keys")
    if status != 200 or not isinstance(rows, list):
        raise HubError(f"there is no user {user!r} at {hub}")
    return rows


@group.command("register")
def register(
    key: KeyFile = None,
    name: Annotated[str, typer.Option(help="For people, e.g. laptop.")] = "",
    hub: Server = "",
    token: Secret = None,
) -> None:
    """Put the public half of your key into your profile on a hub server."""
    from adapterhub.hub.sending import said
    from adapterhub.hub.signing import public_of
    from adapterhub.hub.trust import key_file

    public, words = public_of((key or key_file()).expanduser())
    body = {
        "key": str(public),
        "name": name or words.get("name") or "",
        "expires": words["expires"],
    }
    status, headers, answer = _sender(hub, token).ask("POST", "/api/hub/v1/keys", body)
    if status >= 400:
        raise HubError(said(status, headers, b""))
    typer.echo(f"Registered key {answer['id']}")


@group.command("revoke")
def revoke(
    which: Annotated[str, typer.Argument(help="The key (ed25519:...), or what identifies it.")],
    user: Annotated[str, typer.Option(help="In whose profile. Default: nobody's.")] = "",
    hub: Server = "",
    token: Secret = None,
) -> None:
    """Never trust a key again here; with --user, revoke it in that profile on the hub, too."""
    from adapterhub.hub.sending import said
    from adapterhub.hub.signing import PublicKey
    from adapterhub.hub.trust import TrustedKeys

    trusted = TrustedKeys.load()
    known = {item.key.id: item.key for item in trusted.keys}
    public = PublicKey.parse(which) if ":" in which else known.get(which)
    if user:
        rows = {row["id"]: row["key"] for row in _profile(hub, user)}
        fingerprint = public.id if public else which
        place = f"/api/hub/v1/users/{user}/keys/{fingerprint}"
        status, headers, _ = _sender(hub, token).ask("DELETE", place)
        if status >= 400:
            raise HubError(said(status, headers, b""))
        public = public or PublicKey.parse(rows.get(which))
        typer.echo(f"Revoked key {fingerprint} of {user} at {hub}")
    if public is None:
        raise HubError(f"{which!r} is none of your trusted keys; give the whole key (ed25519:...)")
    trusted.revoke(public)
    trusted.save()
    typer.echo(f"Key {public.id} is not believed here any more")


@group.command("trust")
def trust(
    whom: Annotated[
        str,
        typer.Argument(
            help="A key (ed25519:...), or a user or address of a hub, asked for theirs."
        ),
    ],
    for_: Annotated[
        str,
        typer.Option("--for", help="Namespace that it speaks for ('*': all), or address of a hub."),
    ] = "",
    note: Annotated[str, typer.Option(help="For people.")] = "",
    hub: Server = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Believe what a key signs for a namespace, or the index that it signs for a hub.

    The keys of a user come from the hub, which could lie, and so does that of the hub: compare what
    identifies them with what you were told in another way.
    """
    from adapterhub.hub.client import is_server
    from adapterhub.hub.signedindex import signer
    from adapterhub.hub.signing import PublicKey, moment
    from adapterhub.hub.trust import TrustedKeys, hub_address

    trusted = TrustedKeys.load()
    found: list[tuple[PublicKey, Any]]
    if is_server(whom):
        found = [(signer(whom)[0], None)]
        for_ = for_ or hub_address(whom)
    elif ":" in whom:
        if not for_:
            raise HubError("say whom the key speaks for: --for NAMESPACE (or --for '*')")
        found = [(PublicKey.parse(whom), None)]
    else:
        rows = _profile(hub, whom)
        for row in rows:
            if row.get("revoked"):
                trusted.revoke(PublicKey.parse(row["key"]))
        found = [
            (PublicKey.parse(row["key"]), moment(row.get("expires"), "'expires'"))
            for row in rows
            if not row.get("revoked")
        ]
        if not found:
            trusted.save()
            raise HubError(f"{whom} has no key in the profile at {hub}")
    who = hub_address(for_ or whom)
    for public, expires in found:
        if not yes and not typer.confirm(f"Trust {public} ({public.id}) for {who}?"):
            continue
        trusted.add(public, who, note=note or (hub if ":" not in whom else ""), expires=expires)
        typer.echo(f"Key {public.id} is trusted for {who}")
    trusted.save()


@group.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of an adapter.")],
    name: Annotated[
        str | None, typer.Option(help="owner/name that it must be signed as. Default: any.")
    ] = None,
) -> None:
    """Check the signature of a folder against the keys that you trust."""
    from adapterhub.hub.signedfolder import verify_folder
    from adapterhub.hub.signing import stamp

    signature = verify_folder(folder, name, True)
    assert signature is not None
    said = signature.statement
    typer.echo(f"{said.subject}: signed by key {signature.key.id} on {stamp(said.signed)}")
