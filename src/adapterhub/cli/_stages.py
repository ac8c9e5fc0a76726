"""Long work in stages whose results are kept, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapterhub.training.report import write_json

Stage = Callable[[], dict[str, Any]]


class Stages:
    """Stages of one job in one output folder.

    Args:
        output: folder of the job.
        settings: what the results depend on; other settings start over.
        clear: names in *output* that go when the job starts over.
        restart: start over in any case.

    Attributes:
        seconds: how long each finished stage took, in the order of the stages.
        resumed: names of the stages that were finished before.
    """

    def __init__(
        self, output: Path, settings: dict[str, Any], clear: tuple[str, ...], restart: bool = False
    ) -> None:
        self.folder = output / "stages"
        self.seconds: dict[str, float] = {}
        self.resumed: list[str] = []
        stored = _read(self.folder / "settings.json")
        if stored is not None and (restart or stored != settings):
            for name in (*clear, "stages"):  # only below a folder that this class has made
                _remove(output / name)
        write_json(self.folder / "settings.json", settings)

    def run(self, name: str, stage: Stage) -> dict[str, Any]:
        """Return the result of a stage: kept from before, else computed now and kept."""
        path = self.folder / f"{name}.json"
        kept = _read(path)
        if kept is not None:
            self.resumed.append(name)
            self.seconds[name] = kept["seconds"]
            return kept["result"]
        started = time.perf_counter()
        result = stage()
        self.seconds[name] = time.perf_counter() - started
        write_json(path, {"seconds": self.seconds[name], "result": result})
        return result


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
