"""The whole demo on a tiny model and made-up texts, interrupted once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from adapterhub.cli import _demo_story
from adapterhub.cli._demo_story import IDENTIFIER, Story
from adapterhub.training.recipes import Budget

BUDGETS = {
    "compare": Budget(4, batch_size=4, evaluations=2),
    "domain": Budget(2, batch_size=4, evaluations=1),
    "fusion": Budget(2, batch_size=4, evaluations=1),
    "parallel": Budget(0, test_texts=6),
}


@pytest.mark.slow
def test_the_story(base: Path, task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_demo_story, "load_task", lambda name: dataclasses.replace(task, name=name))
    monkeypatch.setattr(_demo_story, "QUICK_BUDGETS", BUDGETS)
    output = tmp_path / "out"

    def tell(seeds: int = 1, restart: bool = False) -> Story:
        story = Story(output, str(base), quick=True, seeds=seeds, restart=restart)
        story.tell(["the film was good", "a [bold] plot"])
        return story

    with monkeypatch.context() as patch:

        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(_demo_story.recipes, "train_fusion", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tell()
    assert not (output / "results.json").exists()
    story = tell()
    assert story.stages.resumed == [name for name in story.stages.seconds if name != "fusion"]
    results = json.loads((output / "results.json").read_text())
    assert results["share"]["identifier"] == IDENTIFIER
    assert results["share"]["found"] == [IDENTIFIER]
    assert results["share"]["largest_difference"] < 1e-6
    assert results["parallel"]["largest_difference"] < 1e-5
    for picture in ("learning_curves.png", "fusion_attention.png"):
        assert (output / picture).read_bytes()[:4] == b"\x89PNG"
    assert "| head only |" in (output / "results.md").read_text()
    assert "compare-head-0" in tell(seeds=2).stages.resumed
    assert tell(restart=True).stages.resumed == []
