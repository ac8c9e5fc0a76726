"""The GitHub Actions workflow of a hub folder: check changed cards, publish the pages."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from adapterhub.hub.storage import replace_file

WORKFLOW_PATH = ".github/workflows/hub.yml"


def write_workflow(folder: Path) -> bool:
    """Write the workflow into a hub folder, unless it has one; tell whether it was written."""
    path = folder / WORKFLOW_PATH
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, files("adapterhub.hub.static").joinpath("hub-workflow.yml").read_bytes())
    return True
