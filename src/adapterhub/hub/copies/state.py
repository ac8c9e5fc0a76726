"""What a copy remembers between runs, in ``.mirror/`` of its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.copies.index import Seen
from adapterhub.hub.storage import replace_file

FOLDER = ".mirror"
_FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """A card that was copied: the stamp it had at the origin, and the SHA-256 of what was written."""

    stamp: str
    sha256: str


@dataclass
class State:
    """The memory of one copy.

    Attributes:
        origin: what it is a copy of.
        cards: what was copied, by path.
        keys: public keys by which the origin's index must be signed from now on.
        seen: the newest signature of the index that was believed.
    """

    root: Path
    origin: str = ""
    cards: dict[str, Kept] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    seen: Seen | None = None

    @property
    def parts(self) -> Path:
        """Folder of downloads that are not complete."""
        return self.root / FOLDER / "parts"

    @classmethod
    def load(cls, root: Path) -> State:
        """Read the memory of the copy in *root*; a folder without one has an empty memory.

        Raises:
            HubError: If it is damaged; without it nobody knows what came from where.
        """
        path = root / FOLDER / "state.json"
        try:
            data: Any = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls(root)
        except (OSError, ValueError) as error:
            raise HubError(
                f"{path} cannot be read ({error}); remove the folder {path.parent} and copy again with "
                "--adopt, which compares everything anew"
            ) from error
        if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
            raise HubError(f"{path} was written by another version of adapterhub; update it")
        seen = data.get("seen")
        return cls(
            root,
            origin=str(data["origin"]),
            cards={path: Kept(*pair) for path, pair in data["cards"].items()},
            keys=dict(data.get("keys") or {}),
            seen=Seen(**seen) if seen else None,
        )

    def save(self) -> None:
        """Write the memory in one step."""
        folder = self.root / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".gitignore").exists():
            replace_file(folder / ".gitignore", b"parts/\nlock\n")
        data = {
            "format": _FORMAT,
            "origin": self.origin,
            "keys": self.keys,
            "seen": self.seen.to_json() if self.seen else None,
            "cards": {path: [k.stamp, k.sha256] for path, k in sorted(self.cards.items())},
        }
        replace_file(folder / "state.json", (json.dumps(data, indent=0) + "\n").encode())
