"""Base models with many adapters, and batches of jobs for any of them (needs torch).

A base model has several *faces* (:mod:`.faces`, :mod:`.pictures`), by what heads give: which one a job
needs follows from the files of its adapter. Jobs for one face share a batch; if that fails, each adapter
is run by itself, so that one fails alone.
"""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapterhub.errors import AdapterHubError
from adapterhub.hub.headtypes import head_type
from adapterhub.hub.inspection import CONFIG_FILE, HEAD_CONFIG_FILE
from adapterhub.hub.tryit.faces import Face, Generation, Heads, Writing, first_line
from adapterhub.hub.tryit.forms import FORMS, WRITING, no_form, writing_of
from adapterhub.hub.tryit.jobs import Job, Limits, TryError

_REMEMBERED = 200

Result = dict[str, Any] | TryError


class Runner:
    """All base models of a hub; each is loaded when it is first needed, and then stays."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._faces: dict[tuple[Path, str], Face] = {}
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._known: OrderedDict[tuple[str, Path], str] = OrderedDict()

    def warm(self, base: Path) -> None:
        """Load a base model before it is needed; one that cannot be loaded is told when it is needed."""
        with contextlib.suppress(Exception):
            self._face(base, "generation" if writing_of(base) else "heads")

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Return what each job gives, or why it gives nothing. No job spoils another."""
        results: list[Result | None] = [None] * len(jobs)
        groups: dict[tuple[Path, str], list[int]] = {}
        for index, job in enumerate(jobs):
            try:
                groups.setdefault((job.base, self._face_for(job)), []).append(index)
            except TryError as error:
                results[index] = error
        for (base, kind), members in groups.items():
            found = self._run_group(base, kind, [jobs[index] for index in members])
            for index, result in zip(members, found, strict=True):
                results[index] = result
        return [result or TryError("nothing came of it") for result in results]

    def _face_for(self, job: Job) -> str:
        """Return which face of its base model *job*'s adapter needs."""
        if job.adapter in self._refused:
            raise TryError(self._refused[job.adapter])
        key = (job.adapter, job.base)
        if key not in self._known:
            _remember(self._known, key, face_of(job.folder, job.base))
        return self._known[key]

    def _run_group(self, base: Path, kind: str, jobs: Sequence[Job]) -> list[Result]:
        try:
            face = self._face(base, kind)
        except (AdapterHubError, OSError, ValueError) as error:
            return [TryError(f"the base model cannot be loaded on this hub: {error}")] * len(jobs)
        results: list[Result | None] = [None] * len(jobs)
        ready = []
        needed = {job.adapter for job in jobs}
        for index, job in enumerate(jobs):
            try:
                face.need(job, needed)
                ready.append(index)
            except TryError as error:
                _remember(self._refused, job.adapter, str(error))
                results[index] = error
        for index, result in zip(ready, self._forward(face, [jobs[i] for i in ready]), strict=True):
            results[index] = result
        return [result or TryError("nothing came of it") for result in results]

    def _face(self, base: Path, kind: str) -> Face:
        key = (base, kind)
        if key not in self._faces:
            self._faces[key] = self._make(base, kind)
        return self._faces[key]

    def _make(self, base: Path, kind: str) -> Face:
        if kind == "writing":
            return Writing(self._face(base, "heads"))
        if kind == "pictures":
            from adapterhub.hub.tryit.pictures import Pictures  # (which needs Pillow)

            return Pictures(base, self._limits)
        return Generation(base, self._limits) if kind == "generation" else Heads(base, self._limits)

    def _forward(self, face: Face, jobs: Sequence[Job]) -> list[Result]:
        """Run all in one batch; if that fails, each adapter by itself, so that one fails alone."""
        if not jobs:
            return []
        adapters = list(dict.fromkeys(job.adapter for job in jobs))
        try:
            batch = {"rows": len(jobs), "adapters": len(adapters)}
            return [
                result if isinstance(result, TryError) else {**result, "batch": batch}
                for result in face.forward(jobs)
            ]
        except Exception as error:
            if len(adapters) == 1:
                return [
                    error
                    if isinstance(error, TryError)
                    else TryError(f"it failed: {first_line(error)}")
                ] * len(jobs)
        results: dict[int, Result] = {}
        for adapter in adapters:
            members = [index for index, job in enumerate(jobs) if job.adapter == adapter]
            found = self._forward(face, [jobs[index] for index in members])
            results.update(zip(members, found, strict=True))
        return [results[index] for index in range(len(jobs))]


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    known[key] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


def face_of(folder: Path, base: Path) -> str:
    """Return which face of its base model an adapter needs.

    Raises:
        TryError: If its head is of a type for which there is no form.
    """
    info = _json(folder / CONFIG_FILE)
    head = _json(folder / HEAD_CONFIG_FILE) if (folder / HEAD_CONFIG_FILE).is_file() else None
    own = head is not None and isinstance(head.get("config"), dict)
    kind = head_type(info, head)
    if kind is None:
        if own or not writing_of(base):
            # (Without a head, the adapter is loaded first: what is wrong with it is the better reason.)
            return "heads"
        return "generation"
    if kind not in FORMS:
        raise TryError(no_form(kind))
    if FORMS[kind] in WRITING:
        return "writing" if own else "generation"
    return "pictures" if FORMS[kind] == "image" else "heads"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TryError(f"{path.name} cannot be read") from error
    return value if isinstance(value, dict) else {}
