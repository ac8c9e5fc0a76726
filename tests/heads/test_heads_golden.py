"""Heads recorded from the ``adapters`` library 1.3.0."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapterhub.model.auto import AutoAdapterModel


def test_head_without_adapter(golden: Path) -> None:
    case = golden / "cases" / "bert__h__head_without_adapter"
    meta = json.loads((case / "case.json").read_text())
    model = AutoAdapterModel.from_pretrained(golden / meta["model"]["dir"])
    stored = json.loads((case / "heads" / "x" / "head_config.json").read_text())
    tensors = load_file(case / "heads" / "x" / "model_head.safetensors")
    model.load_head_tensors(stored["name"], stored["config"], tensors, set_active=True)
    assert model.heads["x"].config == stored["config"]
    with torch.no_grad():
        found = model(**load_file(golden / meta["forward"]["inputs"])).logits
    expected = load_file(case / "outputs.safetensors")["logits"]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_every_recorded_head_of_a_known_type_fits(golden: Path) -> None:
    """Names, shapes and configurations of all heads in the recorded cases, whatever the adapter."""
    models: dict[str, object] = {}
    seen: set[str] = set()
    for path in sorted(golden.glob("cases/*__h__*/**/head_config.json")):
        stored = json.loads(path.read_text())
        config = stored["config"]
        if stored["model_name"] not in models:
            folder = golden / "models" / Path(stored["model_name"]).name
            models[stored["model_name"]] = AutoAdapterModel.from_pretrained(folder)
        model: object = models[stored["model_name"]]
        weights = path.parent / "model_head.safetensors"
        if weights.exists():
            tensors = load_file(weights)
        else:
            tensors = torch.load(path.parent / "pytorch_model_head.bin", weights_only=True)
        model.load_head_tensors(stored["name"], config, tensors)  # type: ignore[attr-defined]
        assert model.get_prediction_heads_config()[stored["name"]] == config  # type: ignore[attr-defined]
        seen.add(config["head_type"])
    assert len(seen) == 10
    if len(models) < 10:
        pytest.fail(f"only {len(models)} models have recorded heads")
