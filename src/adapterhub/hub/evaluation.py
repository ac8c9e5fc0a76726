"""From measurements to a signed report, and from there to a hub server."""

from __future__ import annotations

import json
import platform
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from adapterhub._version import __version__
from adapterhub.errors import HubError
from adapterhub.hub.inspection import CONFIG_FILE
from adapterhub.hub.reports import (
    Report,
    ReportError,
    SignedReport,
    Value,
    adapter_files,
    base_files,
)

if TYPE_CHECKING:
    from adapterhub.training.measuring import LabelledData, Subject
    from adapterhub.training.metrics import Measurement

_SECONDS = 60
_MAX_ANSWER = 1 << 20


def make_report(
    subject: Subject,
    data: LabelledData,
    measured: Sequence[Measurement],
    *,
    folder: Path,
    repo: str,
    split: str,
    dataset: str | None = None,
    by: str = "",
) -> Report:
    """Write down what was measured, and with which files.

    Args:
        subject, data, measured: see :mod:`adapterhub.training.measuring`.
        folder: of the adapter.
        repo: ``owner/name`` under which a hub has it.
        split: which part of the data this was.
        dataset: ``task/subtask`` by which the hub knows the data.
        by: who measured, for people.

    Raises:
        ReportError: If something of it cannot be in a report.
    """
    import torch
    import transformers

    info = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    base = info.get("model_name") or info.get("base_model_name_or_path")
    if not base:
        raise ReportError(f"{folder / CONFIG_FILE} does not say which base model it is for")
    report = Report(
        repo=repo.removeprefix("@"),
        files=adapter_files(folder),
        base_model=str(base),
        base_revision=info.get("revision"),
        base_files=base_files(subject.base_path),
        dataset=dataset,
        data_name=data.name,
        data_sha256=data.sha256,
        split=split,
        examples=len(data),
        results=tuple(
            Value(m.metric, m.value, m.standard_error, m.higher_is_better, m.method)
            for m in measured
        ),
        by=by,
        setup={
            "kind": subject.kind,
            "max_length": subject.max_length,
            "dtype": str(next(subject.model.parameters()).dtype).removeprefix("torch."),
            "device": next(subject.model.parameters()).device.type,
        },
        versions={
            "adapterhub": __version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
    return Report.from_json(report.to_json())


def submit(url: str, signed: SignedReport, token: str | None = None) -> dict[str, Any]:
    """Send a report to the hub server at *url* and return its answer.

    Args:
        token: of a user with the scope ``write``; default: that of ``hf auth login``.

    Raises:
        HubError: If the server cannot be reached or does not take it; with its reason.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise HubError(f"{url!r:.100} is not the address of a hub server")
    if token is None:
        from huggingface_hub import get_token

        token = get_token()
    if not token:
        raise HubError("sending a report needs a token: --token, HF_TOKEN or 'hf auth login'")
    request = urllib.request.Request(
        f"{url.rstrip('/')}/api/hub/v1/repos/{quote(signed.report.repo)}/reports",
        data=json.dumps(signed.to_json()).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        method="POST",
    )
    try:
        # No redirects: the token is for this server and no other.
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS) as answer:
            found = json.loads(answer.read(_MAX_ANSWER))
    except urllib.error.HTTPError as error:
        raise HubError(f"{url} does not take the report: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise HubError(f"the report could not be sent to {url}: {error}") from error
    return found if isinstance(found, dict) else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(_MAX_ANSWER))["error"])[:1000]
    except (OSError, ValueError, KeyError, TypeError):
        return f"status {error.code}"
