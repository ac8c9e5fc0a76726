"""What the dear checks are about: an adapter with a prediction head has one check more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterhub.hub.verify import deep
from adapterhub.hub.verify.bases import Base, Bases
from adapterhub.hub.verify.deep import DeepChecks, Subject
from adapterhub.hub.verify.results import Result

_BASE = Base("tiny", {"model_type": "bert"}, "folder")
_FILES = {"adapter_config.json": "a", "adapter.safetensors": "b"}
_HEAD = {"head_config.json": "c", "model_head.safetensors": "d"}


def _found(**info: Any) -> dict[str, dict[str, Result]]:
    return {"adapter_config.json": {"config": Result("config", 1, data={"info": info})}}


def test_a_head_is_part_of_what_a_verdict_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Subject("adapterhub", _BASE, _FILES)
    both = Subject("adapterhub", _BASE, {**_FILES, **_HEAD})
    assert alone.checks == ("architecture", "forward")
    assert both.checks == ("architecture", "forward", "head")
    other = Subject("adapterhub", _BASE, {**_FILES, **_HEAD, "model_head.safetensors": "e"})
    assert len({alone.key, both.key, other.key}) == 3
    before = alone.key, both.key
    monkeypatch.setitem(deep.VERSIONS, "head", 99)
    assert alone.key == before[0]  # another version of a check that it does not go through
    assert both.key != before[1]


def test_reasons_are_given_for_the_head_too(tmp_path: Path) -> None:
    checks = DeepChecks(bases=Bases([tmp_path], cache=False))
    found = _found(model_name="nobody/knows", config={"architecture": "lora"})
    for hashes, names in ((_FILES, 2), ({**_FILES, **_HEAD}, 3)):
        subject, results = checks.subject(found, hashes)
        assert subject is None
        assert len(results) == names
        assert all("knows nothing of the base model" in item.message for item in results.values())
    # A folder of PEFT has its heads among its own tensors.
    peft = _found(peft_type="LORA", base_model_name_or_path="nobody/knows")
    assert "head" not in checks.subject(peft, {**_FILES, **_HEAD})[1]
    off = DeepChecks(enabled=False).subject(found, {**_FILES, **_HEAD})[1]
    assert off["head"].message == "not run: this hub checks formats only"


def test_where_results_are_kept() -> None:
    found = _found(config={"architecture": "lora"})
    assert deep.file_of("head", found) == "model_head.safetensors"
    assert deep.file_of("forward", found) == "adapter.safetensors"
