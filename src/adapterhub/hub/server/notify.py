"""Telling systemd (``Type=notify``) how far a server is; nothing happens where nobody listens."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger("adapterhub.hub.server")


def notify(state: str) -> None:
    """Send ``READY=1`` or ``STOPPING=1`` to the socket that ``$NOTIFY_SOCKET`` names, if it does."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place or not hasattr(socket, "AF_UNIX"):
        return
    address = "\0" + place[1:] if place.startswith("@") else place
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError:
        log.warning("the service manager at $NOTIFY_SOCKET cannot be told: %s", state)
