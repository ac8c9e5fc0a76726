"""What GitHub does for a hub folder: checks its cards, publishes its pages, asks the right questions."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from adapterhub.hub.storage import replace_file

WORKFLOW_PATH = ".github/workflows/hub.yml"

#: Path in the hub folder, and where its content lies in this package.
_FILES = {
    WORKFLOW_PATH: "hub-workflow.yml",
    ".github/PULL_REQUEST_TEMPLATE.md": "github/PULL_REQUEST_TEMPLATE.md",
    ".github/ISSUE_TEMPLATE/config.yml": "github/ISSUE_TEMPLATE/config.yml",
    ".github/ISSUE_TEMPLATE/new-adapter.yml": "github/ISSUE_TEMPLATE/new-adapter.yml",
    ".github/ISSUE_TEMPLATE/problem.yml": "github/ISSUE_TEMPLATE/problem.yml",
}


def write_workflow(folder: Path) -> bool:
    """Write the workflow and the templates into a hub folder; tell whether the workflow was written.

    What is there already stays as it is, and a folder with a workflow of its own gets nothing.
    """
    if (folder / WORKFLOW_PATH).exists():
        return False
    source = files("adapterhub.hub.static")
    for name, place in _FILES.items():
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, source.joinpath(place).read_bytes())
    return True
