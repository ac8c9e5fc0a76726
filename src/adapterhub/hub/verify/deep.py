"""The dear checks: an adapter against its base model. They run in a child process, and in a worker's time.

A verdict is never a pass by default. What cannot be checked (an unknown base model, torch or PEFT not
installed, a base that is too large to run) is *skipped* with the reason, and a child that fails on files
that fit is an error of those files, as it would fail for everybody else, too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub.hub.inspection import HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE
from adapterhub.hub.verify import sandbox
from adapterhub.hub.verify.adapter import (
    FileResults,
    config_of,
    data_of,
    format_of,
    weights_file,
)
from adapterhub.hub.verify.bases import Base, Bases
from adapterhub.hub.verify.facts import texts
from adapterhub.hub.verify.results import Result, result

#: Raise it when a check comes to another conclusion about the same bytes.
VERSIONS = {"architecture": 1, "forward": 1, "head": 1}
#: What every adapter goes through; ``head`` is for those that bring one.
ALWAYS = ("architecture", "forward")
HEAD = "head"

#: A tag of the card by which its author says that an adapter is not meant to do anything (yet).
IDENTITY_TAGS = ("untrained", "identity")
_CHILD = "adapterhub.hub.verify.trial"
_NEEDED = {"peft": ("adapter_config.json", "adapter_model.safetensors")}
_OURS = ("adapter_config.json", "adapter.safetensors")
_HEAD_FILES = (HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE)


@dataclass(frozen=True)
class Subject:
    """What a trial is about: the files that make an adapter, perhaps a head, and its base model."""

    kind: str
    base: Base
    hashes: Mapping[str, str]
    identity: bool = False

    @property
    def key(self) -> str:
        """A hash of all that the verdict depends on."""
        versions = {name: VERSIONS[name] for name in self.checks}
        parts = [self.kind, self.base.config, dict(self.hashes), self.identity, versions]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of the results that a trial gives."""
        return (*ALWAYS, HEAD) if HEAD_WEIGHTS_FILE in self.hashes else ALWAYS


@dataclass
class DeepChecks:
    """Runs the dear checks.

    Attributes:
        enabled: whether they are run at all.
        bases: the base models that are known.
        limits: of one child.
    """

    enabled: bool = True
    bases: Bases = field(default_factory=Bases)
    limits: sandbox.Limits = field(default_factory=sandbox.Limits)

    def subject(
        self, found: FileResults, hashes: Mapping[str, str]
    ) -> tuple[Subject | None, dict[str, Result]]:
        """Return what is to be tried, or why nothing is, as results.

        Args:
            found: the results of the single files, none of which failed.
            hashes: name to SHA-256 of all files.
        """
        info = config_of(found)
        if info is None:
            return None, {}
        kind = format_of(info)
        names = _NEEDED.get(kind, _OURS)
        checks = ALWAYS
        if kind != "peft" and all(name in hashes for name in _HEAD_FILES):
            names, checks = (*_OURS, *_HEAD_FILES), (*ALWAYS, HEAD)
        if not self.enabled:
            return None, skipped("not run: this hub checks formats only", checks)
        if missing := _not_installed(kind):
            return None, skipped(f"not run: {missing} is not installed on this hub", checks)
        name = info.get("base_model_name_or_path" if kind == "peft" else "model_name")
        base = self.bases.find(name if isinstance(name, str) else None)
        if base is None:
            reason = f"not checked: this hub knows nothing of the base model {name!r}"
            return None, skipped(reason, checks)
        problems = _contradictions(info, base)
        if problems:
            wrong = {"architecture": result("architecture", VERSIONS["architecture"], problems)}
            return None, {**skipped("not run: the base model is another one", checks), **wrong}
        card = data_of(found, "README.md", "card").get("front") or {}
        identity = any(tag.lower() in IDENTITY_TAGS for tag in texts(card.get("tags")))
        wanted = {file: hashes[file] for file in names if file in hashes}
        return Subject(kind, base, wanted, identity), {}

    def run(self, subject: Subject, files: Mapping[str, Path], area: Path) -> dict[str, Result]:
        """Try an adapter; return the results by name.

        Args:
            files: name to path of its files. area: a folder of this machine for temporary files.
        """
        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=area))
        try:
            (folder / "adapter").mkdir()
            for name in subject.hashes:
                os.symlink(files[name].absolute(), folder / "adapter" / name)
            request = {
                "kind": subject.kind,
                "base": subject.base.config,
                "head": HEAD in subject.checks,
            }
            try:
                found = sandbox.run(_CHILD, request, folder, self.limits)
            except sandbox.ChildStopped as error:
                return skipped(f"not run: the trial was stopped, as {error}", subject.checks)
            except sandbox.ChildFailed as error:
                return _failed(subject, str(error))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return _results(subject, found)


