"""What our client keeps of a server between runs, and whether it may ask that server at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adapterhub.hub.pull import cache_folder


def offline() -> bool:
    """Tell whether the user wants no network: ``HF_HUB_OFFLINE`` (read now, not at import)."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true")


class ServerCache:
    """What was fetched from one server; another server with the same names has another place."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        digest = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.folder = cache_folder() / "servers" / f"{parts.hostname}-{digest}"

    def remember(self, kind: str, name: str, value: Any) -> None:
        """Keep plain values under a name; a cache that cannot be written is none."""
        path = self._path(kind, name)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            part.write_text(json.dumps(value), encoding="utf-8")
            part.replace(path)

    def recall(self, kind: str, name: str) -> Any:
        """Return what was kept under a name, ``None`` if nothing was."""
        try:
            return json.loads(self._path(kind, name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
