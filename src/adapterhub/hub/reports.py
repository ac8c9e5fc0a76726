"""Evaluation reports: what somebody measured, with which files, signed by whoever stands for it.

A report is a JSON object, so that a hub and any other program can read it. It names the adapter by the
SHA-256 of its files, the base model by id and by the hash of its weights, and the data by the hash
of the file, so that whoever doubts it can repeat it. The signature (:mod:`.signing`) covers all of it.
A signed report proves who says so, and about which bytes; not that it is true.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.inspection import (
    CONFIG_FILE,
    HEAD_CONFIG_FILE,
    HEAD_WEIGHTS_FILE,
    WEIGHTS_FILE,
)
from adapterhub.hub.signing import (
    REPORT,
    Signature,
    SignatureError,
    SigningKey,
    canonical_json,
    moment,
    now,
    sign_document,
    stamp,
    verify_document,
)
from adapterhub.hub.tensors import strict_json

FORMAT = "adapterhub-evaluation/1"
PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
MAX_BYTES = 64 << 10
MAX_RESULTS = 20

_WEIGHTS = (WEIGHTS_FILE, PEFT_WEIGHTS_FILE)
_FILES = (CONFIG_FILE, *_WEIGHTS, HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE)
_BASE_FILES = ("config.json", "model.safetensors", "model.safetensors.index.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}/[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_METRIC = re.compile(r"[a-z][a-z0-9_@-]{0,39}")
_SKEW = timedelta(hours=1)


class ReportError(HubError):
    """A report is not as it must be; the message names the place."""


@dataclass(frozen=True)
class Value:
    """One measured metric; ``method`` says how the standard error was found."""

    metric: str
    value: float
    standard_error: float | None
    higher_is_better: bool = True
    method: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the value as plain JSON types."""
        return {
            "metric": self.metric,
            "value": self.value,
            "standard_error": self.standard_error,
            "higher_is_better": self.higher_is_better,
            "method": self.method,
        }


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        repo: ``owner/name`` of the adapter.
        files: name to SHA-256 of the adapter's files.
        base_model: id of the base model; ``base_files``: name to SHA-256 of its files.
        dataset: ``task/subtask`` by which the hub knows the data; ``None`` if it does not.
        data_name, data_sha256, split, examples: the data: name and hash of the file, which part.
        results: what came out.
        by: who measured, for people; whose key signed is what counts.
        setup, versions: further facts: longest input, device; versions of what computed.
    """

    repo: str
    files: Mapping[str, str]
    base_model: str
    data_name: str
    data_sha256: str
    split: str
    examples: int
    results: Sequence[Value]
    dataset: str | None = None
    base_revision: str | None = None
    base_files: Mapping[str, str] = field(default_factory=dict)
    evaluated: datetime = field(default_factory=now)
    by: str = ""
    setup: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the document that is signed."""
        return {
            "format": FORMAT,
            "adapter": {"repo": self.repo, "files": dict(sorted(self.files.items()))},
            "base_model": {
                "id": self.base_model,
                "revision": self.base_revision,
                "files": dict(sorted(self.base_files.items())),
            },
            "data": {
                "dataset": self.dataset,
                "name": self.data_name,
                "split": self.split,
                "examples": self.examples,
                "sha256": self.data_sha256,
            },
            "results": [item.to_json() for item in self.results],
            "setup": dict(self.setup),
            "versions": dict(self.versions),
            "evaluated": stamp(self.evaluated),
            "by": self.by,
        }

    @classmethod
    def from_json(cls, value: Any) -> Report:
        """Read a report that may come from anybody.

        Raises:
            ReportError: If anything is missing, of the wrong kind, out of range, or unknown.
        """
        top = _object(value, "the report", set(_TOP))
        if top["format"] != FORMAT:
            raise ReportError(f"the report is not of the format {FORMAT}")
        adapter = _object(top["adapter"], "adapter", {"repo", "files"})
        base = _object(top["base_model"], "base_model", {"id", "revision", "files"})
        data = _object(top["data"], "data", {"dataset", "name", "split", "examples", "sha256"})
        revision = base["revision"]
        files = _hashes(adapter["files"], "adapter.files")
        if CONFIG_FILE not in files or not any(name in files for name in _WEIGHTS):
            raise ReportError("adapter.files must name the configuration and the weights")
        return cls(
            repo=_text(adapter["repo"], "adapter.repo", _REPO),
            files=files,
            base_model=_text(base["id"], "base_model.id", _NAME),
            base_revision=None
            if revision is None
            else _text(revision, "base_model.revision", _NAME),
            base_files=_hashes(base["files"], "base_model.files"),
            dataset=None
            if data["dataset"] is None
            else _text(data["dataset"], "data.dataset (task/subtask)", _DATASET),
            data_name=_text(data["name"], "data.name", _NAME),
            data_sha256=_text(data["sha256"], "data.sha256", _SHA256),
            split=_text(data["split"], "data.split", _NAME),
            examples=_count(data["examples"]),
            results=_results(top["results"]),
            evaluated=_evaluated(top["evaluated"]),
            by=_text(top["by"], "by", _NAME) if top["by"] else "",
            setup=_facts(top["setup"], "setup"),
            versions=_facts(top["versions"], "versions"),
        )