def weights_of(found: FileResults) -> str:
    """Return the name of the file under which the results about the adapter itself are kept."""
    return weights_file(format_of(config_of(found) or {}))


def file_of(check: str, found: FileResults) -> str:
    """Return the name of the file under which the result of a check is kept."""
    return HEAD_WEIGHTS_FILE if check == HEAD else weights_of(found)


def skipped(reason: str, checks: Sequence[str] = ALWAYS) -> dict[str, Result]:
    """Return results as not done, with the reason."""
    return {name: Result(name, VERSIONS[name], "skipped", reason) for name in checks}


def _not_installed(kind: str) -> str:
    for name in ("torch", "transformers", *(("peft",) if kind == "peft" else ())):
        if importlib.util.find_spec(name) is None:
            return name
    return ""


def _contradictions(info: Mapping[str, Any], base: Base) -> list[str]:
    """Compare what the adapter says about its base with what is known of it."""
    problems = []
    said = info.get("model_type")
    if isinstance(said, str) and said != base.model_type and not _related(said, base.model_type):
        problems.append(
            f"adapter_config.json says that {base.name} is of type {said!r}, but it is {base.model_type!r}"
        )
    width = info.get("hidden_size")
    names = ("hidden_size", "d_model", "n_embd", "dim")
    known = next(
        (base.config[name] for name in names if isinstance(base.config.get(name), int)), None
    )
    if isinstance(width, int) and known is not None and width != known:
        problems.append(
            f"adapter_config.json says that {base.name} has the width {width}, but it has {known}"
        )
    return problems


def _related(one: str, other: str) -> bool:
    return one.replace("xlm-", "") == other.replace("xlm-", "")


def _failed(subject: Subject, reason: str) -> dict[str, Result]:
    text = f"the adapter could not be loaded for {subject.base.name}: {reason}"
    made = result("architecture", VERSIONS["architecture"], [text], base=subject.base.name)
    reason = "not run: the adapter could not be loaded"
    return {**skipped(reason, subject.checks), "architecture": made}


def _results(subject: Subject, found: Mapping[str, Any]) -> dict[str, Result]:
    about = {
        "base": subject.base.name,
        "source": subject.base.source,
        "key": subject.key,
        "network_barred": bool(found.get("barred")),
    }
    made: dict[str, Result] = {}
    for name in subject.checks:
        version, part = VERSIONS[name], found.get(name) or {}
        if "unknown" in part:
            made[name] = Result(name, version, "skipped", f"not checked: {part['unknown']}", about)
            continue
        if "skipped" in part:
            made[name] = Result(name, version, "skipped", f"not run: {part['skipped']}", about)
            continue
        wrong = [_about(name, line, subject) for line in _lines(part.get("errors"))]
        warned = [_about(name, line, subject) for line in _lines(part.get("warnings"))]
        if name == "forward" and subject.identity:
            wrong, warned = _excused(wrong, warned)
        data: Any = part.get("data")
        learnt = data if isinstance(data, dict) else {}
        made[name] = result(name, version, wrong, warned, **{**learnt, **about})
    return made


def _lines(value: Any) -> Sequence[str]:
    return [str(line)[:500] for line in value][:40] if isinstance(value, list) else []


def _about(name: str, line: str, subject: Subject) -> str:
    return f"for {subject.base.name}: {line}" if name in ("architecture", HEAD) else line


def _excused(wrong: list[str], warned: list[str]) -> tuple[list[str], list[str]]:
    """An adapter that says that it does nothing may do nothing."""
    quiet = [line for line in wrong if "does nothing" in line]
    rest = [line for line in wrong if line not in quiet]
    return rest, warned + (["it does nothing, as its card says"] if quiet else [])
