"""The cards of a folder on a server: what has no files there becomes pages all the same.

Tasks, data sets and architectures get their names and descriptions by it, and adapters whose files are
elsewhere are found and shown, with the address that their card gives.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.live.cardrows import cards_of_folder

_AT_ONCE = 200
_SECONDS = 120


def send_cards(folder: Path, url: str, token: str | None) -> tuple[int | None, list[str]]:
    """Send the cards of a hub folder to the server at *url*.

    Args:
        token: of an administrator.

    Returns:
        How many were sent (``None``: the token is that of somebody else), and why others cannot be.

    Raises:
        HubError: If the server refuses them or does not answer.
    """
    cards, problems = cards_of_folder(folder)
    paths = sorted(cards)
    for first in range(0, len(paths), _AT_ONCE):
        some = {path: cards[path] for path in paths[first : first + _AT_ONCE]}
        try:
            _put(f"{url.rstrip('/')}/api/hub/v1/cards", {"cards": some}, token)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in (401, 403):
                    return None, []
                said = error.headers.get("X-Error-Message") or error.reason
            raise HubError(f"{url} does not take the cards: {said}") from error
        except OSError as error:
            raise HubError(f"{url} cannot be reached: {error}") from error
    return len(paths), problems


def _put(url: str, body: Mapping[str, Any], token: str | None) -> None:
    data = json.dumps(body, default=str).encode()
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, data=data, headers=headers, method="PUT")
    with urllib.request.urlopen(request, timeout=_SECONDS):
        pass