_TOP = (
    "format",
    "adapter",
    "base_model",
    "data",
    "results",
    "setup",
    "versions",
    "evaluated",
    "by",
)


@dataclass(frozen=True)
class SignedReport:
    """A report with its signature, as a file and a request hold them."""

    report: Report
    signature: Signature

    @classmethod
    def make(cls, report: Report, key: SigningKey) -> SignedReport:
        """Sign a report, after checking that others could read it.

        Raises:
            ReportError: If not. SignatureError: If the key has expired.
        """
        Report.from_json(report.to_json())
        return cls(report, sign_document(key, REPORT, report.repo, report.to_json()))

    def verify(self) -> None:
        """Check that the signature was made over this report.

        Raises:
            SignatureError: If not.
        """
        verify_document(self.signature, REPORT, self.report.repo, self.report.to_json())

    @property
    def digest(self) -> str:
        """SHA-256 of the report without its signature: the same report twice is one."""
        return hashlib.sha256(canonical_json(self.report.to_json())).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the content of a report file."""
        return {"report": self.report.to_json(), "signature": self.signature.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> SignedReport:
        """Read the content of a report file; the signature is not verified yet.

        Raises:
            ReportError: If it is none.
        """
        both = _object(value, "the file", {"report", "signature"})
        try:
            signature = Signature.from_json(both["signature"])
        except SignatureError as error:
            raise ReportError(f"signature: {error}") from error
        return cls(Report.from_json(both["report"]), signature)

    @classmethod
    def load(cls, path: Path) -> SignedReport:
        """Read a report file.

        Raises:
            ReportError: If there is none.
        """
        try:
            data = path.read_bytes()
            if len(data) > MAX_BYTES:
                raise ReportError(f"{path} has more than {MAX_BYTES >> 10} KB")
            value = strict_json(data)
        except (OSError, ValueError) as error:
            if isinstance(error, ReportError):
                raise
            raise ReportError(f"{path} cannot be read: {error}") from error
        return cls.from_json(value)

    def save(self, path: Path) -> None:
        """Write a report file."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")


def adapter_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in *folder* that makes the adapter and its head."""
    return {name: _digest(folder / name) for name in _FILES if (folder / name).is_file()}


def base_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the configuration and the weights of a base model."""
    names = {name for name in _BASE_FILES if (folder / name).is_file()}
    names |= {path.name for path in folder.glob("model-*-of-*.safetensors")}
    return {name: _digest(folder / name) for name in sorted(names)}


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def _object(value: Any, where: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != keys:
        raise ReportError(f"{where} must be an object with {', '.join(sorted(keys))}")
    return value


def _text(value: Any, where: str, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ReportError(f"{where} is {str(value)[:60]!r}, which it cannot be")
    return value


def _hashes(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 50:
        raise ReportError(f"{where} must give the SHA-256 of up to 50 files")
    return {
        _text(name, f"a name in {where}", _NAME): _text(digest, f"{where}[{name[:60]!r}]", _SHA256)
        for name, digest in value.items()
    }


def _facts(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > 20:
        raise ReportError(f"{where} must be an object of at most 20 facts")
    for name, item in value.items():
        _text(name, f"a name in {where}", _NAME)
        plain = item is None or isinstance(item, str | int | float | bool)
        if (
            not plain
            or len(str(item)) > 200
            or (isinstance(item, float) and not math.isfinite(item))
        ):
            raise ReportError(f"{where}[{name[:60]!r}] must be a short text or a number")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ReportError(f"{where} must be a finite number")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**9:
        raise ReportError("data.examples must be a whole number from 1")
    return value


def _results(value: Any) -> tuple[Value, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_RESULTS:
        raise ReportError(f"results must be a list of 1 to {MAX_RESULTS}")
    keys = {"metric", "value", "standard_error", "higher_is_better", "method"}
    found = []
    for index, item in enumerate(value):
        where = f"results[{index}]"
        part = _object(item, where, keys)
        error = part["standard_error"]
        if error is not None and _number(error, f"{where}.standard_error") < 0:
            raise ReportError(f"{where}.standard_error is negative")
        if not isinstance(part["higher_is_better"], bool):
            raise ReportError(f"{where}.higher_is_better must be true or false")
        if not isinstance(part["method"], str) or len(part["method"]) > 100:
            raise ReportError(f"{where}.method must be a short text")
        found.append(
            Value(
                _text(part["metric"], f"{where}.metric", _METRIC),
                _number(part["value"], f"{where}.value"),
                None if error is None else float(error),
                part["higher_is_better"],
                part["method"],
            )
        )
    if len({item.metric for item in found}) != len(found):
        raise ReportError("results names a metric twice")
    return tuple(found)


def _evaluated(value: Any) -> datetime:
    try:
        found = moment(value, "'evaluated'")
    except SignatureError as error:
        raise ReportError(str(error)) from error
    if found is None or found > now() + _SKEW:
        raise ReportError("'evaluated' must be a time that is not in the future")
    return found
