"""Prints what a hub server needs of the project's requirements, for images without torch.

The server runs without torch and transformers; checks that need them then say "not run".
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tomllib

LEFT_OUT = {"torch", "transformers"}


def requirements(pyproject: Path, extra: str) -> list[str]:
    """Return the requirements of the project and of one of its extras, without those left out."""
    project = tomllib.loads(pyproject.read_text())["project"]
    found: list[str] = []
    waiting = [*project["dependencies"], f"{project['name']}[{extra}]"]
    while waiting:
        line = waiting.pop(0)
        name = re.match(r"[A-Za-z0-9._-]+", line)
        assert name is not None, line
        if name[0] == project["name"]:
            extras = re.findall(r"[A-Za-z0-9._-]+", line[len(name[0]) :])
            waiting += [item for one in extras for item in project["optional-dependencies"][one]]
        elif name[0] not in LEFT_OUT:
            found.append(line)
    return sorted(set(found))


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), sys.argv[2])))
