"""Keys and reports of a folder on a server: who signed, and what was measured, go along with the adapters."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from adapterhub.errors import HubError
from adapterhub.hub.folderkeys import FolderKey, FolderKeys
from adapterhub.hub.folderreports import FolderReports, Kept
from adapterhub.hub.hub import Hub
from adapterhub.hub.sending import Sender

_CHECK_SECONDS = 300.0
_API = "/api/hub/v1"


@dataclass
class Taken:
    """What a server took: numbers of keys and reports, and of which it took not, with the reason."""

    keys: int = 0
    reports: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def send_keys(hub: Hub, url: str, token: str | None, *, create_users: bool = False) -> Taken:
    """Register the keys that a folder lists; a revoked one is known as revoked from the beginning.

    Args:
        token: of an administrator, but for one's own keys.
        create_users: make an account for each name that the server does not know.
    """
    sender, taken = Sender(url, "", token), Taken()
    users: dict[str, str | None] = {}
    for item in FolderKeys.load(hub.path).keys.values():
        try:
            if item.account not in users:
                users[item.account] = _user(sender, item.account, create_users)
            if users[item.account] is not None:
                raise HubError(str(users[item.account]))
            taken.keys += _send_key(sender, item)
        except HubError as error:
            taken.refused[f"keys/{item.account}.yaml"] = str(error)
    return taken


def _user(sender: Sender, name: str, create: bool) -> str | None:
    """Make sure that there is a user; return why there is none."""
    status, _, _ = sender.ask("GET", f"{_API}/users/{quote(name, safe='')}/keys")
    if status != 404:
        return None
    if not create:
        return f"there is no user {name} at {sender.url} (--create-owners makes one)"
    status, headers, _ = sender.ask("POST", f"{_API}/users", {"name": name})
    return None if status < 400 else headers.get("x-error-message") or f"status {status}"


def _send_key(sender: Sender, item: FolderKey) -> int:
    """Register a key; return 1 if it is new there."""
    body: dict[str, Any] = {"user": item.account, **item.to_json()}
    status, headers, _ = sender.ask("POST", f"{_API}/keys", body)
    if status != 409:
        return 1
    place = f"{_API}/users/{quote(item.account, safe='')}/keys"
    _, _, rows = sender.ask("GET", place)
    known = {row["key"]: row for row in rows if isinstance(row, dict)}
    if str(item.key) not in known:
        raise HubError(headers.get("x-error-message") or "the key is somebody else's there")
    if item.revoked is not None and not known[str(item.key)].get("revoked"):
        sender.ask("DELETE", f"{place}/{item.key.id}")
    return 0


def send_reports(hub: Hub, url: str, token: str | None) -> Taken:
    """Send the reports of a folder that count; those that are there already are not sent twice.

    The server takes a report when it has checked the adapter, which is waited for.

    Args:
        token: of an administrator, but for one's own reports.
    """
    sender, taken = Sender(url, "", token), Taken()
    reports = FolderReports.load(hub.path, hub.catalogue, FolderKeys.load(hub.path))
    taken.refused = {finding.where: finding.message for finding in reports.findings}
    until = time.monotonic() + _CHECK_SECONDS
    for item in reversed(reports.kept):  # the oldest first, as they came
        try:
            taken.reports += _send_report(sender, item, until)
        except HubError as error:
            taken.refused[item.path] = str(error)
    return taken


def _send_report(sender: Sender, item: Kept, until: float) -> int:
    repo = f"{_API}/repos/{quote(item.card.owner)}/{quote(item.card.stem)}"
    while True:
        _, _, checks = sender.ask("GET", f"{repo}/checks")
        pending = isinstance(checks, dict) and checks.get("status") == "pending"
        if not pending or time.monotonic() > until:
            break
        time.sleep(0.5)
    status, headers, _ = sender.ask("POST", f"{repo}/reports", item.signed.to_json())
    if status >= 400:
        raise HubError(headers.get("x-error-message") or f"the server answered {status}")
    return 1 if status == 201 else 0
