"""Evaluation reports: what may be in one, and that a signature holds for every byte of it."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="signatures need the [sign] extra")

from adapterhub.hub.reports import Report, ReportError, SignedReport, Value
from adapterhub.hub.signing import SignatureError, SigningKey, now, stamp

HASH = "ab" * 32


def make_report(**changes: Any) -> Report:
    """Return a report about nothing."""
    values: dict[str, Any] = {
        "repo": "ada/sst",
        "files": {"adapter_config.json": HASH, "adapter.safetensors": "cd" * 32},
        "base_model": "bert-base-uncased",
        "data_name": "sst2",
        "data_sha256": HASH,
        "split": "validation",
        "examples": 872,
        "results": (Value("accuracy", 0.9, 0.01, True, "binomial"),),
        "dataset": "sentiment/sst-2",
        "setup": {"max_length": 256},
        "versions": {"torch": "2.13"},
        "by": "Ada L.",
    }
    return Report(**{**values, **changes})


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate("ada")


def test_there_and_back(key: SigningKey, tmp_path: Path) -> None:
    signed = SignedReport.make(make_report(), key)
    signed.save(tmp_path / "report.json")
    found = SignedReport.load(tmp_path / "report.json")
    found.verify()
    assert found.report == signed.report
    assert found.digest == signed.digest
    assert found.signature.key == key.public


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for key, item in value.items() for p in _places(item, (*path, key))]
    if isinstance(value, list):
        return [p for i, item in enumerate(value) for p in _places(item, (*path, i))]
    return [path]


def _changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if value is None:
        return "x/y"
    if len(value) == 64:
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    if value.endswith("Z"):
        return stamp(now() - timedelta(days=3))
    return value + "x"


def test_no_value_can_be_changed_after_signing(key: SigningKey) -> None:
    data = SignedReport.make(make_report(), key).to_json()
    places = _places(data["report"])
    assert len(places) > 18
    for place in places:
        forged = copy.deepcopy(data)
        node: Any = forged["report"]
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = _changed(node[place[-1]])
        with pytest.raises((ReportError, SignatureError)):
            SignedReport.from_json(json.loads(json.dumps(forged))).verify()


def test_another_key_or_purpose_is_no_signature_of_it(key: SigningKey) -> None:
    data = SignedReport.make(make_report(), key).to_json()
    other = SignedReport.make(make_report(repo="ada/other"), key).to_json()
    with pytest.raises(SignatureError):
        SignedReport.from_json({**data, "signature": other["signature"]}).verify()
    forged = copy.deepcopy(data)
    forged["signature"]["key"] = str(SigningKey.generate().public)
    with pytest.raises(SignatureError):
        SignedReport.from_json(forged).verify()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"repo": "../etc"}, "adapter.repo"),
        ({"repo": "a/b/c"}, "adapter.repo"),
        ({"files": {"adapter_config.json": HASH}}, "weights"),
        ({"files": {"adapter_config.json": "x", "adapter.safetensors": HASH}}, "adapter.files"),
        ({"base_model": "a\nb"}, "base_model.id"),
        ({"base_model": ""}, "base_model.id"),
        ({"dataset": "sentiment"}, "task/subtask"),
        ({"dataset": "<b>/x"}, "task/subtask"),
        ({"data_sha256": "ab"}, "data.sha256"),
        ({"examples": 0}, "data.examples"),
        ({"examples": True}, "data.examples"),
        ({"results": ()}, "results"),
        ({"results": (Value("accuracy", 0.9, 0.1),) * 2}, "twice"),
        ({"results": (Value("Accuracy <b>", 0.9, 0.1),)}, "metric"),
        ({"results": (Value("accuracy", float("nan"), 0.1),)}, "finite"),
        ({"results": (Value("accuracy", True, 0.1),)}, "finite"),
        ({"results": (Value("accuracy", 0.9, -0.1),)}, "negative"),
        ({"evaluated": now() + timedelta(days=1)}, "in the future"),
        ({"by": "a\0b"}, "by"),
        ({"setup": {"deep": {"a": 1}}}, "setup"),
        ({"versions": {str(i): "1" for i in range(21)}}, "versions"),
    ],
)
def test_what_cannot_be_in_a_report(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ReportError, match=said):
        Report.from_json(make_report(**change).to_json())


def test_unknown_and_missing_parts() -> None:
    data = make_report().to_json()
    for broken in ({**data, "more": 1}, {k: v for k, v in data.items() if k != "data"}, [], None):
        with pytest.raises(ReportError):
            Report.from_json(broken)
    with pytest.raises(ReportError, match="format"):
        Report.from_json({**data, "format": "adapterhub-evaluation/2"})
