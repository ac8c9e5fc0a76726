"""Which paths a card can have in a hub folder: what a stranger names becomes a path on this disk."""

from __future__ import annotations

import re

from adapterhub.hub import folderkeys, folderreports
from adapterhub.hub.catalogue import LAYOUT
from adapterhub.hub.names import slug_problems


def path_problem(path: str) -> str | None:
    """Say why *path* cannot be that of a card, report or file of keys in a hub folder; ``None`` if it can."""
    parts = path.split("/")
    if parts[0] == folderreports.FOLDER:
        return folderreports.path_problem(path)
    depth = {**{folder: depth for folder, _, depth in LAYOUT}, folderkeys.FOLDER: 0}.get(parts[0])
    if depth is None or len(parts) != depth + 2 or not path.endswith((".yaml", ".yml")):
        return "is no path of a card"
    stem = re.sub(r"\.ya?ml$", "", parts[-1])
    problems = [line for part in parts[1:-1] for line in slug_problems("folder", part)]
    problems += slug_problems("name", stem, limit=200)
    return problems[0] if problems else None
