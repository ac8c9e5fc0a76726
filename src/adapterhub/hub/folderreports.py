"""Signed evaluation reports in a hub folder: ``reports/<owner>/<name>/<digest>.json``.

A report counts (pages and leaderboards show it) if its signature is right, its key is listed below ``keys/``
and neither revoked nor expired when it signed, and a version of the adapter has exactly the files that were
measured: as on a server (:mod:`.store.reports`). The name of the file is the beginning of the SHA-256 of the
report, so the same report twice is one file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapterhub.errors import HubError
from adapterhub.hub.cards import AdapterCard
from adapterhub.hub.catalogue import Catalogue
from adapterhub.hub.findings import Finding
from adapterhub.hub.folderkeys import FolderKeys
from adapterhub.hub.names import slug_problems
from adapterhub.hub.reports import MAX_BYTES, ReportError, SignedReport
from adapterhub.hub.signing import SignatureError
from adapterhub.hub.storage import Transaction, replace_file
from adapterhub.hub.tensors import strict_json

FOLDER = "reports"
_DIGITS = 16


@dataclass(frozen=True)
class Kept:
    """A report that counts.

    Attributes:
        path: where it lies in the folder.
        card, version: the adapter, and its newest version that has the files.
        current: whether the default version has them, too.
        account: whose key signed.
    """

    path: str
    signed: SignedReport
    card: AdapterCard
    version: str
    current: bool
    account: str


@dataclass
class FolderReports:
    """The reports of a hub folder that count, newest first, and what is wrong with others."""

    kept: list[Kept] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def load(cls, root: Path, catalogue: Catalogue, keys: FolderKeys) -> FolderReports:
        """Read them all and verify their signatures."""
        made = cls()
        adapters = {
            f"{owner}/{stem}".casefold(): card for (owner, stem), card in catalogue.adapters.items()
        }
        for path in sorted((root / FOLDER).glob("*/*/*.json")):
            where = path.relative_to(root).as_posix()
            try:
                signed = read_report(where, path.read_bytes())
                made.kept.append(_counted(where, signed, adapters, keys))
            except _Unlisted as error:
                made.findings.append(Finding("warning", "unknown-key", where, str(error)))
            except (HubError, OSError) as error:
                made.findings.append(Finding("error", "report", where, str(error)))
        made.kept.sort(key=lambda item: (item.signed.report.evaluated, item.path), reverse=True)
        return made

    def of(self, owner: str, stem: str) -> Iterator[Kept]:
        """Yield those about one adapter."""
        return (item for item in self.kept if (item.card.owner, item.card.stem) == (owner, stem))

    def on(self, task: str, subtask: str | None = None) -> Iterator[Kept]:
        """Yield those on the data of a task or data set: of several by one account the newest."""
        seen = set()
        for item in self.kept:
            report = item.signed.report
            dataset = (report.dataset or "").casefold()
            wanted = f"{task}/{subtask}".casefold() if subtask is not None else None
            if dataset != wanted if wanted else not dataset.startswith(f"{task}/".casefold()):
                continue
            about = (dataset, report.split, report.data_sha256)
            key = (item.card.owner, item.card.stem, item.account, *about)
            if key not in seen:
                seen.add(key)
                yield item


class _Unlisted(HubError):
    """Nobody has listed the key of a report."""


def report_path(signed: SignedReport) -> str:
    """Return where a report belongs in a hub folder."""
    return f"{FOLDER}/{signed.report.repo}/{signed.digest[:_DIGITS]}.json"


def path_problem(path: str) -> str | None:
    """Say why *path* cannot be that of a report; ``None`` if it can."""
    parts = path.split("/")
    if len(parts) != 4 or parts[0] != FOLDER or not parts[3].endswith(".json"):
        return "is no path of a report"
    problems = slug_problems("owner", parts[1]) + slug_problems("name", parts[2], limit=200)
    problems += slug_problems("name", parts[3].removesuffix(".json"), limit=64)
    return problems[0] if problems else None


def dumps(signed: SignedReport) -> bytes:
    """Return the content of the file of a report."""
    return (json.dumps(signed.to_json(), indent=2) + "\n").encode()


def read_report(path: str, data: bytes) -> SignedReport:
    """Read the report at a path, and verify its signature.

    Raises:
        HubError: If it is none, belongs elsewhere, or is signed wrongly.
    """
    if len(data) > MAX_BYTES:
        raise ReportError(f"a report has at most {MAX_BYTES >> 10} KB")
    try:
        value = strict_json(data)
    except ValueError as error:
        raise ReportError(f"is not JSON: {error}") from error
    signed = SignedReport.from_json(value)
    signed.verify()
    if report_path(signed).casefold() != path.casefold():
        raise ReportError(f"this report belongs to {report_path(signed)}")
    return signed


def keep(root: Path, catalogue: Catalogue, signed: SignedReport) -> Kept:
    """Put a report into a hub folder, if it counts there.

    Raises:
        HubError: If it does not; the folder is as before.
    """
    signed.verify()
    keys, path = FolderKeys.load(root), report_path(signed)
    adapters = {f"{o}/{s}".casefold(): card for (o, s), card in catalogue.adapters.items()}
    kept = _counted(path, signed, adapters, keys)
    try:
        with Transaction(root):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            replace_file(root / path, dumps(signed))
    except OSError as error:
        raise HubError(f"{root / path} could not be written: {error}") from error
    return kept


def _counted(
    path: str, signed: SignedReport, adapters: Mapping[str, AdapterCard], keys: FolderKeys
) -> Kept:
    report, key = signed.report, signed.signature.key
    card = adapters.get(report.repo.casefold())
    if card is None:
        raise ReportError(f"there is no adapter @{report.repo} in this hub")
    if card.model_name.casefold() != report.base_model.casefold():
        raise ReportError(
            f"@{report.repo} is for {card.model_name}, and the report used {report.base_model}"
        )
    fitting = [
        item.version
        for item in card.versions
        if report.files.items() <= {m.path: m.sha256 for m in item.members}.items()
    ]
    if not fitting:
        raise ReportError(f"no version of @{report.repo} has the files that were measured")
    row = keys.find(key)
    if row is None:
        raise _Unlisted(
            f"signed by a key that nobody has listed, so it is not shown; the signer's file "
            f"keys/ACCOUNT.yaml must hold '- key: {key}'"
        )
    refused = keys.refusal(key, signed.signature.statement.signed)
    if refused is not None:
        raise SignatureError(f"{refused}; sign with another one, or remove the report")
    current = card.default_version in fitting
    version = card.default_version if current else fitting[-1]
    return Kept(path, signed, card, version, current, row.account)
